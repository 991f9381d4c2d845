"""What a command prints on stdout: tables and sentences for people, or one JSON document for programs.

Whatever a model or a file wrote goes through `terminal`, and is never read as markup.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.escape import terminal

MAX_BAD_ROWS = 10  # bad rows that are listed; the JSON document has all
NONE = "–"  # stands in a table for a value that there is not

_FILE_WIDTH = 160  # columns of a table that goes into a file or a pipe
_NUMERIC = re.compile(r"[-+–\d.,%\s\[\]]*")


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


def print_line(text: str = "") -> None:
    """A line of text."""
    print(terminal(text))


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Rows as a table: columns in the order of the first row; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    if title:
        print_line(f"\n{title}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        is_numeric = all(_NUMERIC.fullmatch(str(row[name])) for row in rows)
        table.add_column(
            Text(terminal(name)), justify="right" if is_numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*[Text(terminal(str(row[name]))) for name in rows[0]])
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False).print(table)


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
    print_table(lines)


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
