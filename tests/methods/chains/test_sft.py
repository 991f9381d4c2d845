"""Teacher SFT, exactly."""

from __future__ import annotations

import pytest
from scripted_world import number, run, student

from potstill.errors import StageError
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
SCRIPT = {
    P1.prompt: ["It is \\boxed{4}.", "It is \\boxed{5}.", "Four: \\boxed{4}.", "Hm."],
    P2.prompt: [{"error": "down"}, "It is \\boxed{7}."],
}


def sft(**values):
    teacher, pupil = ScriptedModel(SCRIPT), student(["never asked"])
    return run("sft", [P1, P2], {"teacher": teacher, "student": pupil}, **values), teacher, pupil


def test_every_right_chain_of_the_teacher_is_a_row_as_it_stands():
    ran, _, pupil = sft(n=4)
    assert [(t.problem.id, t.text, t.prompt) for t in ran.rows] == [
        ("p1", "It is \\boxed{4}.", P1.prompt),
        ("p1", "Four: \\boxed{4}.", P1.prompt),
        ("p2", "It is \\boxed{7}.", P2.prompt),
        ("p2", "It is \\boxed{7}.", P2.prompt),
    ]
    [stage] = ran.stages
    assert (stage.model, stage.objective, stage.constants, stage.errored) == (
        pupil,
        "sft",
        {},
        0,
    )
    assert [t.parents for t in ran.rows] == [(P1.id,), (P1.id,), (P2.id,), (P2.id,)]
    assert (
        len({t.id for t in ran.rows}) == 4
    )  # equal words of two draws are two rows: the teacher said it twice
    assert not pupil.calls


def test_what_is_not_right_is_in_the_ledger_with_its_reason():
    ran, _, _ = sft(n=4)
    assert ran.dropped("right") == [
        ("", "error: down"),
        ("", "error: down"),
        ("Hm.", "unparsed: no number (last line)"),
        ("It is \\boxed{5}.", "wrong: 5 is not 4 (boxed)"),
    ]
    assert ran.book.steps == [
        ("sample", ran.rows[0].author.model, 2, 8),
        ("verify", "number@4", 8, 8),
        ("keep", "right", 8, 4),
    ]


def test_the_teacher_is_asked_n_times_with_the_given_settings():
    _, teacher, _ = sft()
    assert [(r.prompt, r.sample_index, r.sampling) for r in teacher.calls] == [
        (p.prompt, 0, Sampling(0.6, max_new_tokens=32768)) for p in (P1, P2)
    ]
    _, teacher, _ = sft(n=4, temperature=0.0, max_new_tokens=9)
    assert [r.sample_index for r in teacher.calls] == [0, 1, 2, 3] * 2
    assert {r.sampling for r in teacher.calls} == {Sampling(0.0, max_new_tokens=9)}


def test_no_right_chain_is_an_error_that_names_the_method_and_what_was_dropped():
    with pytest.raises(
        StageError,
        match=r"sft yielded a stage without rows; dropped before it: keep right: 2 \(wrong\)",
    ):
        run("sft", [P1, P2], {"teacher": ScriptedModel(["\\boxed{0}"]), "student": student(["-"])})


def test_step_checking_on_problems_without_a_step_verifier_says_so():
    with pytest.raises(StageError, match="no steps judged"):
        sft(steps=True)
