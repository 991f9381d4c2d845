"""Mix distillation, exactly: which questions are learnt, from which source, and that the controls share them."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.errors import ConfigError, StageError

PROBLEMS = [number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in range(1, 8)]
# The sixth is beyond the easier source, the seventh beyond the teacher, the fifth right at the second try.
LONG = {f"{n} + {n}": f"Long, long: \\boxed{{{2 * n}}}." for n in range(1, 7)}
SHORT = {f"{n} + {n}": f"\\boxed{{{2 * n}}}" for n in range(1, 6)}
LONG["5 + 5"] = ["Hm.", "Long, long: \\boxed{10}."]


def mix_distillation(long=LONG, **values):
    teacher, easier = script({**long, "": {"error": "down"}}), script({**SHORT, "": "\\boxed{1}"})
    roles = {"teacher": teacher, "easier": easier, "student": student(["-"])}
    return run("mix_distillation", PROBLEMS, roles, **values), teacher, easier


def test_a_fifth_of_the_questions_that_both_solve_is_learnt_from_the_teacher():
    ran, teacher, easier = mix_distillation()
    texts = ran.texts()
    assert sorted(texts) == ["p1", "p2", "p3", "p4", "p5"]
    assert [len(rows) for rows in texts.values()] == [1] * 5
    hard = [row for row in ran.rows if row.author.model == teacher.id]
    assert len(hard) == 1 and hard[0].text.startswith("Long, long")
    assert {row.author.model for row in ran.rows} == {teacher.id, easier.id}
    assert {row.prompt for row in ran.rows} == {problem.prompt for problem in PROBLEMS[:5]}
    assert ran.stages[0].constants["learning_rate"] == 1e-5


def test_only_what_is_not_solved_is_tried_again_and_the_easier_source_gets_what_the_teacher_solved():
    ran, teacher, easier = mix_distillation(tries=2)
    # Seven questions, then the fifth and the seventh once more; six for the easier one, then the sixth.
    assert len(teacher.calls) == 9 and len(easier.calls) == 7
    assert ran.reasons()["is_finished"] == ["error: down"] * 2
    wrong = "wrong: 1 is not 12 (boxed)"
    assert ran.reasons()["right"] == ["unparsed: no number (last line)", wrong, wrong]
    assert sorted(mix_distillation(tries=1)[0].texts()) == ["p1", "p2", "p3", "p4"]


def test_the_controls_learn_the_same_questions_from_one_source():
    hard, easy = (mix_distillation(arm=arm)[0] for arm in ("hard-only", "easy-only"))
    assert set(hard.texts()) == set(easy.texts()) == set(mix_distillation()[0].texts())
    assert all(row.text.startswith("Long") for row in hard.rows)
    assert not any(row.text.startswith("Long") for row in easy.rows)


def test_a_chain_that_is_cut_is_none_and_without_common_questions_it_ends():
    cut = {"": {"text": "\\boxed{2}", "finish": "length"}}
    with pytest.raises(StageError, match="none of 7 problems was solved by both"):
        mix_distillation(cut)
    with pytest.raises(ConfigError, match="hard_share=2"):
        mix_distillation(hard_share=2)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teacher=world:teacher", "easier=world:oracle"]
    ran = run_on_world(tmp_path, "mix_distillation", roles=roles, sets=["hard_share=0.5"])
    rows = ran.rows["mix_distillation"]
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert any("<think>" in row["completion"] for row in rows)
