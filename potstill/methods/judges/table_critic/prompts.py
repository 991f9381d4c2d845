"""Prompts of Table-Critic, and the two critiques that its tree begins with: after the released code, words ours."""

from __future__ import annotations

from collections.abc import Mapping

JUDGE = """\
Judge whether the predicted answer below is right. Explain why, and end with a line "Conclusion: [Correct]" or \
"Conclusion: [Incorrect]".

Problem:
{problem}

Predicted answer:
{answer}"""

REASONING = """\
Problem:
{problem}

Reasoning:
{steps}

Predicted answer:
{answer}"""

ROUTE = f"""\
Find out which kind of error the reasoning below has. Go through its steps up to the first wrong one, and say of each \
whether it is right; a step that is not needed and does no harm is right. Then choose the kind of error from the tree, \
a path a line:
{{tree}}

End with a line "Conclusion: [Incorrect] (path)", with a path of the tree as it stands there, or (random) where none \
fits.

{REASONING}"""

CRITIC = f"""\
Find the first wrong step of the reasoning below. Go through the steps, say of each why it is right or wrong, and stop \
at the first that is wrong; a step that is not needed and does no harm is right. Sum up what is wrong with it and what \
it should have been, and end with a line "Conclusion: [Incorrect] Step N".

{{examples}}The reasoning to look at:

{REASONING}"""

REFINE = """\
Go on with a solution whose next step was wrong. Write that step anew as the critique says, and then the steps up to \
the answer, in the form of the steps so far. Do not repeat the steps that are right.

Problem:
{problem}

Steps that are right:
{text}

The step that was wrong:
{wrong_step}

Critique:
{critique}"""

SPLIT = """\
Can these two lists of critiques be told apart as two kinds of one error, "{route}"? Explain it. Where they can, end \
with a line "Conclusion: <name of the first kind> <name of the second kind>"; where they can't, with a line \
"Conclusion: no".

List 1:
{first}

List 2:
{second}"""

EXTEND = """\
Which kind of error does this critique show that the tree does not have yet? Explain it, and end with a line \
"Addition: (path -> name)" where a new kind should be added behind a path of the tree or of its own, or with a line \
"Addition: none".

Tree, a path a line:
{tree}

Critique:
{critique}"""

FIRST_TREE: Mapping[str, tuple[str, ...]] = {
    "sub-table error": (
        """\
Problem:
city | year | visitors
Ulm | 2019 | 40
Ulm | 2020 | 10
Bonn | 2020 | 30
How many visitors were there in 2020?

Reasoning:
Step 1: The row of the year 2020 is that of Bonn.
Step 2: It has 30 visitors, so the answer is 30.

Predicted answer:
30

Critique:
Step 1 takes one row with the year 2020, and the table has two: Ulm has one too. Step 1 is wrong.
Conclusion: [Incorrect] Step 1""",
    ),
    "final query error": (
        """\
Problem:
team | wins | losses
Reds | 12 | 5
Blues | 9 | 8
By how many wins are the Reds ahead?

Reasoning:
Step 1: The column that is asked about is wins: 12 of the Reds, 9 of the Blues.
Step 2: 12 + 9 = 21, so the answer is 21.

Predicted answer:
21

Critique:
Step 1 takes the right column. Step 2 adds where a difference is asked for: 12 - 9 = 3. Step 2 is wrong.
Conclusion: [Incorrect] Step 2""",
    ),
}
