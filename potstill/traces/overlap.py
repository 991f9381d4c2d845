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
# A word, or a symbol that carries meaning: without + and -, "3+4" would be "3-4".
_WORD = re.compile(r"\w+|[^\w\s.,;:!?'\"“”‘’]")
_LISTED = 10  # problems that an error names


def decontaminate(
    held_out: Sequence[Problem], traces: Sequence[Trace], *, n: int = NGRAM
) -> list[Trace]:
    """Drop the traces whose question or learner's prompt overlaps an evaluation problem.

    Args:
        held_out: the evaluation problems.
        traces: what would be trained on.
        n: how many words in a row count as overlap; 0 looks for equal questions only, as fits problems made from one
            template.

    Returns:
        The traces without overlap; errored traces pass.
    """
    passing: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    index = OverlapIndex(held_out, n)
    for trace in traces:
        reason = "" if trace.error else index.overlap_reason(trace)
        if reason:
            drops.append((trace, reason))
        else:
            passing.append(trace)
    session.record_drops("decontaminate", f"n={n}", drops)
    session.record_step("decontaminate", f"n={n}", len(traces), len(passing))
    return passing


def check_overlap(held_out: Sequence[Problem], traces: Sequence[Trace], *, n: int = NGRAM) -> None:
    """Refuse traces whose question or learner's prompt overlaps an evaluation problem.

    Args:
        held_out: the evaluation problems.
        traces: what would be trained on; errored traces are not looked at.
        n: how many words in a row count as overlap; 0 looks for equal questions only.

    Raises:
        StageError: there is overlap; the first problems are named.
    """
    index = OverlapIndex(held_out, n)
    reasons: dict[str, str] = {}
    for trace in traces:
        reason = "" if trace.error else index.overlap_reason(trace)
        if reason:
            reasons[trace.problem.id] = reason
    if not reasons:
        return
    listed = [f"{name} ({reason})" for name, reason in list(reasons.items())[:_LISTED]]
    more = ""
    if len(reasons) > _LISTED:
        more = f" and {len(reasons) - _LISTED} more"
    raise StageError(
        f"{len(reasons)} training problems overlap the evaluation set: {', '.join(listed)}{more}",
        expected="no training row that is an evaluation problem",
        fix="leave them out with decontaminate(evaluation problems, traces)",
    )


class OverlapIndex:
    """The evaluation questions by their words, and by every run of `n` words."""

    def __init__(self, held_out: Iterable[Problem], n: int) -> None:
        self.n = n
        self.problem_of_question: dict[tuple[str, ...], str] = {}
        self.problem_of_run: dict[tuple[str, ...], str] = {}
        for problem in held_out:
            words = _split_words(problem.question)
            self.problem_of_question.setdefault(words, problem.id)
            for run in _word_runs(words, n):
                self.problem_of_run.setdefault(run, problem.id)

    def overlap_reason(self, trace: Trace) -> str:
        """Say how the trace overlaps an evaluation problem; "" where it does not."""
        question = _split_words(trace.problem.question)
        if question in self.problem_of_question:
            return f"same question as evaluation problem {self.problem_of_question[question]!r}"
        # The learner's prompt too: a posed problem may quote an evaluation question in the middle.
        prompt = _split_words(_prompt_text(trace))
        for words in dict.fromkeys((question, prompt)):
            if words in self.problem_of_question:
                return f"its prompt is the question of evaluation problem {self.problem_of_question[words]!r}"
            for run in _word_runs(words, self.n):
                if run in self.problem_of_run:
                    problem_id = self.problem_of_run[run]
                    return f"shares {self.n} words with evaluation problem {problem_id!r}: {' '.join(run)}"
        return ""


def _prompt_text(trace: Trace) -> str:
    if isinstance(trace.prompt, str):
        return trace.prompt
    return "\n".join(message.content for message in trace.prompt)


def _split_words(text: str) -> tuple[str, ...]:
    """Words and symbols, without case, character width or punctuation."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _word_runs(words: tuple[str, ...], n: int) -> Iterable[tuple[str, ...]]:
    """Every run of `n` words; none for n=0."""
    if n:
        for start in range(len(words) - n + 1):
            yield words[start : start + n]
