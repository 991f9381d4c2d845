"""`evaluate` on the world's stories with solvers that are plain functions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from potstill.errors import ConfigError, InputError
from potstill.evaluation import metrics
from potstill.evaluation.benchmark import collect_rows, evaluate
from potstill.evaluation.compare import compare
from potstill.evaluation.rows import Answer, Evaluation, Row
from potstill.models.model import Request, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Author, Problem, Tokens, Trace, blank
from potstill.store.cached_model import with_cache
from potstill.store.store import Store
from potstill.traces import plain, pose, verify

STORY = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
STORIES = [Problem(f"s{i}", STORY, "10", "story") for i in range(3)]
TEXTS = {
    "sound": "19 - 14 = 5. 5 * 2 = 10. \\boxed{10}",
    "lucky": "19 - 14 = 6. 5 * 2 = 10. \\boxed{10}",
    "wrong": "19 - 14 = 5. 5 * 2 = 11. \\boxed{11}",
    "silent": "I do not know.",
}


def written(problem: Trace, text: str, sample_index: int, **changes: object) -> Trace:
    made = Trace(
        problem.problem,
        problem.prompt,
        text,
        finish_reason="stop",
        author=Author("scripted-1", "shown", (), sample_index),
        parents=(problem.id,),
        operator="sample",
        tokens=Tokens(20, len(text.split())),
    )
    return replace(made, **changes)


def scripted(
    problems: list[Trace], *, plan: tuple[str, ...], n: int = 0, **sampling: object
) -> list[Trace]:
    return [written(p, TEXTS[kind], draw) for p in problems for draw, kind in enumerate(plan)]


def failing(problems: list[Trace], **asked: object) -> list[Trace]:
    return [written(p, "", 0, error="time-out", finish_reason="") for p in problems]


def short(problems: list[Trace], **asked: object) -> list[Trace]:
    return scripted(problems, plan=("sound", "wrong"))[:-1]


def run(
    *plan: str, problems: list[Problem] | list[Trace] | None = None, **changes: object
) -> Evaluation:
    settings = {
        "name": "arm",
        "n": len(plan),
        "sampling": Sampling(temperature=0.7),
        "seed": 0,
        **changes,
    }
    return evaluate(
        partial(scripted, plan=plan), STORIES if problems is None else problems, **settings
    )  # type: ignore[arg-type]


def test_rows_hold_every_draw_with_its_verdict_steps_and_tokens() -> None:
    found = run("sound", "lucky", "wrong", "silent")
    assert [row.problem for row in found.rows] == ["s0", "s1", "s2"]
    assert found.rows[0].answers == (
        Answer("right", "10", True, 11, ballot=0),
        Answer("right", "10", False, 11, ballot=0),
        Answer("wrong", "11", False, 11, ballot=1),
        Answer("unparsed", None, False, 4),
    )
    assert (found.rows[0].right, found.rows[0].steps_right, found.rows[0].count("unparsed")) == (
        2,
        1,
        1,
    )
    steps = metrics.step_accuracy(found)
    assert metrics.average(found).value == 0.5 and steps is not None and steps.value == 0.25


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("gold", "majority"), [("1/4", 1.0), ("0.5", 0.0), ("7", 0.0)])
def test_the_majority_is_of_what_the_verifier_calls_equal(
    gold: str, majority: float, order: int
) -> None:
    texts = ["A: 0.25", "A: 1/4", "A: 25%", "A: 0.5", "A: 0.5"][::order]
    problems = [blank(Problem("n", "How much?", gold, "number"))]
    answers = [
        Trace(problems[0].problem, "How much?", text=text, operator="sample") for text in texts
    ]
    [row] = collect_rows(problems, verify(answers))
    assert metrics.majority_share(row) == majority
    older = row.to_json()
    del older["draws"]["ballot"]
    assert [answer.answer for answer in Row.from_json(older).answers] == [
        answer.answer for answer in row.answers
    ]


def test_a_kind_without_step_verifier_has_no_step_accuracy() -> None:
    found = run("sound", problems=[Problem("n", "19 - 14, doubled?", "10", "number")])
    assert found.rows[0].answers[0].steps is None
    assert metrics.step_accuracy(found) is None


def test_failed_generations_are_counted_not_lost() -> None:
    found = evaluate(failing, STORIES, name="arm", n=1, sampling=Sampling(), seed=0)
    assert found.statuses() == {"error": 3}
    assert metrics.average(found).value == 0.0
    assert metrics.mean_tokens(found).value == 0.0


def test_a_solver_must_return_every_draw() -> None:
    with pytest.raises(
        ConfigError, match=r"returned 1 answers for problem 's2' \(1 problems off\)"
    ):
        evaluate(short, STORIES, name="arm", n=2, sampling=Sampling(), seed=0)


def test_problems_without_gold_without_any_and_twice_are_refused() -> None:
    with pytest.raises(InputError, match="no answer could be judged"):
        run("sound", problems=[Problem("a", STORY, None, "story")])
    with pytest.raises(InputError, match="no problems"):
        run("sound", problems=[])
    with pytest.raises(InputError, match=r"occur more than once, e\.g\. 's0'"):
        run("sound", problems=[STORIES[0], STORIES[0]])


def test_what_defines_the_task_moves_its_fingerprint_and_the_model_does_not() -> None:
    base = run("sound", "wrong").fingerprint
    assert base.task["verifiers"] == "story@1" and base.task["n"] == "2"
    assert base.run["models"] == "scripted-1" and base.run["solver"] == "scripted"
    assert run("wrong", "wrong", seed=1).fingerprint.differs(base) == ()
    assert run("sound", "wrong", threads=2).fingerprint.id != base.id
    changed = {
        "problems": run(
            "sound", "wrong", problems=[*STORIES[:2], replace(STORIES[2], answer="11")]
        ),
        "prompts": run(
            "sound", "wrong", problems=[blank(p, f"Solve: {p.question}") for p in STORIES]
        ),
        "sampling": run("sound", "wrong", sampling=Sampling(temperature=0.6)),
        "n": run("sound", "wrong", "wrong"),
    }
    assert {name: e.fingerprint.differs(base) for name, e in changed.items()} == {
        name: (name,) for name in changed
    }


def test_the_solver_is_called_with_what_the_fingerprint_says() -> None:
    """n, sampling and seed are bound by evaluate: nobody can record others than those that were used."""
    requests: list[Request] = []

    def answer(request: Request) -> str:
        requests.append(request)
        return TEXTS["sound"]

    model = ScriptedModel(answer)
    sampling = Sampling(temperature=0.3, max_new_tokens=77)
    found = evaluate(
        partial(plain, model), STORIES, name="arm", n=2, sampling=sampling, seed=5, threads=1
    )
    assert {(r.sampling, r.seed) for r in requests} == {(sampling, 5)}
    assert len(requests) == 2 * len(STORIES)
    assert found.fingerprint.run["seed"] == "5" and found.fingerprint.task["n"] == "2"
    assert '"temperature":0.3' in found.fingerprint.task["sampling"]


def test_a_store_of_another_seed_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        model = with_cache(ScriptedModel(["\\boxed{10}"]), store, role="student", arm="arm", seed=1)
        with pytest.raises(ConfigError, match=r"session has seed 5, and the store of .* seed 1"):
            evaluate(partial(plain, model), STORIES, name="arm", n=1, sampling=Sampling(), seed=5)


def test_equal_evaluations_are_equal_and_compare_to_nothing() -> None:
    assert run("sound", "wrong") == run("sound", "wrong")
    assert not compare(run("sound", "wrong"), run("wrong", "sound")).distinguishable


def test_draws_of_one_plan_share_a_group() -> None:
    def planned(problems: list[Trace], **asked: object) -> list[Trace]:
        return [
            written(
                p, TEXTS["sound" if plan == 1 else "wrong"], draw, parents=(f"{p.id}-plan-{plan}",)
            )
            for p in problems
            for plan in range(3)
            for draw in range(2)
        ]

    found = evaluate(planned, STORIES, name="arm", n=6, sampling=Sampling(), seed=0)
    assert metrics.count_by_plan(found.rows[0]) == [(2, 0), (2, 2), (2, 0)]
    assert metrics.solve_at(found, 1, 2).value == pytest.approx(1 / 3)
    assert metrics.solve_at(found, 2, 1).value == pytest.approx(2 / 3)


def test_json_round_trip() -> None:
    found = run("sound", "lucky", "wrong", "silent")
    assert Evaluation.from_json(found.to_json()) == found


def one_draw_for_all(model: ScriptedModel, problems: list[Trace], *, n: int) -> list[Trace]:
    return [trace for trace in plain(model, problems) for _ in range(n)]


def test_an_evaluation_says_where_answers_repeat_one_draw() -> None:
    model = ScriptedModel([TEXTS["sound"], TEXTS["wrong"]])
    how = {"name": "arm", "n": 2, "sampling": Sampling(), "seed": 0}
    repeated = evaluate(partial(one_draw_for_all, model), STORIES[:1], **how)
    assert [answer.is_repeat for answer in repeated.rows[0].answers] == [False, True]
    assert repeated.repeat_note().startswith("arm: 1 of 2 answers repeat another draw")
    assert Evaluation.from_json(repeated.to_json()) == repeated
    older = repeated.to_json()
    for row in older["rows"]:
        del row["draws"]["is_repeat"]
    assert Evaluation.from_json(older).repeats == 0
    assert evaluate(partial(plain, model), STORIES[:1], **how).repeat_note() == ""
    greedy = evaluate(
        partial(plain, ScriptedModel([TEXTS["sound"]])),
        STORIES[:1],
        **{**how, "sampling": Sampling(temperature=0.0)},
    )
    assert greedy.repeats == 1, "all greedy answers are one"


class Voting:
    """A solver that is an object."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, problems: list[Trace], **asked: object) -> list[Trace]:
        return scripted(problems, plan=("sound",) * self.k)[: len(problems)]


def voting(k: int):
    def solver(problems: list[Trace], **asked: object) -> list[Trace]:
        return scripted(problems, plan=("sound",) * k)[: len(problems)]

    return solver


def with_default(k: int):
    def solver(problems: list[Trace], *, votes: int = k, **asked: object) -> list[Trace]:
        return scripted(problems, plan=("sound",) * votes)[: len(problems)]

    return solver


def votes_bound(problems: list[Trace], k: int, **asked: object) -> list[Trace]:
    return scripted(problems, plan=("sound",) * k)[: len(problems)]


@pytest.mark.parametrize(
    "make",
    [Voting, voting, with_default, lambda k: partial(votes_bound, k=k)],
    ids=["instance", "closure", "default", "partial"],
)
def test_every_value_of_a_solver_is_in_its_fingerprint(make) -> None:  # type: ignore[no-untyped-def]
    def fingerprint(k: int) -> str:
        return evaluate(
            make(k), STORIES[:1], name="arm", n=1, sampling=Sampling(), seed=0
        ).fingerprint.id

    assert fingerprint(3) != fingerprint(5) and fingerprint(3) == fingerprint(3)


def test_values_of_a_partial_can_be_read_in_the_fingerprint() -> None:
    found = run("sound", "wrong").fingerprint
    solver = partial(votes_bound, k=3)
    bound = evaluate(solver, STORIES[:1], name="arm", n=1, sampling=Sampling(), seed=0)
    assert bound.fingerprint.run["solver_values"] == '{"k":"3"}'
    assert found.run["solver_values"] == "{}", "a list is in solver_code alone"


def test_the_prompt_that_a_solver_poses_is_in_the_fingerprint() -> None:
    model = ScriptedModel([TEXTS["sound"]])

    def posed(words: str) -> str:
        solver = partial(solve_posed, model, words)
        return evaluate(
            solver, STORIES[:1], name="arm", n=1, sampling=Sampling(), seed=0
        ).fingerprint.run["learner_prompts"]

    assert posed("Think. {question}") != posed("Be brief. {question}")


def solve_posed(
    model: ScriptedModel, prompt: str, problems: list[Trace], **asked: object
) -> list[Trace]:
    return plain(model, pose(prompt, problems), **asked)  # type: ignore[arg-type]
