"""ORION's prompts: the reference gives three intents and the fields; the wording is ours (inferred).

The paper's own prompt is not known. The row `paper` has its three intents in the order in which the reference
(error-aware.md) lists the fields; the other rows say the same to models that copy what they read last. Which one a
student follows best is measured: `potstill tune-prompts orion` (docs/tuning-prompts.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from potstill.methods.prompt_variants import PromptVariants
from potstill.records import Trace

PromptName = Literal[
    "paper",
    "errors-first",
    "errors-first-one",
    "errors-first-marked",
    "errors-first-cut",
    "plain",
    "plain-marked",
    "plain-cut",
    "solve-last",
    "solve-last-cut",
]
WrongStep = Literal["as-written", "marked", "cut"]
WRONG_STEP_MARK = " (this step is wrong)"

# The order of the reference: instruction, question, reference, numbered attempts.
REFLECT = """\
Read the reference solution and see where the wrong attempts go astray. Then write one complete solution of your own \
that avoids these mistakes. Do not mention the reference or the attempts. Put the final answer in \\boxed{{}}.

Question: {question}

Reference solution:
{text}

Wrong attempts:
{attempts}"""

REFLECT_ALONE = """\
Read the reference solution. Then write one complete solution of your own. Do not mention the reference. \
Put the final answer in \\boxed{{}}.

Question: {question}

Reference solution:
{text}"""

CORRECT_ALONE = """\
See where the wrong attempts go astray. Then write one complete solution of your own that avoids these mistakes. \
Do not mention the attempts. Put the final answer in \\boxed{{}}.

Question: {question}

Wrong attempts:
{attempts}"""

# The same words, with the attempts before the reference.
ERRORS_FIRST = """\
Read the reference solution and see where the wrong attempts go astray. Then write one complete solution of your own \
that avoids these mistakes. Do not mention the reference or the attempts. Put the final answer in \\boxed{{}}.

Question: {question}

Wrong attempts:
{attempts}

Reference solution:
{text}"""

# Short labels, and what is to be done comes last.
PLAIN = """\
Question: {question}

A wrong solution:
{attempts}

A right solution:
{text}

Write a right solution, step by step and in your own words. Put the final answer in \\boxed{{}}."""

PLAIN_ALONE = """\
Question: {question}

A right solution:
{text}

Write a right solution, step by step and in your own words. Put the final answer in \\boxed{{}}."""

PLAIN_CORRECT = """\
Question: {question}

A wrong solution:
{attempts}

Write a right solution, step by step. Put the final answer in \\boxed{{}}."""

# What the learner is asked comes last, word for word: a student that solves problems in one form goes on in it.
SOLVE_LAST = """\
Question: {question}

A wrong solution:
{attempts}

A right solution:
{text}

{prompt}"""

SOLVE_LAST_ALONE = """\
Question: {question}

A right solution:
{text}

{prompt}"""

SOLVE_LAST_CORRECT = """\
Question: {question}

A wrong solution:
{attempts}

{prompt}"""


@dataclass(frozen=True, slots=True)
class WriterPrompt:
    """What the writer of an ORION row is shown.

    Args:
        with_reference: the template with a reference and wrong attempts.
        reference_alone: without attempts, for problems without errors and for the arm "none".
        attempts_alone: without a reference, for the arm "errors-only".
        one_at_a_time: whether a prompt shows one attempt, and another draw the next one; else all of them, numbered.
        wrong_step: an attempt is shown "as-written", with its first wrong step "marked", or "cut" behind that step and
            marked. A step is known to be wrong where the problem's verifier judges steps; any other attempt is shown
            as it was written.
    """

    with_reference: str
    reference_alone: str
    attempts_alone: str
    one_at_a_time: bool = False
    wrong_step: WrongStep = "as-written"


_REFLECTING = (ERRORS_FIRST, REFLECT_ALONE, CORRECT_ALONE)
_PLAIN = (PLAIN, PLAIN_ALONE, PLAIN_CORRECT)
_SOLVE_LAST = (SOLVE_LAST, SOLVE_LAST_ALONE, SOLVE_LAST_CORRECT)

PROMPTS: dict[PromptName, WriterPrompt] = {
    "paper": WriterPrompt(REFLECT, REFLECT_ALONE, CORRECT_ALONE),
    "errors-first": WriterPrompt(*_REFLECTING),
    "errors-first-one": WriterPrompt(*_REFLECTING, one_at_a_time=True),
    "errors-first-marked": WriterPrompt(*_REFLECTING, one_at_a_time=True, wrong_step="marked"),
    "errors-first-cut": WriterPrompt(*_REFLECTING, one_at_a_time=True, wrong_step="cut"),
    "plain": WriterPrompt(*_PLAIN, one_at_a_time=True),
    "plain-marked": WriterPrompt(*_PLAIN, one_at_a_time=True, wrong_step="marked"),
    "plain-cut": WriterPrompt(*_PLAIN, one_at_a_time=True, wrong_step="cut"),
    "solve-last": WriterPrompt(*_SOLVE_LAST, one_at_a_time=True),
    "solve-last-cut": WriterPrompt(*_SOLVE_LAST, one_at_a_time=True, wrong_step="cut"),
}

# A target that mentions what only the writer saw is not self-contained.
LEAKS = re.compile(
    r"\b(?:references?|(?:wrong|first|second|third|earlier|previous) attempt|the attempt|attempts|attempt \d"
    r"|(?:provided|given|wrong) solution)\b|\(this step is wrong\)",
    re.IGNORECASE,
)


def is_rewrite(trace: Trace) -> bool:
    """Whether a trace was written under one of these prompts."""
    return trace.operator == "rewrite"


# What `potstill tune-prompts orion` tries: every row, and no attempts at all in each wording, which is never chosen.
PROMPT_VARIANTS = PromptVariants(
    variants={name: {"settings.prompt": name} for name in PROMPTS},
    controls={
        "no-attempts-paper": {"arm": "none", "settings.prompt": "paper"},
        "no-attempts-plain": {"arm": "none", "settings.prompt": "plain"},
        "no-attempts-solve-last": {"arm": "none", "settings.prompt": "solve-last"},
    },
    # One draw a problem, and no row without errors to show: so the prompts are told apart by what they ask.
    values={
        "settings.resamples": 0,
        "settings.no_errors": "drop",
        "settings.on_fail": "drop",
    },
    is_written=is_rewrite,
)
