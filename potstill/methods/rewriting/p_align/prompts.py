"""P-ALIGN's prompts: the released code gives what each shows and asks for; the wording is ours."""

ENOUGH = "[ENOUGH]"
NOT_ENOUGH = "[NOT_ENOUGH]"

JUDGE = """\
Here is the beginning of a solution. Decide whether it already holds the essential structure of the whole, so that \
what is left is routine for you.

Question: {question}

Beginning of the solution:
{text}

Answer [ENOUGH] if you can finish it from here without a new idea, and [NOT_ENOUGH] if you can't. Write nothing else."""

ALIGN = """\
Here is a question and the draft of a solution that breaks off. Take the draft as what you know already, go on from \
where it ends, and finish the solution. Put the final answer in \\boxed{{}}.

Question: {question}

Draft:
{text}"""

# What the learner is asked comes last, word for word: a student that solves problems in one form begins anew in it.
QUESTION_LAST = """\
Question: {question}

The beginning of a right solution:
{text}

{prompt}"""
