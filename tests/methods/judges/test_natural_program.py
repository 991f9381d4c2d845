"""Natural Program, exactly: what a check shows of a chain, how steps and chains vote, and what is learnt."""

from __future__ import annotations

import pytest
from scripted_world import ORACLE, number, prompts, run, script, student
from world_run import run_on_world

from potstill.methods.judges.natural_program.statements import read_statements
from potstill.runs.cast import Cast

CAST = Cast(models={"teacher": ORACLE, "verifier": ORACLE}, values={"n": 2, "votes": 1}, poses=True)
P1 = number("p1", "Ann has 2 pens and buys 2. How many?", "4")


def program(total: int, answer: int) -> str:
    return (
        "#1. Ann has 2 pens.\n#2. She buys 2.\n#3. How many?\n"
        f"#4. (by #1-#2) She has 2 + 2 = {total}.\n#5. (by #3, #4) The answer is \\boxed{{{answer}}}."
    )


RIGHT, SLIP, RARE = program(4, 4), program(5, 5), program(6, 6)
# Two chains of either answer, a rare one, one without an answer, and one that is no program.
CHAINS = [SLIP, RIGHT, SLIP, RIGHT, RARE, "Hm.", "So \\boxed{5}.", {"error": "down"}]
YES, NO = "All three hold.\nyes", 'Yes, it is grounded. But 2 + 2 is 4.\nSo it is "no".'


def check(verifier=None, chains=CHAINS, **values):
    verifier = script(verifier or {"2 + 2 = 5": NO, "": YES})
    teacher = script({"": chains})
    roles = {"teacher": teacher, "student": student([RIGHT]), "verifier": verifier}
    return run("natural_program", [P1], roles, n=len(chains), **values), verifier


def test_chains_whose_every_step_is_right_elect_the_answer():
    ran, verifier = check()
    assert ran.texts() == {"p1": [RIGHT, RIGHT]} and set(ran.prompts_learnt()) == {P1.prompt}
    reasons = ran.reasons()
    assert reasons["has_frequent_answer"] == ["a rare answer: of 1 chains"]
    assert reasons["has_answer"] == ["no answer can be read"]
    [invalid] = [texts for test, texts in reasons.items() if test.startswith("is_valid")]
    assert invalid == ["its statements can't be read", *["step 1 is not valid to the verifier"] * 2]
    # Three votes on each step; behind a failed one nobody asks.
    assert len(verifier.calls) == 3 * (2 + 2 + 2)
    last = next(prompt for prompt in prompts(verifier) if "The answer is \\boxed{4}" in prompt)
    assert '"How many?\nShe has 2 + 2 = 4."' in last and "buys" not in last


def test_the_controls_check_whole_chains_or_none():
    ran, verifier = check(arm="whole")
    assert len(verifier.calls) == 3 * 5 and sorted(set(ran.texts()["p1"])) == [RIGHT]
    assert f"Solution:\n{SLIP}" in prompts(verifier)[0]
    ran, verifier = check(arm="vote")
    assert set(ran.texts()["p1"]) == {SLIP, "So \\boxed{5}."} and not verifier.calls
    ran, verifier = check(arm="answers")
    assert ran.texts() == {"p1": [RIGHT, RIGHT]} and not verifier.calls


def test_a_check_that_agrees_with_the_vote_is_what_a_verifier_learns():
    replies = [NO, YES, NO]
    ran, _ = check({"2 + 2 = 5": replies, "": YES}, learns="checks", chains=[SLIP, RIGHT])
    assert sorted(ran.texts()["p1"]) == sorted([NO, YES, YES])
    assert all("Based on the given information alone" in prompt for prompt in ran.prompts_learnt())
    ran, _ = check({"2 + 2 = 5": replies, "": YES}, learns="both", chains=[SLIP, RIGHT])
    assert len(ran.rows) == 4


@pytest.mark.parametrize(
    "reply", ["Yes and no.", {"error": "down"}, {"text": "yes", "finish": "length"}, ""]
)
def test_a_reply_without_yes_or_no_is_no_vote_for_a_step(reply):
    ran, _ = check({"2 + 2 = 4": [reply, reply, YES], "": YES}, chains=[SLIP, RIGHT])
    assert ran.texts() == {"p1": [SLIP]}


def test_what_has_no_grounds_is_no_program():
    for text in (
        "2 + 2 = 4, so \\boxed{4}.",
        "#1. Ann has 2.\n#2. So \\boxed{4}.",
        "#1. (by #1) It is \\boxed{4}.",
        "#1. Ann has 2.\n#3. (by #1) \\boxed{4}",
        "#1. Ann has 2.\n#2. (by #3) \\boxed{4}",
        "#1. Ann has 2.\n#2. (by #1) It is 4.\n#3. And she is rich.",
        "#1. Ann has 2.\n#2. (by heart) It is 4.",
    ):
        assert read_statements(text) is None, text


def test_a_program_is_read_behind_the_thought():
    [first, second] = read_statements(
        "<think>#1. x</think>Here:\n#1. Ann has 2.\n#2. (by #1) 4\nBye."
    )
    assert (first.premises, second.premises, second.text) == ((), (1,), "4\nBye.")


def test_the_trained_student_votes_by_chains_that_it_finds_valid():
    pupil = student(
        [
            {"pattern": "given information alone[^=]*2 \\+ 2 = 5", "answers": [NO]},
            {"pattern": "given information alone", "answers": [YES]},
            {"answers": [SLIP, SLIP, RIGHT]},
        ]
    )
    roles = {"teacher": script({"": [RIGHT]}), "student": pupil, "verifier": script({"": YES})}
    for answer_by, texts in {"verified": [RIGHT], "vote": [SLIP], "plain": [SLIP]}.items():
        ran = run("natural_program", [P1], roles, n=3, answer_by=answer_by)
        assert [answer.text for answer in ran.solver([P1], n=1, temperature=0.3)] == texts
    # Chains are sampled as the measurement says, and checks as the teacher's were.
    temperatures = {"check": set(), "chain": set()}
    for call, prompt in zip(pupil.calls, prompts(pupil), strict=True):
        kind = "check" if "information alone" in prompt else "chain"
        temperatures[kind].add(call.sampling.temperature)
    assert temperatures == {"check": {0.7}, "chain": {0.3}}


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(tmp_path, "natural_program", roles=["teacher=world:oracle"], sets=["n=4"])
    [rows] = ran.rows.values()
    assert rows and all("(by #" in row["completion"] for row in rows)
