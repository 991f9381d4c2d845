"""What the parts of the report are built from: sections, tables, what is folded away, values as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from potstill.report.markup import Html, Node, join_nodes, tag

NONE = "–"
_NO_WORD = re.compile(r"[^a-z0-9]+")


class Section(NamedTuple):
    """A titled part of the page, with a line that says how to read it."""

    title: str
    hint: str
    content: Html


def make_section(title: str, hint: str, *children: Html | None) -> Section:
    """A section of the children that are there."""
    return Section(title, hint, join_nodes(*children))


def slug(title: str) -> str:
    """A title as the id of its section."""
    return _NO_WORD.sub("-", title.lower()).strip("-") or "section"


def fold(summary: str, *children: Html | None, is_open: bool = False) -> Html:
    """Children that a click on a line unfolds."""
    return tag("details", tag("summary", summary), *children, open=is_open)


def data_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Node]],
    *,
    name: str,
    number_columns: int = 0,
) -> Html:
    """A table whose last `number_columns` are right-aligned and whose first column is its row header.

    Args:
        columns: the titles of the columns.
        rows: their cells.
        name: of the table, for who can't see where it stands; no two of a page are equal.
        number_columns: how many of the last columns hold numbers.
    """
    # Of each column, whether it holds numbers.
    text_columns = len(columns) - number_columns
    classes: list[str | None] = [None] * text_columns + ["number"] * number_columns
    head_cells: list[Html] = []
    for title, css_class in zip(columns, classes, strict=True):
        head_cells.append(tag("th", title, scope="col", class_=css_class))
    body_rows: list[Html] = []
    for header, *cells in rows:
        row_cells = [tag("th", header, scope="row")]
        for cell, css_class in zip(cells, classes[1:], strict=True):
            row_cells.append(tag("td", cell, class_=css_class))
        body_rows.append(tag("tr", *row_cells))
    head = tag("thead", tag("tr", *head_cells))
    return scrolling(tag("table", head, tag("tbody", *body_rows)), name)


def scrolling(content: Html, name: str) -> Html:
    """Content that may be wider than the page; the keyboard reaches it too."""
    return tag("div", content, class_="scroll", tabindex=0, role="group", aria_label=name)


def settings_table(values: Mapping[str, Any], *, name: str) -> Html:
    """Nested settings as a table, one line a setting with its dotted key."""
    rows = [(key, format_value(value)) for key, value in flatten(values)]
    return data_table(("setting", "value"), rows, name=name)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key."""
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def format_value(value: Any) -> str:
    """A plain value as people read it; a mapping as `key = value` with commas between."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return format_number(value)
    # What holds other values; nothing in it is nothing.
    if isinstance(value, Mapping):
        parts = [f"{key} = {format_value(item)}" for key, item in value.items()]
    else:
        parts = [format_value(item) for item in value]
    return ", ".join(parts) or NONE


def format_number(value: float) -> str:
    """Three or four figures; small ones as powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read_settings_text(text: str) -> str:
    """A fingerprint's component, which may hold JSON, as people read it."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return format_value(json.loads(text))
    except ValueError:
        return text
