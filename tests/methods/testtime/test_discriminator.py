"""The discriminator, exactly: what it is shown, how its verdicts are read and scored, and which candidate wins."""

from __future__ import annotations

import math

import pytest
from scripted_world import number, prompts, run, script
from world_run import calls_on_world

from potstill.errors import ConfigError
from potstill.methods.testtime.discriminator import VERDICT, read_verdict
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.traces import fill_template

P1 = number("p1", "What is 2 + 3?", "5")
TEXTS = [
    "<think>\nHm.\n</think>\nIt is \\boxed{6}.",
    "So \\boxed{5}.",
    "So  \\boxed{5}.",
    "No idea.",
]
SURE, UNSURE, WRONG = '{"correct": true}', 'Good.\n{"correct": "True",}', '{"correct": false}'
PROBABILITY = {" true": 0.6, ' "True': 0.9, " false": 0.8, "Yes": 0.3}


def choose(first=SURE, second=UNSURE, texts=TEXTS, n=1, **values):
    verdicts = {("Determine", "{6}"): f"Thus {first}", ("Determine", "{5}"): f"Thus {second}"}
    judge = script(
        {**verdicts, "Determine": "Hm."},
        logprobs=lambda passage: [math.log(PROBABILITY[passage.text])],
        name="judge",
    )
    writer = ScriptedModel({P1.prompt: texts}, name="writer")
    roles = {"student": judge, "generator": writer}
    ran = run("discriminator", [P1], roles, **({"candidates": 4} | values))
    assert not ran.stages
    return ran.solver([P1], n=n, temperature=0.9), judge, writer


def test_the_surest_candidate_wins_and_equal_or_unanswered_ones_are_not_judged():
    [answer], judge, writer = choose()
    assert answer.text == TEXTS[1] and answer.scores["correct"] == pytest.approx(0.9)
    shown = [
        fill_template(VERDICT, {"question": P1.question, "text": t})
        for t in ("It is \\boxed{6}.", TEXTS[1])
    ]
    assert sorted(prompts(judge)) == sorted(shown)
    assert {call.sampling.temperature for call in writer.calls} == {0.2} and len(writer.calls) == 4
    assert {call.sampling.temperature for call in judge.calls} == {0.0}
    assert {(p.prefix[-11:], p.text) for p in judge.scored} == {
        ('{"correct":', " true"),
        ('{"correct":', ' "True'),
    }


def test_binary_verdicts_tie_and_the_first_text_wins():
    [answer], judge, _ = choose(arm="binary")
    assert answer.text == TEXTS[0] and not judge.scored
    [answer], _, _ = choose(first=WRONG, arm="binary")
    assert answer.text == TEXTS[1]


def test_a_false_verdict_counts_against_and_an_unreadable_one_is_a_half():
    [answer], _, _ = choose(first="I say yes.", second=WRONG)
    assert (answer.text, answer.scores["correct"]) == (TEXTS[0], 0.5)
    [answer], _, _ = choose(first=WRONG, second=WRONG)
    assert answer.scores["correct"] == pytest.approx(0.2)


def test_without_the_check_what_says_no_answer_is_judged_too():
    _, judge, _ = choose(check=False)
    assert len(judge.calls) == 3 and prompts(judge)[-1].endswith("No idea.")


def test_controls_ask_for_a_probability_vote_or_choose_nothing():
    [answer], judge, _ = choose(arm="direct")
    assert answer.scores["correct"] == pytest.approx(0.3) and not judge.calls
    assert {passage.text for passage in judge.scored} == {"Yes"}
    [answer], judge, _ = choose(arm="vote")
    assert answer.text == TEXTS[1] and not judge.calls
    [answer], judge, writer = choose(arm="first")
    assert answer.text == TEXTS[0] and len(writer.calls) == 1 and not judge.calls


def test_the_choices_of_a_question_are_shown():
    problem = blank(Problem("p2", "Which is even?", "B", kind="choice", choices=("3", "4")))
    judge = script({"Determine": WRONG}, logprobs=lambda passage: [-1.0])
    ran = run(
        "discriminator", [problem], {"student": judge, "generator": script({"": "\\boxed{B}"})}
    )
    ran.solver([problem], n=1)
    assert "### Question:\nWhich is even?\nA. 3\nB. 4\n" in prompts(judge)[0]


def test_each_answer_has_candidates_of_its_own_and_failed_ones_are_last():
    answers, _, writer = choose(texts=[TEXTS[0], {"error": "down"}], n=2, candidates=2)
    assert [answer.text for answer in answers] == [TEXTS[0]] * 2 and len(writer.calls) == 4
    answers, judge, _ = choose(texts=[{"error": "down"}], n=2)
    assert [bool(answer.error) for answer in answers] == [True, True] and not judge.calls


def test_soft_scores_want_likelihoods():
    with pytest.raises(ConfigError, match="arm=soft scores by likelihoods"):
        run("discriminator", [P1], {"student": WritesOnly()})


class WritesOnly:
    """A model that gives no likelihoods."""

    id = "writes-only"

    def write(self, requests):
        raise AssertionError("nobody asks it")


def test_the_last_object_with_the_key_is_the_verdict():
    assert read_verdict('{"correct": true} but {"correct": False, "why": "6"}').is_correct is False
    for text in (
        SURE + '{"correct": "unsure"}',
        '{"correct": null}',
        '{"correct": maybe}',
        "true",
        '{"right": true}',
        "{" * 9000,
    ):
        assert read_verdict(text) is None


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """By probabilities alone: no student and no program of the world writes a verdict."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    calls, plain_calls = calls_on_world(
        tmp_path, "discriminator", sets=["arm=direct", "candidates=2"]
    )
    assert plain_calls == 1 and 3 <= calls <= 4  # equal candidates are scored once
