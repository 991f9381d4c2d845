"""The annotator: shown a story and a chain, it scores the chain on eleven scales, by what it counts in it."""

from __future__ import annotations

import json
import re

from potstill.records import Problem
from potstill.verifiers.story import judge, needed_equations, required_equations, steps
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story

# A copy of words of a method's prompt; the test of that method runs it with the oracle.
PATTERN = re.compile(r"Score the reasoning below on eleven scales")
_REASONING = re.compile(r"\nReasoning:\n(.*)\n\nWrite one JSON object", re.DOTALL)
_EQUATION = re.compile(r"\d+ [-+*/] \d+ = -?\d+")
LARGEST_SCORE = 9


def annotate(role_input: RoleInput) -> str:
    """The scores as JSON: of the search by its steps, checks and corrections, of the quality by the verifier."""
    question, story = read_story(role_input.prompt)
    reasoning = _REASONING.search(role_input.prompt)
    if reasoning is None:
        raise CannotAnswerError("the annotator found no reasoning in the prompt")
    chain = reasoning[1]
    total = required_equations(story)[-1].result
    problem = Problem("", question, str(total), kind="story")

    # What the chain does: its equations, checks, slips that it takes back, and new starts.
    equations = len(_EQUATION.findall(chain))
    checks = chain.count("Check:")
    corrections = chain.count("Wait,")
    restarts = chain.count("Start again")
    together = chain.count("Together:")

    # How good it is: right steps among all, events without a step, and equations that no event needs.
    claims = steps(problem, chain)
    wrong_claims = sum(claim.score == 0 for claim in claims)
    is_right = judge(problem, chain).status == "right"
    missing = len(needed_equations(story, chain))
    scores = {
        "search_depth": equations,
        "search_breadth": 3 * (restarts + together),
        "error_detection": 3 * (checks + corrections),
        "error_correction": 4 * corrections,
        "strategy_switching": 4 * restarts,
        "correctness": LARGEST_SCORE * is_right,
        "efficiency": LARGEST_SCORE - max(0, equations - len(story.events)),
        "completeness": LARGEST_SCORE - 3 * missing,
        "coherence": LARGEST_SCORE - 3 * wrong_claims,
        "knowledge_accuracy": LARGEST_SCORE - 3 * wrong_claims,
        "clarity_of_steps": LARGEST_SCORE - 2 * missing,
    }
    limited = {name: min(LARGEST_SCORE, max(0, score)) for name, score in scores.items()}
    justification = f"{equations} equations, {checks} checks, {corrections} corrections."
    return json.dumps({**limited, "justification": justification})


ROLE = Role("annotator", PATTERN, annotate)
