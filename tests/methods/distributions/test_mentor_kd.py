"""Mentor-KD, exactly: who writes which rationales, and by what the mentor and the student learn them."""

from __future__ import annotations

from scripted_world import number, run, script, student

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")


def mentor_kd(**values):
    models = {
        "teacher": script({P1.question: "Two twice: \\boxed{4}.", P2.question: "So \\boxed{8}."}),
        "mentor": student({P1.prompt: "It is \\boxed{4}.", P2.prompt: ["\\boxed{7}", "Hm."]}),
        "student": student(["no"]),
    }
    return run("mentor_kd", [P1, P2], models, n=2, **values), models


def test_the_mentor_learns_the_teachers_right_chains_and_the_student_all_right_ones():
    ran, models = mentor_kd()
    first, second = ran.stages
    assert (first.name, first.model, first.objective) == ("mentor", models["mentor"], "sft")
    assert [row.text for row in first.rows] == ["Two twice: \\boxed{4}."] * 2
    assert (second.name, second.model, second.objective) == (
        *("student", models["student"]),
        "forward_kl",
    )
    assert second.constants == {"teacher": models["mentor"], "kd": 0.3, "temperature": 2.0}
    assert sorted(row.text for row in second.rows) == [
        *("It is \\boxed{4}.", "It is \\boxed{4}."),
        *("Two twice: \\boxed{4}.", "Two twice: \\boxed{4}.", "\\boxed{7}"),
    ]
    assert len(models["teacher"].calls) == 4 and len(models["mentor"].calls) == 4
    assert not models["student"].calls
    dropped = dict(ran.dropped("right"))
    assert dropped["Hm."].startswith("unparsed") and len(dropped) == 2


def test_each_control_leaves_one_part_out():
    ran, models = mentor_kd(arm="no-augmentation")
    assert len(ran.rows) == 2 and ran.stages[1].objective == "forward_kl"
    assert not models["mentor"].calls
    ran, _ = mentor_kd(arm="no-soft-labels")
    assert len(ran.rows) == 5 and ran.stages[1].objective == "sft"
    ran, models = mentor_kd(arm="teacher-texts")
    [stage] = ran.stages
    assert stage.model is models["student"] and len(stage.rows) == 2
