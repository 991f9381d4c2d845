"""Existing traces as a model: the question looks up the completions that were recorded for it.

The rows may have any layout of `layouts`: messages, ShareGPT, prompt/completion, question/reasoning/answer, Open-R1,
OpenThoughts, s1K, or a column a recorded model, as GSM8K's `example_model_solutions.jsonl` has. Which column is what is
guessed from the first row, shown in `mapping`, and can be given.
Draw i is the i-th recorded completion; rows with the same question add draws. Sampling settings can't change a
recording and are not applied; a prefix is honoured where a recording begins with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.data import files, layouts
from potstill.data.layouts import COMPLETIONS, LABELS, QUESTIONS, Columns, Recording
from potstill.errors import InputError, ModelError
from potstill.models.model import Completion, Request
from potstill.models.scripted import ROUND, last_user
from potstill.records import Prompt, Tokens, digest

__all__ = ["COMPLETIONS", "LABELS", "QUESTIONS", "Recorded", "Recording"]


@final
class Recorded:
    """A model that repeats its file.

    Args:
        rows: the file's rows, each alone or with where it stands.
        columns: which columns hold completions, in draw order; default: guessed from the first row.
        question: the column of the question; default: the first of QUESTIONS that a row has, else its chat.
        mapping: the columns of `reasoning`, `answer` (what follows the reasoning), `label`, `finish`.
        contained: also match a prompt that contains exactly one recorded question: a template around it. Never on by
            itself: a request to rewrite a solution contains the question too, and the recording is no answer to that.
        source: what to call the recording in errors.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any] | files.Row],
        *,
        columns: Sequence[str] = (),
        question: str = "",
        mapping: Mapping[str, str] | None = None,
        contained: bool = False,
        source: str = "the recording",
    ) -> None:
        self._contained, self._source = contained, source
        self._table: dict[str, list[Recording]] = {}
        self._found_columns: Columns | None = None
        given = {"completion": ",".join(columns), "question": question, **(mapping or {})}
        given = {name: column for name, column in given.items() if column}
        for number, item in enumerate(rows, 1):
            place, row = item if isinstance(item, tuple) else (f"row {number}", item)
            with files.checked(source, place, row):
                self._take(row, given, f"{source}, {place}")
        if not self._table:
            raise InputError(
                f"{source} has no rows",
                expected="recorded completions",
                fix="give a file with rows",
            )

    @classmethod
    def load(cls, path: Path | str, **options: Any) -> Recorded:
        """Read a .jsonl, .json, .csv or .parquet file of rows (also .gz), or hf:NAME[/CONFIG][:SPLIT]."""
        rows = files.rows(str(path), "a file of questions with recorded completions")
        mapping = {name: options.pop(name) for name in layouts.FIELDS[2:] if name in options}
        return cls(rows, source=str(path), mapping=mapping, **options)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold completions, in draw order."""
        return self._found_columns.completion if self._found_columns else ()

    @property
    def mapping(self) -> dict[str, str]:
        """Field -> column, guessed or given, with the layout's name under "layout"."""
        found = self._found_columns
        return {"layout": found.layout, **found.shown()} if found else {}

    def _take(self, row: Mapping[str, Any], given: Mapping[str, str], where: str) -> None:
        if not isinstance(row, Mapping):
            found = f"{where} is a {type(row).__name__}"
            raise InputError(found, expected="an object with a question", fix="write objects")
        asked = _squeeze(layouts.question(row, given.get("question", ""), where))
        self._found_columns = self._found_columns or layouts.guess(row, given, where)
        made = layouts.recordings(row, self._found_columns, where)
        self._table.setdefault(asked, []).extend(made)

    @cached_property
    def id(self) -> str:
        """Content id over questions and completions, not over the path, the labels or the layout."""
        texts = {asked: [(r.text, r.finish) for r in found] for asked, found in self._table.items()}
        return digest("recorded", [texts, self._contained])

    def __len__(self) -> int:
        return len(self._table)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The recorded completion of each request, in order; a request that was not recorded is a ModelError."""
        return [self._one(request) for request in requests]

    def label(self, prompt: Prompt, draw: int = 0) -> bool | None:
        """Whether the file itself calls this completion right, where it says."""
        return self._recording(prompt, draw).label

    def draws(self, prompt: Prompt) -> int:
        """How many completions are recorded for this prompt."""
        return len(self._found(prompt))

    def _one(self, request: Request) -> Completion:
        recording = self._recording(request.prompt, request.draw)
        if not recording.text.startswith(request.prefix):
            raise ModelError(
                f"the recorded model can't continue {request.prefix[:60]!r}: its completion is {recording.text[:60]!r}",
                expected="a prefix of the recorded completion",
                fix="use a model that writes (transformers:PATH, world:NAME) for this role",
            )
        used = Tokens(completion=recording.tokens)
        return Completion(recording.text[len(request.prefix) :], recording.finish, used)

    def _recording(self, prompt: Prompt, draw: int) -> Recording:
        found = self._found(prompt)
        if draw < len(found):
            return found[draw]
        again, index = divmod(draw, ROUND)
        asked = f"draw {index}" + (f" when asked again (draw={again})" if again else "")
        count = f"{len(found)} completion" + ("s" if len(found) != 1 else "")
        raise ModelError(
            f"the recorded model has only {count} for this prompt, and {asked} was wanted: {last_user(prompt)[:80]!r}",
            expected=f"draws 0 to {len(found) - 1}",
            available=self.columns,
            fix=f"ask for n={len(found)} or less, without draw=, or record more completions in {self._source}",
        )

    def _found(self, prompt: Prompt) -> list[Recording]:
        asked = _squeeze(last_user(prompt))
        if asked in self._table:
            return self._table[asked]
        inside = self._inside(asked) if self._contained else []
        if len(inside) == 1:
            return self._table[inside[0]]
        raise self._missing(asked, len(inside))

    def _inside(self, asked: str) -> list[str]:
        """The recorded questions that a prompt contains, without those that are part of a longer one."""
        inside = [question for question in self._table if question in asked]
        return [q for q in inside if not any(q != longer and q in longer for longer in inside)]

    def _missing(self, asked: str, inside: int) -> ModelError:
        near = difflib.get_close_matches(
            asked[:200], [q[:200] for q in self._table], n=1, cutoff=0.6
        )
        nearest = f"; the nearest is {near[0][:80]!r}" if near else ""
        ambiguous = f" (it contains {inside} recorded questions)" if inside else ""
        fix = "use a model that writes for this role"
        if not self._contained and any(question in asked for question in self._table):
            fix += "; if the prompt only wraps the question in a template, add ?match=contained to the model"
        return ModelError(
            f"the recorded model has no completion for this prompt: {asked[:80]!r}{ambiguous}",
            expected=f"one of the {len(self)} questions of {self._source}{nearest}",
            fix=fix,
        )


def _squeeze(text: str) -> str:
    return " ".join(text.split())
