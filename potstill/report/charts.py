"""Charts as rows: a label and a value in HTML, between them an inline SVG in per cent, so that it fits any width.

No chart says anything by colour alone: every row has its number beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from potstill.evaluation.intervals import Estimate
from potstill.report.markup import Html, join, tag

_HEIGHT = 30
_MIDDLE = _HEIGHT / 2


class Scale(NamedTuple):
    """An axis from `low` to `high` with ticks; `at` gives per cent of the width."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """Where a value lies, 2 % inside both edges."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{2 + 96 * part:.2f}%"


def scale(values: Sequence[float], *, floor: float = -math.inf, ceiling: float = math.inf) -> Scale:
    """A scale around values with 3 to 7 round ticks, never beyond floor and ceiling."""
    low, high = min(values), max(values)
    step = _round_step(max(high - low, 1e-9) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    ticks = [
        tick * step
        for tick in range(first, last + 1)
        if floor - 1e-9 <= tick * step <= ceiling + 1e-9
    ]
    return Scale(ticks[0], ticks[-1], tuple(ticks))


def _round_step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


class Dot(NamedTuple):
    """A row of a dot-and-whisker chart; `tone` is a CSS class, `other` a second, hollow value."""

    label: str
    estimate: Estimate
    value: str
    tone: str = "accent"
    other: float | None = None


def whiskers(dots: Sequence[Dot], axis: Scale, unit: str, *, zero: bool = False) -> Html:
    """Dots with their 95 % intervals on one axis, one row each."""
    rows = [_row(dot.label, _whisker(dot, axis, zero), dot.value, dot.tone) for dot in dots]
    return tag("div", *rows, _row("", _axis(axis, unit), "", "axis"), class_="chart")


def _whisker(dot: Dot, axis: Scale, zero: bool) -> Html:
    value, low, high = (axis.at(end) for end in dot.estimate)
    lines = [_line(axis.at(tick), "grid") for tick in axis.ticks]
    if zero:
        lines.append(_line(axis.at(0.0), "zero"))
    whisker = tag("line", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE, class_="whisker")
    ends = [
        tag("line", x1=x, x2=x, y1=_MIDDLE - 5, y2=_MIDDLE + 5, class_="whisker")
        for x in (low, high)
    ]
    other = (
        None
        if dot.other is None
        else tag("circle", cx=axis.at(dot.other), cy=_MIDDLE, r=4.5, class_="hollow")
    )
    return _svg(
        dot, *lines, whisker, *ends, other, tag("circle", cx=value, cy=_MIDDLE, r=6, class_="dot")
    )


def _svg(dot: Dot, *children: Html | None) -> Html:
    described = f"{dot.label}: {dot.value}"
    return tag("svg", *children, height=_HEIGHT, width="100%", role="img", aria_label=described)


def _line(x: str, kind: str) -> Html:
    return tag("line", x1=x, x2=x, y1=0, y2=_HEIGHT, class_=kind)


def _axis(axis: Scale, unit: str) -> Html:
    ticks = [
        tag(
            "text",
            f"{tick:g}{unit}",
            x=axis.at(tick),
            y=14,
            text_anchor=_anchor(place, len(axis.ticks)),
        )
        for place, tick in enumerate(axis.ticks)
    ]
    return tag("svg", *ticks, height=20, width="100%", aria_hidden="true")


def _anchor(place: int, count: int) -> str:
    """The outer labels are set inwards so that the edges don't cut them."""
    return "start" if place == 0 else "end" if place == count - 1 else "middle"


class Bar(NamedTuple):
    """A row of a bar chart: one or more parts from zero, each with its CSS class."""

    label: str
    parts: tuple[tuple[float, str], ...]
    value: str


def bars(rows: Sequence[Bar], full: float) -> Html:
    """Stacked bars on one scale from 0 to `full`."""
    return tag(
        "div",
        *[_row(bar.label, _bar(bar, full), bar.value, "") for bar in rows],
        class_="chart bars",
    )


def _bar(bar: Bar, full: float) -> Html:
    drawn: list[Html] = [tag("rect", x="0", y=6, width="100%", height=14, rx=3, class_="track")]
    start = 0.0
    for amount, tone in bar.parts:
        width = 100 * amount / full if full > 0 else 0.0
        drawn.append(
            tag(
                "rect",
                x=f"{start:.2f}%",
                y=6,
                width=f"{width:.2f}%",
                height=14,
                rx=3,
                class_=f"fill {tone}",
            )
        )
        start += width
    return tag(
        "svg", *drawn, height=26, width="100%", role="img", aria_label=f"{bar.label}: {bar.value}"
    )


class Range(NamedTuple):
    """A row of a range chart: from the 10th to the 90th percentile, with the median."""

    label: str
    low: float
    middle: float
    high: float
    value: str


def ranges(rows: Sequence[Range], axis: Scale, unit: str) -> Html:
    """Thick lines from p10 to p90 with a dot at the median."""
    drawn = [_row(row.label, _range(row, axis), row.value, "accent") for row in rows]
    return tag("div", *drawn, _row("", _axis(axis, unit), "", "axis"), class_="chart")


def _range(row: Range, axis: Scale) -> Html:
    grid = [_line(axis.at(tick), "grid") for tick in axis.ticks]
    low, middle, high = axis.at(row.low), axis.at(row.middle), axis.at(row.high)
    band = tag("line", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE, class_="band")
    dot = tag("circle", cx=middle, cy=_MIDDLE, r=5, class_="dot")
    return tag(
        "svg",
        *grid,
        band,
        dot,
        height=_HEIGHT,
        width="100%",
        role="img",
        aria_label=f"{row.label}: {row.value}",
    )


def _row(label: str, drawing: Html, value: str, tone: str) -> Html:
    cells = join(
        tag("span", label, class_="label"),
        tag("span", drawing, class_="plot"),
        tag("span", value, class_="value"),
    )
    return tag("div", cells, class_=f"row {tone}".strip())
