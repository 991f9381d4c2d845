"""ORION's prompts: the reference gives three intents and the fields; the wording is ours (inferred)."""

import re

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

# A target that mentions what only the writer saw is not self-contained.
LEAKS = re.compile(
    r"\b(?:references?|(?:wrong|first|second|third|earlier|previous) attempt|the attempt|attempts|attempt \d"
    r"|(?:provided|given) solution)\b",
    re.IGNORECASE,
)
