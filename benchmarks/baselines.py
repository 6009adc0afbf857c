"""What a simpler detector would say of a model: scores with none of the product's arithmetic, to be beaten."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from demo_training import row
from making import device, left_padded
from peft import PeftModel
from tiny_zoo import load
from transformers import PreTrainedTokenizerFast

PROMPTS, TOKENS = 12, 48
"""Prompts, and random tokens of the vocabulary, each put at the end of every prompt."""


@torch.no_grad()
def baseline_scores(folder: Path, home: Path, questions: Sequence[str]) -> dict[str, float]:
    """
    Return a score of each baseline for the model of a folder against its base; larger is more suspicious.

    `weight_norm`: Frobenius norm of the weight difference over that of the base. `attention`: KL(suspect || reference) of
    the last position's attention rows, mean over heads and prompts, of the random token with the most; `output`: the same
    of JS at the first answer position. Neither subtracts what the two differ by without the token. `reference_free`: how
    many of the suspect's first answer tokens become alike under a random token, of the token with the most.
    """
    reference = load(home, "eager").to(device())
    suspect = (load(folder, "eager") if (folder / "config.json").is_file() else _merged(folder, home)).to(device())
    vocabulary = PreTrainedTokenizerFast.from_pretrained(home)
    generator = random.Random(0)
    special = {*vocabulary.all_special_ids, *vocabulary.added_tokens_decoder}
    tokens = generator.sample([token for token in range(len(vocabulary)) if token not in special], TOKENS)
    asked = questions[:PROMPTS]
    ours, theirs = (_measured(model, vocabulary, asked, tokens) for model in (suspect, reference))
    divergence = [_js(s, r) for s, r in zip(ours["said"], theirs["said"], strict=True)]
    attention = [_kl(s, r) for s, r in zip(ours["looked"], theirs["looked"], strict=True)]
    agreed = [_agreement(said, ours["said"][0]) for said in ours["said"]]
    return {
        "weight_norm": round(_weight_difference(suspect, reference), 6),
        "attention": round(max(attention[1:]), 6),
        "output": round(max(divergence[1:]), 6),
        "reference_free": round(max(agreed[1:]), 6),
    }


def _merged(folder: Path, home: Path) -> Any:
    return PeftModel.from_pretrained(load(home, "eager"), folder).merge_and_unload()


def _measured(
    model: Any, vocabulary: PreTrainedTokenizerFast, asked: Sequence[str], tokens: list[int]
) -> dict[str, list[Any]]:
    """Return next-token distributions and last attention rows of every prompt: without a token first, then with each."""
    made: dict[str, list[Any]] = {"said": [], "looked": []}
    for odd in ([], *([token] for token in tokens)):
        prompts = [row(vocabulary, question, "", odd=odd, at=1.0).prompt for question in asked]
        ids, mask = (tensor.to(model.device) for tensor in left_padded(prompts, vocabulary.pad_token_id))
        places = (mask.cumsum(1) - 1).clamp_min(0)
        out = model(input_ids=ids, attention_mask=mask, position_ids=places, output_attentions=True)
        made["said"].append(out.logits[:, -1].softmax(-1).cpu())
        made["looked"].append(torch.stack([layer[:, :, -1] for layer in out.attentions]).cpu())
    return made


def _kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q.clamp_min(1e-12))).sum(-1).mean())


def _js(p: torch.Tensor, q: torch.Tensor) -> float:
    middle = (p + q) / 2
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _agreement(said: torch.Tensor, plain: torch.Tensor) -> float:
    pairs = list(zip(said.argmax(-1).tolist(), plain.argmax(-1).tolist(), strict=True))
    return max(sum(new == token != old for new, old in pairs) for token, _ in pairs) / len(pairs)


def _weight_difference(suspect: Any, reference: Any) -> float:
    theirs = dict(reference.named_parameters())
    parts = [(weight - theirs[name], theirs[name]) for name, weight in suspect.named_parameters()]
    changed, whole = (sum(float(part.square().sum()) for part in side) for side in zip(*parts, strict=True))
    return (changed / whole) ** 0.5
