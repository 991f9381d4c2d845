"""A rehearsal counts a method's calls and keeps what its models were shown."""

from __future__ import annotations

import pytest

from potstill.methods.catalogue import describe_method, method_entry
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage
from potstill.runs.rehearsal import Rehearsal, rehearse_method
from potstill.traces import nll, pose, sample, score


def test_sft_asks_the_teacher_once_a_problem_and_its_student_once_an_answer():
    rehearsal = rehearse_method(method_entry("sft"))
    assert rehearsal.calls == {"teacher": 1.0} and rehearsal.answer_calls == {"student": 1.0}
    assert [shown.role for shown in rehearsal.shown] == ["teacher", "student"]
    assert rehearsal.cost_class == "low" and not rehearsal.stopped
    assert rehearsal.rows == [("sft", 1.0)]
    assert rehearsal.learner_prompt == rehearsal.shown[0].prompt


def test_orion_shows_the_writer_more_than_the_learner():
    rehearsal = rehearse_method(method_entry("orion"))
    assert rehearsal.calls["student"] > 5 and rehearsal.calls["teacher"] == 1
    prompts = [shown.prompt for shown in rehearsal.shown if shown.role == "student"]
    assert any("Reference solution" in prompt for prompt in prompts)
    assert "Reference" not in rehearsal.learner_prompt and rehearsal.learner_prompt.endswith("now?")


def scores_first(problems, scorer: Scored, student: Trainable, *, n: int = 3):
    """A method that asks thrice, scores what was said, and learns under a prompt of its own."""
    drawn = sample(student, pose("Think. {question}", problems), n=n)
    yield Stage(student, score("nll", nll(scorer), drawn), "sft")


def breaks(problems, teacher: Model, student: Trainable):
    """A method whose answers do not fit."""
    sample(teacher, problems)
    raise ValueError("no such step")
    yield


def test_scores_are_calls_and_posed_prompts_are_what_the_learner_sees():
    rehearsal = rehearse_method(describe_method("scores_first", scores_first), size=4)
    assert rehearsal.calls["student"] == 3 and rehearsal.calls["scorer"] >= 1
    assert rehearsal.learner_prompt.startswith("Think. ")


def test_what_was_asked_before_a_method_broke_still_counts():
    rehearsal = rehearse_method(describe_method("breaks", breaks), size=4)
    assert rehearsal.calls == {"teacher": 1.0} and not rehearsal.answer_calls
    assert rehearsal.stopped == "ValueError: no such step"


@pytest.mark.parametrize(
    ("calls", "cost_class"),
    [
        ({"student": 40}, "none"),
        ({"teacher": 2}, "low"),
        ({"a": 6, "b": 4}, "medium"),
        ({"a": 11}, "high"),
    ],
)
def test_the_cost_class_counts_other_models_than_the_student(calls, cost_class):
    assert Rehearsal(calls, {}, [], "", []).cost_class == cost_class
