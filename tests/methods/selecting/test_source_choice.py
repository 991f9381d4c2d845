"""Source choice, exactly: every teacher tries until it is right, and one is learnt from, on the questions of all."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.errors import ConfigError, StageError
from potstill.models.scripted import ScriptedModel
from potstill.runs.cast import Cast

# Two teachers that solve by chance have few questions in common in one try.
CAST = Cast(values={"tries": 4})

P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
FIRST = {"1 + 1": "One: \\boxed{2}", "2 + 2": ["Hm.", "One: \\boxed{4}"], "": {"error": "down"}}
SECOND = {"1 + 1": "Two: \\boxed{2}", "2 + 2": "Two: \\boxed{4}", "": "Two: \\boxed{6}"}


def source_choice(roles=None, **values):
    first, second = script(FIRST, name="first"), script(SECOND, name="second")
    roles = {"teachers": [first, second], "student": student(["-"]), **(roles or {})}
    ran = run("source_choice", [P1, P2, P3], roles, **{"tries": 3, **values})
    return ran, first, second


def test_one_teacher_is_learnt_from_on_the_questions_that_all_got_right():
    ran, first, second = source_choice()
    assert ran.texts() == {"p1": ["One: \\boxed{2}"], "p2": ["One: \\boxed{4}"]}
    assert source_choice(source=2)[0].texts() == {
        "p1": ["Two: \\boxed{2}"],
        "p2": ["Two: \\boxed{4}"],
    }
    # Three questions; then what is not solved yet, twice.
    assert len(first.calls) == 3 + 2 + 1 and len(second.calls) == 3
    assert ran.prompts_learnt() == [P1.prompt, P2.prompt]
    assert ran.reasons() == {
        "is_finished": ["error: down"] * 3,
        "right": ["unparsed: no number (last line)"],
    }


def test_the_control_learns_any_teacher_of_the_same_questions():
    ran, _, _ = source_choice(arm="mixed")
    assert sorted(ran.texts()) == ["p1", "p2"] and len(ran.rows) == 2


def test_each_teacher_has_a_limit_of_its_own_for_what_surprises_the_scorer():
    scorer = ScriptedModel(["x"], logprobs=lambda passage: [-float(len(passage.prompt) % 7)])
    ran, _, _ = source_choice({"scorer": scorer}, likely_share=0.5, source=2)
    assert 1 <= len(ran.rows) <= 2 and all("perplexity" in row.scores for row in ran.rows)
    assert set(ran.reasons()["likelihood"]) == {"not among the best 1", "not among the best 2"}


def test_without_a_common_question_or_such_a_teacher_it_ends():
    mute = script({"": "Hm."}, name="mute")
    with pytest.raises(StageError, match="no problem was solved by all"):
        source_choice({"teachers": [script(SECOND), mute]})
    with pytest.raises(ConfigError, match="source=3 of 2"):
        source_choice(source=3)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teachers=world:teacher", "teachers=world:oracle"]
    ran = run_on_world(tmp_path, "source_choice", roles=roles, sets=["source=2", "tries=2"])
    rows = ran.rows["source_choice"]
    assert rows and not any("<think>" in row["completion"] for row in rows)
