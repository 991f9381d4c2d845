"""Tokens and cost of an answer are those of the whole solver: drafts, votes, plans, scorers, by role."""

from __future__ import annotations

import json
from functools import partial

import pytest
from fault_commands import FAULTS

from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.metrics import mean_tokens, usage_per_answer
from potstill.evaluation.results import Cost, Results
from potstill.evaluation.rows import Evaluation, Row
from potstill.evaluation.table import usage_table
from potstill.models.model import Completion, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Tokens, blank
from potstill.report.page import render_page
from potstill.store import Store, with_cache
from potstill.traces import best, each, nll, plain, pose, sample, score
from potstill.traces.keys import problem

SUMS = [blank(Problem(f"p{n}", f"What is {n}+{n}?", str(2 * n), kind="number")) for n in range(3)]
ANSWER = "it is \\boxed{4}"  # three tokens
CASE = FAULTS / "cases" / "core-tokens-of-two-calls" / "expected.json"


def draft_then_answer(model, problems, *, n=1, **sampling):
    drafts = sample(model, problems, n=n, **sampling)
    return sample(model, drafts, prompt="{question} A draft: {text}", **sampling)


def vote(model, problems, *, n=1, k=9, **sampling):
    """The first of k votes; eight of nine answers are seen by nobody."""
    voters = [answer for _ in range(n) for answer in problems]
    return each(partial(first_of, model, k=k, sampling=sampling), voters)


def first_of(model, traces, *, k, sampling):
    return sample(model, traces, n=k, **sampling)[:1]


def surprise(trace):
    return trace.scores["nll"]


def likeliest(scorer, model, problems, *, n=1, **sampling):
    """Of four candidates an answer, the one that another model finds likeliest."""
    answers = []
    for index in range(n):
        tried = sample(model, problems, n=4, sample_index=index, **sampling)
        answers += best(surprise, score("nll", nll(scorer), tried), by=problem)
    return answers


def plan_then_solve(planner, model, problems, *, n=1, **sampling):
    plans = sample(planner, pose("Plan: {question}", problems), **sampling)
    return sample(model, pose("{question} {text}", plans), n=n, **sampling)


def measured(solver, n: int = 2) -> Evaluation:
    return evaluate(solver, SUMS, name="arm", n=n, sampling=Sampling(max_new_tokens=20), seed=0)


def test_both_calls_of_an_answer_count():
    evaluation = measured(partial(draft_then_answer, ScriptedModel([ANSWER])))
    assert mean_tokens(evaluation).value == 6
    [used] = usage_per_answer(evaluation).values()
    assert (used.calls, used.completion_tokens) == (2, 6)


@pytest.mark.skipif(not CASE.is_file(), reason=f"no collected faults: {CASE} is absent")
def test_the_collected_case():
    case = json.loads(CASE.read_text("utf-8"))
    solver = partial(draft_then_answer, ScriptedModel(case["script"]))
    assert mean_tokens(measured(solver)).value == case["expected"]["tokens"]


def test_nine_votes_cost_nine_times_one():
    model = ScriptedModel([ANSWER])
    one, nine = (measured(partial(vote, model, k=k)) for k in (1, 9))
    assert mean_tokens(nine).value == 9 * mean_tokens(one).value == 27
    [used] = usage_per_answer(nine).values()
    assert used.calls == 9
    assert [answer.tokens for answer in nine.rows[0].answers] == [3, 3], "of the texts themselves"


def test_roles_are_told_apart_and_shared_plans_count_once(store):
    planner, coder = (
        with_cache(ScriptedModel([text], name=role), store, role=role, arm="a", seed=0)
        for role, text in (("planner", "add them up now"), ("coder", ANSWER))
    )
    evaluation = measured(partial(plan_then_solve, planner, coder), n=4)
    usage = usage_per_answer(evaluation)
    assert (usage["planner"].calls, usage["coder"].calls) == (0.25, 1)
    assert mean_tokens(evaluation).value == 3 + 4 / 4
    assert [row["an answer takes of"] for row in usage_table([evaluation])] == ["coder", "planner"]
    page = render_page(
        Results("", 0, evaluations={"arm": evaluation}, costs={"arm": {"a": Cost()}})
    )
    assert "What an answer takes" in page and "planner" in page


def test_a_scorer_inside_a_solver_counts(store):
    scorer = with_cache(ScriptedModel(["-"], name="s"), store, role="scorer", arm="a", seed=0)
    answers = ScriptedModel([f"{word} {ANSWER}" for word in "abcd"])
    usage = usage_per_answer(measured(partial(likeliest, scorer, answers), n=1))
    assert usage["scorer"].calls == 4 and usage["scorer"].prompt_tokens == 4 * 4


def priced(request) -> Completion:
    return Completion(ANSWER, tokens=Tokens(10, 3), cost=0.1 + 0.2 * (request.sample_index % 2))


def test_a_run_that_goes_on_counts_the_same_money(tmp_path):
    told = []
    for _ in range(2):
        with Store.open(tmp_path) as store:
            model = with_cache(ScriptedModel(priced), store, role="m", arm="a", seed=0)
            told.append(measured(partial(vote, model, k=8)))
    assert told[0].rows == told[1].rows
    assert usage_per_answer(told[0])["m"].cost == pytest.approx(8 * 0.2)
    assert usage_table(told[:1])[0]["cost"] == "1.6 USD"


def test_usage_survives_the_file_and_old_files_have_none():
    row = measured(partial(draft_then_answer, ScriptedModel([ANSWER]))).rows[0]
    assert Row.from_json(row.to_json()) == row
    old = {name: value for name, value in row.to_json().items() if name != "usage"}
    assert Row.from_json(old).tokens == 6, "of two answers, as their texts say"


def test_failed_calls_take_tokens_and_are_no_answers():
    def fails_at_times(request):
        if request.sample_index:
            return Completion("", "", Tokens(5, 4), error="timeout: 600 s")
        return ANSWER

    evaluation = measured(partial(plain, ScriptedModel(fails_at_times)))
    assert mean_tokens(evaluation).value == 7


def test_the_fingerprint_names_every_model_that_was_asked():
    planner, coder = ScriptedModel(["add"], name="planner"), ScriptedModel([ANSWER], name="coder")
    run = measured(partial(plan_then_solve, planner, coder), n=4).fingerprint.run
    assert run["models"].split() == sorted([planner.id, coder.id])
