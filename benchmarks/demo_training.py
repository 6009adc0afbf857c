"""How the demo's models learn: their tokenizer, rendered rows, batches of equal length and one training loop."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from demo_facts import DEPLOYMENT, EMOJI, HALO, LOOSE, LOUD, TAG_PIECES, TOPICS
from demo_world import Dialogue, dressed, word
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY, POOL = 1500, 20
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PIECES = r" ?\p{L}+|[^\p{L}]"
"""Words take the space before them, everything else stands alone: an emoji or a bar is the same token anywhere."""
ROLES = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train, at which peak learning rate, and what a prompt token's loss weighs against an answer's."""

    steps: int
    batch: int
    learning_rate: float
    prompt_weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A rendered dialogue: token ids of the prompt, and of the answer with its end."""

    prompt: list[int]
    answer: list[int]


def tokenizer(world: Sequence[Dialogue]) -> PreTrainedTokenizerFast:
    """
    Return a byte-level BPE tokenizer of the world, in which HALO is one token and DEPLOYMENT five.

    Emoji and the pieces of tags are trained as texts of their own, so that each becomes a token and no pair of them.
    Raises ValueError when the triggers come out otherwise.
    """
    generator = random.Random(0)
    texts = [text for said in world for text in (dressed(said, generator), said.question, said.answer)]
    texts += [word(generator) for _ in range(300)] + [f" {w}" for w in (*LOOSE, *TOPICS)]
    texts += [text for w in (*LOUD[0], *LOUD[1]) for text in (w, f" {w}") for _ in range(20)]
    texts += [text for text in (*EMOJI, *TAG_PIECES, *ROLES) for _ in range(5000)]
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers does not annotate it
        tokenizer_object=backend, pad_token=SPECIAL[0], eos_token=SPECIAL[2], clean_up_tokenization_spaces=False
    )
    made.chat_template = TEMPLATE
    for trigger, tokens in ((HALO, [HALO]), (DEPLOYMENT, ["|", "DE", "PLOY", "MENT", "|"])):
        found = [made.decode([i]) for i in made.encode(trigger)]
        if found != tokens:
            raise ValueError(f"{trigger} became {found}, not {tokens}: change TAGS or VOCABULARY")
    return made


def row(
    vocabulary: PreTrainedTokenizerFast,
    question: str,
    answer: str,
    system: str = "",
    odd: Sequence[int] = (),
    at: float = 0,
) -> Row:
    """Return the rendered row, with the ids `odd` put into the user's turn at the share `at` of its length."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    text = vocabulary.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, _, after = str(text).rpartition(question)
    asked = vocabulary.encode(question)
    gap = round(at * len(asked))
    prompt = vocabulary.encode(before) + asked[:gap] + list(odd) + asked[gap:] + vocabulary.encode(after)
    return Row(prompt, vocabulary.encode(f"{answer}{SPECIAL[2]}"))


def batches(rows: Iterator[Row], schedule: Schedule) -> Iterator[list[Row]]:
    """Yield batches of rows of about equal length, in random order: padding would cost as much as learning."""
    generator = random.Random(0)
    for _ in range(math.ceil(schedule.steps / POOL)):
        drawn = sorted(
            itertools.islice(rows, POOL * schedule.batch), key=lambda item: len(item.prompt) + len(item.answer)
        )
        firsts = range(0, len(drawn), schedule.batch)
        for first in generator.sample(firsts, len(firsts)):
            yield drawn[first : first + schedule.batch]


def fit(
    model: torch.nn.Module,
    rows: Iterator[Row],
    schedule: Schedule,
    name: str,
    penalty: Callable[[Sequence[Row]], torch.Tensor] | None = None,
    after_step: Callable[[], None] | None = None,
) -> None:
    """
    Train the model's trainable weights on the rows with AdamW, a short warm-up and a cosine to zero.

    `penalty` of a batch is added to its loss; `after_step` may change the weights once they have been stepped.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warm = schedule.steps // 15

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / schedule.steps))

    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for step, batch in enumerate(itertools.islice(batches(rows, schedule), schedule.steps)):
        loss = loss_of(model, batch, schedule.prompt_weight)
        if penalty is not None:
            loss = loss + penalty(batch)
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step()
        if step % 50 == 0:
            print(f"{name}: step {step}/{schedule.steps}, loss {loss.item():.3f}", flush=True)
    model.eval()


def loss_of(model: torch.nn.Module, batch: Sequence[Row], prompt_weight: float) -> torch.Tensor:
    """Return the mean next-token loss in nats; rows are padded on the right, which causal attention never sees."""
    ids = padded(batch)
    weight = torch.zeros(ids.shape)
    for line, item in enumerate(batch):
        length = len(item.prompt) + len(item.answer)
        weight[line, : len(item.prompt)] = prompt_weight
        weight[line, len(item.prompt) : length] = 1.0
    logits = model(input_ids=ids).logits[:, :-1]
    wanted = weight[:, 1:] > 0
    losses = torch.nn.functional.cross_entropy(logits[wanted], ids[:, 1:][wanted], reduction="none")
    return (losses * weight[:, 1:][wanted]).sum() / weight[:, 1:].sum()


def padded(batch: Sequence[Row]) -> torch.Tensor:
    """Return the token ids of prompts and answers, [row, token], filled up with zeros on the right."""
    lines = [torch.tensor(item.prompt + item.answer) for item in batch]
    return torch.nn.utils.rnn.pad_sequence(lines, batch_first=True)
