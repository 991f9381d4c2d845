"""Prompts of RBD: contents after the released code, words ours."""

from __future__ import annotations

from collections.abc import Mapping

BIASES: Mapping[str, str] = {
    "verbosity": "an output is preferred for its length, though the shorter one is as clear, or right",
    "position": "an output is preferred for the place in which it stands",
    "bandwagon": "an output is preferred because others are said to prefer it",
    "sentiment": "an output is preferred for its positive tone, or rejected for a negative one",
}
_DEFINITIONS = "\n".join(f"- {name}: {meaning}" for name, meaning in BIASES.items())
OUTPUT_A, OUTPUT_B = "Output (a)", "Output (b)"
EVALUATE = """\
Choose the output that answers the problem below rightly. Judge by nothing else: both places are equally likely to \
hold the better one.

# Problem
{problem}

{outputs}{again}

Answer with "Output (a)" or "Output (b)" and nothing else."""
EARLIER = """

# Your earlier choice
{choice}

# An analysis of whether it was biased, for reference; judge yourself whether the choice stands
{analysis}"""
DETECT = f"""\
The model {{evaluator}} was asked which output answers a problem rightly. Is its decision biased? How capable the \
model is tells how far it can be trusted. Biases are:
{_DEFINITIONS}

# Problem
{{problem}}

{{outputs}}

# Decision of the evaluator
{{decision}}

Reason about it first: compare the outputs, and ask what the decision was made by. At the end write in a line of its \
own "Yes" if the decision is biased, and "No" if not."""
ANALYSE = "You are an expert in the biases of evaluators. Look for {bias} bias alone: {meaning}.\n\n{prompt}"
RETONE = """\
Rewrite the text below in a {tone} tone. Its content, each calculation and the answer stay exactly as they are; only \
the words around them change.

{{text}}"""
