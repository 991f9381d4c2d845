"""A list of traces that a person can look at: in a console, in a notebook, as a table of other libraries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex, final, overload

from potstill.escape import visible
from potstill.records import Prompt, Trace, learnt_stretches

if TYPE_CHECKING:
    import datasets
    import pandas

SHOWN_ROWS = 10  # of a table in a notebook
SHOWN_CHARS = 200  # of a text in it


@final
class TraceList(list[Trace]):
    """Traces as the operators return them; a plain list in every other way."""

    def __repr__(self) -> str:
        statuses = Counter("failed" if trace.error else trace.verdict.status for trace in self)
        if set(statuses) == {"unjudged"}:
            return f"TraceList of {len(self):,}"
        counts = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
        return f"TraceList of {len(self):,}: {counts}" if counts else "TraceList of 0"

    @overload
    def __getitem__(self, index: SupportsIndex) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> TraceList: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Trace | TraceList:
        """A trace, or the slice as a TraceList."""
        if isinstance(index, slice):
            return TraceList(super().__getitem__(index))
        return super().__getitem__(index)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One plain dict a trace: ids, question, prompt, text, verdict, scores, lineage."""
        return [trace_columns(trace) for trace in self]

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with the columns of `to_dicts`; needs pandas."""
        import pandas

        return pandas.DataFrame(self.to_dicts())

    def to_dataset(self) -> datasets.Dataset:
        """A Hugging Face dataset with the columns of `to_dicts`; needs the extra potstill[data]."""
        import datasets

        return datasets.Dataset.from_list(self.to_dicts())

    def _repr_html_(self) -> str:
        """The first traces as a table, for a notebook. Model text is hostile: it is escaped."""
        rows = "".join(_html_row(trace) for trace in self[:SHOWN_ROWS])
        head = "<tr><th>question</th><th>text</th><th>verdict</th><th>answer</th></tr>"
        more = len(self) - SHOWN_ROWS
        note = f"<p>and {more:,} more</p>" if more > 0 else ""
        return f"<p>{escape(repr(self))}</p><table>{head}{rows}</table>{note}"


def trace_columns(trace: Trace) -> dict[str, Any]:
    """A trace as one row of a table."""
    return {
        "id": trace.id,
        "problem": trace.problem.id,
        "question": trace.question,
        "gold": trace.problem.answer,
        "metadata": dict(trace.problem.metadata),
        "prompt": _prompt_messages(trace.prompt),
        "text": trace.text,
        "learnt": [list(stretch) for stretch in learnt_stretches(trace)],
        "finish_reason": trace.finish_reason,
        "stop_string": trace.stop_string,
        "verdict": trace.verdict.status,
        "answer": trace.answer,
        "reason": trace.verdict.reason,
        "scores": dict(trace.scores),
        "weight": trace.weight,
        "author": trace.author.model if trace.author else "",
        "operator": trace.operator,
        "parents": list(trace.parents),
        "saw_gold": trace.saw_gold,
        "error": trace.error,
        "rejected": trace.rejected.text if trace.rejected else None,
    }


def trace_list(traces: Iterable[Trace]) -> TraceList:
    """The traces as a TraceList; one that is already is returned as it is."""
    return traces if isinstance(traces, TraceList) else TraceList(traces)


def _prompt_messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat messages, so that a column has one type."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": message.role, "content": message.content} for message in prompt]


def _html_row(trace: Trace) -> str:
    verdict = "failed" if trace.error else trace.verdict.status
    cells = (trace.question, trace.error or trace.text, verdict, trace.answer or "")
    return "<tr>" + "".join(f"<td>{escape(_shorten(cell))}</td>" for cell in cells) + "</tr>"


def _shorten(text: str) -> str:
    readable = visible(text)
    if len(readable) <= SHOWN_CHARS:
        return readable
    return readable[:SHOWN_CHARS] + "…"
