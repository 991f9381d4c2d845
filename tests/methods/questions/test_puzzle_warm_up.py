"""The warm-up on puzzles, exactly: which puzzles, which chains are learnt, and which problems come behind them."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.methods.questions._knights_knaves import (
    Claim,
    Puzzle,
    Statement,
    draw_puzzle,
    holds,
    solve_puzzle,
    write_answer,
    write_question,
)
from potstill.models.model import Completion
from potstill.models.scripted import ScriptedModel
from potstill.runs.cast import Cast


def guess(request):
    """A program that says of each inhabitant anything."""
    rng = Random(request.random_seed("guess"))
    people = re.search(r"in the order (.*), with", request.prompt)[1].split(", ")
    roles = ", ".join(rng.choice(("knight", "knave")) for _ in people)
    return Completion(f"<think>\nHm.\n</think>\n\\boxed{{{roles}}}", "stop")


CAST = Cast(
    values={"puzzles": 1, "n": 2, "people": (2,)},
    models={"teacher": ScriptedModel(guess, name="guesser")},
    poses=True,
)

P1, P2, P3 = (number(f"p{n}", f"What is {n} + {n}?", str(2 * n)) for n in (1, 2, 3))
# Ann lies: were Ben a knave, what he says would be so.
SAID = (Statement(Claim(1, False)), Statement(Claim(0, False), "or", Claim(1, False)))
PUZZLE = Puzzle(("Ann", "Ben"), SAID, (False, True))


def test_knights_say_what_is_so_and_knaves_what_is_not():
    assert solve_puzzle(
        (Statement(Claim(1, False)), Statement(Claim(0, True), "and", Claim(1, True)))
    ) == [(True, False)]
    # Each calls the other a knight: both may be either.
    assert len(solve_puzzle((Statement(Claim(1, True)), Statement(Claim(0, True))))) == 2


@pytest.mark.parametrize(
    ("word", "truths"),
    [("", "1100"), ("and", "1000"), ("or", "1110"), ("if", "1011"), ("iff", "1001")],
)
def test_a_joined_statement_is_true_by_its_table(word, truths):
    said = Statement(Claim(0, True), word, Claim(1, True))
    rows = [(True, True), (True, False), (False, True), (False, False)]
    assert "".join(str(int(holds(said, knights))) for knights in rows) == truths


def test_a_puzzle_in_words_has_every_statement_and_its_answer_in_order():
    question = write_question(PUZZLE)
    assert "You meet 2 inhabitants: Ann and Ben." in question
    assert 'Ann says: "Ben is a knave." Ben says: "Ann is a knave or Ben is a knave."' in question
    assert question.count("\\boxed{}") == 1 and write_answer(PUZZLE) == "knave, knight"
    assert solve_puzzle(SAID) == [PUZZLE.solution]
    drawn = draw_puzzle(Random(1), 3)
    assert solve_puzzle(drawn.statements) == [drawn.solution] and drawn == draw_puzzle(Random(1), 3)


def warm_up(answers=None, **values):
    answers = answers or [
        {"text": "Hm.", "finish": "length"},
        "<think>\nSo.\n</think>\n\\boxed{knave}",
    ]
    teacher = script({"knaves": answers}, name="teacher")
    pupil = student(["\\boxed{2}"])
    values = {"puzzles": 2, "people": (2, 3), "n": 2, "examples": 2, **values}
    ran = run("puzzle_warm_up", [P1, P2, P3], {"teacher": teacher, "student": pupil}, **values)
    return ran, teacher, pupil


def test_whole_chains_are_learnt_right_or_wrong_and_then_a_few_problems_by_reward():
    ran, teacher, pupil = warm_up()
    assert [(stage.name, stage.objective) for stage in ran.stages] == [
        ("warm-up", "sft"),
        ("rewards", "grpo"),
    ]
    chains, few = ran.stages
    # Two puzzles for each of two problems, and two chains of each.
    assert len(teacher.calls) == 8 and not pupil.calls
    assert {row.text for row in chains.rows} == {"<think>\nSo.\n</think>\n\\boxed{knave}"}
    assert len(chains.rows) == 4 and {row.verdict.status for row in chains.rows} == {"wrong"}
    assert sorted(row.problem.metadata["people"] for row in chains.rows) == [2, 2, 3, 3]
    assert {row.prompt for row in chains.rows} == set(prompts(teacher))
    assert ran.reasons()["is_finished"] == ["not finished"] * 4
    assert len(few.rows) == 2 and {row.prompt for row in few.rows} < {
        P1.prompt,
        P2.prompt,
        P3.prompt,
    }
    assert few.constants["reward"] == {"verifier": 2.5, "form": 1.5}
    assert "loss_reduction" not in few.constants  # the mean over tokens


def test_the_controls_leave_out_a_stage_or_the_wrong_chains():
    ran, teacher, _ = warm_up(arm="rl")
    assert [stage.name for stage in ran.stages] == ["rewards"] and not teacher.calls
    assert [stage.name for stage in warm_up(arm="warm-up")[0].stages] == ["warm-up"]
    pairs = [
        f"\\boxed{{{first}, {second}}}"
        for first in ("knight", "knave")
        for second in ("knight", "knave")
    ]
    ran, _, _ = warm_up(pairs, arm="right-puzzles", people=(2,), n=4)
    assert len(ran.stages[0].rows) == 4 and len(ran.reasons()["right"]) == 12


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """The world's teacher knows stories alone: a scripted one thinks about the puzzles."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    teacher = tmp_path / "teacher.json"
    chain = "<think>\nA knave would lie.\n</think>\n\\boxed{knight, knave, knight}"
    teacher.write_text(json.dumps([{"pattern": "knaves", "answer": chain}]))
    sets = [
        "examples=4",
        "puzzles=1",
        "n=1",
        "rollouts.num_generations=2",
        "rollouts.max_new_tokens=32",
    ]
    ran = run_on_world(tmp_path, "puzzle_warm_up", roles=[f"teacher=scripted:{teacher}"], sets=sets)
    assert [row["completion"] for row in ran.rows["warm-up"]] == [chain] * 4
