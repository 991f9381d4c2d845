"""few_shot: which examples a trace is shown, how, and what they leave in what is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.errors import ConfigError, StageError
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Trace, blank
from potstill.traces import few_shot, sample


def example(name: str, text: str = "", **fields) -> Trace:
    problem = Problem(name, f"question {name}")
    return Trace(problem, problem.question, text=text or f"text {name}", **fields)


POOL = [example(name) for name in "abcdef"]


def names(traces: list[Trace]) -> str:
    return "".join(trace.problem.id for trace in traces)


def test_all_see_the_same_examples_and_none_its_own_problem():
    examples = few_shot(POOL, 3)
    others = examples(blank(Problem("z", "?")))
    assert len(others) == 3
    for trace in others:
        its_own = examples(blank(trace.problem))
        assert len(its_own) == 3 and trace not in its_own
        assert set(names(others)) - {trace.problem.id} < set(names(its_own))
    twin = blank(Problem("another id", others[0].question))
    assert others[0] not in examples(twin)


def test_seed_and_not_order_chooses_one_a_problem_of_what_was_written():
    asked = blank(Problem("z", "?"))
    assert few_shot(POOL, 3)(asked) == few_shot(POOL[::-1], 3)(asked)
    chosen = {names(few_shot(POOL, 3, seed)(asked)) for seed in range(8)}
    assert len(chosen) > 1
    pool = [*POOL[:2], example("a", "other"), blank(Problem("x", "?")), example("y", error="late")]
    assert sorted(names(few_shot(pool, 2)(asked))) == ["a", "b"]


def test_too_few_examples_are_an_error():
    with pytest.raises(StageError, match="2 examples are to be shown with problem 'a', and there"):
        few_shot(POOL[:2], 2)(POOL[0])
    with pytest.raises(ConfigError, match="n=0"):
        few_shot(POOL, 0)


def test_a_template_shows_them_with_their_questions_and_they_become_parents():
    pool = [example("a"), replace(example("b"), saw_gold=True)]
    model = ScriptedModel(["Fine."])
    [made] = sample(
        model,
        [blank(Problem("z", "question z"))],
        prompt="{examples}\n\n{question}",
        context={"examples": few_shot(pool, 2)},
    )
    shown = model.calls[0].prompt
    assert "question a\ntext a" in shown and shown.endswith("\n\nquestion z")
    assert set(made.parents) > {trace.id for trace in pool} and made.saw_gold
