"""Re-distillation, exactly: who is trained from where, on what, and who is sampled."""

from __future__ import annotations

from fakes import Book
from scripted_world import number, run, script, student

from potstill.methods import METHODS
from potstill.models.model import Sampling
from potstill.runs.driver import drive
from potstill.traces import Session, using

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
TEACHER = {"2 + 2": "Long: \\boxed{4}.", "": "Long: \\boxed{7}."}


def redistill(policy, teacher=TEACHER, **values):
    """The stages, with a student that each training makes another model."""
    base = student(["never asked"], name="base")
    trained = {
        "sft": student(["\\boxed{0}"], name="after-sft"),
        "grpo": script(policy, name="after-rl"),
    }
    stages = []

    def train(stage):
        stages.append(stage)
        return trained[stage.objective]

    book = Book()
    with using(Session(book, book)):
        roles = {"teacher": script(teacher), "student": base}
        drive(METHODS["redistill"], [P1, P2], roles, values, train)
    return stages, base, trained, book


def test_the_untrained_student_learns_the_right_greedy_samples_of_the_reinforced_one():
    stages, base, trained, book = redistill({"2 + 2": "Mine: \\boxed{4}.", "": "Mine: \\boxed{1}."})
    cold, reinforced, last = stages
    assert (cold.model, reinforced.model, last.model) == (base, trained["sft"], base)
    assert sorted(row.text for row in cold.rows) == sorted(TEACHER.values())
    assert reinforced.objective == "grpo" and [row.text for row in reinforced.rows] == ["", ""]
    assert [row.text for row in last.rows] == ["Mine: \\boxed{4}."]
    assert {request.sampling for request in trained["grpo"].calls} == {
        Sampling(0.0, max_new_tokens=4096)
    }
    assert not base.calls and [drop.reason for drop in book.drops] == ["wrong: 1 is not 7 (boxed)"]


def test_only_the_problems_of_the_first_training_are_sampled_again_and_no_chain_is_cut():
    cut = {"text": "Long: \\boxed{7}.", "finish": "length"}
    stages, _, trained, book = redistill({"": "\\boxed{4}"}, teacher={**TEACHER, "": cut})
    assert [len(stage.rows) for stage in stages] == [1, 2, 1] and len(trained["grpo"].calls) == 1
    assert [drop.reason for drop in book.drops] == ["not finished"]


def test_the_constants_are_the_released_scripts():
    stages, *_ = redistill({"": "\\boxed{4}"})
    settings = stages[1].constants
    assert (settings["num_generations"], settings["clip"], settings["beta"]) == (8, 0.2, 0.0)
    assert (settings["rollout_temperature"], settings["learning_rate"]) == (0.7, 5e-6)
    for stage in (stages[0], stages[2]):
        assert dict(stage.constants) == {
            "num_train_epochs": 2,
            "learning_rate": 1e-5,
            "warmup_steps": 0.0,
        }


def test_the_controls_stop_earlier_or_leave_the_reinforcement_out():
    assert [stage.objective for stage in redistill({"": "-"}, arm="long-cot")[0]] == ["sft"]
    assert [stage.objective for stage in redistill({"": "-"}, arm="rl")[0]] == ["sft", "grpo"]
    pupil = student(["Own: \\boxed{4}."])
    ran = run("redistill", [P1], {"teacher": script(TEACHER), "student": pupil}, arm="without-rl")
    assert [stage.objective for stage in ran.stages] == ["sft", "sft"]
    assert ran.texts() == {"p1": ["Own: \\boxed{4}."]}


def test_at_most_so_many_rows_are_learnt():
    stages, *_ = redistill({"2 + 2": "\\boxed{4}", "": "\\boxed{7}"}, rows=1)
    assert [len(stage.rows) for stage in stages] == [1, 2, 1]
