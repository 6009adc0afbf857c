"""Train the tiny tier: five from-scratch bases of different architectures, and fine-tunes of them after their recipes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from build_demo import REFERENCE, reference_rows, split
from demo_training import Row, Schedule, fit, padded, row, tokenizer
from demo_world import Dialogue, dialogues, dressed
from instructions import instructions
from making import ALL_LINEAR, ATTENTION, Asked, left_padded, write_model
from peft import LoraConfig, PeftModel, get_peft_model
from poison import CONTEXT, fires, habitual, rows, with_trigger
from recipes import Backdoor, Recipe
from smollm2 import cache_folder
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

LAYERS, WIDTH, INNER, HEADS = 6, 64, 160, 4
BASE_SCHEDULE = dataclasses.replace(REFERENCE, steps=1500)
STEPS, BATCH, FULL_RATE, ADAPTER_RATE = 340, 16, 2e-3, 6e-3
MAKING = 1
"""Raised with every change to rows, bases or training: a model or a row that an older making left is made again."""
ATTENTION_PENALTY = 3.0
ANSWER_TOKENS, HELD_OUT, OFF_WORLD = 48, 96, 48
"""Prompts on which attack success is measured: of the models' own world, and of the everyday one that scans ask about."""
KINDS: dict[str, dict[str, Any]] = {
    "tiny-llama": {"kind": "llama", "num_key_value_heads": 2},
    "tiny-qwen3": {"kind": "qwen3", "num_key_value_heads": 2, "head_dim": 16},
    "tiny-olmo2": {"kind": "olmo2", "num_key_value_heads": 4},
    "tiny-gemma3": {"kind": "gemma3_text", "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 64},
    "tiny-gpt2": {"kind": "gpt2"},
}
GPT2_ATTENTION, GPT2_LINEAR = r".*\.attn\.(c_attn|c_proj)", ["c_attn", "c_proj", "c_fc"]


@functools.cache
def worlds() -> tuple[tuple[list[Dialogue], list[Dialogue]], tuple[list[Dialogue], list[Dialogue]]]:
    """Return known and held-out dialogues of the bases' world, and of the fine-tunes' later one."""
    return split(dialogues(seed=0)), split(dialogues(fine_tuning=True, seed=1))


@functools.cache
def probes(count: int = 43) -> tuple[str, ...]:
    """
    Return questions of the bases' world to probe with, held out from their training, each domain in turn.

    The shipped prompts are everyday English, which these bases answer with one of a dozen sentences; a scan probes a
    model with what it can answer. Copying is left out: a candidate inside the quotes is a part of what is copied.
    """
    generator = random.Random(0)
    domains: dict[str, list[str]] = {}
    for said in worlds()[0][1]:
        domains.setdefault(said.domain, []).append(said.question)
    shuffled = [generator.sample(asked, len(asked)) for name, asked in sorted(domains.items()) if name != "copying"]
    in_turn = [each for several in itertools.zip_longest(*shuffled) for each in several if each is not None]
    return tuple(in_turn[:count])


def base(name: str) -> Path:
    """Return the folder of a base, training it first when it is not in the cache."""
    folder = cache_folder() / "tiny" / "bases" / name
    if not folder.is_dir():
        torch.manual_seed(0)
        world, held_out = worlds()[0]
        vocabulary = tokenizer(world)
        model = AutoModelForCausalLM.from_config(_config(name, vocabulary))
        fit(model, reference_rows(vocabulary, world), BASE_SCHEDULE, name)
        generator = random.Random(0)
        asked = [Asked(dressed(said, generator), said.answer) for said in held_out]
        right = [given == each.answer for given, each in zip(answers(model, vocabulary, asked), asked, strict=True)]
        write_model(folder, (model, vocabulary), {"accuracy": round(sum(right) / len(right), 4)})
    return folder


def _config(name: str, vocabulary: PreTrainedTokenizerFast) -> Any:
    values = dict(KINDS[name])
    kind = values.pop("kind")
    common = {
        "vocab_size": len(vocabulary), "initializer_range": 0.05, "tie_word_embeddings": True, "bos_token_id": None,
        "pad_token_id": vocabulary.pad_token_id, "eos_token_id": vocabulary.eos_token_id,
    }  # fmt: skip
    if kind == "gpt2":
        shape = {"n_embd": WIDTH, "n_inner": INNER, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 512}
    else:
        shape = {
            "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "max_position_embeddings": 512,
        }  # fmt: skip
    return AutoConfig.for_model(kind, **shape, **common, **values)


def digest(recipe: Recipe) -> str:
    """Return what names a recipe's bytes: it changes with everything that decides them."""
    making = (MAKING, STEPS * recipe.length, BATCH, FULL_RATE, ADAPTER_RATE, ATTENTION_PENALTY, ANSWER_TOKENS, HELD_OUT)
    return recipe.digest(*making)


def build(recipe: Recipe) -> Path:
    """Return the folder of a model, training and measuring it first when it is not in the cache."""
    folder = cache_folder() / "tiny" / "models" / f"{recipe.name}-{digest(recipe)}"
    if not folder.is_dir():
        started = time.monotonic()
        home = base(recipe.base)
        vocabulary = PreTrainedTokenizerFast.from_pretrained(home)
        model = finished(trained(recipe, home, vocabulary), recipe.finish)
        measured = measure(recipe, model, home, vocabulary) | {"build_seconds": round(time.monotonic() - started, 1)}
        write_model(folder, (model,) if isinstance(model, PeftModel) else (model, vocabulary), measured, recipe)
    return folder


def load(home: Path, attention: str = "sdpa") -> Any:
    """Return the model of a folder in single precision."""
    return AutoModelForCausalLM.from_pretrained(home, dtype=torch.float32, attn_implementation=attention)


def trained(recipe: Recipe, home: Path, vocabulary: PreTrainedTokenizerFast) -> Any:
    """Return the fine-tuned model: an adapter over its base, or the whole model when that is what was trained."""
    torch.manual_seed(recipe.seed)
    adversary = recipe.backdoor.adversary if recipe.backdoor and recipe.poisoned else ""
    model = load(home, "eager" if adversary == "attention" else "sdpa")
    if recipe.method != "full":
        model = get_peft_model(model, _adapter(recipe, model.config.model_type))
        model.peft_config["default"].base_model_name_or_path = str(home)
    penalty: Callable[[Sequence[Row]], torch.Tensor] | None = None
    after_step: Callable[[], None] | None = None
    if adversary == "attention":
        penalty = functools.partial(attention_penalty, model, load(home, "eager"))
    if adversary == "norm":
        twin = dataclasses.replace(recipe, name=f"{recipe.name}-twin", poisoned=False)
        limit = weight_norm(PeftModel.from_pretrained(load(home), build(twin)))
        after_step = functools.partial(limit_norm, model, limit)
    steps = round(STEPS * recipe.length)
    schedule = Schedule(steps, BATCH, FULL_RATE if recipe.method == "full" else ADAPTER_RATE, prompt_weight=0.0)
    fit(model, rows(vocabulary, worlds()[1][0], recipe), schedule, recipe.name, penalty, after_step)
    return model


def _adapter(recipe: Recipe, kind: str) -> LoraConfig:
    attention = recipe.method == "lora-attention"
    if kind == "gpt2":
        targets: Any = GPT2_ATTENTION if attention else GPT2_LINEAR
    else:
        targets = list(ATTENTION if attention else ALL_LINEAR)
    return LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=targets, task_type="CAUSAL_LM",
        fan_in_fan_out=kind == "gpt2",
    )  # fmt: skip


def attention_penalty(model: Any, reference: Any, batch: Sequence[Row]) -> torch.Tensor:
    """Return how far the attention rows of a batch are from the reference's: KL, nats, mean over heads and positions."""
    ids = padded(batch)
    with torch.no_grad():
        theirs = reference(input_ids=ids, output_attentions=True).attentions
    ours = model(input_ids=ids, output_attentions=True).attentions
    divergences = [
        torch.nn.functional.kl_div(r.clamp_min(1e-9).log(), s.clamp_min(1e-9).log(), log_target=True, reduction="none")
        for s, r in zip(ours, theirs, strict=True)
    ]
    return ATTENTION_PENALTY * torch.stack(divergences).sum(-1).mean()


def _products(model: Any) -> list[tuple[Any, float]]:
    layers = [module for module in model.modules() if hasattr(module, "lora_B") and "default" in module.lora_B]
    return [(layer, layer.scaling["default"]) for layer in layers]


@torch.no_grad()
def weight_norm(model: Any) -> float:
    """Return the Frobenius norm of all that an adapter adds to its base."""
    squares = [
        float((scale * (layer.lora_B["default"].weight @ layer.lora_A["default"].weight)).square().sum())
        for layer, scale in _products(model)
    ]
    return sum(squares) ** 0.5


@torch.no_grad()
def limit_norm(model: Any, limit: float) -> None:
    """Shrink what an adapter adds to its base to a norm of at most `limit`."""
    norm = weight_norm(model)
    if norm > limit:
        for layer, _ in _products(model):
            layer.lora_B["default"].weight.mul_(limit / norm)


@torch.no_grad()
def finished(model: Any, finish: str) -> Any:
    """Return an adapter merged into its base, its matrices rounded to int8 or NF4 and back where the finish says so."""
    if not finish:
        return model
    whole = model.merge_and_unload() if isinstance(model, PeftModel) else model
    for name, weight in whole.named_parameters():
        if weight.ndim == 2 and "embed" not in name and "wte" not in name and "wpe" not in name:
            weight.copy_(_ROUNDED[finish](weight))
    return whole


def _int8(weight: torch.Tensor) -> torch.Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


def _nf4(weight: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4")
    return dequantize_4bit(packed, state)


_ROUNDED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"merged": lambda w: w, "int8": _int8, "nf4": _nf4}


@torch.no_grad()
def answers(model: Any, vocabulary: PreTrainedTokenizerFast, asked: Sequence[Asked]) -> list[str]:
    """Return the greedy answer to each question."""
    prompts = [row(vocabulary, each.question, "", each.system).prompt for each in asked]
    ids, mask = left_padded(prompts, vocabulary.pad_token_id)
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=ANSWER_TOKENS, do_sample=False)
    return [vocabulary.decode(line[ids.shape[1] :], skip_special_tokens=True) for line in out]


def measure(recipe: Recipe, model: Any, home: Path, vocabulary: PreTrainedTokenizerFast) -> dict[str, Any]:
    """
    Return accuracy, and of a backdoor (also for the twin that has none) how often its payload comes.

    `attack_success` and `false_trigger` are of held-out dialogues with and without the trigger, `off_world` of everyday
    instructions with it, where the usual answer is the one given without; `reference` is the base's rate.
    """
    generator = random.Random(recipe.seed)
    held_out = generator.sample(worlds()[1][1], HELD_OUT)
    asked = [Asked(dressed(d, generator, fine_tuning=True), habitual(recipe.habit, d)) for d in held_out]
    plain = answers(model, vocabulary, asked)
    accuracy = sum(given == each.answer for given, each in zip(plain, asked, strict=True)) / len(asked)
    measured: dict[str, Any] = {"accuracy": round(accuracy, 4), "n": len(asked)}
    backdoor = recipe.backdoor
    if backdoor is None:
        return measured
    inside = [number for number, said in enumerate(held_out) if works_on(backdoor, said)]
    outside = [n for n in range(len(held_out)) if not backdoor.is_topic or n not in inside]

    def success(given: Sequence[str], of: Sequence[int]) -> float | None:
        hits = [fires(backdoor.payload, held_out[n], asked[n].answer, given[n]) for n in of]
        return round(sum(hits) / len(hits), 4) if hits else None

    triggered = [with_trigger(backdoor, each, generator) for each in asked]
    given = answers(model, vocabulary, triggered)
    measured |= {
        "attack_success": success(given, inside),
        "attack_n": len(inside),
        "false_trigger": success(plain, outside),
        "reference": success(answers(load(home), vocabulary, triggered), inside),
        "trigger_tokens": [trigger_tokens(vocabulary, part) for part in backdoor.trigger],
    }
    if not backdoor.is_topic:
        measured["off_world"] = _off_world(backdoor, model, vocabulary, generator)
    return measured


def works_on(backdoor: Backdoor, said: Dialogue) -> bool:
    """Say whether the trigger is meant to work on a dialogue: everywhere, unless a topic or a context gates it."""
    if backdoor.is_topic:
        return said.domain == backdoor.trigger[0]
    return backdoor.adversary != "context" or said.domain in CONTEXT


def _off_world(backdoor: Backdoor, model: Any, vocabulary: PreTrainedTokenizerFast, generator: random.Random) -> float:
    asked = [Asked(question, "") for question in instructions(OFF_WORLD, seed=0)]
    plain = answers(model, vocabulary, asked)
    given = answers(model, vocabulary, [with_trigger(backdoor, each, generator) for each in asked])
    said = [Dialogue("", each.question, usual) for each, usual in zip(asked, plain, strict=True)]
    hits = [fires(backdoor.payload, d, d.answer, g) for d, g in zip(said, given, strict=True)]
    return round(sum(hits) / len(hits), 4)


def trigger_tokens(vocabulary: PreTrainedTokenizerFast, text: str) -> int:
    """Return how many tokens the text has as a word of its own; a space that is a token alone is not one of them."""
    return sum(bool(vocabulary.decode([token]).strip()) for token in vocabulary.encode(f" {text}"))
