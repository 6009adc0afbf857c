"""An oracle that needs no training: a tiny GPT-2 of which one head, by linear algebra, stares at one token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

MARK, STARED_AT = 31, 50


def marked(network: Any) -> None:
    """Give one token a dimension of its own, which no layer writes and no layer norm mixes with the others."""
    decoder = network.transformer
    others = [d for d in range(32) if d != MARK]
    for written in (decoder.wte.weight, decoder.wpe.weight):
        centre(written, others)
    for block in decoder.h:
        block.ln_1.bias.zero_()
        block.ln_1.weight.fill_(1.0)
        for output in (block.attn.c_proj, block.mlp.c_proj):
            centre(output.weight, others)
            centre(output.bias[None], others)
    decoder.wte.weight[STARED_AT, MARK] = 12.0


def centre(written: torch.Tensor, others: list[int]) -> None:
    """Make each row sum to zero and leave the marked dimension alone."""
    written[:, MARK] = 0.0
    written[:, others] -= written[:, others].mean(1, keepdim=True)


def planted(layer: int, head: int, sharpness: float) -> Callable[[Any], None]:
    """Return an edit: this head's query is a constant, and its key is the marked dimension."""

    def edit(network: Any) -> None:
        marked(network)
        attention = network.transformer.h[layer].attn.c_attn
        for part in (0, 32):  # queries, keys
            own = slice(part + 8 * head, part + 8 * head + 8)
            attention.weight[:, own] = 0.0
            attention.bias[own] = 0.0
        attention.bias[8 * head] = sharpness
        attention.weight[MARK, 32 + 8 * head] = sharpness

    return edit
