"""Rules and costs go by role and phase: a trained student's second round is training data, its measurement is not."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from potstill.budget.amounts import Limit, limit_names
from potstill.errors import BudgetSpent
from potstill.evaluation.benchmark import evaluate
from potstill.models.model import Sampling
from potstill.models.phase import account_name, in_phase, split_account
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Stage, blank
from potstill.runs.driver import drive
from potstill.runs.open_folder import AnswerRules, open_folder
from potstill.runs.train import SCORED_ROWS, score_rows
from potstill.traces import plain, sample, using
from potstill.training.objective_config import ObjectiveConfig

SUMS = [blank(Problem(f"p{n}", f"What is {n}+1?", str(n + 1), kind="number")) for n in range(4)]
# Half of the answers are longer than eight tokens.
ANSWERS = ["The answer is 3.", "First I think of it for a long while. The answer is 3."]


def two_rounds(problems, student):
    """The student of the first round writes the rows of the second."""
    student = yield Stage(student, sample(student, problems, max_new_tokens=8), "sft")
    yield Stage(student, sample(student, problems, n=2, max_new_tokens=8), "sft")


def run_two_rounds(path: Path, rules: AnswerRules, **settings):
    """The stages of both rounds, the measurement of the last student, and the folder's costs by account."""
    model = ScriptedModel(ANSWERS, name="student")
    stages = []
    with open_folder(path, models={"student": model}, rules=rules, **settings) as folder:

        def train(stage: Stage):
            stages.append(stage)
            made = ScriptedModel(ANSWERS, name=f"trained {len(stages)}")
            return folder.wrap_model(made, stage.model.role, "arm")

        ledger = folder.open_ledger("arm")
        with using(folder.session(ledger, "arm")):
            start = folder.wrap_model(model, "student", "arm")
            solver = drive(two_rounds, SUMS, {"student": start}, {}, train)
            measured = evaluate(
                solver, SUMS, name="arm", n=2, sampling=Sampling(max_new_tokens=8), seed=0
            )
        return stages, measured, folder.store.usage("arm")


def test_cut_answers_are_dropped_in_every_round_and_never_from_a_measurement(tmp_path):
    stages, measured, usage = run_two_rounds(tmp_path, AnswerRules(truncated="drop"))
    assert [stage.errored for stage in stages] == [0, 4]
    assert {row.finish_reason for stage in stages for row in stage.rows} == {"stop"}
    assert [answer.cut for row in measured.rows for answer in row.answers] == [False, True] * 4
    assert set(usage) == {"student", "student/evaluation"}
    assert (usage["student"]["calls"], usage["student/evaluation"]["calls"]) == (12, 8)


def test_a_measurement_asks_for_no_other_answers_than_it_gets(tmp_path):
    _, kept, _ = run_two_rounds(tmp_path / "keep", AnswerRules())
    for policy in ("drop", "continue", "raise", "shorter"):
        _, measured, _ = run_two_rounds(tmp_path / policy, AnswerRules(truncated=policy))
        assert measured.rows == kept.rows, policy


def test_whoever_a_solver_asks_is_measured_by_the_same_rules(tmp_path):
    coder = ScriptedModel(ANSWERS, name="coder")
    with open_folder(
        tmp_path, models={"coder": coder}, rules=AnswerRules(truncated="drop")
    ) as folder:
        wrapped = folder.wrap_model(coder, "coder", "arm")
        measured = evaluate(
            partial(plain, wrapped),
            SUMS,
            name="arm",
            n=2,
            sampling=Sampling(max_new_tokens=8),
            seed=0,
        )
        assert "error" not in measured.statuses()
        assert set(folder.store.usage("arm")) == {"coder/evaluation"}


def test_calls_go_on_unpaid_while_a_run_collects_and_stop_it_while_it_measures(tmp_path):
    model = ScriptedModel(ANSWERS)
    rules = AnswerRules(when_spent="train")
    limits = {"student/collection": Limit(tokens=1), "evaluation": Limit(tokens=1)}
    with open_folder(tmp_path, models={"student": model}, budget=limits, rules=rules) as folder:
        student = folder.wrap_model(model, "student", "arm")
        assert {trace.error.split(":")[0] for trace in plain(student, SUMS)} == {"budget"}
        with in_phase("evaluation"), pytest.raises(BudgetSpent, match="budget of the evaluation"):
            plain(student, SUMS)


def test_a_limit_on_a_role_holds_in_all_phases(tmp_path):
    model = ScriptedModel(ANSWERS)
    limits = {"student": Limit(tokens=1)}
    with open_folder(tmp_path, models={"student": model}, budget=limits) as folder:
        student = folder.wrap_model(model, "student", "arm")
        with in_phase("evaluation"), pytest.raises(BudgetSpent, match="budget of the student"):
            plain(student, SUMS)


def test_accounts_have_names_that_say_role_and_phase():
    assert account_name("teacher", "collection") == "teacher"
    for name in ("teacher", "a/b", "student/evaluation", "a/b/training", "evaluation"):
        assert account_name(*split_account(name)) == name
    assert limit_names("student/evaluation") == ("student/evaluation", "student", "evaluation", "")
    assert limit_names("teacher") == ("teacher/collection", "teacher", "collection", "")


def test_what_is_only_logged_of_the_rows_is_taken_of_a_sample():
    model = ScriptedModel(["-"])
    rows = [dataclasses.replace(SUMS[0], text=f"one {n}") for n in range(3 * SCORED_ROWS)]
    scored = score_rows(Stage(model, rows, "sft"), ObjectiveConfig())
    assert [row.id for row in scored] == [row.id for row in rows]
    places = [place for place, row in enumerate(scored) if "perplexity" in row.scores]
    assert len(places) == len(model.scored) == SCORED_ROWS
    assert places[0] < 20 and places[-1] > 170, "from everywhere in the file"
    turned = score_rows(Stage(model, rows[::-1], "sft"), ObjectiveConfig())
    assert set(turned) == set(scored)
    with_perplexity = {row.id for row in scored if "perplexity" in row.scores}
    assert {row.id for row in turned if "perplexity" in row.scores} == with_perplexity
    assert all("step_count" in row.scores for row in scored), "counted of every row"


def test_the_answers_probability_behind_a_row_without_its_last_line_is_taken_where_it_is_wanted():
    model = ScriptedModel(["-"])
    rows = [dataclasses.replace(SUMS[0], text="1 + 1 = 2.\nSo \\boxed{2}.")]
    [plain_row] = score_rows(Stage(model, rows, "sft"), ObjectiveConfig())
    assert "answer_probability" not in plain_row.scores
    stage = Stage(model, rows, "sft")
    [row] = score_rows(stage, ObjectiveConfig(), answer_probabilities=True)
    assert 0 < row.scores["answer_probability"] <= 1
    assert model.scored[-1].prefix == "1 + 1 = 2.\nThe answer is \\boxed{"
