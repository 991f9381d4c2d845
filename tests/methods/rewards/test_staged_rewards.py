"""Cell-o1, DeepSeek-R1, Phi-4-Mini-Reasoning and AutoThink, exactly: their stages, and who starts each of them."""

from __future__ import annotations

import pytest
from scripted_world import number, run, script, student

from potstill.methods.rewards.cell_o1 import reward_labels
from potstill.models.scripted import render
from potstill.records import Problem

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
TEACHER = {
    P1.question: ["Two twice: \\boxed{4}.", "\\boxed{5}"],
    P2.question: ["Hm.", "\\boxed{8}"],
}
PUPIL = {P1.question: "It is \\boxed{4}.", P2.question: "It is \\boxed{7}."}


def stages_of(name, **values):
    roles = {"teacher": script(TEACHER), "student": script(PUPIL, weights=student([""]).weights)}
    if name == "autothink":
        roles.pop("teacher")
    ran = run(name, [P1, P2], roles, **values)
    return [(stage.name, stage.objective, len(stage.rows)) for stage in ran.stages], ran


def test_cell_o1_starts_from_right_chains_and_rewards_whole_answers():
    stages, ran = stages_of("cell_o1", n=2)
    assert stages == [("cold-start", "sft", 1), ("rewards", "grpo", 2)]
    constants = ran.stages[1].constants
    assert (constants["num_generations"], constants["beta"], constants["corrected"]) == (
        *(5, 0.001),
        False,
    )
    assert constants["reward"] is reward_labels
    _, ran = stages_of("cell_o1", n=2, arm="whole-answer")
    assert ran.stages[1].constants["reward"] == "verifier"
    assert stages_of("cell_o1", n=2, arm="sft")[0] == [("cold-start", "sft", 1)]
    assert stages_of("cell_o1", n=2, arm="rl")[0] == [("rewards", "grpo", 2)]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("b cell|T cell | neuron", 1.0),
        ("B cell | neuron | T cell", 1 / 6),
        ("neuron | B cell | T cell", 0.0),
        ("B cell | B cell | neuron", -1.0),
        ("B cell | T cell", -1.0),
    ],
)
def test_cell_o1_rewards_the_share_of_right_labels_and_refuses_what_assigns_none(answer, value):
    puzzle = Problem("c", "Match the cells.", "B cell | T cell | neuron", kind="exact")
    assert reward_labels(puzzle, f"<answer>{answer}</answer>") == pytest.approx(value)
    assert (
        reward_labels(P1.problem, "\\boxed{4.0}") == 1.0
        and reward_labels(P1.problem, "Hm.") == -1.0
    )


def test_deepseek_r1_learns_its_policys_right_texts_from_the_beginning():
    stages, ran = stages_of("deepseek_r1", n=2)
    assert stages == [
        ("cold-start", "sft", 1),
        ("rewards", "grpo", 2),
        ("rejection-sampling", "sft", 2),
        ("second-rewards", "grpo", 2),
    ]
    assert [row.text for row in ran.stages[2].rows] == ["It is \\boxed{4}.", "It is \\boxed{7}."]
    assert ran.stages[1].constants["reward"] == {"verifier": 1.0, "form": 1.0}
    assert stages_of("deepseek_r1", arm="zero")[0] == [("rewards", "grpo", 2)]
    assert len(stages_of("deepseek_r1", n=2, arm="no-second-rewards")[0]) == 3


def test_a_cold_start_has_as_many_problems_as_are_asked_for():
    _, ran = stages_of("deepseek_r1", n=1, cold_start=1)
    assert len({row.problem.id for row in ran.stages[0].rows}) == 1


def test_phi4_mini_reasoning_prefers_right_chains_and_rewards_what_is_solved_at_times():
    stages, ran = stages_of("phi4_mini_reasoning", n=2)
    assert stages == [
        ("mid-training", "sft", 1),
        ("fine-tuning", "sft", 1),
        ("preference", "dpo", 1),
        ("rewards", "grpo", 1),
    ]
    assert ran.stages[0].constants == {"packing": True}
    assert ran.stages[1].constants == {"packing": False}
    assert ran.stages[2].constants["learning_rate"] == 5e-7
    [pair] = ran.stages[2].rows
    assert (pair.text, pair.rejected.text) == ("Two twice: \\boxed{4}.", "\\boxed{5}")
    assert [row.problem.id for row in ran.rows] == ["p1"]  # P2 was never solved
    left_out = {"no-mid-training": "mid-training", "no-rewards": "rewards"}
    for arm, name in {**left_out, "no-preference": "preference"}.items():
        names = [stage for stage, *_ in stages_of("phi4_mini_reasoning", n=2, arm=arm)[0]]
        assert len(names) == 3 and name not in names
    assert len(stages_of("phi4_mini_reasoning", n=2, arm="distillation")[0]) == 2


def test_autothink_rewards_modes_in_three_stages_under_the_ellipsis():
    stages, ran = stages_of("autothink", lengths=(8, 16, 24))
    assert stages == [("stabilize", "grpo", 2), ("reinforce", "grpo", 2), ("prune", "grpo", 2)]
    rewards = [stage.constants["reward"] for stage in ran.stages]
    assert rewards == ["thinking_balanced", "thinking", "thinking_by_length"]
    assert [stage.constants["max_new_tokens"] for stage in ran.stages] == [8, 16, 24]
    assert render(ran.rows[0].prompt) == "Solve: What is 2 + 2?\n<think>\n...\n"
    [answer] = ran.solver([P1], n=1)
    assert answer.problem == P1.problem and answer.text == "It is \\boxed{4}."
    assert [name for name, *_ in stages_of("autothink", arm="one-stage")[0]] == ["reinforce"]
