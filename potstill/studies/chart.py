"""The figure of a study, as an SVG file that stands alone: dots with intervals, or lines through points.

Colours are fixed and readable on a white ground, which is part of the file, so that it looks the same on every page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

PLOT_WIDTH = 420  # in pixels, as all that follow
ROW_HEIGHT = 28
MARGIN_TOP = 44
MARGIN_BOTTOM = 44
MARGIN_RIGHT = 90
AXIS_WIDTH = 70  # left of a plot of lines
CHARACTER_WIDTH = 7  # of a mean character at the font's size, rather more than less
PLOT_HEIGHT = 280
COLOURS = ("#1f5fa8", "#c2541b", "#2b8a57", "#8b3fa0", "#8a6d00", "#4d4d4d")
GRID = "#d9d9d9"
INK = "#222222"


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval, in a row of its own.

    Args:
        label: of the row.
        value: where the dot is.
        low: the interval's lower end.
        high: its upper end.
    """

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DotChart:
    """Values with 95 % intervals below one another.

    Args:
        title: what is shown.
        axis: what the values are, with their unit.
        dots: in order.
        reference: a value that is marked by a line, such as 0 for differences.
    """

    title: str
    axis: str
    dots: Sequence[Dot]
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class LineChart:
    """Curves, or points where `joined` is False.

    Args:
        title: what is shown.
        x_axis: what runs to the right, with its unit.
        y_axis: what runs upwards, with its unit.
        series: (x, y) points by name; at most six names.
        joined: whether a line joins a series' points.
        log_x: whether the axis to the right is logarithmic; every x is above 0 then.
    """

    title: str
    x_axis: str
    y_axis: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    joined: bool = True
    log_x: bool = False


Chart: TypeAlias = DotChart | LineChart


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels: from `low` at `start` to `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def pixel(self, value: float) -> float:
        """Where a value stands."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def render_svg(chart: Chart) -> str:
    """The chart as a whole SVG document."""
    if isinstance(chart, DotChart):
        return _render_dots(chart)
    return _render_lines(chart)


def _render_dots(chart: DotChart) -> str:
    # The axis holds every interval, and the reference.
    values: list[float] = []
    for dot in chart.dots:
        values += [dot.low, dot.value, dot.high]
    if chart.reference is not None:
        values.append(chart.reference)
    ticks = round_ticks(min(values), max(values))
    height = MARGIN_TOP + ROW_HEIGHT * len(chart.dots) + MARGIN_BOTTOM
    bottom = height - MARGIN_BOTTOM
    # Labels to the left, the plot, the values to the right.
    left = 30 + text_width(dot.label for dot in chart.dots)
    right = left + PLOT_WIDTH
    scale = Scale(ticks[0], ticks[-1], left, right)

    # The grid with its numbers, below all else.
    marks: list[str] = []
    for tick in ticks:
        x = scale.pixel(tick)
        marks.append(_line(x, MARGIN_TOP, x, bottom, GRID))
        marks.append(_text(x, bottom + 16, format_tick(tick), anchor="middle"))
    if chart.reference is not None:
        x = scale.pixel(chart.reference)
        marks.append(_line(x, MARGIN_TOP, x, bottom, INK))
    # A row a dot: its label, its interval as a line, its value.
    for row, dot in enumerate(chart.dots):
        y = MARGIN_TOP + ROW_HEIGHT * (row + 0.5)
        marks.append(_text(left - 10, y + 4, dot.label, anchor="end"))
        marks.append(_line(scale.pixel(dot.low), y, scale.pixel(dot.high), y, COLOURS[0], width=2))
        marks.append(_circle(scale.pixel(dot.value), y, COLOURS[0]))
        marks.append(_text(right + 10, y + 4, f"{dot.value:.3g}"))
    marks.append(_text((left + right) / 2, bottom + 34, chart.axis, anchor="middle"))
    return _document(right + MARGIN_RIGHT, height, chart.title, marks)


def _render_lines(chart: LineChart) -> str:
    # The axes hold every point; y runs upwards, where pixels run downwards.
    xs = [x for points in chart.series.values() for x, _ in points]
    ys = [y for points in chart.series.values() for _, y in points]
    x_ticks = log_ticks(min(xs), max(xs)) if chart.log_x else round_ticks(min(xs), max(xs))
    y_ticks = round_ticks(min(ys), max(ys))
    left, right = AXIS_WIDTH, AXIS_WIDTH + PLOT_WIDTH
    bottom = MARGIN_TOP + PLOT_HEIGHT
    x_scale = Scale(x_ticks[0], x_ticks[-1], left, right, is_log=chart.log_x)
    y_scale = Scale(y_ticks[0], y_ticks[-1], bottom, MARGIN_TOP)

    marks: list[str] = []
    for tick in x_ticks:
        x = x_scale.pixel(tick)
        marks.append(_line(x, MARGIN_TOP, x, bottom, GRID))
        marks.append(_text(x, bottom + 16, format_tick(tick), anchor="middle"))
    for tick in y_ticks:
        y = y_scale.pixel(tick)
        marks.append(_line(left, y, right, y, GRID))
        marks.append(_text(left - 8, y + 4, format_tick(tick), anchor="end"))
    # The series, each in a colour of its own.
    for place, (name, points) in enumerate(chart.series.items()):
        colour = COLOURS[place % len(COLOURS)]
        pixels = [(x_scale.pixel(x), y_scale.pixel(y)) for x, y in points]
        if chart.joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
            marks.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
        for x, y in pixels:
            marks.append(_circle(x, y, colour))
        # The legend, right of the plot.
        legend_y = MARGIN_TOP + 20 * place + 8
        marks.append(_circle(right + 20, legend_y, colour))
        marks.append(_text(right + 32, legend_y + 4, name))
    marks.append(_text((left + right) / 2, bottom + 34, chart.x_axis, anchor="middle"))
    marks.append(_text(left, MARGIN_TOP - 8, chart.y_axis))
    width = right + 50 + text_width(chart.series)
    return _document(width, bottom + MARGIN_BOTTOM, chart.title, marks)


def text_width(texts: Iterable[str]) -> int:
    """About how wide the longest of some texts is; 0 where there are none."""
    return CHARACTER_WIDTH * max((len(text) for text in texts), default=0)


def round_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About so many round numbers around an interval: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough_step = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough_step))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough_step * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around an interval of positive numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def format_tick(value: float) -> str:
    """A number of an axis as short as it is exact."""
    return f"{value:,.10g}"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
    )


def _document(width: float, height: float, title: str, marks: Sequence[str]) -> str:
    body = "\n".join(marks)
    width = max(width, 20 + text_width([title]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="sans-serif" font-size="12" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="10" y="20" fill="{INK}" font-weight="bold">{escape(title)}</text>\n'
        f"{body}\n</svg>\n"
    )
