"""Control-R, exactly: which chains are scored, what the learner sees of the scores, and with which it is asked."""

from __future__ import annotations

import json

import pytest
from oracle_roles import assert_answer_depends_on
from scripted_world import NOWHERE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.programs.control_r import ANNOTATE, FIELDS
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.oracle.program import answer_request
from potstill.world.scripted import teacher_reply


def solve_and_annotate(request):
    """The scripted teacher, which also annotates."""
    if "eleven scales" in render(request.prompt):
        return answer_request(request).text
    return teacher_reply(request)


ANNOTATING = ScriptedModel(solve_and_annotate, name="annotating-teacher")
CAST = Cast(models={"teacher": ANNOTATING, "annotator": ANNOTATING}, poses=True)
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
SHORT, LONG, SEVEN = "\\boxed{4}", "2, then 2 more: \\boxed{4}", "So \\boxed{7}."


def scores(score):
    return json.dumps({**dict.fromkeys(FIELDS, score), "justification": "It is so."})


def shown(score):
    return "<control> " + "; ".join(f"{name}: {score}" for name in FIELDS) + " <control/>"


EIGHTS = scores(8)


def control_r(seven=EIGHTS, **values):
    teacher = script({P1.question: [SHORT, LONG], P2.question: [SEVEN, "So \\boxed{8}."]})
    judge = script({LONG: scores(9), SHORT: scores(1), SEVEN: seven, "": scores(0)})
    pupil = script({"": "\\boxed{4}"}, weights=NOWHERE)
    roles = {"teacher": teacher, "student": pupil, "annotator": judge}
    return run("control_r", [P1, P2], roles, **{"n": 2, **values}), teacher, judge, pupil


def test_each_right_chain_is_learnt_behind_its_own_scores():
    ran, teacher, judge, _ = control_r()
    assert ran.texts() == {"p1": [SHORT, LONG], "p2": [SEVEN]}
    assert ran.prompts_learnt() == [
        f"{P1.prompt}\n{shown(1)}",
        f"{P1.prompt}\n{shown(9)}",
        f"{P2.prompt}\n{shown(8)}",
    ]
    assert ran.sources(ran.rows[2]) == [SEVEN, shown(8)]
    assert len(teacher.calls) == 4 and len(judge.calls) == 3
    # The problem as the learner sees it, with its choices or its table.
    assert f"Problem: {P2.prompt}\n\nReasoning:\n{SEVEN}\n" in prompts(judge)[2]
    assert all(call.sampling.temperature == 0 for call in judge.calls)
    assert ran.reasons() == {"right": ["wrong: 8 is not 7 (boxed)"]}


@pytest.mark.parametrize(
    "reply",
    [
        "Nine of nine.",
        scores(10),
        EIGHTS.replace('"efficiency"', '"speed"'),
        EIGHTS + scores(7),
    ],
)
def test_a_chain_whose_scores_cant_be_read_is_no_row(reply):
    ran, _, _, _ = control_r(seven=reply)
    assert list(ran.texts()) == ["p1"]
    assert ran.dropped("write_fields") == [(reply, "write_fields returned nothing")]


def test_scores_are_read_behind_a_thought_and_in_a_block():
    reply = f"<think>As in {scores(3)}</think>\n```json\n{scores(5)}\n```"
    ran, _, _, _ = control_r(seven=reply)
    assert ran.prompts_learnt()[2] == f"{P2.prompt}\n{shown(5)}"


def test_the_student_is_asked_with_the_scores_of_the_readers_choice():
    wanted = {
        "high": f"\n{shown(9)}",
        "middle": f"\n{shown(5)}",
        "low": f"\n{shown(0)}",
        "none": "",
    }
    for fields, ending in wanted.items():
        ran, _, _, pupil = control_r(fields=fields)
        ran.solver([P1])
        assert prompts(pupil) == [P1.prompt + ending]


def test_controls_leave_the_scores_out_exchange_them_or_learn_wrong_chains_too():
    ran, _, judge, pupil = control_r(arm="unconditioned")
    assert ran.prompts_learnt() == [P1.prompt, P1.prompt, P2.prompt] and not judge.calls
    ran.solver([P1])
    assert prompts(pupil) == [P1.prompt]
    ran, _, _, _ = control_r(arm="shuffled")
    first, second, third = ran.prompts_learnt()
    assert first == second == f"{P1.prompt}\n{shown(8)}"
    assert third in [f"{P2.prompt}\n{shown(score)}" for score in (1, 9)]
    ran, _, _, _ = control_r(arm="unfiltered")
    assert ran.prompts_learnt()[3] == f"{P2.prompt}\n{shown(0)}"


def test_the_worlds_annotator_scores_what_it_is_shown():
    ned = "Ned has 19 shells. Then Ned sells 14. How many shells does Ned have now?"
    values = {"prompt": ned, "text": "19 - 14 = 5. The answer is \\boxed{5}."}
    changes = {"prompt": ned.replace("19", "29"), "text": "19 - 14 = 6. \\boxed{6}"}
    assert_answer_depends_on("annotator", ANNOTATE, values, changes)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teacher=world:teacher", "annotator=world:oracle"]
    rows = run_on_world(tmp_path, "control_r", roles=roles, sets=["n=1"]).rows["control_r"]
    assert len(rows) > 3
    assert all("\n<control> search_depth: " in row["prompt"] for row in rows)
