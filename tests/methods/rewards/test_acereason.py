"""AceReason, exactly: mathematics with growing limits, then code; what an arm leaves out."""

from __future__ import annotations

import pytest
from scripted_world import number, run, student

from potstill.errors import StageError
from potstill.records import Problem, blank
from potstill.runs.cast import Cast
from potstill.world.scripted import scripted_stories


def write_code(name):
    return blank(Problem(name, f"Write a program that prints {name}.", "", kind="code"))


def stories_and_code(size):
    return [*scripted_stories(size - 1), write_code("c1")]


CAST = Cast(problems=stories_and_code)
SUM, CODE = number("p1", "What is 2 + 2?", "4"), write_code("c1")


def acereason(problems, **values):
    ran = run("acereason", problems, {"student": student(["no"])}, lengths=(16, 32), **values)
    return [
        (stage.name, [row.problem.id for row in stage.rows], stage.constants["max_new_tokens"])
        for stage in ran.stages
    ]


def test_mathematics_comes_first_with_a_limit_that_grows_then_code():
    assert acereason([CODE, SUM]) == [
        ("math-16", ["p1"], 16),
        ("math-32", ["p1"], 32),
        ("code", ["c1"], 32768),
    ]


def test_arms_leave_out_a_domain_or_the_growth():
    assert [name for name, *_ in acereason([CODE, SUM], arm="one-length")] == ["math-32", "code"]
    assert [name for name, *_ in acereason([CODE, SUM], arm="math-only")] == ["math-16", "math-32"]
    assert [name for name, *_ in acereason([CODE, SUM], arm="code-only")] == ["code"]
    with pytest.raises(StageError, match="none of 1 problems is of this domain"):
        acereason([SUM], arm="code-only")
