"""Notes on traces, in a file beside the run that only grows; they change no id, no row and no result."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.errors import InputError

NOTES_FILE = "notes.jsonl"  # in the run folder
MARKS = ("good", "bad", "look")
MAX_TEXT = 20_000  # characters of a note


class Note(NamedTuple):
    """What somebody says of a trace.

    Args:
        mark: of `MARKS`; "" takes an earlier one away.
        span: the stretch of the text that it is about, in UTF-16 code units.
    """

    trace: str
    mark: str
    arm: str = ""
    by: str = ""
    at: float = 0.0
    text: str = ""
    span: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a line of the file, and as the pages read it."""
        values = self._asdict()
        if self.span is not None:
            values["span"] = list(self.span)
        return values


def read_note(values: Any) -> Note:
    """A note from JSON.

    Raises:
        InputError: it is none.
    """
    if not isinstance(values, Mapping):
        raise InputError("a note is a JSON object", expected='{"trace": "trace-…", "mark": "good"}')
    # Every part is checked: the page sends it, but so may anything else that has the token.
    texts: dict[str, str] = {}
    for name in ("trace", "mark", "arm", "by", "text"):
        value = values.get(name, "")
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise InputError(f"{name} of a note is no text of at most {MAX_TEXT:,} characters")
        texts[name] = value
    if not texts["trace"].startswith("trace-"):
        raise InputError("a note names no trace", expected='"trace": "trace-…"')
    if texts["mark"] not in (*MARKS, ""):
        raise InputError(f"the mark of a note is {texts['mark'][:40]!r}", available=MARKS)
    at = values.get("at", 0.0)
    is_number = isinstance(at, int | float) and not isinstance(at, bool)
    return Note(**texts, at=float(at) if is_number else 0.0, span=_read_span(values.get("span")))


def _read_span(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    is_pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not is_pair or not all(type(end) is int and end >= 0 for end in value):
        raise InputError("the span of a note is no pair of places in a text", expected="[3, 9]")
    return value[0], value[1]


@final
class NotesFile:
    """The notes of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> list[Note]:
        """All notes in the order of writing; lines that are none, such as one that was cut short, are left out."""
        try:
            text = self.path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        notes = []
        for line in text.splitlines():
            try:
                notes.append(read_note(json.loads(line)))
            except (ValueError, InputError):
                # A hand may have edited the file: what can be read still counts.
                continue
        return notes

    def marks(self) -> dict[str, str]:
        """By trace, its mark: of each person the last note counts, and of several people the last of these."""
        last: dict[tuple[str, str], Note] = {}
        for note in self.read():
            # Taken out first, so that the newest stands last.
            last.pop((note.trace, note.by), None)
            last[note.trace, note.by] = note
        marks: dict[str, str] = {}
        for note in last.values():
            if note.mark:
                marks[note.trace] = note.mark
        return marks

    def add(self, values: Any) -> Note:
        """Append a note, with the time; OSError where the file can't be written."""
        note = read_note(values)._replace(at=time.time())
        line = json.dumps(note.to_json(), allow_nan=False) + "\n"
        with self._lock, self.path.open("a", encoding="ascii") as file:
            # A note of a process that died in the middle of a line must not swallow this one.
            if file.tell() and not self.path.read_bytes().endswith(b"\n"):
                file.write("\n")
            file.write(line)
        return note
