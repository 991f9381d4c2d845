"""rft by pools of the student's own pass rate: easy problems weigh less, and a pool of weight 0 is dropped."""

from __future__ import annotations

import pytest
from scripted_world import number, run, student

EASY, HARD = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
ANSWERS = {
    EASY.prompt: [f"{word}: \\boxed{{4}}." for word in ("Two", "So", "Thus", "Then")],
    HARD.prompt: ["So \\boxed{7}.", "\\boxed{8}.", "\\boxed{9}.", "\\boxed{6}."],
}


@pytest.mark.parametrize(("weight", "rows"), [(0.2, {"p1": 4, "p2": 1}), (0.0, {"p2": 1})])
def test_rows_are_weighed_by_the_pool_of_their_problem(weight, rows):
    pools = {"hard": (0.5, 1.0), "easy": (1.0, weight)}
    ran = run("rft", [EASY, HARD], {"student": student(ANSWERS)}, n=4, difficulty_pools=pools)
    counts = {}
    for row in ran.rows:
        counts[row.problem.id] = counts.get(row.problem.id, 0) + 1
        assert row.weight == pools[row.scores["difficulty_pool"]][1]
        assert row.scores["pass_rate"] == {"p1": 1.0, "p2": 0.25}[row.problem.id]
    assert counts == rows
