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
# Of the drawing of curves; its width is stretched to the page's.
CURVE_HEIGHT, CURVE_WIDTH = 180, 1000
CURVE_MARGIN = 4  # above the highest point and below the lowest
TONES = 6  # strokes of curves in the style sheet
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
            whole_length = math.log(self.high / self.low)
            return math.log(clipped / self.low) / whole_length
        return (clipped - self.low) / (self.high - self.low)

    def at(self, value: float) -> str:
        """Where a value lies, 2 % inside both edges, in per cent of the width."""
        return f"{2 + 96 * self.share(value):.2f}%"


def make_scale(
    values: Sequence[float], *, floor: float = -math.inf, ceiling: float = math.inf
) -> Scale:
    """A scale around values with 3 to 7 round ticks, never beyond floor and ceiling."""
    low, high = min(values), max(values)
    # About four steps from end to end; the outer ticks lie on the values or beyond them.
    smallest_step = max(high - low, TOLERANCE) / 4
    step = round_step(smallest_step)
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
    lowest = smallest * 0.999  # rounding may put a step just below
    steps = [power * multiple for multiple in TICK_MULTIPLES]
    return next(step for step in steps if step >= lowest)


class Dot(NamedTuple):
    """A row of a dot-and-whisker chart; `tone` is a CSS class, `other` a second, hollow value."""

    label: str
    estimate: Estimate
    value: str
    tone: str = "accent"
    other: float | None = None


def dot_chart(dots: Sequence[Dot], axis: Scale, unit: str, *, zero: bool = False) -> Html:
    """Dots with their 95 % intervals on one axis, one row each; `zero` marks the zero of the axis."""
    rows: list[Html] = []
    for dot in dots:
        drawing = _draw_dot(dot, axis, zero)
        rows.append(_chart_row(dot.label, drawing, dot.value, dot.tone))
    return tag("div", *rows, _axis_row(axis, unit), class_="chart")


def _draw_dot(dot: Dot, axis: Scale, zero: bool) -> Html:
    value, low, high = (axis.at(end) for end in dot.estimate)
    marks = _grid_lines(axis)
    if zero:
        marks.append(_vertical_line(axis.at(0.0), "zero"))
    # The whisker with its two ends, then the hollow value, then the dot on top.
    marks.append(_horizontal_line(low, high, "whisker"))
    for x in (low, high):
        marks.append(_vertical_line(x, "whisker", top=MIDDLE - 5, bottom=MIDDLE + 5))
    if dot.other is not None:
        marks.append(_circle(axis.at(dot.other), 4.5, "hollow"))
    marks.append(_circle(value, 6, "dot"))
    return _svg(marks, ROW_HEIGHT, f"{dot.label}: {dot.value}")


class Bar(NamedTuple):
    """A row of a bar chart: one or more parts from zero, each with its CSS class."""

    label: str
    parts: tuple[tuple[float, str], ...]
    value: str


def bar_chart(bars: Sequence[Bar], full: float) -> Html:
    """Stacked bars on one scale from 0 to `full`."""
    rows: list[Html] = []
    for bar in bars:
        drawing = _draw_bar(bar, full)
        rows.append(_chart_row(bar.label, drawing, bar.value, ""))
    return tag("div", *rows, class_="chart bars")


def _draw_bar(bar: Bar, full: float) -> Html:
    # The pale track over the whole width, and the parts on it, one behind the other.
    marks = [_rectangle("0", "100%", "track")]
    start = 0.0
    for amount, tone in bar.parts:
        width = 100 * amount / full if full > 0 else 0.0
        marks.append(_rectangle(f"{start:.2f}%", f"{width:.2f}%", f"fill {tone}"))
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
    rows: list[Html] = []
    for row in ranges:
        drawing = _draw_range(row, axis)
        rows.append(_chart_row(row.label, drawing, row.value, "accent"))
    return tag("div", *rows, _axis_row(axis, unit), class_="chart")


def _draw_range(row: Range, axis: Scale) -> Html:
    marks = _grid_lines(axis)
    marks.append(_horizontal_line(axis.at(row.low), axis.at(row.high), "band"))
    marks.append(_circle(axis.at(row.middle), 5, "dot"))
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
    positions: list[float] = []
    heights: list[float] = []
    for curve in curves:
        for x, y in curve.points:
            positions.append(x)
            heights.append(y)
    horizontal, vertical = make_scale(positions), make_scale(heights)

    # The grid of heights, and the curves over it.
    marks: list[Html] = []
    for tick in vertical.ticks:
        height = f"{_curve_y(vertical, tick):.1f}"
        marks.append(tag("line", x1=0, x2=CURVE_WIDTH, y1=height, y2=height, class_="grid"))
    for number, curve in enumerate(curves):
        points = _curve_points(curve, horizontal, vertical)
        marks.append(tag("polyline", points=points, class_=_curve_class(number)))
    descriptions = [f"{curve.label}: {curve.value}" for curve in curves]
    drawing = tag(
        "svg",
        *marks,
        viewBox=f"0 0 {CURVE_WIDTH} {CURVE_HEIGHT}",
        preserveAspectRatio="none",
        height=CURVE_HEIGHT,
        width="100%",
        role="img",
        aria_label="; ".join(descriptions),
    )

    # The ends of the vertical axis on the left, the horizontal axis below.
    low, high = f"{vertical.ticks[0]:g}", f"{vertical.ticks[-1]:g}"
    scale = tag("div", tag("span", high), tag("span", low), class_="scale")
    plot = tag("div", scale, tag("div", drawing, class_="plot"), class_="curves")
    axis_row = _axis_row(horizontal, f" {unit}s")
    return tag("div", plot, _curve_legend(curves), axis_row, class_="chart")


def _curve_points(curve: Curve, horizontal: Scale, vertical: Scale) -> str:
    """The points of a polyline; the ends of the axis lie 2 % inside the edges, as those of `Scale.at`."""
    points: list[str] = []
    for x, y in curve.points:
        left = (0.02 + 0.96 * horizontal.share(x)) * CURVE_WIDTH
        points.append(f"{left:.1f},{_curve_y(vertical, y):.1f}")
    return " ".join(points)


def _curve_y(axis: Scale, value: float) -> float:
    """How far from the top a value is drawn."""
    inner_height = CURVE_HEIGHT - 2 * CURVE_MARGIN
    return CURVE_MARGIN + (1 - axis.share(value)) * inner_height


def _curve_class(number: int) -> str:
    return f"curve tone{number % TONES}"


def _curve_legend(curves: Sequence[Curve]) -> Html:
    items: list[Html] = []
    for number, curve in enumerate(curves):
        line = tag("line", x1=0, x2=28, y1=7, y2=7, class_=_curve_class(number))
        stroke = tag("svg", line, width=28, height=14, aria_hidden="true")
        value = tag("span", curve.value, class_="soft")
        items.append(tag("li", stroke, f" {curve.label} ", value))
    return tag("ul", *items, class_="legend")


def _svg(marks: Sequence[Html], height: int, description: str) -> Html:
    return tag("svg", *marks, height=height, width="100%", role="img", aria_label=description)


def _grid_lines(axis: Scale) -> list[Html]:
    return [_vertical_line(axis.at(tick), "grid") for tick in axis.ticks]


def _vertical_line(x: str, kind: str, *, top: float = 0, bottom: float = ROW_HEIGHT) -> Html:
    return tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=kind)


def _horizontal_line(left: str, right: str, kind: str) -> Html:
    return tag("line", x1=left, x2=right, y1=MIDDLE, y2=MIDDLE, class_=kind)


def _circle(x: str, radius: float, kind: str) -> Html:
    return tag("circle", cx=x, cy=MIDDLE, r=radius, class_=kind)


def _rectangle(x: str, width: str, kind: str) -> Html:
    return tag("rect", x=x, y=6, width=width, height=BAR_HEIGHT, rx=3, class_=kind)


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
