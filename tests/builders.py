"""Builders of tiny model folders, written byte by byte: no torch, no transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Tensor = tuple[str, Sequence[int], bytes]
"""dtype in the format's own words, shape, raw little-endian bytes."""

ONE_TENSOR: Mapping[str, Tensor] = {"lm_head.weight": ("F32", (2, 2), bytes(16))}
LOW_RANK: Mapping[str, Tensor] = {"base_model.model.model.layers.0.q_proj.lora_A.weight": ("F32", (1, 2), bytes(8))}


def safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file: header length (8 bytes, little-endian), JSON header, tensors without gaps."""
    header, body = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(content)],
        }
        body += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def write_safetensors(path: Path, tensors: Mapping[str, Tensor] = ONE_TENSOR) -> Path:
    """Write a safetensors file and return its path."""
    path.write_bytes(safetensors_bytes(tensors))
    return path


def write_json(path: Path, document: object) -> Path:
    """Write `document` as JSON and return its path."""
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_model(folder: Path, files: Mapping[str, bytes | object] | None = None, *, card: str | None = None) -> Path:
    """
    Write a folder that passes every check: config.json and one safetensors file.

    `files` adds to it or replaces: bytes as they are, None removes the file, anything else is written as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    write_safetensors(folder / "model.safetensors")
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    add_files(folder, files or {})
    return folder


def write_adapter(folder: Path, base: object = "org/base", files: Mapping[str, bytes | object] | None = None) -> Path:
    """Write the folder of a PEFT adapter on `base`; `files` as in `write_model`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": base})
    write_safetensors(folder / "adapter_model.safetensors", LOW_RANK)
    add_files(folder, files or {})
    return folder


def add_files(folder: Path, files: Mapping[str, bytes | object]) -> None:
    """Write `files` into `folder` as `write_model` does."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_json(path, content)


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return every file under `folder` by its relative path, as a Hub repository would list it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
