"""Calls in a training are counted: rollouts, a teacher that reads, a scorer on a server, a judge of rollouts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from potstill.budget.amounts import Limit
from potstill.errors import BudgetSpent, StageError
from potstill.models.model import Completion, Request
from potstill.models.phase import in_training
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Stage, Tokens, blank
from potstill.runs.open_folder import open_folder
from potstill.runs.train import stage_keywords
from potstill.runs.training_host import FolderHost
from potstill.store.admin.journal import read_entries
from potstill.traces import using
from potstill.training.host import NO_HOST, TrainingSampling
from potstill.training.settings import TrainingSettings

ROLES = {"student": "student", "teacher": "teacher"}
JUDGED = [(Problem(f"j{n}", f"Why {n}?", kind="judge"), f"Because {n}.") for n in range(3)]


def rollouts(*places: str) -> list[Request]:
    return [Request("q", sampling=TrainingSampling(max_new_tokens=8, place=p)) for p in places]


def answers(count: int) -> list[Completion]:
    return [Completion("a b", tokens=Tokens(5, 2))] * count


def ask(host: FolderHost, requests: list[Request]) -> None:
    with in_training("student-1"), host.asking(requests) as came:
        came += answers(len(requests))


def test_a_rollout_is_a_call_of_its_place_and_one_that_is_made_again_is_paid_again(tmp_path):
    with open_folder(tmp_path) as folder:
        host = FolderHost(folder, "student-1", "arm", roles=ROLES)
        for _ in range(2):  # the second time after a resume
            ask(host, rollouts("0/0/0", "0/0/1"))
        usage = folder.store.usage("arm")["student/training"]
        assert (usage["calls"], usage["completion_tokens"]) == (2, 4)
        assert folder.store.attempts.spent_by_role()["student/training"].tokens == 4 * 7
        texts = [entry.reply for entry in read_entries(folder.store)]
        assert texts == ["a b"] * 4


def test_an_arm_that_finds_the_student_needed_its_training_too(tmp_path):
    with open_folder(tmp_path) as folder:
        ask(FolderHost(folder, "student-1", "first", roles=ROLES), rollouts("0/0/0"))
        FolderHost(folder, "student-1", "second", roles=ROLES).record_use()
        FolderHost(folder, "student-2", "third", roles=ROLES).record_use()
        assert folder.store.usage("second")["student/training"]["calls"] == 1
        assert folder.store.usage("third") == {}


def test_rollouts_stop_at_the_budget_before_they_are_made(tmp_path):
    with open_folder(tmp_path, budget={"student": Limit(tokens=400)}) as folder:
        host = FolderHost(folder, "student-1", "arm", roles=ROLES)
        ask(host, rollouts("0/0/0"))
        with pytest.raises(BudgetSpent, match="budget of the student is spent"):
            ask(host, rollouts("1/0/0", "1/0/1", "1/0/2"))
        assert not folder.budget.reserved_by_role()[""].tokens


def test_the_runs_judge_judges_rollouts_and_is_counted(tmp_path):
    judge = ScriptedModel(["Verdict: right"])
    with open_folder(tmp_path, models={"judge": judge}) as folder:
        ledger = folder.open_ledger("arm")
        host = FolderHost(folder, "student-1", "arm", roles=ROLES)
        number = (Problem("n", "1+1?", "2", kind="number"), "It is 3.")
        with using(folder.session(ledger, "arm")), in_training("student-1"):
            verdicts = host.judge([JUDGED[0], number, *JUDGED[1:]])
        assert [verdict.status for verdict in verdicts] == ["right", "wrong", "right", "right"]
        assert folder.store.usage("arm")["judge/training"]["calls"] == 3


def test_without_a_judge_rewards_that_need_one_are_refused():
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from potstill.training.rollout.rewards import Rewards

    problems = [problem for problem, _ in JUDGED]
    with pytest.raises(StageError, match="a model has to judge 3 of the problems"):
        Rewards(None, NO_HOST).check(problems)
    Rewards("form", NO_HOST).check(problems)


def test_every_teacher_of_a_stage_is_asked_behind_the_store(tmp_path):
    teacher = ScriptedModel(["-"], name="t")
    rows = [dataclasses.replace(blank(JUDGED[0][0]), text="a")]
    with open_folder(tmp_path, models={"mentor": teacher}) as folder:
        student = folder.wrap_model(ScriptedModel(["-"], name="s"), "student", "arm")
        kinds = {"mentor": "mentor", "a model": teacher, "a student": student, "a path": tmp_path}
        roles = {}
        for name, given in kinds.items():
            stage = Stage(student, rows, "opd", teacher=given)
            keywords = stage_keywords(folder, stage, TrainingSettings(), "arm")
            roles[name] = getattr(keywords["teacher"], "role", None)
    assert roles == {
        "mentor": "mentor",
        "a model": "teacher",
        "a student": "student",
        "a path": None,
    }


def train(path: Path, checkpoint: Path, objective: str, arm: str = "arm", **keywords):
    """Train a stage of three problems in a run folder; the arm's costs."""
    from potstill.runs.train import train_stage

    problems = [Problem(f"p{n}", f"What is {n}+1?", str(n + 1), kind="number") for n in range(3)]
    rows = [dataclasses.replace(blank(p), text=f"It is {p.answer}.") for p in problems]
    settings = TrainingSettings(max_steps=2, batch_size=2)
    limits = keywords.pop("budget", {})
    with open_folder(path, budget=limits, threads=1) as folder:
        ledger = folder.open_ledger(arm)
        student = folder.wrap_model(
            ScriptedModel(["-"], weights=checkpoint, name="s"), "learner", arm
        )
        with using(folder.session(ledger, arm)):
            stage = Stage(student, rows, objective, **keywords)
            trained = train_stage(folder, stage, settings, arm=arm, ledger=ledger)
        assert trained.role == "learner", "what it writes in a later round is the learner's"
        ledger.finish()
        return folder.store.usage(arm)


GRPO = {
    "on_policy_fraction": 1.0,
    "num_generations": 2,
    "max_new_tokens": 4,
    "reward": lambda problem, text: float(len(text) % 3),
}


@pytest.mark.slow
def test_rollouts_of_a_training_are_in_the_costs_and_stay_there(tmp_path, tiny_checkpoint):
    usage = train(tmp_path, tiny_checkpoint, "grpo", **GRPO)["learner/training"]
    # Two completions of each prompt, two of them in the first step; and the student is evaluated twice on all three.
    assert usage["calls"] == 2 * 3 + 2 * 3
    assert 0 < usage["completion_tokens"] <= 4 * usage["calls"]
    assert train(tmp_path, tiny_checkpoint, "grpo", **GRPO)["learner/training"] == usage
    other = train(tmp_path, tiny_checkpoint, "grpo", arm="other", **GRPO)["learner/training"]
    assert other["calls"] == other["reused"] == usage["calls"]


@pytest.mark.slow
def test_a_training_that_stopped_at_its_budget_goes_on_with_a_larger_one(tmp_path, tiny_checkpoint):
    limits = {"learner": Limit(tokens=1)}
    with pytest.raises(BudgetSpent, match="budget of the learner"):
        train(tmp_path, tiny_checkpoint, "grpo", budget=limits, **GRPO)
    whole = train(tmp_path, tiny_checkpoint, "grpo", **GRPO)
    assert whole == train(tmp_path / "other", tiny_checkpoint, "grpo", **GRPO)


@pytest.mark.slow
def test_a_local_teacher_reads_what_the_student_is_trained_on(tmp_path, tiny_checkpoint):
    usage = train(tmp_path, tiny_checkpoint, "forward_kl", teacher=tiny_checkpoint)
    assert usage["teacher-weights/training"]["calls"] == 2
    assert usage["teacher-weights/training"]["prompt_tokens"] > 40
    assert usage["teacher-weights/training"]["completion_tokens"] == 0
