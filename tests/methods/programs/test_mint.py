"""MinT, exactly: which views there are, what each is asked for by, and how much its rows count."""

from __future__ import annotations

import dataclasses

import pytest
from scripted_world import NOWHERE, number, prompts, run, script
from world_run import run_on_world

from potstill.errors import ConfigError, StageError
from potstill.methods.programs.mint import INSTRUCTIONS, find_equations
from potstill.runs.cast import Cast

CAST = Cast(poses=True)


def solved(name, solution, answer="10", **metadata):
    trace = number(name, f"What is {name}?", answer)
    problem = dataclasses.replace(trace.problem, solution=solution, metadata=metadata)
    return dataclasses.replace(trace, problem=problem)


NED = "He has 19 - 14 = 5 left, and twice that is 5 * 2 = 10. The answer is \\boxed{10}."
P1 = solved("p1", NED)
P2 = solved("p2", "It is 10, as anybody sees.\n#### 10")
P3 = solved("p3", "19 - 14 = 6, so \\boxed{6}.")
EQUATIONS = "19 - 14 = 5\n5 * 2 = 10\nThe answer is \\boxed{10}."
EXPRESSION = "x = (19 - 14) * 2\nThe answer is \\boxed{10}."


def mint(problems=(P1, P2, P3), **values):
    pupil = script({"": "?"}, weights=NOWHERE)
    return run("mint", list(problems), {"student": pupil}, **values), pupil


def behind(trace, view):
    return f"{trace.prompt}\n\n{INSTRUCTIONS[view]}"


def test_without_a_right_solution_there_is_no_view_to_ask_for():
    with pytest.raises(StageError, match="none of 1 is right"):
        mint([P3])


def test_a_right_solution_is_three_views_and_one_that_is_not_right_another():
    ran, pupil = mint()
    learnt = [(row.prompt, row.text) for row in ran.rows]
    assert learnt == [
        (behind(P1, "steps"), NED),
        (behind(P2, "steps"), P2.problem.solution),
        (behind(P1, "equations"), EQUATIONS),
        (behind(P1, "expression"), EXPRESSION),
        (behind(P3, "noisy"), P3.problem.solution),
    ]
    # Two rows of one view count as the root of two, one row as one; five in all.
    of_two, alone = ran.rows[0].weight, ran.rows[2].weight
    assert 2 * of_two == pytest.approx(2**0.5 * alone)
    assert 2 * of_two + 3 * alone == pytest.approx(5)
    assert ran.sources(ran.rows[3]) == [EXPRESSION]
    assert not pupil.calls
    ran.solver([P2])
    assert prompts(pupil) == [behind(P2, "steps")]


def test_metadata_name_the_styles_and_each_has_an_instruction():
    posed = [solved("a", NED, source="GSM8K"), solved("b", NED, source="expression")]
    ran, pupil = mint(posed, style="source", answer_view="expression")
    first, second = ran.prompts_learnt()
    assert first.endswith("\n\nWrite the solution in the style called GSM8K.")
    assert second == behind(posed[1], "expression")
    ran.solver([P1])
    assert prompts(pupil) == [behind(P1, "expression")]


def test_controls_learn_one_view_or_all_without_instructions():
    ran, _ = mint(arm="one-view", answer_view="equations")
    assert [(row.prompt, row.text, row.weight) for row in ran.rows] == [
        (behind(P1, "equations"), EQUATIONS, 1)
    ]
    ran, pupil = mint(arm="no-instruction", balance=1, noisy=False)
    assert ran.prompts_learnt() == [P1.prompt, P2.prompt, P1.prompt, P1.prompt]
    assert {row.weight for row in ran.rows} == {1.0}
    assert ran.reasons()["right"] == ["wrong: 6 is not 10 (boxed)"]
    ran.solver([P1])
    assert prompts(pupil) == [P1.prompt]


def test_equations_are_found_once_and_only_those_that_make_the_answer_are_a_view():
    text = "48/2 = <<48/2=24>>24, 1,000 + 24 = 1,024, 48 / 2=24, x - 3 = 4, 2x + 3 * 2 = 9"
    assert find_equations(text) == [("48 / 2", "24"), ("1,000 + 24", "1,024"), ("3 * 2", "9")]
    apart = solved("p", "3 + 4 = 7. 4 + 4 = 8. So \\boxed{10}.")
    ran, _ = mint([apart])
    assert ran.texts() == {"p": [apart.problem.solution]}
    assert ran.reasons()["right"] == ["wrong: 8 is not 10 (boxed)"]


def test_what_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="no view called 'poem'"):
        mint(answer_view="poem")
    with pytest.raises(StageError, match="none of 1 problems has one"):
        mint([number("n", "What?", "1")])


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "mint", roles=[], sets=[]).rows["mint"]
    assert len(rows) == 3 * 16
    assert sum(row["completion"].startswith("x = ") for row in rows) == 16
