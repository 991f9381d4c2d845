"""Self-training on the student's own right samples, exactly."""

from __future__ import annotations

from scripted_world import number, run, student

from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.traces import words

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
SCRIPT = {
    P1.prompt: [
        "It is \\boxed{4}.",
        "It  is\n\\boxed{4}. ",
        "Four: \\boxed{4}.",
        "It is \\boxed{5}.",
    ],
    P2.prompt: ["It is \\boxed{4}.", {"error": "down"}, "Hm.", "It is \\boxed{7}."],
}


def test_the_students_distinct_right_samples_are_the_rows():
    pupil = student(SCRIPT)
    ran = run("rft", [P1, P2], {"student": pupil})
    assert [(t.problem.id, t.text) for t in ran.rows] == [
        ("p1", "It is \\boxed{4}."),
        ("p1", "Four: \\boxed{4}."),
        ("p2", "It is \\boxed{7}."),
    ]
    assert [t.prompt for t in ran.rows] == [P1.prompt, P1.prompt, P2.prompt]
    assert [t.parents for t in ran.rows] == [(P1.id,), (P1.id,), (P2.id,)]
    assert ran.dropped("words") == [("It  is\n\\boxed{4}. ", f"same words: {ran.rows[0].id}")]
    assert [(r.sample_index, r.sampling) for r in pupil.calls] == [
        (d, Sampling(0.7, max_new_tokens=32768)) for d in (0, 1, 2, 3)
    ] * 2
    assert ran.stages[0].model is pupil


def test_equal_words_on_two_problems_are_two_rows():
    one, two = (blank(Problem(name, f"{name}?", "4", kind="number")) for name in "ab")
    ran = run("rft", [one, two], {"student": student(["It is \\boxed{4}."])}, n=2)
    assert [t.problem.id for t in ran.rows] == ["a", "b"]
    assert words(ran.rows[0]) == ("a", "It is \\boxed{4}.")


def test_another_sampler_stands_in_for_the_student_who_is_still_the_one_trained():
    pupil, sampler = student(["never asked"]), ScriptedModel(SCRIPT)
    ran = run("rft", [P1, P2], {"student": pupil, "sampler": sampler}, n=1)
    assert [(t.text, t.author.model) for t in ran.rows] == [("It is \\boxed{4}.", sampler.id)]
    assert ran.stages[0].model is pupil and not pupil.calls


def test_step_checking_keeps_samples_whose_steps_are_right():
    question = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
    sound, lucky = "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}", "19 - 14 = 6. 6 * 2 = 10. \\boxed{10}"
    asked = blank(Problem("s", question, "10", kind="story"))
    pupil = student([lucky, sound])
    loose = run("rft", [asked], {"student": pupil}, n=2, steps=False)
    assert [t.text for t in loose.rows] == [lucky, sound]
    assert [t.text for t in run("rft", [asked], {"student": pupil}, n=2).rows] == [sound]
