"""Existing completions as a model: a prompt looks up what was recorded for its question.

The rows may have any layout of `data.layouts`; which column is what is chosen from a sample of them, shown in
`mapping`, and can be given. Sample i is the i-th recorded completion; rows with the same prompt add samples. Sampling
settings can't change a recording and are not applied, but for stop strings: a completion ends where they say. A prefix
is honoured where a recording begins with it.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

from potstill.data import files, skipped
from potstill.data.choices import Options
from potstill.data.columns import SAMPLE_ROWS, ColumnChooser, is_trace_record
from potstill.data.layouts import RecordedCompletion, Row, RowContent, read_row
from potstill.data.row_traces import LABEL
from potstill.data.trace_files import trace_of_record
from potstill.errors import InputError, ModelError
from potstill.models.model import Completion, Request, cut_at_stop
from potstill.models.scripted import ROUND, last_user
from potstill.records import (
    FinishReason,
    Prompt,
    Tokens,
    Trace,
    digest,
    read_finish_reason,
)

__all__ = ["NotRecordedError", "Recorded"]

_MAPPED_FIELDS = ("reasoning", "answer", "label", "finish_reason")


class NotRecordedError(ModelError):
    """No completion is recorded for a prompt, or fewer than were asked for."""


@dataclass
class _Recording:
    """The completions of one prompt.

    Args:
        prompt: as the row has it, options included.
        options: of a multiple choice.
        completions: in the order of the file.
    """

    prompt: Prompt
    options: tuple[str, ...] = ()
    completions: list[RecordedCompletion] = field(default_factory=list)


@final
class Recorded:
    """A model that repeats its file.

    Args:
        rows: the file's rows, each alone or with where it stands.
        columns: which columns hold completions, in the order of the samples; default: chosen from a sample of the rows.
        question: the column of the question; default: chosen.
        mapping: the columns of `reasoning`, `answer` (what follows the reasoning), `label`, `finish_reason`.
        contained: also match a prompt that contains exactly one recorded question: a template around it. Never on by
            itself: a request to rewrite a solution contains the question too, and the recording is no answer to that.
        missing: what becomes of a request that was not recorded: "refuse" raises, "drop" makes it a failed completion,
            which is counted and dropped as any other.
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
        missing: Literal["refuse", "drop"] = "refuse",
        source: str = "the recording",
    ) -> None:
        """Read all rows."""
        self._contained, self._source = contained, source
        self.drops_missing = missing == "drop"
        self._recordings: dict[str, list[_Recording]] = {}
        # The question of each prompt whose words are not the question's alone.
        self._question_of_prompt: dict[str, str] = {}
        all_columns = dict(mapping or {})
        if columns:
            all_columns["completion"] = ",".join(columns)
        if question:
            all_columns["question"] = question
        self._read(all_columns, rows)
        if not self._recordings:
            raise InputError(
                f"{source} has no rows",
                expected="recorded completions",
                fix="give a file with rows",
            )

    @classmethod
    def load(cls, path: Path | str, **options: Any) -> Recorded:
        """Read rows: a .jsonl, .json, .csv or .parquet file, also compressed, its URL, or hf:NAME[/CONFIG][:SPLIT]."""
        rows = files.read_rows(str(path), "a file of questions with recorded completions")
        mapping = {name: options.pop(name) for name in _MAPPED_FIELDS if name in options}
        return cls(rows, source=str(path), mapping=mapping, **options)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold completions, in the order of the samples."""
        return self._chooser.completion_columns

    @property
    def mapping(self) -> dict[str, str]:
        """Layout, and field -> column, as chosen or given."""
        return self._chooser.to_mapping()

    @cached_property
    def id(self) -> str:
        """Content id over questions and completions, not over the path, the labels or the layout."""
        texts: dict[str, list[tuple[str, str, str]]] = {}
        for question, recordings in self._recordings.items():
            for recording in recordings:
                key = question
                if len(recordings) > 1:
                    # The same question behind other turns, or with other options.
                    prompt_id = digest("prompt", [_words(recording.prompt), recording.options])
                    key = f"{question}\n{prompt_id}"
                completions = [
                    (c.text, c.finish_reason, c.stop_string) for c in recording.completions
                ]
                texts.setdefault(key, []).extend(completions)
        parts: list[object] = [texts, self._contained]
        if self.drops_missing:  # its failures are stored
            parts.append("drop")
        return digest("recorded", parts)

    def __len__(self) -> int:
        return len(self._recordings)

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The recorded completion of each request, in order.

        Raises:
            NotRecordedError: a request that was not recorded, unless these are dropped.
        """
        completions = []
        for request in requests:
            try:
                completions.append(self._complete(request))
            except NotRecordedError as error:
                if not self.drops_missing:
                    raise
                completions.append(Completion("", "", error=f"missing: {error.found}"))
        return completions

    def label(self, prompt: Prompt, sample_index: int = 0) -> bool | None:
        """Whether the file itself calls this completion right, where it says."""
        return self._completion(prompt, sample_index).label

    def draws(self, prompt: Prompt) -> int:
        """How many completions are recorded for this prompt; 0 where it was never recorded."""
        try:
            return len(self._find(prompt).completions)
        except NotRecordedError:
            return 0

    def knows(self, prompt: Prompt) -> bool:
        """Whether there is a completion for this prompt; nobody is told which is nearest."""
        question = _squeeze(last_user(prompt))
        if question in self._recordings or question in self._question_of_prompt:
            return True
        return self._contained and len(self._questions_inside(question)) == 1

    def _read(
        self, mapping: Mapping[str, str], items: Iterable[Mapping[str, Any] | files.Row]
    ) -> None:
        """Choose the columns from the first rows, and add these and the others."""
        rows = _placed_rows(items)
        sample = list(itertools.islice(rows, SAMPLE_ROWS))
        objects = [row for _, row in sample if isinstance(row, Mapping)]
        self._chooser = ColumnChooser(objects, mapping, "answers", self._source)
        for place, row in itertools.chain(sample, rows):
            try:
                self._add_row(row)
            except InputError as error:
                skipped.refuse_row(error, self._source, place, row)
        name = files.source_name(self._source)
        skipped.record_columns(name, self.mapping, self._chooser.unread_columns())

    def _add_row(self, row: Row) -> None:
        if not isinstance(row, Mapping):
            raise InputError(
                f"a {type(row).__name__}",
                expected="an object with a question",
                fix="write objects",
            )
        columns = self._chooser.choose(row)
        if is_trace_record(row):
            content = _content_of_trace(trace_of_record(row))
        else:
            content = read_row(row, columns)
        question = _squeeze(content.question)
        recordings = self._recordings.setdefault(question, [])
        for recording in recordings:
            has_same_options = recording.options == content.options.texts
            if has_same_options and _words(recording.prompt) == _words(content.prompt):
                break
        else:
            recording = _Recording(content.prompt, content.options.texts)
            recordings.append(recording)
        recording.completions += content.completions
        self._question_of_prompt.setdefault(_squeeze(last_user(content.prompt)), question)

    def _complete(self, request: Request) -> Completion:
        completion = self._completion(request.prompt, request.sample_index)
        if not completion.text.startswith(request.prefix):
            raise ModelError(
                f"the recorded model can't continue {request.prefix[:60]!r}: "
                f"its completion is {completion.text[:60]!r}",
                expected="a prefix of the recorded completion",
                fix="use a model that writes (transformers:PATH, world:NAME) for this role",
            )
        text = completion.text[len(request.prefix) :]
        text, stop_string = cut_at_stop(text, request.sampling.stop)
        tokens = Tokens(completion=len(completion.text.split()))
        if stop_string:
            return Completion(text, "stop_string", tokens, stop_string=stop_string)
        if completion.finish_reason in ("stop", "stop_string", "length"):
            ended_at = completion.stop_string
            return Completion(text, completion.finish_reason, tokens, stop_string=ended_at)
        reason = completion.finish_word or completion.finish_reason
        return Completion(
            text, "", tokens, error=f"unfinished: the file says {reason!r} of its end"
        )

    def _completion(self, prompt: Prompt, sample_index: int) -> RecordedCompletion:
        completions = self._find(prompt).completions
        if sample_index < len(completions):
            return completions[sample_index]
        again, index = divmod(sample_index, ROUND)
        wanted = f"sample {index}" + (f" when asked again (sample_index={again})" if again else "")
        count = f"{len(completions)} completion" + ("s" if len(completions) != 1 else "")
        raise NotRecordedError(
            f"the recorded model has only {count} for this prompt, and {wanted} was wanted: {last_user(prompt)[:80]!r}",
            expected=f"samples 0 to {len(completions) - 1}",
            available=self.columns,
            fix=f"ask for n={len(completions)} or less, without sample_index=, "
            f"record more completions in {self._source}, or give ?missing=drop to leave out what is not recorded",
        )

    def _find(self, prompt: Prompt) -> _Recording:
        """The recording of a prompt, by its question; of several with this question the one with its words."""
        asked = _squeeze(last_user(prompt))
        question = asked if asked in self._recordings else self._question_of_prompt.get(asked, "")
        if not question:
            inside = self._questions_inside(asked) if self._contained else []
            if len(inside) != 1:
                raise self._missing(asked, len(inside))
            question = inside[0]
        recordings = self._recordings[question]
        if len(recordings) == 1:
            return recordings[0]
        same = [one for one in recordings if _words(one.prompt) == _words(prompt)]
        if not same:
            words = _words(prompt)
            same = [one for one in recordings if one.options and _shows(words, one.options)]
        if len(same) == 1:
            return same[0]
        raise ModelError(
            f"the recorded model knows {len(recordings)} prompts that end with {asked[:80]!r}, "
            "with other options or turns before it",
            expected="a prompt that shows which of them is meant",
            fix="ask with the options in the prompt (--prompt '{question} {choices}'), or with the turns before it",
        )

    def _questions_inside(self, asked: str) -> list[str]:
        """The recorded questions that a prompt contains, without those that are part of a longer one."""
        inside = [question for question in self._recordings if question in asked]
        longest = []
        for question in inside:
            if not any(question != longer and question in longer for longer in inside):
                longest.append(question)
        return longest

    def _missing(self, asked: str, inside: int) -> NotRecordedError:
        near = difflib.get_close_matches(
            asked[:200], [question[:200] for question in self._recordings], n=1, cutoff=0.6
        )
        nearest = f"; the nearest is {near[0][:80]!r}" if near else ""
        ambiguous = f" (it contains {inside} recorded questions)" if inside else ""
        fix = "use a model that writes for this role, or ?missing=drop to leave out what is not recorded"
        if not self._contained and any(question in asked for question in self._recordings):
            fix += "; if the prompt only wraps the question in a template, add ?match=contained to the model"
        return NotRecordedError(
            f"the recorded model has no completion for this prompt: {asked[:80]!r}{ambiguous}",
            expected=f"one of the {len(self)} questions of {self._source}{nearest}",
            fix=fix,
        )


def _placed_rows(
    items: Iterable[Mapping[str, Any] | files.Row],
) -> Iterator[tuple[str, Any]]:
    """Each row with where it stands, counted where nobody says."""
    for number, item in enumerate(items, 1):
        if isinstance(item, tuple):
            yield item
        else:
            yield f"row {number}", item


def _content_of_trace(trace: Trace) -> RowContent:
    """A trace of a file as a row: one completion, or none where its generation failed."""
    completions: tuple[RecordedCompletion, ...] = ()
    if not trace.error:
        label = trace.scores.get(LABEL)
        completion = RecordedCompletion(
            text=trace.text,
            finish_reason=_end_of_trace(trace),
            stop_string=trace.stop_string,
            label=None if label is None else label == 1.0,
            column="text",
        )
        completions = (completion,)
    # As any row is read: with the prompt that was asked, and the options that tell equal questions apart.
    return RowContent(
        question=trace.problem.question,
        prompt=trace.prompt or trace.problem.question,
        completions=completions,
        options=Options(trace.problem.choices),
    )


def _end_of_trace(trace: Trace) -> FinishReason:
    if trace.finish_reason == "cut":
        return "length"
    return read_finish_reason(trace.finish_reason or "stop", in_file=True)


def _words(prompt: Prompt) -> str:
    """All that a prompt says, turn after turn."""
    if isinstance(prompt, str):
        return _squeeze(prompt)
    if len(prompt) == 1 and prompt[0].role == "user":
        return _squeeze(prompt[0].content)
    return "\n".join(f"{turn.role}: {_squeeze(turn.content)}" for turn in prompt)


def _shows(words: str, options: Sequence[str]) -> bool:
    return all(_squeeze(option) in words for option in options)


def _squeeze(text: str) -> str:
    return " ".join(text.split())
