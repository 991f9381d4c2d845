"""Training problems that are evaluation problems: dropped by `decontaminate`, refused by `check_overlap`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from potstill.errors import StageError
from potstill.records import Problem, Trace
from potstill.traces import session

# Word runs of this length are the custom since GPT-3 (arXiv:2005.14165, appendix C).
NGRAM = 13
_WORD = re.compile(r"\w+|[^\w\s.,;:!?'\"“”‘’]")
_SHOWN = 10


def decontaminate(
    held_out: Sequence[Problem], traces: Sequence[Trace], *, n: int = NGRAM
) -> list[Trace]:
    """Drop the traces whose question or learner's prompt overlaps an evaluation problem.

    Args:
        held_out: the evaluation problems.
        n: how many words in a row count as overlap; 0 looks for equal questions only, as fits problems from one mould.
    """
    kept: list[Trace] = []
    losses: list[tuple[Trace, str]] = []
    index = Index(held_out, n)
    for trace in traces:
        reason = "" if trace.error else index.overlap(trace)
        if reason:
            losses.append((trace, reason))
        else:
            kept.append(trace)
    session.dropped("decontaminate", f"n={n}", losses)
    session.step("decontaminate", f"n={n}", len(traces), len(kept))
    return kept


def check_overlap(held_out: Sequence[Problem], traces: Sequence[Trace], *, n: int = NGRAM) -> None:
    """Raise an error that names the problems whose questions overlap an evaluation problem; arguments as above."""
    index = Index(held_out, n)
    found = {t.problem.id: reason for t in traces if not t.error and (reason := index.overlap(t))}
    if not found:
        return
    lines = [f"{name} ({reason})" for name, reason in list(found.items())[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise StageError(
        f"{len(found)} training problems overlap the evaluation set: {', '.join(lines)}{more}",
        expected="no training row that is an evaluation problem",
        fix="leave them out with decontaminate(evaluation problems, traces)",
    )


class Index:
    """The held-out questions by their words, and by every run of `n` words."""

    def __init__(self, held_out: Iterable[Problem], n: int) -> None:
        self.n = n
        self.whole: dict[tuple[str, ...], str] = {}
        self.runs: dict[tuple[str, ...], str] = {}
        for problem in held_out:
            words = _words(problem.question)
            self.whole.setdefault(words, problem.id)
            for run in _runs(words, n):
                self.runs.setdefault(run, problem.id)

    def overlap(self, trace: Trace) -> str:
        """Why the trace overlaps, or nothing."""
        question = _words(trace.problem.question)
        if question in self.whole:
            return f"same question as evaluation problem {self.whole[question]!r}"
        seen = (
            trace.prompt
            if isinstance(trace.prompt, str)
            else "\n".join(m.content for m in trace.prompt)
        )
        for words in dict.fromkeys((question, _words(seen))):
            if words in self.whole:
                return f"its prompt is the question of evaluation problem {self.whole[words]!r}"
            for run in _runs(words, self.n):
                if run in self.runs:
                    return f"shares {self.n} words with evaluation problem {self.runs[run]!r}: {' '.join(run)}"
        return ""


def _words(text: str) -> tuple[str, ...]:
    """Words and symbols, without case, width or punctuation; `+` and `-` count, or 3+4 were 3-4."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(words: tuple[str, ...], n: int) -> Iterable[tuple[str, ...]]:
    return (words[i : i + n] for i in range(len(words) - n + 1)) if n else ()
