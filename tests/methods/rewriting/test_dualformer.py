"""Dualformer, exactly: what each level drops, how modes begin, and what is measured."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from scripted_world import number, prompts, run, script, student

from potstill.methods.reasoning_sentences import step_starts
from potstill.methods.rewriting.dualformer import BEGINNINGS, drop_sentences
from potstill.records import learnt_stretches
from potstill.traces import segment

P1, P2 = number("p1", "What is 2 + 3 + 4?", "9"), number("p2", "What is 3 + 4?", "7")
SENTENCES = ["I begin.", "2 + 3 = 6.", "Wait, no.", "2 + 3 = 5.", "Check: 5 - 3 = 2.", "5 + 4 = 9."]
CHAIN = f"<think>\n{' '.join(SENTENCES)}\n</think>\nIt is \\boxed{{9}}."
FAST = "<think></think>\nIt is \\boxed{9}."


def drop(level, *, seed=0, any_kind=False, text=CHAIN):
    [trace] = segment(step_starts, [replace(P1, text=text)])
    return drop_sentences(trace, level, Random(seed), any_kind=any_kind)


def slow(*sentences):
    return f"<think>\n{' '.join(sentences)}\n</think>\nIt is \\boxed{{9}}."


def test_each_level_drops_more_kinds_than_the_one_before():
    assert drop(0) == CHAIN
    assert drop(1) == slow("I begin.", "2 + 3 = 5.", "5 + 4 = 9.")
    assert drop(2) == slow("2 + 3 = 5.", "5 + 4 = 9.")
    assert drop(4) == FAST
    thinned = {drop(3, seed=seed) for seed in range(40)}
    assert {slow("2 + 3 = 5."), slow("5 + 4 = 9."), slow("2 + 3 = 5.", "5 + 4 = 9.")} <= thinned
    assert any("Check" in drop(3, seed=seed, any_kind=True) for seed in range(9))


def test_a_chain_without_tags_gets_them():
    plain = "2 + 3 = 5. 5 + 4 = 9.\nIt is \\boxed{9}."
    assert drop(0, text=plain) == slow("2 + 3 = 5.", "5 + 4 = 9.")
    assert drop(0, text="\\boxed{9}") == "<think></think>\n\\boxed{9}"


def dualformer(**values):
    teacher = script({"2 + 3": CHAIN, "": {"text": "It is \\boxed{7}.", "finish": "length"}})
    pupil = student(["<think></think>\n\\boxed{9}"])
    return run("dualformer", [P1, P2], {"teacher": teacher, "student": pupil}, **values), pupil


def test_the_copies_of_a_right_chain_are_rows_each_wording_once():
    ran, _ = dualformer(copies=40)
    assert list(ran.texts()) == ["p1"] and len(ran.rows) == len({row.text for row in ran.rows})
    assert {CHAIN, FAST, slow("2 + 3 = 5.", "5 + 4 = 9.")} <= set(ran.texts()["p1"])
    assert ran.reasons()["is_finished"] == ["not finished"]
    for row in ran.rows:
        assert row.prompt == P1.prompt and ran.sources(row) == [CHAIN]
        assert learnt_stretches(row) == [(0, len(row.text))] and row.finish_reason == "stop"


def test_the_controls_drop_nothing_or_all():
    assert dualformer(arm="complete")[0].texts() == {"p1": [CHAIN]}
    assert dualformer(arm="answer-only")[0].texts() == {"p1": [FAST]}


def test_the_student_is_measured_in_the_mode_that_its_answer_begins_with():
    for mode, beginning in BEGINNINGS.items():
        ran, pupil = dualformer(mode=mode)
        assert len(ran.solver([P1, P2], n=2)) == 4
        assert {request.prefix for request in pupil.calls} == {beginning}
        assert prompts(pupil)[0] == P1.prompt
