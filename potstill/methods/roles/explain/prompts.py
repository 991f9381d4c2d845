"""The prompts of explain-based distillation: the source gives their fields and intents; the wording is ours (inferred).

`world:oracle` knows its roles by some of these words (`potstill/world/oracle/roles/`): change both together.
"""

import re

# Section -> what the Explainer is asked to write in it. The names are the review's and, for the other four, inferred
# from the same group's earlier paper (arXiv:2307.05337).
SECTIONS = {
    "restatement": "the problem in other words",
    "conceptual_evolution": "how one comes to the idea, from the first thought to the last",
    "key_insight": "the one thing that must be seen",
    "solution_description": "what the solution does, in a sentence or two",
    "step_by_step": "the algorithm, one numbered step a line",
    "pitfalls": "what goes wrong easily",
    "complexity": "how much time and space it takes",
}

_TAGS = "\n".join(f"<{name}>{content}</{name}>" for name, content in SECTIONS.items())

EXPLAIN = f"""\
Write an editorial for the problem below: how one comes to the idea of its solution, and how the solution works. The \
solution is shown to you alone. Explain its ideas and not its lines: no code, and no walk through it line by line. \
A reader who has not seen the solution must be able to solve the problem by your editorial.

Write every one of these sections between its tags:
{_TAGS}

Problem:
{{prompt}}

Solution:
{{text}}"""

# What an untrained Reasoner is asked; a trained one sees the problem alone.
EDITORIAL = f"""\
Write an editorial for the problem below, as a plan for whoever carries it out: no code, and no answer yet.

Write every one of these sections between its tags:
{_TAGS}

Problem:
{{prompt}}"""

# What is asked of the arm zero-shot-cot: no editorial, but a thought before the answer.
STEP_BY_STEP = "{prompt}\n\nThink step by step first, then answer as the problem asks."

CARRY_OUT = """\
Carry out the plan below for this problem, as it stands. If the problem asks for a program, write one complete Python \
program in a ```python block. If not, work the answer out and give it as the problem asks.

Problem:
{prompt}

Plan:
{text}"""

# An editorial that mentions what only its writer saw, or goes through it line by line.
WALKTHROUGH = re.compile(
    r"\b(?:(?:on|in|at) lines? \d+|lines? \d+ (?:to \d+ )?(?:of|is|are|does|do|sets?|reads?|prints?|loops?)"
    r"|the (?:given|provided|shown|above|reference|accepted) (?:code|program|solution))\b",
    re.IGNORECASE,
)
CODE_BLOCK = re.compile(r"^[ \t]*(?:```|~~~)|<(?:code|pre)\b", re.MULTILINE | re.IGNORECASE)
