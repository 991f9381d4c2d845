"""The rewriting prompts that the world's student was taught with: a copy of its own, as its weights are.

A method whose prompts are others finds a student that never saw them. `tests/world/test_lessons.py` says which method's
prompts these are today.
"""

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

DIRECT = "{question} Answer at once."
