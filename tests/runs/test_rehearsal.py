"""A rehearsal counts a method's calls and keeps what its models were shown."""

from __future__ import annotations

import pytest

from potstill.methods import METHODS
from potstill.methods.catalogue import describe_method, method_entry
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Problem, Stage, blank
from potstill.runs import rehearsal
from potstill.runs.rehearsal import Rehearsal, rehearse_method
from potstill.traces import keep, nll, pose, sample, score


def test_sft_asks_the_teacher_once_a_problem_and_its_student_once_an_answer():
    found = rehearse_method(method_entry("sft"))
    assert found.calls == {"teacher": 1.0} and found.answer_calls == {"student": 1.0}
    assert [shown.role for shown in found.shown] == ["teacher", "student"]
    assert found.cost_class == "low" and not found.stopped
    assert found.rows == [("sft", 1.0)]
    assert found.learner_prompts == [(found.shown[0].prompt, 1.0)]


def test_orion_shows_the_writer_more_than_the_learner():
    found = rehearse_method(method_entry("orion"))
    assert found.calls["student"] > 5 and found.calls["teacher"] == 1
    prompts = [shown.prompt for shown in found.shown if shown.role == "student"]
    assert any("A right solution:" in prompt for prompt in prompts)
    [learner] = found.learner_prompts
    assert "solution" not in learner.prompt and learner.prompt.endswith("now?")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_package_is_rehearsed_to_its_end(name):
    # A stand-in passes each of mathq_verify's five checks half of the time: of four stories none passes all. Of one
    # story puzzle_warm_up makes 45 puzzles.
    size = {"mathq_verify": 64, "puzzle_warm_up": 1}.get(name, 4)
    found = rehearse_method(method_entry(name), size=size)
    # A rehearsal's problems are stories, without programs and demonstrations: these two say where they stopped.
    stopped = {
        "opencodereasoning": "no whole block of code",
        "redis": "learns rules of demonstrations",
    }
    if name in stopped:
        assert stopped[name] in found.stopped
        return
    if name == "sparks":
        assert "learns gold queries, and none of 4 problems has one" in found.stopped
        return
    assert not found.stopped and found.answer_calls
    # What is a solver alone has no rows that a learner would see.
    assert found.learner_prompts or method_entry(name).family == "testtime"


def test_a_method_whose_rows_nobody_is_asked_for_has_no_calls():
    """The problems' own solutions, or what the student writes in the training."""
    for name in ("sft_gold", "nover"):
        assert not rehearse_method(method_entry(name), size=4).calls


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
    found = rehearse_method(describe_method("scores_first", scores_first), size=4)
    assert found.calls["student"] == 3 and found.calls["scorer"] >= 1
    [learner] = found.learner_prompts
    assert learner.prompt.startswith("Think. ")


def test_what_was_asked_before_a_method_broke_still_counts():
    found = rehearse_method(describe_method("breaks", breaks), size=4)
    assert found.calls == {"teacher": 1.0} and not found.answer_calls
    assert found.stopped == "ValueError: no such step"


def test_what_learners_see_is_told_by_the_words_before_the_question():
    rows = [
        blank(Problem(f"p{n}", f"Sum {n}?", "1"), f"{before}Sum {n}?")
        for n, before in enumerate(("", "Fix: ", ""))
    ]
    prompts = rehearsal.learner_prompts(rows, ["Sum 0?", "Sum 1?", "Sum 2?"])
    assert [(prompt, round(share, 2)) for prompt, share in prompts] == [
        ("Sum 0?", 0.67),
        ("Fix: Sum 1?", 0.33),
    ]


def wants_long_answers(problems, teacher: Model, student: Trainable):
    """A method that takes answers of a thousand letters."""
    yield Stage(student, keep(is_long, sample(teacher, problems, n=2)), "sft")


def is_long(trace):
    return len(trace.text) > 1000


def test_a_method_whose_defaults_are_for_long_answers_is_rehearsed_with_stand_ins():
    found = rehearse_method(describe_method("wants_long_answers", wants_long_answers), size=4)
    assert found.calls == {"teacher": 2.0} and not found.stopped


def never_ends(problems, student: Trainable):
    """A method that asks until an answer pleases it."""
    while True:
        sample(student, problems)
    yield


def test_a_search_without_an_end_is_stopped(monkeypatch):
    monkeypatch.setattr(rehearsal, "MAX_CALLS", 20)
    stopped = rehearse_method(describe_method("never_ends", never_ends), size=4).stopped
    assert stopped == "20 calls for 4 problems, and no end in sight"


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
    assert Rehearsal(calls, {}, [], [], []).cost_class == cost_class
    stopped = Rehearsal({}, {}, [], [], [], stopped="no demonstrations")
    assert stopped.cost_class == "unknown"
