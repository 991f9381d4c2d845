"""From read rows to traces: all rows of a file together say which problems there are, then each row becomes its traces.

The rows lie in a list, or on the disk where a file has more of them than memory should hold (`disk_storage`): both are
one reading.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.data import files
from potstill.data.columns import PREFERENCE
from potstill.data.disk_storage import Rows, Storage
from potstill.data.layouts import RecordedCompletion, RowContent
from potstill.data.problem_drafts import GoldSurvey, ProblemDraft, ProblemMaker
from potstill.records import Author, MetadataValue, Problem, Prompt, Span, Trace, digest

OPERATOR = "import"
LABEL = "label"
"""The score under which a trace has what its file says of it: 1.0 right, 0.0 wrong."""


@dataclass(frozen=True)
class ReadRow:
    """A row with its problem still to be made.

    Args:
        draft: of its problem.
        content: prompt and completions.
        layout: in which it was read.
        writer: who wrote the completions; "" where the row doesn't say.
        weight: of the row in training.
        spans: stretches of the completions with weights of their own.
        teacher_prompt: what the row's teacher reads in the place of its prompt; "" where that is the same.
    """

    draft: ProblemDraft
    content: RowContent
    layout: str
    writer: str
    weight: float
    spans: Sequence[Any]
    teacher_prompt: Prompt


@dataclass
class _RowsOfProblem:
    """The first row of a problem, how many there are, and what they say of it."""

    first: int
    count: int = 0
    metadata: dict[str, MetadataValue] = field(default_factory=dict)


class TraceMaker:
    """The rows of a file, and the traces that they are once all of them were added.

    Args:
        spec: what the user named, for messages.
        kind: the verifier of the problems; guessed from the gold answers where it is not given.
        storage: where the rows are kept meanwhile.
    """

    def __init__(self, spec: str, kind: str, storage: Storage) -> None:
        """Begin without rows."""
        self.spec, self.kind = spec, kind
        self._rows: Rows[ReadRow] = storage.new_rows()
        self._by_problem = storage.new_map()
        self._storage = storage
        self._survey = GoldSurvey()
        # Fields of which rows of one problem say different things say something of the answers, and are no metadata.
        self._differing: dict[str, None] = {}
        self._unknown_ends: Counter[str] = Counter()

    def add(self, row: ReadRow) -> None:
        """Take one more row."""
        # What is known of a problem is merged as its rows come; the row itself waits for the second pass.
        key = _identity_key(row.draft)
        rows_of_problem = self._by_problem.get(key) or _RowsOfProblem(len(self._rows))
        rows_of_problem.count += 1
        for name, value in row.draft.metadata.items():
            if rows_of_problem.metadata.setdefault(name, value) != value:
                self._differing[name] = None
        self._by_problem[key] = rows_of_problem
        self._rows.append(row)
        self._survey.add(row.draft)
        for completion in row.content.completions:
            if completion.finish_reason == "unknown":
                self._unknown_ends[completion.finish_word] += 1

    def position_notes(self) -> list[str]:
        """How gold answers were understood that are positions of options."""
        return self._survey.position_notes()

    def finish_notes(self) -> list[str]:
        """A note of the ends that nobody knows, with how often each stands in the file."""
        if not self._unknown_ends:
            return []
        ends = self._unknown_ends.most_common(5)
        counts = ", ".join(f"{word!r} ({count:,})" for word, count in ends)
        return [f"unknown finish reasons, so these completions count as not finished: {counts}"]

    def metadata_notes(self) -> list[str]:
        """A note of the columns that say something of the answers, not of the problems."""
        if not self._differing:
            return []
        names = ", ".join(self._differing)
        return [f"not read as metadata, as rows of one problem say different things: {names}"]

    def make_traces(self) -> Iterator[Trace]:
        """The traces in the order of the rows. Rows of one problem share it, and are further samples of it."""
        maker = ProblemMaker(
            self._survey,
            kind=self.kind or None,
            source=files.source_name(self.spec),
            spec=self.spec,
            new_map=self._storage.new_map,
        )
        shared_problems = self._storage.new_map()
        # Samples of one problem by one author are counted in the order of the file.
        samples = self._storage.new_map()
        for index, row in enumerate(self._rows):
            key = _identity_key(row.draft)
            rows_of_problem: _RowsOfProblem = self._by_problem[key]
            if rows_of_problem.first == index:
                # The first row with a problem's identity gives it its id.
                problem = maker.make(self._with_metadata(row.draft, rows_of_problem))
                if rows_of_problem.count > 1:
                    shared_problems[key] = problem
            else:
                problem = shared_problems[key]
            if problem is None:
                continue  # its id is another problem's, and the row is listed among the bad ones
            # The one row of a problem counts its samples by itself.
            yield from _traces_of_row(problem, row, samples if rows_of_problem.count > 1 else {})

    def _with_metadata(self, draft: ProblemDraft, rows_of_problem: _RowsOfProblem) -> ProblemDraft:
        metadata = dict(rows_of_problem.metadata)
        for name in self._differing:
            metadata.pop(name, None)
        return draft if metadata == draft.metadata else replace(draft, metadata=metadata)


def _identity_key(draft: ProblemDraft) -> str:
    """What makes a draft this problem and no other, as a short key."""
    identity = repr(draft.identity()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(identity, digest_size=16).hexdigest()


def _traces_of_row(problem: Problem, row: ReadRow, samples: Any) -> list[Trace]:
    is_pair = row.layout == PREFERENCE
    # Columns of several models are writers of their own; two sides of a pair are not.
    columns = {completion.column for completion in row.content.completions}
    traces: list[Trace] = []
    for completion in row.content.completions:
        several = len(columns) > 1 and not is_pair
        model = row.writer or (f"recorded:{completion.column}" if several else "recorded")
        sample_key = f"{problem.id}\n{model}"
        sample_index = samples.get(sample_key, 0)
        samples[sample_key] = sample_index + 1
        traces.append(_make_trace(problem, row, completion, (model, sample_index)))
    # The rejected side stays a trace of its own too: it was sampled, and is labelled wrong.
    if is_pair and len(traces) == 2:
        traces[0] = traces[0].annotate(rejected=traces[1])
    return traces


def _make_trace(
    problem: Problem, row: ReadRow, completion: RecordedCompletion, author: tuple[str, int]
) -> Trace:
    model, sample_index = author
    prompt = row.content.prompt
    # Spans count from where the completion begins, those of a trace from its text's beginning.
    shift = completion.prefix_length
    spans = []
    for start, stop, weight in row.spans:
        span = Span(shift + int(start), shift + int(stop), "weight", float(weight))
        spans.append(span)
    return Trace(
        problem,
        prompt,
        completion.text,
        prefix_length=completion.prefix_length,
        finish_reason=completion.finish_reason,
        stop_string=completion.stop_string,
        author=Author(model, digest("prompt", prompt), (), sample_index),
        operator=OPERATOR,
        scores={} if completion.label is None else {LABEL: float(completion.label)},
        spans=tuple(spans),
        weight=row.weight * completion.weight,
        teacher_prompt=row.teacher_prompt,
    )
