"""What a command says of failed calls: how many of which kind, and the command that asks for them again."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from potstill.cli import show
from potstill.store import Store

FLAG = "--retry-errors"
# Asking again does not help against these: the same prompt is as long, the same file lacks the same answer.
FINAL_KINDS = ("context", "length", "missing", "budget")


def failure_notes(store: Store, *, is_stored: bool = True) -> list[str]:
    """A sentence on the failed calls of a store, with the command that asks again; empty where none failed.

    Args:
        store: of the command, open.
        is_stored: whether it is there when the command has ended.
    """
    counts = store.completions.count_failures()
    if not counts:
        return []
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common())
    note = f"{counts.total():,} calls failed ({kinds}) and count as no answer. "
    if counts.total() == 1:
        note = f"1 call failed ({kinds}) and counts as no answer. "
    return [note + _advice(store.folder, counts, is_stored=is_stored)]


def failure_notes_of_folder(folder: Path) -> list[str]:
    """The same of a folder that is closed."""
    with Store.open(folder, readonly=True) as store:
        return failure_notes(store)


def _advice(folder: Path, counts: Counter[str], *, is_stored: bool) -> str:
    if not counts.keys() - set(FINAL_KINDS):
        return "Asking again does not help."
    words = [*show.command_words()]
    if not is_stored:
        return f"They were not stored; ask again: {shlex.join(['potstill', *words])}"
    if FLAG not in words:
        words.append(FLAG)
    command = shlex.join(["potstill", *words])
    return f"Ask for them again: {command} (what failed: potstill cache journal {folder} --status error)"
