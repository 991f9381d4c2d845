"""Prompts of Natural Program: contents after the released code, words ours; there the check has an example too."""

from __future__ import annotations

WRITE = """\
Solve a question in numbered statements, one a line. First write what the question says, one fact a statement, and as \
the last of them what it asks. Then go on with the steps: each one begins with the numbers of all statements that it \
follows from, says one thing, and shows its calculation. The last step answers the question, and has the answer in \
\\boxed{{}}. For example:

Question: A shop has 12 pens. It sells a third of them and buys 5 more. How many pens does the shop have?
#1. A shop has 12 pens.
#2. It sells a third of them.
#3. It buys 5 more.
#4. How many pens does the shop have?
#5. (by #1 #2) It sells 12 / 3 = 4 pens.
#6. (by #1 #5) It has 12 - 4 = 8 pens left.
#7. (by #3 #6) It then has 8 + 5 = 13 pens.
#8. (by #4 #7) The answer is \\boxed{{13}}.

Question: {prompt}"""

CHECK = """\
Here is some information:
"{premises}"

Based on the given information alone, here is a step of reasoning:
"{step}"

Double-check the step in three ways, one after the other:
1. Grounding: does every number in it stand in the information, or is it calculated in the step?
2. Reasoning: does the step follow from the information, and is there nothing in it that it does not need?
3. Calculation: is every calculation in it right?
One check that fails makes the step wrong. At the end write in a line of its own, "yes" or "no", whether the step is \
right."""

CHECK_WHOLE = """\
Here is a question and its solution.

Question: {problem}

Solution:
{text}

You are a teacher. Is the reasoning of this solution right? Think step by step. At the end write in a line of its own, \
"yes" or "no", whether it is right."""
