"""Classes of equal answers: what votes, entropies and repeated answers are counted by. No gold answer is needed.

Two answers are equal where the verifier of their problem's kind says so: `0.5` and `\\frac12` are one ballot. Answers
that were judged right are one class, however they are written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from potstill import verifiers
from potstill.records import Problem, Trace, digest
from potstill.traces import session
from potstill.traces.keys import Key, function_name, group_traces, problem
from potstill.traces.scores import Score


class _Answer(NamedTuple):
    """An answer as it was read, and whether it was judged right."""

    text: str
    is_right: bool


def read(asked: Problem | Trace, text: str) -> str | None:
    """Return the final answer of a text, read by the verifier of the problem's kind without looking at the gold answer.

    Args:
        asked: a problem, or a trace on it; it says which verifier reads, and the options.
        text: the answer, with the reasoning before it if there is any.

    Returns:
        The answer, or None where none can be read.
    """
    return verifiers.read([(_problem_of(asked), text)])[0]


def equal(asked: Problem | Trace, first: str, second: str) -> bool:
    """Whether two answers, as `read` or a verdict gives them, are one answer to the verifier of the problem's kind."""
    return compare_answers([(_problem_of(asked), first, second)])[0]


def _problem_of(asked: Problem | Trace) -> Problem:
    return asked.problem if isinstance(asked, Trace) else asked


def read_answers(traces: Sequence[Trace]) -> list[str | None]:
    """Return the answer of each trace: what its verdict holds, or what its verifier reads where it was not judged.

    A failed, blank or unparsed trace has none.
    """
    return [answer.text if answer else None for answer in _read_answers(traces)]


def answer_classes(traces: Sequence[Trace]) -> list[int | None]:
    """Number the classes of equal answers to each problem.

    Args:
        traces: answers to any problems, judged or not.

    Returns:
        For each trace the number of its answer's class, counted from 0 within its problem in the order of the traces;
        None for a trace without an answer.
    """
    answers = _read_answers(traces)
    classes: list[_AnswerClasses] = []
    indices_by_problem: dict[Problem, list[int]] = {}
    for index, trace in enumerate(traces):
        indices_by_problem.setdefault(trace.problem, []).append(index)
    for asked_problem, indices in indices_by_problem.items():
        own_answers = [answer for index in indices if (answer := answers[index])]
        classes.append(_AnswerClasses(asked_problem, own_answers))
    _fill_classes(classes)

    # Classes are numbered as they first come.
    numbers: list[int | None] = [None] * len(traces)
    for indices, classes_of_problem in zip(indices_by_problem.values(), classes, strict=True):
        number_of_class: dict[str | None, int] = {}
        for index in indices:
            answer = answers[index]
            if answer:
                name = classes_of_problem.name_of(answer)
                numbers[index] = number_of_class.setdefault(name, len(number_of_class))
    return numbers


def same_answer(traces: Sequence[Trace]) -> Key:
    """Return a key under which traces of one problem with equal answers are one group.

    `dedupe(same_answer(traces), traces)` keeps one trace an answer. A trace without an answer is a group of its own.

    Args:
        traces: all traces that the key will be asked for.
    """
    class_of_trace: dict[str, Hashable] = {}
    for trace, number in zip(traces, answer_classes(traces), strict=True):
        class_of_trace[trace.id] = trace.id if number is None else number

    def answer(trace: Trace) -> Hashable:
        return trace.problem.id, class_of_trace[trace.id]

    return answer


def vote(traces: Sequence[Trace], *, by: Key = problem) -> list[Trace]:
    """Return one trace of each group: the first with the answer that most of the group give (self-consistency).

    Of two answers with as many votes the one that came first wins. Where no trace of a group has an answer, its first
    trace stands for it. The others go to the ledger with the count of the votes.

    Args:
        traces: answers, judged or not; they are compared as the verifier of their problem's kind compares.
        by: the key of a group; its traces must answer one problem.
    """
    class_of_trace = dict(zip((trace.id for trace in traces), answer_classes(traces), strict=True))
    winners: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for group in group_traces(traces, by).values():
        winner, reason = _elect(group, class_of_trace)
        winners.append(winner)
        drops += [(trace, reason) for trace in group if trace is not winner]
    session.record_drops("vote", function_name(by), drops)
    session.record_step("vote", function_name(by), len(traces), len(winners))
    return winners


def answer_entropy(traces: Sequence[Trace]) -> list[Score]:
    """Score each trace by the entropy (nats) of the answers to its problem: -sum p log p over classes of answers.

    A scorer for `score`. Traces without an answer don't count; without any answer the score is None.
    """
    classes = answer_classes(traces)
    votes: dict[str, Counter[int]] = {trace.problem.id: Counter() for trace in traces}
    for trace, number in zip(traces, classes, strict=True):
        if number is not None:
            votes[trace.problem.id][number] += 1
    return [_entropy(votes[trace.problem.id]) for trace in traces]


def agreement(traces: Sequence[Trace]) -> list[Score]:
    """Score each trace by how many of its problem's votes are for its answer: 1 where all agree.

    A scorer for `score`. A vote is a trace with an answer; a trace without one has no score.
    """
    classes = answer_classes(traces)
    votes: dict[str, Counter[int]] = {trace.problem.id: Counter() for trace in traces}
    for trace, number in zip(traces, classes, strict=True):
        if number is not None:
            votes[trace.problem.id][number] += 1
    shares: list[Score] = []
    for trace, number in zip(traces, classes, strict=True):
        votes_of_problem = votes[trace.problem.id]
        if number is None:
            shares.append(None)
        else:
            shares.append(votes_of_problem[number] / votes_of_problem.total())
    return shares


def _entropy(votes: Counter[int]) -> float | None:
    total = votes.total()
    if not total:
        return None
    shares = [count / total for count in votes.values()]
    return abs(math.fsum(share * math.log(share) for share in shares))


def _elect(group: Sequence[Trace], class_of_trace: dict[str, int | None]) -> tuple[Trace, str]:
    """The trace that stands for the group's most frequent answer, and why the others don't."""
    votes: Counter[int] = Counter()
    first_of_class: dict[int, Trace] = {}
    for trace in group:
        number = class_of_trace[trace.id]
        if number is not None:
            votes[number] += 1
            first_of_class.setdefault(number, trace)
    if not votes:
        return group[0], "no trace of its group has an answer"
    [(elected, count)] = votes.most_common(1)
    return first_of_class[elected], f"the group's vote: {count} of {votes.total()} for one answer"


def _read_answers(traces: Sequence[Trace]) -> list[_Answer | None]:
    answers: list[_Answer | None] = []
    unjudged: list[int] = []
    for index, trace in enumerate(traces):
        verdict = trace.verdict
        answers.append(None)
        if trace.error or verdict.status == "unparsed":
            continue
        if verdict.answer is not None:
            answers[index] = _Answer(verdict.answer, verdict.status == "right")
        elif trace.text and not verdict.verifier:
            unjudged.append(index)
    texts = verifiers.read([(traces[index].problem, traces[index].text) for index in unjudged])
    for index, text in zip(unjudged, texts, strict=True):
        if text is not None:
            answers[index] = _Answer(text, is_right=False)
    return answers


class _AnswerClasses:
    """The classes of the answers to one problem; each is named by the first answer that founded it."""

    def __init__(self, asked_problem: Problem, answers: Sequence[_Answer]) -> None:
        self.problem = asked_problem
        # In an order of their own, so that the classes don't depend on which answer came first.
        self.unassigned = sorted({answer.text for answer in answers if not answer.is_right})
        self.class_of_text: dict[str, str] = {}

    def name_of(self, answer: _Answer) -> str | None:
        """The name of an answer's class; None for that of right answers."""
        return None if answer.is_right else self.class_of_text[answer.text]


def _fill_classes(classes: Sequence[_AnswerClasses]) -> None:
    """Put every answer in its class, in rounds: one new class a problem, compared with all that is left of it."""
    while any(one.unassigned for one in classes):
        pairs: list[tuple[Problem, str, str]] = []
        for one in classes:
            if one.unassigned:
                founder = one.unassigned[0]
                pairs += [(one.problem, founder, text) for text in one.unassigned]
        is_equal = iter(compare_answers(pairs))
        for one in classes:
            if not one.unassigned:
                continue
            founder, remaining = one.unassigned[0], []
            for text in one.unassigned:
                if next(is_equal):
                    one.class_of_text[text] = founder
                else:
                    remaining.append(text)
            one.unassigned = remaining


def compare_answers(pairs: Sequence[tuple[Problem, str, str]]) -> list[bool]:
    """Whether the two answers of each pair are equal by the verifier, from the session's cache where it has them."""
    versions = {kind: verifiers.version(kind) for kind in sorted({one.kind for one, _, _ in pairs})}
    compared = [first == second for _, first, second in pairs]
    different = [index for index, is_same_text in enumerate(compared) if not is_same_text]
    keys: list[str] = []
    for index in different:
        asked_problem, first, second = pairs[index]
        keys.append(digest("equal", [versions[asked_problem.kind], asked_problem, first, second]))

    def compute(missing: list[int]) -> list[bool]:
        return verifiers.equal([pairs[different[index]] for index in missing])

    for index, is_equal in zip(different, session.cached_values(keys, compute), strict=True):
        compared[index] = bool(is_equal)
    return compared
