"""Rows without a step and answers that a training made short are counted and named."""

from __future__ import annotations

from dataclasses import replace

from demo_results import evaluation

from potstill.evaluation.row_steps import (
    RowSteps,
    short_rows_notes,
    shrink_notes,
    stepless_notes,
    summarize_steps,
)
from potstill.evaluation.table import quality_notes
from potstill.records import Problem, Tokens, Trace
from potstill.traces.usage import Usage

PROBLEM = Problem("p", "How many?", "8", kind="number")


def row(text: str, tokens: int = 10, **scores: float) -> Trace:
    trace = Trace(PROBLEM, "How many?", text, tokens=Tokens(0, tokens), finish_reason="stop")
    return trace.annotate(scores=scores)


def test_rows_without_a_step_are_counted_and_problems_without_a_text_are_none():
    rows = [row("5 + 3 = 8. \\boxed{8}"), row("So \\boxed{8}."), row("")]
    assert summarize_steps(rows) == RowSteps(2, 1, 0.5)


def test_stored_counts_are_taken_and_probabilities_averaged_over_the_rows_that_have_one():
    rows = [row("x", step_count=3, answer_probability=0.5), row("x", step_count=5)]
    assert summarize_steps(rows) == RowSteps(2, 0, 4.0, 0.5, 1)


def test_more_than_a_tenth_without_a_step_is_noted():
    assert stepless_notes({"a": RowSteps(10, 1, 3.0), "none": RowSteps(0, 0, 0.0)}) == []
    [note] = stepless_notes({"a": RowSteps(10, 1, 3.0), "b": RowSteps(10, 2, 3.0)})
    assert note.startswith("b: 2 of 10 rows (20 %) have no step of reasoning")


def test_answers_that_shrink_by_half_are_noted_and_cut_or_unread_ones_do_not_count():
    before, half, less = (
        evaluation(name, "rw", tokens=tokens)
        for name, tokens in (("untrained", 60), ("half", 30), ("less", 29))
    )
    assert shrink_notes([before, half], "untrained") == []
    [note] = quality_notes([before, half, less])
    assert note.startswith("less: its answers are 29 tokens long in the median, the untrained")
    # A student that looped to its limit, or could not be read, is no measure.
    [first] = before.rows[:1]
    looping = tuple(answer._replace(cut=True) for answer in first.answers)
    assert (
        shrink_notes([replace(before, rows=(replace(first, answers=looping),)), less], "untrained")
        == []
    )
    assert shrink_notes([evaluation("untrained", "uu", tokens=60), less], "untrained") == []
    assert shrink_notes([less], "untrained") == []
    # What several calls wrote is not as long as the last of them.
    voted = tuple(replace(row, usage={"student": Usage(calls=9)}) for row in less.rows)
    assert shrink_notes([before, replace(less, rows=voted)], "untrained") == []


def test_rows_that_are_half_as_long_as_the_students_answers_are_noted():
    before = evaluation("untrained", "rw", tokens=50)
    assert short_rows_notes("a", [row("x", 25)], before) == []
    [note] = short_rows_notes("a", [row("x", 24), row("x", 20), row("x", 30)], before)
    assert note.startswith("a: its rows are 24 tokens long in the median")
    assert short_rows_notes("a", [row("x", 24)], None) == []
    assert short_rows_notes("a", [row("x", 0)], before) == []  # nobody counted its tokens
