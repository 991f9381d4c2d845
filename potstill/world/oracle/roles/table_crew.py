"""The table crew: judge, critic, refiner and curator of a story's steps, by what each prompt asks for, with slips."""

from __future__ import annotations

import re

from potstill.verifiers.story import required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.roles.step_judge import wrong_steps
from potstill.world.story import write_equation

PATTERN = re.compile(
    r"Judge whether the predicted answer below is right|Find out which kind of error the reasoning"
    r"|Find the first wrong step of the reasoning|Go on with a solution whose next step was wrong"
    r"|Can these two lists of critiques be told apart|Which kind of error does this critique show"
)
_ANSWER = re.compile(r"Predicted answer:\n(\S+)\Z")
_STEP = re.compile(r"^Step \d+: (.*)$", re.MULTILINE)
_RIGHT_STEPS = re.compile(r"Steps that are right:\n(.*?)\n\nThe step that was wrong:", re.DOTALL)
_EQUATION = re.compile(r"\d+ [-+*/] \d+ = \d+\.")


def answer_crew(role_input: RoleInput) -> str:
    """The reply of whom the prompt asks."""
    prompt, rng = role_input.prompt, role_input.rng
    if prompt.startswith("Judge whether"):
        return judge_answer(role_input)
    if prompt.startswith("Go on with"):
        return refine_steps(prompt)
    if prompt.startswith("Can these two lists"):
        return rng.choice(["They differ. Conclusion: <early slip> <late slip>", "Conclusion: no"])
    if prompt.startswith("Which kind"):
        return "Addition: (arithmetic error)"
    # The reasoning stands behind the examples and the tree.
    question, _ = read_story(prompt)
    steps = _STEP.findall(prompt.rpartition("Reasoning:")[2])
    if not steps:
        raise CannotAnswerError("the table crew found no steps in the prompt")
    wrong = wrong_steps(question, steps) or [len(steps)]
    if prompt.startswith("Find the first"):
        return f"Step {wrong[0]} is wrong: {steps[wrong[0] - 1]}\nConclusion: [Incorrect] Step {wrong[0]}"
    route = "final query error" if wrong[0] == len(steps) else "sub-table error"
    return f"Step {wrong[0]} is wrong.\nConclusion: [Incorrect] ({rng.choice([route, 'random'])})"


def judge_answer(role_input: RoleInput) -> str:
    """Whether the predicted answer is the story's; with a slip the other verdict."""
    _, story = read_story(role_input.prompt)
    answer = _ANSWER.search(role_input.prompt)
    result = required_equations(story)[-1].result
    is_right = answer is not None and answer[1] == str(result)
    if role_input.rng.random() < role_input.slip_rate:
        is_right = not is_right
    return f"It should be {result}.\nConclusion: [{'Correct' if is_right else 'Incorrect'}]"


def refine_steps(prompt: str) -> str:
    """The equations behind as many as the steps so far have, and the answer."""
    _, story = read_story(prompt)
    shown = _RIGHT_STEPS.search(prompt)
    equation_count = len(_EQUATION.findall(shown[1])) if shown is not None else 0
    equations = required_equations(story)
    texts = [write_equation(equation) for equation in equations[equation_count:]]
    return " ".join([*texts, f"The answer is \\boxed{{{equations[-1].result}}}."])


ROLE = Role("table_crew", PATTERN, answer_crew)
