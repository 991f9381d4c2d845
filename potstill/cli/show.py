"""What a command prints on stdout: tables and sentences for people, or one JSON document for programs.

Whatever a model or a file wrote goes through `terminal`, and is never read as markup.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from potstill.cli.width import terminal_width
from potstill.escape import terminal

MAX_BAD_ROWS = 10  # bad rows that are listed; the JSON document has all
NONE = "–"  # stands in a table for a value that there is not

_FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe
_NUMERIC = re.compile(r"[-+–\d.,%\s\[\]]*")
_LABEL = re.compile(r" *(?:\w+: +|\w+  +|- )?")  # what a line begins with, before its text
_GAP, _EDGES = 3, 2  # columns between two columns of a table, and at its edges


_printed_documents: list[str] = []  # what kind of JSON document the command has printed, if any


_words: list[str] = []  # of the command, without `potstill`


def begin_command(words: Sequence[str] = ()) -> None:
    """Forget what an earlier command of this process printed, and note the words of this one."""
    _printed_documents.clear()
    _words[:] = words


def command_words() -> Sequence[str]:
    """The words of the command, without `potstill`, for a sentence that names a command like it."""
    return tuple(_words)


def has_printed_json() -> bool:
    """Whether the command has printed its JSON document: a second one would make both unreadable."""
    return bool(_printed_documents)


def print_json(value: Any) -> None:
    """One JSON document; pure ASCII, so that no text in it can touch a terminal or be lost."""
    _printed_documents.append("document")
    print(json.dumps(value, indent=2, allow_nan=False, default=_to_plain))


def print_json_list(name: str, values: Iterable[Any]) -> None:
    """A JSON document with one list, an entry a line, printed as they come: the list may be longer than memory."""
    _printed_documents.append("list")
    print(f'{{"{name}": [', end="")
    separator = ""
    for value in values:
        entry = json.dumps(value, allow_nan=False, default=_to_plain)
        print(f"{separator}\n{entry}", end="")
        separator = ","
    print("\n]}")


def fit_width(text: str, stream: TextIO) -> list[str]:
    """The lines of a text, broken between words where a terminal would break them anywhere.

    What follows in a broken line stands under its first word. A word that is wider than the terminal, such as a path,
    stays whole.
    """
    width = terminal_width(stream)
    lines: list[str] = []
    for line in text.split("\n"):
        if not width or len(line) <= width:
            lines.append(line)
            continue
        label = _LABEL.match(line)
        indent = min(label.end() if label else 0, width // 2)
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def print_line(text: str = "") -> None:
    """A line of text, broken between words where the terminal is narrower."""
    for line in fit_width(terminal(text), sys.stdout):
        print(line)


def print_block(text: str) -> None:
    """A text of several lines, set in."""
    for line in text.split("\n"):
        print_line(f"    {line}")


def print_table(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", may_shorten_names: bool = False
) -> None:
    """Rows as a table: columns in the order of the first row; numbers to the right.

    A table that is wider than the terminal goes on below, with the columns that name its rows again: no word is broken.

    Args:
        rows: with the same keys.
        title: a line above.
        may_shorten_names: whether, where room is short, the end of what names a row will do, as of a model's path.
    """
    if not rows:
        return
    if title:
        print_line(f"\n{title}")
    width = terminal_width(sys.stdout) or _FILE_WIDTH
    columns = [_measure_column(name, rows) for name in rows[0]]
    needed = sum(column.min_width + _GAP for column in columns) - _GAP
    if may_shorten_names and needed > width - _EDGES:
        rows = _shorten_names(rows, width // 3)
        columns = [_measure_column(name, rows) for name in rows[0]]
    for block in split_columns(
        columns, width - _EDGES, _count_naming_columns(columns, rows, width)
    ):
        _print_block(block, rows, width)


def _shorten_names(rows: Sequence[Mapping[str, Any]], width: int) -> Sequence[Mapping[str, Any]]:
    """The rows with the ends of what stands in the first column, such as a path, where these differ as the whole do."""
    first = next(iter(rows[0]))
    names = [str(row[first]) for row in rows]
    short_names = [keep_end(name, width) for name in names]
    if len(set(short_names)) < len(set(names)):
        return rows
    return [{**row, first: name} for row, name in zip(rows, short_names, strict=True)]


def _count_naming_columns(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int
) -> int:
    """How many of the first columns tell the rows apart, such as arm and role; 1 where that takes half the width."""
    for count in (1, 2):
        naming = columns[:count]
        keys = {tuple(str(row[column.name]) for column in naming) for row in rows}
        is_narrow = sum(column.min_width + _GAP for column in naming) <= width // 2
        if len(keys) == len(rows) and is_narrow:
            return count
    return 1


class Column(NamedTuple):
    """A column of a table: the columns of a terminal that it needs at least, and that it would like."""

    name: str
    is_numeric: bool
    min_width: int
    width: int


def _measure_column(name: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    cells = [terminal(str(row[name])) for row in rows]
    is_numeric = all(_NUMERIC.fullmatch(cell) for cell in cells)
    lines = [line for cell in (terminal(name), *cells) for line in cell.split("\n")]
    widest = max(map(len, lines))
    # A number stands whole; a text may be broken between its words.
    words = lines if is_numeric else [word for line in lines for word in line.split()]
    longest_word = max(map(len, words), default=0)
    return Column(name, is_numeric, longest_word, widest)


def split_columns(columns: Sequence[Column], width: int, naming: int = 1) -> list[list[Column]]:
    """The columns in blocks that fit the width, each beginning with the first ones; widths as they are printed.

    Args:
        columns: of the whole table.
        width: of a block, without its edges.
        naming: how many of the first columns stand in every block.
    """
    blocks: list[list[Column]] = [list(columns[:naming])]
    for column in columns[naming:]:
        block = blocks[-1]
        needed = sum(part.min_width + _GAP for part in block) + column.min_width
        if needed > width and len(block) > naming:
            blocks.append(list(columns[:naming]))
        blocks[-1].append(column)
    return [_share_width(block, width) for block in blocks]


def _share_width(block: Sequence[Column], width: int) -> list[Column]:
    """The columns of a block as wide as they want to be, or as there is room for beside the others."""
    room = max(0, width - sum(column.min_width + _GAP for column in block) + _GAP)
    wanted = sum(column.width - column.min_width for column in block)
    shared: list[Column] = []
    for column in block:
        extra = column.width - column.min_width
        if wanted > room:
            extra = extra * room // wanted
        shared.append(column._replace(width=column.min_width + extra))
    return shared


def _print_block(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(terminal(column.name)),
            justify="right" if column.is_numeric else "left",
            overflow="fold",
            width=column.width,
        )
    for row in rows:
        table.add_row(*[Text(terminal(str(row[column.name]))) for column in columns])
    # The widths are given: a wider console keeps rich from squeezing a column whose one word is wider than all.
    console_width = max(width, sum(column.width + _GAP for column in columns) + _EDGES)
    Console(file=sys.stdout, width=console_width, highlight=False, soft_wrap=False).print(table)


def print_arms(rows: Sequence[Mapping[str, str]]) -> None:
    """The table of arms, an interval under its value; columns without content are left out."""
    # Arms with other n have other columns: avg@4 beside avg@8.
    names = dict.fromkeys(name for row in rows for name in row)
    columns = []
    for name in names:
        has_content = any(row.get(name, NONE) != NONE for row in rows)
        if has_content and name not in ("verdict", "cost"):
            columns.append(name)
    lines = []
    for row in rows:
        # An interval goes into a line of its own.
        lines.append({name: row.get(name, NONE).replace(" [", "\n[") for name in columns})
    print_table(lines, may_shorten_names=True)


def print_bad_rows(bad_rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows that --skip-bad left out, the first ten of them."""
    lines = []
    for row in bad_rows[:MAX_BAD_ROWS]:
        place = keep_end(f"{row['file']}, {row['where']}", 100)
        lines.append({"left out": place, "reason": keep_end(row["reason"], 100)})
    print_table(lines)
    if len(bad_rows) > len(lines):
        print_line(f"… and {len(bad_rows) - len(lines):,} more bad rows")


def fill_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table with a dash for what is None."""
    return {name: NONE if value is None else value for name, value in row.items()}


def print_columns(mapping: Mapping[str, str], unread: Sequence[str]) -> None:
    """Which columns of a file were read as what, and which were not read."""
    if not mapping and not unread:
        return
    fields = [f"{name}={column}" for name, column in mapping.items() if name != "layout"]
    layout = f"rows read as {mapping['layout']}: " if "layout" in mapping else "columns "
    print_line(layout + ", ".join(fields))
    if unread:
        print_line(f"columns not read: {', '.join(unread)}")


def format_prompt(prompt: Any) -> str:
    """A prompt, or its turns each behind its role."""
    if isinstance(prompt, str):
        return prompt
    lines: list[str] = []
    for turn in prompt:
        role, content = (turn["role"], turn["content"]) if isinstance(turn, Mapping) else turn
        lines.append(f"[{role}] {content}")
    return "\n".join(lines)


def keep_end(text: str, width: int = 60) -> str:
    """A text on one line, its end kept: answers stand at the end."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"…{line[1 - width :]}"


def keep_start(text: str, width: int = 60) -> str:
    """A text on one line, its beginning kept: names stand there."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type):
        return value.__name__
    raise TypeError(f"{type(value).__name__} in a JSON document")
