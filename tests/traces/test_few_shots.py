"""few_shot: which examples a trace is shown, how, and what they leave in what is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.errors import ConfigError, StageError
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Trace, blank
from potstill.traces import Session, few_shot, sample, show_as_turns, using


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


def test_fewer_do_where_they_may_and_a_note_says_so():
    notes = []
    with using(Session(on_note=notes.append)):
        examples = few_shot(POOL[:2], 8, at_least=1)
    assert len(examples(POOL[0])) == 1 and len(examples(blank(Problem("z", "?")))) == 2
    assert notes == ["1 worked examples are shown where 8 were asked for: there are no more"]
    with pytest.raises(StageError, match="1 examples are to be shown"):
        few_shot(POOL[:1], 8, at_least=1)(POOL[0])


def test_examples_can_be_earlier_turns():
    shown = show_as_turns(
        lambda trace: f"Ask {trace.question}", blank(Problem("z", "z?")), POOL[:1]
    )
    question, text = POOL[0].question, POOL[0].text
    assert shown == [("user", f"Ask {question}"), ("assistant", text), ("user", "Ask z?")]
