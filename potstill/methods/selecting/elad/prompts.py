"""ELAD's prompts: the reference gives what each shows and what is asked for; the wording is ours (inferred)."""

CHECK_STEP = """\
Check one step of a student's solution. The steps before it have been checked.

Problem:
{prompt}

Steps so far:
{steps}

Is step {number} right? Answer Yes or No."""

CHECK_ANSWER = """\
Check the final answer of a student's solution. The steps before it have been checked.

Problem:
{prompt}

Steps so far:
{steps}

Is the answer in step {number} right? Answer Yes or No."""

CHECK_ALL = """\
Check every step of a student's solution.

Problem:
{prompt}

Steps:
{steps}

Is every step right? Answer Yes, or No and the number of the first wrong step, as in "No, step 2"."""

CONTINUE = """\
Go on with a student's solution behind its last right step. Write only what comes next, up to the final answer, in the \
form of the steps so far. Put the final answer in \\boxed{{}}.

Problem:
{prompt}

Right steps so far:
{steps}"""

NO_STEPS = "(none)"
