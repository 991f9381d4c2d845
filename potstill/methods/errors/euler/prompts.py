"""EULER's prompt: the reference says what it shows, the question and the errors; the wording is ours (inferred)."""

AVOID = """\
{prompt}

Here are wrong solutions of this problem:
{errors}

Solve the problem step by step, and avoid these mistakes. Put the final answer in \\boxed{{}}."""
