"""`verify_programs` judges by what a program prints, `run_programs` writes it down: no text of a program answers."""

from __future__ import annotations

from potstill.records import Problem, Trace, learnt_stretches
from potstill.traces import has_failed, run_programs, verify_programs

RIGHT = "def solution():\n    return 2 + 2"
FAILING = "def solution():\n    return 4 + x"


def answer(text, **fields):
    problem = Problem("p1", "What is 2 + 2?", "4", kind="number")
    return Trace(problem, problem.question, text, finish_reason="stop", operator="sample", **fields)


def test_a_program_is_judged_by_what_it_prints_and_stays_the_same_trace():
    traces = [answer(RIGHT), answer(FAILING), answer("It is 4."), answer("", error="down")]
    judged = verify_programs(traces)
    assert [trace.id for trace in judged] == [trace.id for trace in traces]
    statuses = [(trace.verdict.status, trace.verdict.reason) for trace in judged[:3]]
    assert statuses == [
        ("right", "equal (boxed)"),
        ("wrong", "NameError: name 'x' is not defined"),
        ("unparsed", "no program"),
    ]
    assert judged[3] is traces[3]


def test_what_a_program_prints_is_shown_and_not_learnt():
    right, failing = run_programs([answer(RIGHT), answer(FAILING)])
    assert right.text == f"{RIGHT}\n\nThe program prints \\boxed{{4}}." and not has_failed(right)
    assert learnt_stretches(right) == [(0, len(RIGHT))]
    # The 4 in the program is not its answer.
    assert has_failed(failing) and failing.text.endswith("\\boxed{nothing}.")
