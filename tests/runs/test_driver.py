"""drive: stages to students to a solver, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
from fakes import Book, Fake, Judge, Trainer, sums

from potstill import verifiers
from potstill.errors import ConfigError, StageError
from potstill.models.model import Completion
from potstill.records import Stage, Trace
from potstill.runs.driver import describe, drive
from potstill.traces import (
    Session,
    each,
    keep,
    plain,
    pose,
    problem,
    right,
    sample,
    using,
    verify,
    wrong,
)
from potstill.traces.session import current_session


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    fake = Judge()
    for name in ("judge", "steps", "version", "read", "equal"):
        monkeypatch.setattr(verifiers, name, getattr(fake, name), raising=False)


def two_stages(problems, teacher, student, *, n=2):
    base = student
    student = yield Stage(base, sample(teacher, problems, n=n), "sft")
    yield Stage(base, sample(student, problems, n=n), "sft", beta=0.1)


def another_model(problems, student, mentor):
    mentor = yield Stage(mentor, sample(mentor, problems), "sft")
    assert mentor.id != "student"
    yield Stage(student, sample(mentor, problems), "divergence", teacher=mentor)


def critic_last(problems, student, critic):
    student = yield Stage(student, sample(student, problems), "sft")
    critic = yield Stage(critic, sample(student, problems), "sft")
    yield Stage(critic, sample(critic, problems), "sft", beta=0.2)


def two_trained(problems, planner, coder):
    planner = yield Stage(planner, sample(planner, problems), "sft")
    yield Stage(coder, sample(planner, problems), "sft")


def pipeline(problems, student, coder, *, n=1):
    student = yield Stage(student, sample(coder, problems), "sft")
    return partial(plan_then_code, student, coder, n=n)


def plan_then_code(planner, coder, problems, *, n):
    return sample(coder, pose("{question} Plan: {text}", sample(planner, problems, n=n)))


def test_the_last_student_is_the_solver():
    trainer = Trainer()
    solver = drive(
        two_stages,
        sums(3),
        {"teacher": Fake("t", 1.0), "student": Fake("student")},
        {"n": 3},
        trainer,
    )
    first, second = trainer.stages
    assert (first.model.id, second.model.id) == ("student", "student"), (
        "the second starts from the base again"
    )
    assert len(first.rows) == 9 and second.constants == {"beta": 0.1}
    assert {row.author.model for row in second.rows} == {trainer.kept[first.key({})].id}
    student = trainer.kept[second.key({})]
    assert describe(solver) == {
        "name": "potstill.traces.generation.plain",
        "arguments": {"0": {"model": student.id}},
    }
    assert [t.id for t in solver(sums(3), n=2)] == [t.id for t in plain(student, sums(3), n=2)]


def test_of_several_trained_roles_the_student_is_the_solver():
    trainer = Trainer()
    roles = {"student": Fake("student"), "critic": Fake("critic")}
    solver = drive(critic_last, sums(2), roles, {}, trainer)
    [policy, *_] = trainer.kept.values()
    assert solver.args == (policy,)


def test_of_several_trained_roles_without_a_student_one_must_be_named():
    roles = {"planner": Fake("planner"), "coder": Fake("coder")}
    with pytest.raises(
        StageError, match=r"several roles \(planner, coder\) and returned no solver"
    ):
        drive(two_trained, sums(2), roles, {}, Trainer())


def test_a_stage_is_on_an_explicit_model():
    trainer = Trainer()
    solver = drive(
        another_model, sums(2), {"student": Fake("student"), "mentor": Fake("mentor")}, {}, trainer
    )
    assert [stage.model.id for stage in trainer.stages] == ["mentor", "student"]
    assert solver.args[0] is trainer.kept[trainer.stages[1].key({})]


def test_a_returned_solver_may_be_a_pipeline_of_models():
    trainer = Trainer()
    solver = drive(
        pipeline, sums(3), {"student": Fake("student"), "coder": Fake("coder")}, {"n": 2}, trainer
    )
    [student] = trainer.kept.values()
    answers = solver(sums(3))
    assert len(answers) == 6 and {t.author.model for t in answers} == {"coder"}
    assert describe(solver) == {
        "name": "test_driver.plan_then_code",
        "arguments": {"0": {"model": student.id}, "1": {"model": "coder"}, "n": 2},
    }


def selective(problems, teacher, student):
    yield Stage(student, keep(right, verify(sample(teacher, problems, n=2))), "sft")


def test_a_stage_without_rows_names_the_method_and_the_last_drops():
    book = Book()
    with using(Session(book, book)), pytest.raises(StageError) as caught:
        drive(selective, sums(5), {"teacher": Fake("t", 0.0), "student": Fake("s")}, {}, Trainer())
    assert (
        "selective yielded a stage without rows; dropped before it: keep right: 10 (wrong)"
        in str(caught.value)
    )
    assert len(book.drops) == 10, "the session's own ledger has them too"


class Limited(Fake):
    """A model whose calls all fail in the same way."""

    error = "rate: 429 too many"

    def write(self, requests):
        return [Completion("", "", error=self.error) for _ in requests]


def test_failed_calls_are_named_and_the_cure_is_to_ask_again():
    with pytest.raises(StageError) as caught:
        drive(selective, sums(5), {"teacher": Limited("t"), "student": Fake("s")}, {}, Trainer())
    assert "dropped before it: keep right: 10 (error: rate)" in str(caught.value)
    assert "--retry-errors" in caught.value.fix and "stronger" not in caught.value.fix


def test_prompts_beyond_the_context_are_cured_by_shorter_ones():
    long = Limited("t")
    long.error = "context: a prompt of 900 tokens leaves no room in 512 positions"
    with pytest.raises(StageError) as caught:
        drive(selective, sums(5), {"teacher": long, "student": Fake("s")}, {}, Trainer())
    assert "dropped before it: keep right: 10 (error: context)" in str(caught.value)
    assert "longer than the model's context" in caught.value.fix
    assert caught.value.fix.endswith("--retry-errors does not help")


def test_cut_off_answers_are_cured_by_a_larger_limit():
    cut = Limited("t")
    cut.error = "length: cut off after 10 tokens"
    with pytest.raises(StageError) as caught:
        drive(selective, sums(5), {"teacher": cut, "student": Fake("s")}, {}, Trainer())
    assert (
        "keep right: 10 (error: length)" in str(caught.value)
        and "--truncated raise" in caught.value.fix
    )


def test_drops_are_counted_since_the_last_stage():
    with pytest.raises(StageError) as caught:
        drive(
            then_nothing, sums(2), {"teacher": Fake("t", 0.0), "student": Fake("s")}, {}, Trainer()
        )
    assert "dropped before it: nothing" in str(caught.value)


def then_nothing(problems, teacher, student):
    drafts = sample(teacher, problems)
    keep(right, verify(drafts))
    student = yield Stage(student, drafts, "sft")
    yield Stage(student, [], "sft")


def corrected(problems, teacher, student):
    """Learns from errors, without a check of its own."""
    chains = keep(right, verify(sample(teacher, problems)))
    errors = keep(wrong, verify(sample(student, problems)))
    yield Stage(student, [*chains, *errors], "sft")


def corrected_in_groups(problems, teacher, student):
    """The same search on each problem: what `each` keeps is no line of the funnel."""
    errors = each(keep_wrong, verify(sample(student, problems)), by=problem)
    yield Stage(student, [*sample(teacher, problems), *errors], "sft")


def keep_wrong(traces):
    return keep(wrong, traces)


def test_a_method_that_learns_from_errors_trains_nothing_where_there_are_none():
    trainer = Trainer()
    roles = {"teacher": Fake("t", 1.0), "student": Fake("s", 1.0)}
    with pytest.raises(StageError) as caught:
        drive(corrected, sums(4), roles, {}, trainer, name="arm-7")
    assert caught.value.found == (
        "arm-7 learns from errors, and none of 4 attempts is wrong (4 right)"
    )
    assert "ORION" not in str(caught.value) and not trainer.stages


def test_errors_that_are_chosen_inside_each_are_not_taken_for_none():
    trainer = Trainer()
    roles = {"teacher": Fake("t", 1.0), "student": Fake("s", 0.5)}
    drive(corrected_in_groups, sums(8), roles, {}, trainer)
    assert len(trainer.stages[0].rows) > 8


def only_failures(problems, student):
    yield Stage(student, sample(student, problems), "sft")


def test_a_stage_of_failures_has_no_rows():
    with pytest.raises(StageError, match="without rows; 4 rows were failed generations"):
        drive(only_failures, sums(4), {"student": Fake("s", failing=1.0)}, {}, Trainer())


def no_stage(problems, student):
    return
    yield


def baseline(problems, student):
    return partial(plain, student)
    yield


def lam(problems, student):
    return lambda problems: problems
    yield


def closure(problems, student):
    def solve(problems):
        return sample(student, problems)

    return partial(solve)
    yield


def bound(problems, student):
    return student.write
    yield


def not_a_method(problems, student):
    return [Stage(student, problems, "sft")]


def yields_traces(problems, student):
    yield problems


def closure_reward(problems, student):
    scale = len(problems)

    def reward(trace):
        return scale

    yield Stage(student, sample(student, problems), "policy", reward=reward)


@pytest.mark.parametrize(
    ("method", "error", "says"),
    [
        (no_stage, StageError, "no_stage ended without a stage and without a solver"),
        (lam, ConfigError, "the solver is lam.<locals>.<lambda>, a closure"),
        (closure, ConfigError, "the solver is closure.<locals>.solve, a closure"),
        (bound, ConfigError, "the solver is Fake.write, a closure, lambda or method"),
        (not_a_method, ConfigError, "not_a_method is no method"),
        (yields_traces, ConfigError, "yields_traces yielded list"),
        (
            closure_reward,
            ConfigError,
            "the constant reward of a stage is closure_reward.<locals>.reward, a closure",
        ),
    ],
)
def test_refusals(method, error, says):
    with pytest.raises(error) as caught:
        drive(method, sums(2), {"student": Fake("s")}, {}, Trainer())
    assert says in str(caught.value) and caught.value.expected


def test_a_baseline_trains_nothing():
    trainer = Trainer()
    solver = drive(baseline, sums(2), {"student": Fake("s")}, {}, trainer)
    assert not trainer.stages and len(solver(sums(2), n=3)) == 6


def test_a_method_that_breaks_is_not_a_method_that_ends():
    with pytest.raises(RuntimeError, match="generator raised StopIteration"):
        drive(stops, sums(2), {"student": Fake("s")}, {}, Trainer())

    def broken_training(stage):
        raise StopIteration("in the trainer")

    with pytest.raises(StopIteration, match="in the trainer"):
        drive(
            two_stages, sums(1), {"teacher": Fake("t"), "student": Fake("s")}, {}, broken_training
        )


def stops(problems, student):
    next(iter([]))
    yield Stage(student, problems, "sft")


def test_the_session_is_as_before():
    before = current_session()
    drive(two_stages, sums(1), {"teacher": Fake("t"), "student": Fake("s")}, {}, Trainer())
    with pytest.raises(StageError):
        drive(only_failures, sums(1), {"student": Fake("s", failing=1.0)}, {}, Trainer())
    assert current_session() == before


def test_8_percent_failures_train_no_errored_row():
    trainer = Trainer(failing=0.08)
    roles = {"teacher": Fake("t", failing=0.08), "student": Fake("s", failing=0.08)}
    drive(two_stages, sums(60), roles, {"n": 2}, trainer)
    assert [stage.errored > 0 for stage in trainer.stages] == [True, True]
    assert all(len(stage.rows) + stage.errored == 120 for stage in trainer.stages)
    assert not any(
        isinstance(row, Trace) and row.error for stage in trainer.stages for row in stage.rows
    )
