"""Existing traces as a model: the question looks up the completions that were recorded for it.

Rows may be {question, completion}, {question, completions: […]}, {messages: […]}, or have one column per recorded
model, {question, model_a: {is_correct, solution}, model_b: {…}}, as GSM8K's `example_model_solutions.jsonl` has.
Draw i is the i-th recorded completion; rows with the same question add draws. Sampling settings can't change a
recording and are not applied; a prefix is honoured where a recording begins with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from potstill import reading
from potstill.errors import ConfigError, InputError, ModelError
from potstill.models.model import Completion, Request
from potstill.models.scripted import ROUND, last_user
from potstill.records import Prompt, Tokens, digest

QUESTIONS = ("question", "problem", "prompt", "instruction", "query")
COMPLETIONS = ("completions", "completion", "responses", "response", "outputs", "output", "generations", "generation",
               "samples", "reasoning", "code", "solution")  # fmt: skip
LABELS = ("is_correct", "correct", "label", "score")


class Recording(NamedTuple):
    """One recorded completion, how it ended, and what its file says of it."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    label: bool | None = None
    tokens: int = 0


@final
class Recorded:
    """A model that repeats its file.

    Args:
        rows: the file's rows.
        columns: which columns hold completions, in draw order; default: all columns that hold a recorded model's
            {solution, …}, else the first of COMPLETIONS that the rows have.
        question: the column of the question; default: the first of QUESTIONS that a row has.
        contained: also match a prompt that contains exactly one recorded question: a template around it. Never on by
            itself: a request to rewrite a solution contains the question too, and the recording is no answer to that.
        source: what to call the recording in errors.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        columns: Sequence[str] = (),
        question: str = "",
        contained: bool = False,
        source: str = "the recording",
    ) -> None:
        self._contained, self._source = contained, source
        self._table: dict[str, list[Recording]] = {}
        self.columns: tuple[str, ...] = tuple(columns)
        for number, row in enumerate(rows, 1):
            where = f"{source}, row {number}"
            asked = _squeeze(_question(row, question, where))
            self.columns = self.columns or _columns(row, where)
            self._table.setdefault(asked, []).extend(_recordings(row, self.columns, where))
        if not self._table:
            raise InputError(f"{source} has no rows", expected="recorded completions", fix="give a file with rows")

    @classmethod
    def load(cls, path: Path, **options: Any) -> Recorded:
        """Read a .jsonl or .json file of rows."""
        rows = reading.content(path, "a JSONL file of questions with recorded completions")
        if not isinstance(rows, list):
            raise InputError(
                f"{path} holds one JSON object", expected="a list of rows", fix="write one row a line (.jsonl)"
            )
        return cls(rows, source=str(path), **options)

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
        count = f"{len(found)} completion" + ("s" if len(found) > 1 else "")
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
        near = difflib.get_close_matches(asked[:200], [q[:200] for q in self._table], n=1, cutoff=0.6)
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


def _question(row: Mapping[str, Any], column: str, where: str) -> str:
    if not isinstance(row, Mapping):
        raise InputError(
            f"{where} is a {type(row).__name__}", expected="an object with a question", fix="write objects"
        )
    names = (column,) if column else (*QUESTIONS, "messages")
    value = next((row[name] for name in names if row.get(name)), None)
    if isinstance(value, list):
        value = next(
            (m["content"] for m in reversed(value) if isinstance(m, Mapping) and m.get("role") == "user"), None
        )
    if isinstance(value, str) and value.strip():
        return value
    fix = "name the column: recorded:FILE?question=COLUMN"
    raise InputError(f"{where} has no question", expected=f"a text under {', '.join(names)}", available=row, fix=fix)


def _columns(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    models = tuple(name for name, value in row.items() if isinstance(value, Mapping) and _text_of(value) is not None)
    if models:
        return models
    for name in (*COMPLETIONS, "messages"):
        if row.get(name):
            return (name,)
    fix = "name the column: recorded:FILE?column=COLUMN"
    raise InputError(f"{where} has no completion", expected=f"one of {', '.join(COMPLETIONS)}", available=row, fix=fix)


def _recordings(row: Mapping[str, Any], columns: Sequence[str], where: str) -> list[Recording]:
    made: list[Recording] = []
    for column in columns:
        if column not in row:
            fix = f"choose one of the row's columns: ?column={next(iter(row))}"
            raise ConfigError(f"{where} has no column {column!r}", available=row, wanted=column, fix=fix)
        value = row[column]
        several = isinstance(value, list) and not _is_chat(value)
        items = value if several else [value]
        made += [_recording(item, row, i if several else None, f"{where}, {column}") for i, item in enumerate(items)]
    return made


def _recording(item: Any, row: Mapping[str, Any], index: int | None, where: str) -> Recording:
    """One completion; its label stands beside its text, or in the row (in a list, at the same place)."""
    text, beside = _text_of(item), item if isinstance(item, Mapping) else row
    if text is None:
        expected = "a text, a {solution: …} or a list of them"
        raise InputError(
            f"{where}: no completion in {str(item)[:60]!r}", expected=expected, fix="correct or remove the row"
        )
    label = next((beside[name] for name in LABELS if beside.get(name) is not None), None)
    if isinstance(label, list):
        label = label[index] if index is not None and index < len(label) else None
    finish = beside.get("finish", beside.get("finish_reason"))
    known = bool(label) if isinstance(label, bool) or label in (0, 1) else None
    return Recording(text, "length" if finish == "length" else "stop", known, len(text.split()))


def _text_of(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and _is_chat(item):
        last = item[-1]
        return last["content"] if last.get("role") == "assistant" and isinstance(last.get("content"), str) else None
    if isinstance(item, Mapping):
        return next((item[name] for name in (*COMPLETIONS, "text") if isinstance(item.get(name), str)), None)
    return None


def _is_chat(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) and "role" in item for item in value)
