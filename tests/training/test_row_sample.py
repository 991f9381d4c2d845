"""A seeded sample of rows: what is matched between arms, and that a run says so."""

from __future__ import annotations

from potstill.records import Problem, Trace
from potstill.training.memory_estimate import count_steps
from potstill.training.row_sample import sample_rows
from potstill.training.settings import TrainingSettings


def rows_of(problem_numbers, text="right"):
    rows = []
    for place, number in enumerate(problem_numbers):
        rows.append(Trace(Problem(f"p{number}", f"{number}?"), "q", f"{text} {place}"))
    return rows


def problems_of(rows):
    return [row.problem.id for row in rows]


def test_two_arms_are_cut_down_to_rows_of_the_same_problems():
    one, other = rows_of(range(40)), rows_of(reversed(range(40)), "other")
    chosen = sample_rows(one, 10, seed=1)
    assert set(problems_of(chosen)) == set(problems_of(sample_rows(other, 10, seed=1)))
    assert set(problems_of(chosen)) != set(problems_of(sample_rows(one, 10, seed=2)))
    assert [row for row in one if row in chosen] == chosen, "in the order in which they stood"


def test_many_problems_come_before_many_rows_of_one():
    rows = rows_of([0, 0, 0, 0, 1, 2, 3])
    assert sorted(problems_of(sample_rows(rows, 4, seed=0))) == ["p0", "p1", "p2", "p3"]
    smaller, larger = sample_rows(rows, 3, seed=0), sample_rows(rows, 5, seed=0)
    assert all(row in larger for row in smaller)


def test_a_count_of_0_or_of_all_changes_nothing():
    rows = rows_of([2, 1, 1])
    assert sample_rows(rows, 0, seed=0) == sample_rows(rows, 3, seed=0) == rows
    assert TrainingSettings(max_train_samples=3).identity() == TrainingSettings().identity()
    limited = TrainingSettings(max_train_samples=32, batch_size=16, num_train_epochs=2)
    assert count_steps(limited, row_count=1000, row_length=50) == (4, 16)
