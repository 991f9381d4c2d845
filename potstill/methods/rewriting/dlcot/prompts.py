"""DLCoT's prompts: what each shows and asks for is the released code's, the wording ours."""

PARTS = ("Question repeated", "Understanding", "Exploration", "Verification", "Conclusion")

SPLIT = """\
Split the solution below into these five parts, in this order, each under its heading:

## Question repeated
## Understanding
## Exploration
## Verification
## Conclusion

Question repeated restates the problem. Understanding is what is said of it before anything is calculated. \
Exploration is all work up to the first answer. Verification is everything behind the first answer: checks, \
other approaches, doubts. Conclusion is the final statement with the answer. Copy the text word for word, all \
of it; leave a part empty where the solution has none.

Question: {question}

Solution:
{text}"""

SPLIT_EXPLORATION = """\
Split the work below into the approaches that it tries. Begin a new one only where the approach changes \
("alternatively", "a better way"). Copy the text word for word, all of it, each approach under a heading "## \
Solution 1", "## Solution 2" and so on.

Work:
{work}"""

SPLIT_VERIFICATION = """\
Split the text below, which checks a solution, into single checks. Remarks that only affirm or doubt are \
checks of their own. Copy the text word for word, all of it, each check under a heading "## Check 1", "## \
Check 2" and so on.

Solution:
{work}

Text that checks it:
{checks}"""

COMPLETE = """\
The first part below is work on a question; the checks come behind it. Does the first part come to an answer \
of the question? If not, which is the smallest number of checks, from the first one on, that complete it? \
Answer with one line: "Complete" if it does, "Needs K" if the first K checks complete it, or "Incomplete" if \
none do.

Question: {question}

Right answer: {answer}

First part:
{work}

{checks}"""

LABEL = """\
Judge each solution of the question. For each write three lines:

Solution N: Correct, Incorrect or Incomplete (by its final answer alone, beside the reference)
Error: yes or no (whether a calculation or a derivation in it is wrong)
Quote: the wrong part, copied exactly, or "-"

Question: {question}

Reference: {answer}

{solutions}"""

CLUSTER = """\
Group the solutions of a question by their method. Solutions are in different groups where their methods, \
their intermediate steps or their assumptions differ, or where one is much more general or simpler. Write one \
line for each group and nothing else, such as:

cluster1 [Solution 1, Solution 3] both compute the area
cluster2 [Solution 2] counts cases

Question: {question}

{solutions}"""

EXCISE = """\
Take the parts named below out of the solution. Change as little else as possible, and keep the text fluent \
and coherent. Write the remaining solution alone.

Question: {question}

Solution:
{text}

Parts to take out:
{removed}"""
