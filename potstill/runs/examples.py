"""The examples of a report: rows beside what they came from, and what students answer to problems of both sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from potstill.evaluation.results import Example, Passage, to_passage
from potstill.evaluation.rows import Evaluation, Row
from potstill.records import Trace
from potstill.runs.drops import kind_of_reason
from potstill.runs.folder_layout import UNTRAINED, evaluation_ledger, examples_ledger
from potstill.store.store import Store

TRAINED_STUDENT = "trained student"
EXAMPLES_PER_ARM = 6
SOLVED_PER_ARM = 2  # held-out problems of an arm that it solved
FAILURES_PER_ARM = 4  # and such that it did not
REJECTED_PER_REASON = 2  # texts that an arm rejected for reasons of one kind
REASONS_PER_ARM = 6


def example_rows(rows: Iterable[Trace]) -> list[Trace]:
    """The rows that the report shows: rewrites made from a wrong attempt first, then by id."""

    def rank(row: Trace) -> tuple[bool, str]:
        is_made_from_attempts = row.operator == "rewrite" and len(row.parents) > 1
        return not is_made_from_attempts, row.id

    return sorted(rows, key=rank)[:EXAMPLES_PER_ARM]


def further_row_problems(rows: Iterable[Trace], count: int) -> list[str]:
    """The problems of `count` rows beyond those that the report shows, each once; a larger count has the same and more.

    Args:
        rows: of an arm's last stage.
        count: at most.
    """
    rows = list(rows)
    shown_problems = {row.problem.id for row in example_rows(rows)}
    problems: dict[str, None] = {}
    for row in sorted(rows, key=lambda row: row.id):
        if row.problem.id not in shown_problems:
            problems[row.problem.id] = None
    return list(problems)[:count]


def collect_training_examples(
    store: Store, arm: str, rows: Iterable[Trace], names: Mapping[str, str]
) -> list[Example]:
    """Rows beside what they came from, and what the trained student answers to the problem that it was trained on.

    Args:
        store: of the run.
        arm: whose rows.
        rows: of its last stage.
        names: the roles of model ids.
    """
    answers: dict[str, Trace] = {}
    for answer in store.history.traces(examples_ledger(arm), "sample"):
        answers[answer.problem.id] = answer
    examples: list[Example] = []
    for row in example_rows(rows):
        ancestry = store.history.ancestry(row.id, arm)
        passages = row_passages(row, ancestry[1:], names)
        if row.problem.id in answers:
            answer = answers[row.problem.id]
            passages.append(to_passage(answer, "answer", TRAINED_STUDENT))
        examples.append(Example(row.question, row.problem.answer, arm, tuple(passages)))
    return examples


def row_passages(row: Trace, ancestors: Sequence[Trace], names: Mapping[str, str]) -> list[Passage]:
    """A row, after the wrong attempt and the right text that it was made from.

    Args:
        row: the row.
        ancestors: what it was made from, nearest first.
        names: the roles of model ids.
    """
    passages: list[Passage] = []
    wrong = [trace for trace in ancestors if trace.text and trace.verdict.status == "wrong"]
    right = [trace for trace in ancestors if trace.text and trace.verdict.status == "right"]
    if wrong:
        passages.append(
            to_passage(wrong[0], "attempt", role_of(wrong[0], names), question=row.question)
        )
    if right:
        passages.append(
            to_passage(right[0], "source", role_of(right[0], names), question=row.question)
        )
    passages.append(to_passage(row, "row", role_of(row, names)))
    return passages


def collect_rejected_examples(store: Store, arm: str, names: Mapping[str, str]) -> list[Example]:
    """Some of the texts that an arm's operators dropped, for each kind of reason.

    Args:
        store: of the run.
        arm: whose.
        names: the roles of model ids.
    """
    ids_by_reason: dict[str, list[str]] = {}
    for drop in store.history.drops(arm):
        reason = f"{drop.operator} {drop.test}: {kind_of_reason(drop.reason)}"
        ids_by_reason.setdefault(reason, []).append(drop.id)
    # Inside `each` texts are dropped in an order of chance: the report of a run must not depend on it.
    most_frequent = sorted(ids_by_reason, key=lambda reason: (-len(ids_by_reason[reason]), reason))
    examples: list[Example] = []
    for reason in most_frequent[:REASONS_PER_ARM]:
        shown_ids = sorted(set(ids_by_reason[reason]))[:REJECTED_PER_REASON]
        for trace in store.history.traces_by_id(shown_ids, arm):
            passage = to_passage(trace, "rejected", role_of(trace, names))
            if trace.error:
                passage = passage._replace(text=trace.text or trace.error)
            examples.append(
                Example(trace.question, trace.problem.answer, arm, (passage,), note=reason)
            )
    return examples


def role_of(trace: Trace, names: Mapping[str, str]) -> str:
    """The role of the model that wrote a trace; its id where the model has no role, "" where no model did."""
    if trace.author is None:
        return ""
    return names.get(trace.author.model, trace.author.model)


def collect_held_out_examples(store: Store, evaluation: Evaluation) -> list[Example]:
    """What an arm answers to problems that it was measured on: some that it solved, and some that it did not.

    The untrained student's answer to the same problem stands before it.
    """
    failures = [row for row in evaluation.rows if row.right == 0]
    # Wrong answers say more than failed calls; a problem that is solved now and then is no failure.
    failures.sort(key=lambda row: row.count("error") == row.n)
    solved = [row for row in evaluation.rows if row.right == row.n]
    shown_rows = [*solved[:SOLVED_PER_ARM], *failures[:FAILURES_PER_ARM]]
    shown_ids = {row.problem for row in shown_rows}
    answers = first_answers(store, evaluation_ledger(evaluation.name), shown_ids)
    answers_before = first_answers(store, evaluation_ledger(UNTRAINED), shown_ids)
    examples: list[Example] = []
    for row in shown_rows:
        if row.problem in answers:
            answer = answers[row.problem]
            before = answers_before.get(row.problem)
            examples.append(held_out_example(evaluation.name, row, answer, before))
    return examples


def held_out_example(arm: str, row: Row, answer: Trace, before: Trace | None) -> Example:
    """One problem of the evaluation with the trained student's first answer."""
    passages: list[Passage] = []
    if before is not None:
        passages.append(to_passage(before, "before", "student"))
    passages.append(to_passage(answer, "answer", TRAINED_STUDENT))
    return Example(
        answer.question,
        answer.problem.answer,
        arm,
        tuple(passages),
        held_out=True,
        note=f"{row.right} of {row.n} answers are right",
    )


def first_answers(store: Store, ledger: str, problem_ids: set[str]) -> dict[str, Trace]:
    """By problem, the judged or failed answer of a ledger with the lowest sample index."""

    def rank(trace: Trace) -> tuple[int, str]:
        sample_index = trace.author.sample_index if trace.author is not None else 0
        return sample_index, trace.id

    answers: dict[str, Trace] = {}
    for trace in judged_traces(store, ledger):
        problem_id = trace.problem.id
        if problem_id in problem_ids:
            answers[problem_id] = min(answers.get(problem_id, trace), trace, key=rank)
    return answers


def judged_traces(store: Store, ledger: str) -> Iterator[Trace]:
    """The traces of a ledger that a verifier has judged, or whose generation failed."""
    for trace in store.history.traces(ledger):
        if trace.error or trace.verdict.verifier:
            yield trace
