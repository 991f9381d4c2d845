"""Synthetic chains, exactly: the teacher's prompt is not the student's, and gold answers decide nothing."""

from __future__ import annotations

from scripted_world import number, prompts, run, script, student

from potstill.methods.chains.synthetic_cot import CHAIN_OF_THOUGHT
from potstill.models.model import Sampling
from potstill.runs.cast import Cast
from potstill.traces import fill_template

# A greedy teacher says the same under every seed.
CAST = Cast(values={"temperature": 0.7})

P1, P2, P3 = (number(f"p{n}", f"What is {n} + 2?", str(n + 2)) for n in (1, 2, 3))
ANSWERS = {"1 + 2": "One more: \\boxed{3}.", "2 + 2": "It is \\boxed{5}.", "": {"error": "down"}}


def synthetic_cot(answers=ANSWERS, **values):
    teacher = script(answers)
    roles = {"teacher": teacher, "student": student(["-"])}
    return run("synthetic_cot", [P1, P2, P3], roles, **values), teacher


def test_chains_are_learnt_under_the_simple_prompt_right_or_not():
    ran, teacher = synthetic_cot()
    assert ran.texts() == {"p1": [ANSWERS["1 + 2"]], "p2": [ANSWERS["2 + 2"]]}
    assert ran.prompts_learnt() == [P1.prompt, P2.prompt]
    assert prompts(teacher)[0] == fill_template(CHAIN_OF_THOUGHT, {"prompt": P1.prompt})
    assert teacher.calls[0].sampling == Sampling(0.0, max_new_tokens=2048)
    assert ran.reasons() == {"is_finished": ["error: down"]} and not ran.rows[0].saw_gold


def test_what_can_not_be_read_is_no_row():
    cut = {"text": "So 2 + 2 = 4", "finish": "length"}
    ran, _ = synthetic_cot({"1 + 2": "One more: \\boxed{3}.", "2 + 2": cut, "": "Hm."})
    assert ran.texts() == {"p1": ["One more: \\boxed{3}."]}
    assert ran.reasons() == {"is_finished": ["not finished"], "is_read": ["no answer can be read"]}


def test_the_controls_learn_answers_alone_the_data_sets_or_right_chains():
    ran, teacher = synthetic_cot(arm="answers")
    assert ran.texts() == {"p1": ["The answer is \\boxed{3}."], "p2": ["The answer is \\boxed{5}."]}
    assert prompts(teacher)[0] == P1.prompt and not ran.rows[0].saw_gold
    assert synthetic_cot(arm="right-only")[0].texts() == {"p1": [ANSWERS["1 + 2"]]}
    ran, teacher = synthetic_cot(arm="gold")
    assert ran.texts()["p3"] == ["The answer is \\boxed{5}."] and not teacher.calls
    assert ran.rows[0].saw_gold
