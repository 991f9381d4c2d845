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

_WIDE = 160  # columns of a table that goes into a file or a pipe
_NUMERIC = re.compile(r"[-+–\d.,%\s\[\]]*")


def document(value: Any) -> None:
    """One JSON document; pure ASCII, so that no text in it can touch a terminal or be lost."""
    print(json.dumps(value, indent=2, allow_nan=False, default=_plain))


def stream(name: str, values: Iterable[Any]) -> None:
    """A JSON document with one list, an entry a line, printed as they come: the list may be longer than memory."""
    print(f'{{"{name}": [', end="")
    for count, value in enumerate(values):
        print(
            ("," if count else "") + "\n" + json.dumps(value, allow_nan=False, default=_plain),
            end="",
        )
    print("\n]}")


def say(text: str = "") -> None:
    """A line of text."""
    print(terminal(text))


def table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Rows as a table: columns in the order of the first row; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    if title:
        say(f"\n{title}")
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        numeric = all(_NUMERIC.fullmatch(str(row[name])) for row in rows)
        drawn.add_column(
            Text(terminal(name)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*[Text(terminal(str(row[name]))) for name in rows[0]])
    width = None if sys.stdout.isatty() else _WIDE
    Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False).print(drawn)


def arms(rows: Sequence[Mapping[str, str]]) -> None:
    """The table of arms, an interval under its value; columns that say nothing are left out."""
    told = [name for name in (rows[0] if rows else ()) if name not in ("verdict", "cost")]
    kept = [name for name in told if name == "arm" or any(_says(name, row[name]) for row in rows)]
    table([{name: row[name].replace(" [", "\n[") for name in kept} for row in rows])


def _says(name: str, cell: str) -> bool:
    return cell != "–" and not (name == "errors" and cell == "0.0 %")


def bad(rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows that --skip-bad left out, the first ten of them."""
    told = [
        {"left out": f"{row['file']}, {row['where']}", "reason": row["reason"]} for row in rows[:10]
    ]
    table([{name: short(cell, 100) for name, cell in row.items()} for row in told])
    if len(rows) > len(told):
        say(f"… and {len(rows) - len(told):,} more bad rows")


def columns(mapping: Mapping[str, str], unread: Sequence[str]) -> None:
    """Which columns of a file were read as what, and which were not read."""
    if not mapping and not unread:
        return
    fields = [f"{name}={column}" for name, column in mapping.items() if name != "layout"]
    layout = f"rows read as {mapping['layout']}: " if "layout" in mapping else "columns "
    say(layout + ", ".join(fields))
    if unread:
        say(f"columns not read: {', '.join(unread)}")


def short(text: str, width: int = 60) -> str:
    """A text on one line, its end kept: answers stand at the end."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"…{flat[1 - width :]}"


def head(text: str, width: int = 60) -> str:
    """A text on one line, its beginning kept: names stand there."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type):
        return value.__name__
    raise TypeError(f"{type(value).__name__} in a JSON document")
