"""System 2 distillation, exactly: what is asked, what must agree, and what is left of it."""

from __future__ import annotations

from scripted_world import NOWHERE, number, prompts, run, script

from potstill.methods.rewriting.system2 import FIRST_STEPS, RESPOND, THINK
from potstill.runs.cast import Cast
from potstill.traces import fill_template

# A weak student seldom agrees with itself.
CAST = Cast(values={"n": 4, "min_agreement": 0.3})

P1, P2, P3 = (number(f"p{n}", f"What is {n} + 2?", str(n + 2)) for n in (1, 2, 3))
WAYS = ["One way to ask it.", "Another way.", "A third way.", "A fourth way."]
REPLIES = {
    "1 + 2": ["It is \\boxed{3}.", "So \\boxed{3.0}", "\\boxed{3}", "Hm, \\boxed{8}."],
    "2 + 2": ["\\boxed{5}", "\\boxed{4}", {"error": "down"}, "Hm."],
    "3 + 2": ["\\boxed{6}"] * 4,
}
ANSWERS = {"Rephrase": WAYS}
for question, replies in REPLIES.items():
    for way, reply in zip(WAYS, replies, strict=True):
        ANSWERS[way, question] = reply


def system2(answers=ANSWERS, problems=(P1, P2, P3), **values):
    pupil = script(answers, weights=NOWHERE)
    return run("system2", list(problems), {"student": pupil}, **{"n": 4, **values}), pupil


def test_the_answer_on_which_most_samples_agree_is_the_row_right_or_not():
    ran, pupil = system2()
    assert ran.texts() == {"p1": ["The answer is \\boxed{3}."], "p3": ["The answer is \\boxed{6}."]}
    assert ran.prompts_learnt() == [P1.prompt, P3.prompt]
    assert len(pupil.calls) == 4 * 3 * 2 and not any(row.saw_gold for row in ran.rows)
    shown = {str(prompt) for prompt in prompts(pupil)}
    assert fill_template(FIRST_STEPS["rephrase"], {"question": P1.question}) in shown
    values = {"prompt": P1.prompt, "text": "One way to ask it."}
    assert fill_template(RESPOND["rephrase"], values) in shown
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["error: down"]
    assert reasons["has_answer"] == ["no answer can be read"]
    # Of the samples, those without an answer too.
    assert reasons["is_agreed(0.75)"] == ["25% agree, where 75% must"]


def test_the_controls_filter_nothing_ask_at_once_or_learn_gold_answers():
    assert list(system2(arm="unfiltered")[0].texts()) == ["p1", "p2", "p3"]
    ran, pupil = system2({"alone": "\\boxed{3}"}, arm="system1")
    assert len(pupil.calls) == 12 and list(ran.texts()) == ["p1", "p2", "p3"]
    ran, pupil = system2(arm="gold")
    assert ran.texts()["p2"] == ["The answer is \\boxed{4}."] and not pupil.calls
    assert ran.rows[0].saw_gold


def test_the_procedures_ask_in_their_own_words():
    ran, pupil = system2({"step by step": "1 + 2 = 3. \\boxed{3}"}, [P1], procedure="think")
    assert set(prompts(pupil)) == {fill_template(THINK, {"prompt": P1.prompt})}
    assert ran.texts() == {"p1": ["The answer is \\boxed{3}."]}
    answers = {"without opinions": "What is one and two?", "": "\\boxed{3}"}
    ran, pupil = system2(answers, [P1], procedure="attention")
    assert ran.texts() == {"p1": ["The answer is \\boxed{3}."]}
    # What was left out is not shown again.
    assert fill_template(RESPOND["attention"], {"text": "What is one and two?"}) in prompts(pupil)
    assert not any("1 + 2" in str(shown) for shown in prompts(pupil)[4:])


def test_what_is_thought_before_a_rephrasing_is_not_shown_with_it():
    answers = {"Rephrase": "<think>\nHm.\n</think>\nAdd 1 and 2.", "in other words": "\\boxed{3}"}
    _, pupil = system2(answers, [P1])
    values = {"prompt": P1.prompt, "text": "Add 1 and 2."}
    assert fill_template(RESPOND["rephrase"], values) in prompts(pupil)
