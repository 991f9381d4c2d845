"""REER's prompts: the released code gives their intents and fields; the wording is ours.

Departure: in English alone; the released code has a Chinese version of each, chosen by the script of the question.
"""

from __future__ import annotations

import re

# How the generator's reply begins, so that not every thought begins alike, and with which share (released code).
OPENERS = (
    ("Okay, I am given", 0.20),
    ("Alright, the user", 0.48),
    ("Alright", 0.32),
)

INITIAL = """\
Here is a task, and a good response to it. Write down the thinking of the person who wrote the response, as it went on \
before a word of the response was there: in the first person, in the present tense, looking ahead.

Think in this order: what the task wants, and who will read the response; what it should say; how it is built; then an \
outline or a draft. The draft is in your own words: promise yourself not to copy, and don't. Never speak of the \
response as if it existed already, and never use the past tense for what you are about to do.{reflection}

Put the thinking between <think> and </think>, its parts separated by blank lines, and write nothing behind it.

Task:
{question}

Response:
{reference}"""

INITIAL_ALONE = """\
Here is a task. Write down your thinking before you respond to it: in the first person, in the present tense, looking \
ahead.

Think in this order: what the task wants, and who will read the response; what it should say; how it is built; then an \
outline or a draft.{reflection}

Put the thinking between <think> and </think>, its parts separated by blank lines, and write nothing behind it.

Task:
{question}"""

REFLECTION = """ \
Stop now and then to question what you have: "Hmm, maybe", "Wait, that is", "Let me think again", "But how about", \
each in its place and no two alike. Keep such words out of the draft itself."""

REFINE = """\
Here is a task, a good response to it, and the thinking that leads to the response. One paragraph of the thinking \
stands between <paragraph> and </paragraph>. Make it better.

First say between <analyze> and </analyze> what the paragraph is for, and where, measured by the response, steps \
are missing or vague. Then rewrite the paragraph, and nothing else, between <refine> and </refine>. Keep its first \
words. A draft in it must be neither vague nor a copy of the response.{reflection}

Task:
{question}

Response:
{reference}

Thinking:
{before}<paragraph>
{paragraph}
</paragraph>
{after}"""

REFINE_ALONE = """\
Here is a task, and the thinking of somebody who is about to respond to it. One paragraph of the thinking stands \
between <paragraph> and </paragraph>. Make it better.

First say between <analyze> and </analyze> what the paragraph is for, and where steps are missing, vague or wrong. \
Then rewrite the paragraph, and nothing else, between <refine> and </refine>. Keep its first words.{reflection}

Task:
{question}

Thinking:
{before}<paragraph>
{paragraph}
</paragraph>
{after}"""

# What the scorer is asked, whose likelihood of the response is measured.
THINK_THEN_WRITE = """\
Think about the following task before you respond to it. Put all of your thinking between <think> and </think>: what \
is wanted, by whom, what you will say and in which order; question your plan as you go. Then write the response, and \
nothing but the response.

{question}"""

# A thought that still doubts at its end never came to its answer.
STILL_THINKING = re.compile(
    r"\b(?:wait|hmm|let me (?:think|see|reconsider|check)|but how about|on second thought|maybe i should)\b",
    re.IGNORECASE,
)
