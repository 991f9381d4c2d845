"""Charts as rows: a label and a value in HTML, between them an inline SVG in per cent, so that it fits any width.

No chart says anything by colour alone: every row has its number beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from potstill.evaluation.intervals import Estimate
from potstill.report.markup import Html, join_nodes, tag

# Pixels; widths are in per cent.
ROW_HEIGHT = 30
MIDDLE = ROW_HEIGHT / 2
BAR_ROW_HEIGHT, BAR_HEIGHT = 26, 14
AXIS_HEIGHT = 20
TICK_MULTIPLES = (1, 2, 2.5, 5, 10)
CURVE_HEIGHT, CURVE_WIDTH = (
    180,
    1000,
)  # of the drawing of curves; the width is stretched to the page's
LOG_SPAN = 100  # the largest value is so many times the smallest: the axis is logarithmic
TOLERANCE = 1e-9  # of a step: rounding puts a tick beside its value


class Scale(NamedTuple):
    """An axis from `low` to `high` with ticks; `share` and `at` say where on it a value lies."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; beyond them, at the end."""
        clipped = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(clipped / self.low) / math.log(self.high / self.low)
        return (clipped - self.low) / (self.high - self.low)

    def at(self, value: float) -> str:
        """Where a value lies, 2 % inside both edges, in per cent of the width."""
        return f"{2 + 96 * self.share(value):.2f}%"


def make_scale(
    values: Sequence[float], *, floor: float = -math.inf, ceiling: float = math.inf
) -> Scale:
    """A scale around values with 3 to 7 round ticks, never beyond floor and ceiling."""
    low, high = min(values), max(values)
    step = round_step(max(high - low, TOLERANCE) / 4)
    first = math.floor(low / step + TOLERANCE)
    last = math.ceil(high / step - TOLERANCE)
    if first == last:
        first, last = first - 1, last + 1
    ticks: list[float] = []
    for multiple in range(first, last + 1):
        tick = multiple * step
        if floor - TOLERANCE <= tick <= ceiling + TOLERANCE:
            ticks.append(tick)
    return Scale(ticks[0], ticks[-1], tuple(ticks))


def make_length_scale(values: Sequence[float]) -> Scale:
    """A scale from zero, or a logarithmic one with powers of ten where the values above zero span decades."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < LOG_SPAN * min(positive):
        return make_scale([0.0, *values], floor=0)
    first = math.floor(math.log10(min(positive)) + TOLERANCE)
    last = math.ceil(math.log10(max(positive)) - TOLERANCE)
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks, is_log=True)


def round_step(smallest: float) -> float:
    """The next round number: 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(smallest))
    return next(
        power * multiple for multiple in TICK_MULTIPLES if power * multiple >= smallest * 0.999
    )


class Dot(NamedTuple):
    """A row of a dot-and-whisker chart; `tone` is a CSS class, `other` a second, hollow value."""

    label: str
    estimate: Estimate
    value: str
    tone: str = "accent"
    other: float | None = None


def dot_chart(dots: Sequence[Dot], axis: Scale, unit: str, *, zero: bool = False) -> Html:
    """Dots with their 95 % intervals on one axis, one row each; `zero` marks the zero of the axis."""
    rows = [_chart_row(dot.label, _draw_dot(dot, axis, zero), dot.value, dot.tone) for dot in dots]
    return tag("div", *rows, _axis_row(axis, unit), class_="chart")


def _draw_dot(dot: Dot, axis: Scale, zero: bool) -> Html:
    value, low, high = (axis.at(end) for end in dot.estimate)
    marks = _grid_lines(axis)
    if zero:
        marks.append(_vertical_line(axis.at(0.0), "zero"))
    # The whisker with its two ends, then the hollow value, then the dot on top.
    marks.append(tag("line", x1=low, x2=high, y1=MIDDLE, y2=MIDDLE, class_="whisker"))
    for x in (low, high):
        marks.append(tag("line", x1=x, x2=x, y1=MIDDLE - 5, y2=MIDDLE + 5, class_="whisker"))
    if dot.other is not None:
        marks.append(tag("circle", cx=axis.at(dot.other), cy=MIDDLE, r=4.5, class_="hollow"))
    marks.append(tag("circle", cx=value, cy=MIDDLE, r=6, class_="dot"))
    return _svg(marks, ROW_HEIGHT, f"{dot.label}: {dot.value}")


class Bar(NamedTuple):
    """A row of a bar chart: one or more parts from zero, each with its CSS class."""

    label: str
    parts: tuple[tuple[float, str], ...]
    value: str


def bar_chart(bars: Sequence[Bar], full: float) -> Html:
    """Stacked bars on one scale from 0 to `full`."""
    rows = [_chart_row(bar.label, _draw_bar(bar, full), bar.value, "") for bar in bars]
    return tag("div", *rows, class_="chart bars")


def _draw_bar(bar: Bar, full: float) -> Html:
    marks = [tag("rect", x="0", y=6, width="100%", height=BAR_HEIGHT, rx=3, class_="track")]
    start = 0.0
    for amount, tone in bar.parts:
        width = 100 * amount / full if full > 0 else 0.0
        marks.append(
            tag(
                "rect",
                x=f"{start:.2f}%",
                y=6,
                width=f"{width:.2f}%",
                height=BAR_HEIGHT,
                rx=3,
                class_=f"fill {tone}",
            )
        )
        start += width
    return _svg(marks, BAR_ROW_HEIGHT, f"{bar.label}: {bar.value}")


class Range(NamedTuple):
    """A row of a range chart: from the 10th to the 90th percentile, with the median."""

    label: str
    low: float
    middle: float
    high: float
    value: str


def range_chart(ranges: Sequence[Range], axis: Scale, unit: str) -> Html:
    """Thick lines from p10 to p90 with a dot at the median."""
    rows = [_chart_row(row.label, _draw_range(row, axis), row.value, "accent") for row in ranges]
    return tag("div", *rows, _axis_row(axis, unit), class_="chart")


def _draw_range(row: Range, axis: Scale) -> Html:
    low, middle, high = axis.at(row.low), axis.at(row.middle), axis.at(row.high)
    marks = _grid_lines(axis)
    marks.append(tag("line", x1=low, x2=high, y1=MIDDLE, y2=MIDDLE, class_="band"))
    marks.append(tag("circle", cx=middle, cy=MIDDLE, r=5, class_="dot"))
    return _svg(marks, ROW_HEIGHT, f"{row.label}: {row.value}")


class Curve(NamedTuple):
    """A line of a line chart: its points from left to right, and what is said of it in the legend."""

    label: str
    points: tuple[tuple[float, float], ...]
    value: str


def line_chart(curves: Sequence[Curve], unit: str) -> Html:
    """Curves over one axis of positions; the legend says which is which, by number as well as by stroke.

    Args:
        curves: at least one, each with two points or more.
        unit: of the horizontal axis, in the singular.
    """
    heights = [y for curve in curves for _, y in curve.points]
    positions = [x for curve in curves for x, _ in curve.points]
    vertical = make_scale(heights)
    horizontal = make_scale(positions)
    marks: list[Html] = []
    for tick in vertical.ticks:
        height = f"{_curve_y(vertical, tick):.1f}"
        marks.append(tag("line", x1=0, x2=CURVE_WIDTH, y1=height, y2=height, class_="grid"))
    for number, curve in enumerate(curves):
        points: list[str] = []
        for x, y in curve.points:
            left = (0.02 + 0.96 * horizontal.share(x)) * CURVE_WIDTH
            points.append(f"{left:.1f},{_curve_y(vertical, y):.1f}")
        marks.append(tag("polyline", points=" ".join(points), class_=f"curve tone{number % 6}"))
    drawing = tag(
        "svg",
        *marks,
        viewBox=f"0 0 {CURVE_WIDTH} {CURVE_HEIGHT}",
        preserveAspectRatio="none",
        height=CURVE_HEIGHT,
        width="100%",
        role="img",
        aria_label="; ".join(f"{curve.label}: {curve.value}" for curve in curves),
    )
    low, high = f"{vertical.ticks[0]:g}", f"{vertical.ticks[-1]:g}"
    scale = tag("div", tag("span", high), tag("span", low), class_="scale")
    plot = tag("div", scale, tag("div", drawing, class_="plot"), class_="curves")
    return tag(
        "div", plot, _curve_legend(curves), _axis_row(horizontal, f" {unit}s"), class_="chart"
    )


def _curve_y(axis: Scale, value: float) -> float:
    return 4 + (1 - axis.share(value)) * (CURVE_HEIGHT - 8)


def _curve_legend(curves: Sequence[Curve]) -> Html:
    items: list[Html] = []
    for number, curve in enumerate(curves):
        line = tag("line", x1=0, x2=28, y1=7, y2=7, class_=f"curve tone{number % 6}")
        stroke = tag("svg", line, width=28, height=14, aria_hidden="true")
        items.append(tag("li", stroke, f" {curve.label} ", tag("span", curve.value, class_="soft")))
    return tag("ul", *items, class_="legend")


def _svg(marks: Sequence[Html], height: int, description: str) -> Html:
    return tag("svg", *marks, height=height, width="100%", role="img", aria_label=description)


def _grid_lines(axis: Scale) -> list[Html]:
    return [_vertical_line(axis.at(tick), "grid") for tick in axis.ticks]


def _vertical_line(x: str, kind: str) -> Html:
    return tag("line", x1=x, x2=x, y1=0, y2=ROW_HEIGHT, class_=kind)


def _axis_row(axis: Scale, unit: str) -> Html:
    return _chart_row("", _draw_axis(axis, unit), "", "axis")


def _draw_axis(axis: Scale, unit: str) -> Html:
    last = len(axis.ticks) - 1
    labels: list[Html] = []
    for place, tick in enumerate(axis.ticks):
        # The outer labels are set inwards so that the edges don't cut them.
        anchor = {0: "start", last: "end"}.get(place, "middle")
        text = f"{_format_tick(tick)}{unit}"
        labels.append(tag("text", text, x=axis.at(tick), y=14, text_anchor=anchor))
    return tag("svg", *labels, height=AXIS_HEIGHT, width="100%", aria_hidden="true")


def _format_tick(tick: float) -> str:
    """A tick in few figures: 250, 100k, 2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(tick) >= size:
            factor = 1e3 if suffix == "k" else size
            return f"{tick / factor:g}{suffix}"
    return f"{tick:g}"


def _chart_row(label: str, drawing: Html, value: str, tone: str) -> Html:
    cells = join_nodes(
        tag("span", label, class_="label"),
        tag("span", drawing, class_="plot"),
        tag("span", value, class_="value"),
    )
    return tag("div", cells, class_=f"row {tone}".strip())
