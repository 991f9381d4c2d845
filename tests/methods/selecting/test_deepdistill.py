"""DeepDistill, exactly: how questions are graded, which responses each stage learns, and what the gates take out."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.methods.selecting.deepdistill import Grading
from potstill.models.scripted import ScriptedModel
from potstill.traces import frequent_phrases, has_no_phrase

ALWAYS, MOSTLY, RARELY, NEVER = (
    number(name, f"What is {n} + {n}?", str(2 * n))
    for n, name in enumerate(("always", "mostly", "rarely", "never"), 1)
)
LINKED = number("linked", "See https://x.org: what is 9 + 9?", "18")
AGAIN = number("again", "What is  1 + 1?", "2")
PROBLEMS = [ALWAYS, MOSTLY, RARELY, NEVER, LINKED, AGAIN]
RESPONSES = {
    "1 + 1": ["\\boxed{2}"] * 4,
    "2 + 2": ["A \\boxed{4}", "B \\boxed{4}", "C \\boxed{4}", "Hm."],
    "3 + 3": ["\\boxed{5}", "\\boxed{6}", {"error": "down"}, "\\boxed{1}"],
    "4 + 4": "\\boxed{1}",
}


def deepdistill(roles=None, **values):
    teacher = script(RESPONSES)
    roles = {"teacher": teacher, "student": student(["never asked"]), **(roles or {})}
    return run("deepdistill", PROBLEMS, roles, **values), teacher


def test_questions_that_are_solved_at_times_are_learnt_and_then_one_response_to_the_hardest():
    ran, teacher = deepdistill()
    assert [stage.name for stage in ran.stages] == ["stage-1", "stage-2"]
    assert {name: sorted(texts) for name, texts in ran.texts(0).items()} == {
        "mostly": ["A \\boxed{4}", "B \\boxed{4}", "C \\boxed{4}"],
        "rarely": ["\\boxed{6}"],
    }
    assert ran.texts(1) == {"rarely": ["\\boxed{6}"]}
    # One of three that did not fail: sigma / mu of (0, 1, 0).
    [row] = ran.rows
    assert row.scores["pass_rate"] == pytest.approx(1 / 3)
    assert row.scores["variation"] == pytest.approx(2**0.5)
    assert ran.sources(row) == [RARELY.question] and len(teacher.calls) == 16


def test_what_is_dropped_says_why():
    reasons = deepdistill()[0].reasons()
    assert reasons["is_clean_question(0.5)"] == ["has a link or a table"]
    assert reasons["question_words"] == [f"same question_words: {ALWAYS.id}"]
    assert [texts for test, texts in reasons.items() if test.startswith("is_varied")] == [
        ["coefficient of variation 0.00, not above 0"] * 4
    ]


def test_graders_are_asked_too_and_only_show_how_hard_a_question_is():
    weak = script({"2 + 2": "\\boxed{4}", "": "\\boxed{0}"}, name="weak")
    ran, _ = deepdistill({"graders": [weak]})
    assert len(weak.calls) == 16
    rates = {row.problem.id: row.scores["pass_rate_of_grader_1"] for row in ran.stages[0].rows}
    assert rates == {"mostly": 1.0, "rarely": 0.0}
    # With the grader's misses in it, also the question that the teacher always solves varies.
    ran, _ = deepdistill({"graders": [weak]}, grading=Grading(responses="all"))
    assert "always" in ran.texts(0)


def test_the_scorer_drops_what_surprises_it():
    scorer = ScriptedModel(["x"], logprobs=lambda passage: [-4.0 if "A" in passage.text else -1.0])
    ran, _ = deepdistill({"scorer": scorer})
    assert sorted(ran.texts(0)["mostly"]) == ["B \\boxed{4}", "C \\boxed{4}"]
    assert ran.reasons()["is_likely(20.0)"] == ["perplexity 54.6, above 20"]


def test_the_controls_learn_all_right_responses_or_as_many_by_chance():
    assert sorted(deepdistill(arm="all-right")[0].texts()) == ["always", "mostly", "rarely"]
    assert len(deepdistill(arm="same-size")[0].rows) == 4
    assert len(deepdistill(arm="stage-1")[0].stages) == 1


def test_a_phrase_that_many_texts_say_is_seen():
    rows = deepdistill()[0].stages[0].rows
    phrases = frequent_phrases(rows, size=1, times=2)
    assert phrases == {("\\boxed{4}",)}
    verdicts = [has_no_phrase(phrases, row)[0] for row in rows]
    assert sorted(verdicts) == [False, False, False, True]


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "deepdistill", roles=["teacher=world:teacher"], sets=[])
    assert set(ran.rows) == {"stage-1", "stage-2"}
    assert len(ran.rows["stage-2"]) <= len(ran.rows["stage-1"])
