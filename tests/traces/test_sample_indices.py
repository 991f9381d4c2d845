"""Equal requests of one program take different samples, whoever is first; another run takes the same again."""

from __future__ import annotations

import time
from contextvars import Context
from functools import partial

import pytest
from fakes import Fake, sums

from potstill.records import Problem, Trace, blank
from potstill.traces import Session, each, sample, using


def indices(traces: list[Trace]) -> list[int]:
    return [trace.author.sample_index for trace in traces]


def in_a_session(solver, problems, workers=8):
    with using(Session(workers=workers)):
        return solver(problems)


def copies(problems: list[Trace], n: int) -> list[Trace]:
    return [problem for problem in problems for _ in range(n)]


def slow_first(model, traces: list[Trace]) -> list[Trace]:
    """The first problem's calls come last."""
    time.sleep(0.002 * (traces[0].problem.id == "p0"))
    return sample(model, traces, n=2)


@pytest.mark.parametrize("workers", [1, 8])
def test_calls_on_one_problem_share_out_its_samples(workers):
    problems = sums(3)
    one_by_one = in_a_session(
        lambda some: each(partial(sample, Fake("m")), copies(some, 4)), problems, workers
    )
    assert one_by_one == in_a_session(lambda some: sample(Fake("m"), some, n=4), problems)
    twice = in_a_session(
        lambda some: each(partial(slow_first, Fake("m")), copies(some, 2)), problems, workers
    )
    assert indices(twice) == [0, 2, 1, 3] * 3


def search(model, traces: list[Trace]) -> list[Trace]:
    """Asks the bare problem three times, twice from within."""
    once = sample(model, traces)
    return once + each(partial(sample, model), [traces[0], traces[0]])


def test_calls_within_calls_and_calls_in_a_row():
    def solver(problems):
        before = sample(Fake("m"), problems, n=2)
        inside = each(partial(search, Fake("m")), copies(problems, 2))
        return before + inside + sample(Fake("m"), problems)

    problems = sums(2)
    made = in_a_session(solver, problems)
    for problem in problems:
        own = indices([trace for trace in made if trace.problem == problem.problem])
        assert len(own) == len(set(own)) == 9 and max(own) < 10
    assert in_a_session(solver, problems, workers=1) == made
    backwards = in_a_session(solver, problems[::-1])
    assert {trace.id for trace in backwards} == {trace.id for trace in made}


def test_a_prompt_without_the_problem_is_shared_out_among_all():
    prompt = "Make a similar problem."
    made = in_a_session(lambda some: each(partial(sample, Fake("m"), prompt=prompt), some), sums(5))
    assert indices(made) == [0, 1, 2, 3, 4]


def test_two_problems_that_ask_the_same_share_out_their_samples():
    twins = [blank(Problem(name, "Add 1, 2.", "3", "sum")) for name in ("a", "b")]
    made = in_a_session(lambda some: each(partial(sample, Fake("m")), some), twins)
    assert indices(made) == [0, 1]


def test_outside_a_session_an_equal_call_gives_the_same():
    def both(problems):
        return sample(Fake("m"), problems), sample(Fake("m"), problems)

    first, second = Context().run(both, sums(2))
    assert first == second
    first, second = both(sums(2))
    assert not set(first) & set(second)
