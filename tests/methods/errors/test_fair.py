"""FAIR, exactly: what teachers are shown, who reviews whom, what is accepted, and what the learner sees of it."""

from __future__ import annotations

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import ConfigError
from potstill.methods.errors.fair import FEEDBACK, LEARN_FEEDBACK
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.traces.prompts import fill_template
from potstill.world.scripted import teacher_reply


def review_or_teach(request):
    """The world's scripted teacher, who also reviews."""
    return "Score: 5" if "Score: " in render(request.prompt) else teacher_reply(request)


REVIEWERS = {f"teachers.{n}": ScriptedModel(review_or_teach, name=f"teachers.{n}") for n in (1, 2)}
CAST = Cast(models=REVIEWERS, values={"n": 4}, poses=True)
P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
PUPIL = {P1.prompt: "I say \\boxed{9}.", P2.prompt: "I say \\boxed{8}.", P3.prompt: "\\boxed{6}"}


def teacher(name: str, reviews: dict[str, str]) -> ScriptedModel:
    """Explains and solves in its own name, and reviews by the question."""
    answers = {("What mistakes", ""): "unused"}
    for problem in (P1, P2):
        answers["Point out", problem.question] = f"{name} explains {problem.problem.id}."
        answers["colleague", problem.question] = reviews[problem.problem.id]
        answers[problem.question] = f"{name}: \\boxed{{{problem.problem.answer}}}."
    return script(answers, name=name)


def fair(one, two, **values):
    teachers = [teacher("A", one), teacher("B", two)]
    pupil = student(PUPIL)
    return run("fair", [P1, P2, P3], {"teachers": teachers, "student": pupil}, **values), teachers


def test_a_rationale_that_the_other_teacher_accepts_is_learnt_with_a_feedback():
    # A's rationale of p1 is refused by B, whose own is accepted; nobody can read a review of p2.
    ran, teachers = fair({"p1": "Fine.\nScore: 4", "p2": "Great."}, {"p1": "Score: 3", "p2": "Hm"})
    assert sorted(ran.texts()["p1"])[1] == "B: \\boxed{2}." and list(ran.texts()) == ["p1"]
    [feedback] = [row for row in ran.rows if "explains" in row.text]
    values = {"question": P1.question, "answer": "2", "attempt": "I say \\boxed{9}."}
    assert feedback.prompt == fill_template(LEARN_FEEDBACK, values) and feedback.saw_gold
    assert ran.sources(feedback) == [feedback.text, "I say \\boxed{9}."]
    values = {"question": P1.question, "answer": "2", "text": "I say \\boxed{9}."}
    assert prompts(teachers[0])[0] == fill_template(FEEDBACK, values)
    assert [len(model.calls) for model in teachers] == [6, 6]  # of two problems, and two reviews
    assert {call.sampling for call in teachers[0].calls} == {Sampling(0.8, max_new_tokens=512)}
    assert ran.reasons()["is_accepted(3.0)"] == [
        *["its peers' mean score is not above 3"],
        *["no review that can be read"] * 2,
    ]


def test_a_text_that_is_cut_is_no_row_and_the_exam_has_its_own_temperature():
    cut = {"text": "It counts", "finish": "length"}
    answers = {("Point out", P1.question): cut, "Point out": "Twice is four.", "": "\\boxed{4}"}
    one = script(answers)
    pupil = student(PUPIL)
    roles = {"teachers": [one], "student": pupil}
    ran = run("fair", [P1, P2], roles, arm="one-teacher")
    assert list(ran.texts()) == ["p2"] and ran.reasons()["is_finished"] == ["not finished"]
    assert pupil.calls[0].sampling == Sampling(0.3, top_p=0.9, max_new_tokens=512)


def test_the_controls_leave_out_feedback_or_review():
    reviews = {"p1": "Score: 5", "p2": "Score: 5"}
    ran, _ = fair(reviews, reviews, arm="no-feedback")
    assert ran.prompts_learnt() == [P1.prompt, P2.prompt]
    ran, teachers = fair(reviews, reviews, arm="verified")
    assert len(ran.rows) == 4 and not [p for p in prompts(teachers[0]) if "colleague" in p]
    ran, teachers = fair(reviews, reviews, arm="one-teacher", alpha=0.25)
    assert not teachers[1].calls and {row.weight for row in ran.rows} == {0.5, 1.5}
    with pytest.raises(ConfigError, match="nobody can review"):
        run("fair", [P1], {"teachers": teachers[:1], "student": student(PUPIL)})


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    # The world's models neither explain nor review: the oracle's feedback is a right chain, and the verifier accepts.
    teachers = ["teachers=world:oracle", "teachers=world:teacher"]
    ran = run_on_world(tmp_path, "fair", roles=teachers, sets=["arm=verified"])
    [rows] = ran.rows.values()
    feedbacks = [row for row in rows if row["prompt"].startswith("Question: ")]
    assert len(feedbacks) == len(rows) - len(feedbacks) > 0
    assert all("A wrong answer:" in row["prompt"] and row["saw_gold"] for row in feedbacks)
