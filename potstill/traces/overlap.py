"""Training problems that are evaluation problems: dropped by `decontaminate`, refused by `check_overlap`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from potstill.errors import StageError
from potstill.records import Problem, Trace
from potstill.traces import session
from potstill.traces.question_text import QuestionText, Words, read_once, read_question

# Word runs of this length are the custom since GPT-3 (arXiv:2005.14165, appendix C).
NGRAM = 13
MIN_TEMPLATE = (
    3  # different questions that must share a run before it can be the wording of a template
)
MIN_QUESTION = 4  # words of a question that is looked for inside other texts
MAX_SENTENCES = 30  # of such a question
_WRITTEN_OPTION = re.compile(r"^[ \t*]*\(?[A-J][).:]\**[ \t]+(\S[^\n]{0,300})$", re.MULTILINE)
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


class Overlap(NamedTuple):
    """An evaluation problem that a trace overlaps, where that problem comes from, and how it overlaps."""

    problem_id: str
    source: str
    reason: str


class _Question(NamedTuple):
    """An evaluation problem in the index: its id and source, what is compared of its question and of its options."""

    problem_id: str
    source: str
    text: QuestionText
    options: frozenset[Words]

    def overlap(self, description: str, words: str = "") -> Overlap:
        """An overlap with this problem, whose id stands in the place of `{}`; the shared words go behind it."""
        return Overlap(
            self.problem_id, self.source, description.replace("{}", repr(self.problem_id)) + words
        )


class OverlapIndex:
    """The evaluation questions by their words, and by every run of `n` words."""

    def __init__(self, held_out: Iterable[Problem], n: int) -> None:
        self.n = n
        self.questions: dict[Words, list[_Question]] = {}
        self.questions_of_run: dict[Words, list[_Question]] = {}
        count = 0
        for problem in held_out:
            count += 1
            text = read_question(problem.question)
            question = _Question(problem.id, problem.source, text, _option_words(problem))
            for words in dict.fromkeys((text.core, text.words)):
                self.questions.setdefault(words, []).append(question)
            for run in dict.fromkeys(_word_runs(text.core, n)):
                self.questions_of_run.setdefault(run, []).append(question)
        self._drop_boilerplate(count)

    def _drop_boilerplate(self, count: int) -> None:
        """Forget runs that most evaluation questions share: they are the wording of a template."""
        if count < MIN_TEMPLATE:
            return
        shared = [run for run, some in self.questions_of_run.items() if len(some) > count / 2]
        for run in shared:
            if len({question.text.core for question in self.questions_of_run[run]}) >= MIN_TEMPLATE:
                del self.questions_of_run[run]

    def overlap_reason(self, trace: Trace) -> str:
        """Say how the trace overlaps an evaluation problem; "" where it does not."""
        overlap = self.find_overlap(trace)
        return overlap.reason if overlap else ""

    def find_overlap(self, trace: Trace, *, in_text: bool = False) -> Overlap | None:
        """The evaluation problem that a trace overlaps by its question or its learner's prompt; None without one.

        Args:
            trace: what would be trained on.
            in_text: look for evaluation questions in the trace's text too.
        """
        options = _option_words(trace.problem)
        question = read_question(trace.problem.question)
        equal = self._find_equal(question, options)
        if equal:
            return equal.overlap("same question as evaluation problem {}")
        # The learner's prompt too: a posed problem may quote an evaluation question in the middle.
        prompt = read_question(_prompt_text(trace))
        equal = self._find_equal(prompt, options)
        if equal:
            return equal.overlap("its prompt is the question of evaluation problem {}")
        texts = [question, prompt]
        if in_text:
            texts.append(read_once(trace.text))
        for text in dict.fromkeys(texts):
            overlap = self._find_part(text, options)
            if overlap:
                return overlap
        return None

    def _find_equal(self, text: QuestionText, options: frozenset[Words]) -> _Question | None:
        """An evaluation problem whose question all of the text is; None without one."""
        for words in dict.fromkeys((text.core, text.words)):
            for question in self.questions.get(words, ()):
                if _may_be_one(question.options, options):
                    return question
        return None

    def _find_part(self, text: QuestionText, options: frozenset[Words]) -> Overlap | None:
        """How a part of the text is an evaluation question; None where none is."""
        if not self.n:
            return None
        for words in _segment_runs(text.segments):
            for question in self.questions.get(words, ()):
                if _may_be_one(question.options, options):
                    return question.overlap("holds the question of evaluation problem {}")
        for start, run in enumerate(_word_runs(text.core, self.n)):
            for question in self.questions_of_run.get(run, ()):
                if not _is_chance(question, text, options, start, start + self.n):
                    description = f"shares {self.n} words with evaluation problem {{}}: "
                    return question.overlap(description, " ".join(run))
        return None


def _is_chance(
    question: _Question, text: QuestionText, options: frozenset[Words], start: int, stop: int
) -> bool:
    """Whether a shared run of words makes no overlap.

    Of one question with other options every run is shared, and it is another problem all the same, also where the
    options stand in the text. Whole sentences
    without a number that both begin or end with are the wording of a template.
    """
    if text.core[: len(question.text.core)] == question.text.core:
        return not _may_be_one(question.options, options)
    beginning = _count_shared_words(question.text.core_segments, text.core_segments)
    ending = _count_shared_words(question.text.core_segments[::-1], text.core_segments[::-1])
    return stop <= beginning or start >= len(text.core) - ending


def _count_shared_words(first: tuple[Words, ...], second: tuple[Words, ...]) -> int:
    """How many words the segments have that two texts both begin with, up to one with a number."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other or any(character.isdigit() for word in one for character in word):
            break
        count += len(one)
    return count


def _may_be_one(first: frozenset[Words], second: frozenset[Words]) -> bool:
    """Whether problems with these options may be one: one has none, or they share half of the shorter list."""
    return not first or not second or 2 * len(first & second) >= min(len(first), len(second))


def _option_words(problem: Problem) -> frozenset[Words]:
    choices = problem.choices or _WRITTEN_OPTION.findall(problem.question)
    return frozenset(read_question(choice).words for choice in choices)


def _prompt_text(trace: Trace) -> str:
    if isinstance(trace.prompt, str):
        return trace.prompt
    return "\n".join(message.content for message in trace.prompt)


def _segment_runs(segments: tuple[Words, ...]) -> Iterable[Words]:
    """The words of every few sentences in a row that could be a question."""
    for start in range(len(segments)):
        words: list[str] = []
        for segment in segments[start : start + MAX_SENTENCES]:
            words += segment
            if len(words) >= MIN_QUESTION:
                yield tuple(words)


def _word_runs(words: Words, n: int) -> Iterable[Words]:
    """Every run of `n` words; none for n=0."""
    if n:
        for start in range(len(words) - n + 1):
            yield words[start : start + n]
