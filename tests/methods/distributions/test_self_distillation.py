"""OPSD, SDFT and ORION's on-policy arms: what the teacher is shown, and that the student is asked the bare problem."""

from __future__ import annotations

import pytest
from scripted_world import SHORT_TEXTS, run, student

from potstill.methods.errors.orion.prompts import REFLECT, REFLECT_ALONE
from potstill.methods.errors.orion.settings import Settings
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, blank
from potstill.template import fill_template

SUM = blank(Problem("p1", "What is 2 + 2?", "4", kind="number", solution="2 + 2 = 4."))
OTHER = blank(Problem("p2", "What is 3 + 4?", "7", kind="number", solution="3 + 4 = 7."))
BARE = blank(Problem("p3", "What is 5 + 6?", "11", kind="number"))


def pupil():
    return student(["It is \\boxed{4}."], name="student")


def only_stage(method, problems, **values):
    made = pupil()
    ran = run(method, problems, {"student": made}, **values)
    [stage] = ran.stages
    assert stage.model is made and not made.calls and stage.constants["on_policy_fraction"] == 1
    return stage


@pytest.mark.parametrize(
    ("method", "other", "kind", "objective"),
    [
        ("opsd", "other-solution", "base", "jsd"),
        ("sdft", "other-demonstration", "ema", "reverse_kl"),
    ],
)
def test_the_teacher_alone_is_shown_a_solution(method, other, kind, objective):
    stage = only_stage(method, [SUM, OTHER, BARE])
    assert stage.objective == objective and stage.constants["teacher_model_kind"] == kind
    assert [(row.id, row.text) for row in stage.rows] == [(SUM.id, ""), (OTHER.id, "")]
    for row in stage.rows:
        assert row.problem.solution in row.teacher_prompt and row.prompt in row.teacher_prompt
    crossed = only_stage(method, [SUM, OTHER, BARE], arm=other)
    assert "3 + 4 = 7." in crossed.rows[0].teacher_prompt
    assert "2 + 2 = 4." not in crossed.rows[0].teacher_prompt


def test_the_controls_change_the_teacher_or_the_divergence():
    assert only_stage("opsd", [SUM], arm="live-teacher").constants["teacher_model_kind"] == "live"
    assert only_stage("sdft", [SUM], arm="frozen-teacher").constants["teacher_model_kind"] == "base"
    assert only_stage("sdft", [SUM], arm="forward-kl").objective == "forward_kl"


def test_orion_s_teacher_is_shown_the_chain_and_the_student_s_own_errors():
    chains = {SUM.prompt: "Two, two: \\boxed{4}.", OTHER.prompt: "Three, four: \\boxed{7}."}
    wrong = "I lost one finger: \\boxed{3}."
    asked = [
        Rule((wrong, "It is \\boxed{4}."), prompt=SUM.prompt),
        Rule(("So \\boxed{7}.", "So \\boxed{7}."), prompt=OTHER.prompt),
    ]

    def taught(arm):
        made = student(asked, name="student")
        roles = {"teacher": ScriptedModel(chains), "student": made}
        settings = Settings(**SHORT_TEXTS)
        [stage] = run("orion", [SUM, OTHER], roles, settings=settings, arm=arm, n=2).stages
        assert [(row.id, row.text) for row in stage.rows] == [(SUM.id, ""), (OTHER.id, "")]
        assert (stage.objective, stage.constants["teacher_model_kind"]) == ("jsd", "base")
        return [row.teacher_prompt for row in stage.rows]

    def shown(template, trace):
        fields = {"question": trace.question, "text": chains[trace.prompt]}
        return fill_template(template, {**fields, "attempts": f"1. {wrong}"})

    alone = shown(REFLECT_ALONE, OTHER)
    assert taught("on-policy") == [shown(REFLECT, SUM), alone]
    assert taught("on-policy-none") == [shown(REFLECT_ALONE, SUM), alone]
