"""VeriThinker, exactly: what the verifier's rows show, what they say, and how many there are of either kind."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student
from world_run import run_on_world

from potstill.methods.errors.verithinker import RIGHT, VERIFY, WRONG
from potstill.records import learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces.prompts import fill_template

CAST = Cast(poses=True)
P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
SHORT = {
    P1.question: ["\\boxed{4}", "\\boxed{5}", "Hm.", "It is \\boxed{4}."],
    P2.question: ["\\boxed{7}", {"error": "down"}, "\\boxed{1}", "So \\boxed{7}."],
}


def verify(**values):
    solver = script(SHORT)
    return run(
        "verithinker", [P1, P2], {"solver": solver, "student": student(["never asked"])}, **values
    )


def shown(problem, solution: str) -> str:
    return fill_template(VERIFY, {"question": problem.question, "text": solution})


def test_as_many_right_as_wrong_solutions_are_shown_with_their_verdicts():
    ran = verify()
    rows = {row.prompt: row.text for row in ran.rows}
    assert len(rows) == 4 and list(rows.values()).count(f"{RIGHT}\n</think>") == 2
    assert rows[shown(P1, "\\boxed{5}")] == rows[shown(P2, "\\boxed{1}")] == f"{WRONG}\n</think>"
    row = ran.rows[0]
    assert learnt_stretches(row) == [(0, len(row.text))]  # the verdict alone is learnt
    assert ran.reasons()["is_finished"] == ["error: down"]
    assert ran.reasons()["by_chance"] == ["not among the best 2"] * 2


def test_the_controls_change_balance_verdicts_or_what_is_learnt():
    assert len(verify(arm="unbalanced", closing="").rows) == 6
    dealt = verify(arm="shuffled")
    assert {row.prompt for row in dealt.rows} == {row.prompt for row in verify().rows}
    assert {row.prompt: row.text for row in dealt.rows} != {r.prompt: r.text for r in verify().rows}
    short = verify(arm="short-sft")
    assert short.texts() == {
        "p1": ["\\boxed{4}", "It is \\boxed{4}."],
        "p2": ["\\boxed{7}", "So \\boxed{7}."],
    }
    assert short.prompts_learnt() == [P1.prompt] * 2 + [P2.prompt] * 2


def test_a_solution_that_was_sampled_twice_is_one_row():
    solver = script({"": ["It is \\boxed{4}.", "It  is \\boxed{4}.", "\\boxed{5}"]})
    roles = {"solver": solver, "student": student(["never asked"])}
    ran = run("verithinker", [P1], roles, arm="unbalanced", n=3)
    assert len(ran.rows) == 2 and len(ran.reasons()["words"]) == 1


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "verithinker", roles=["solver=world:student"], sets=[])
    [rows] = ran.rows.values()
    verdicts = [row["completion"] for row in rows]
    assert verdicts.count(f"{RIGHT}\n</think>") == verdicts.count(f"{WRONG}\n</think>") > 0
    assert all("Proposed solution:" in row["prompt"] for row in rows)
