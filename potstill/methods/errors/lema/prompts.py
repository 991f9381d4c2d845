"""LEMA's prompts: fields, labels and their order are the paper's; the wording and the examples are ours.

The learner sees CORRECTION (an arm sees what ARM_PROMPTS has of it); the corrector sees four examples before it. The
gold answer stands in none of them. The released MATH prompt explains one of its examples with another problem's error:
these are new, and a test solves them.
"""

from __future__ import annotations

from typing import NamedTuple

from potstill.methods.prompt_variants import PromptVariants
from potstill.records import Trace
from potstill.template import fill_template

# The attempt stands in braces, its steps numbered one a line; the label behind the fields is what is answered.
_FIELDS = """

Question: {question}

Original solution:
{{
{attempt}
}}

"""
# Of problems with options: no steps are numbered.
_CHOICE_FIELDS = """

Question: {question}

Options:
{choices}

Original answer:
{{
{attempt}
}}

"""
_WRONG = "The original solution below is incorrect."
_REST = "Write ... for the steps before it."

# The full prompt, then those of the arms; the label that ends each of them is the first part that is learnt.
CORRECTION = (
    f"{_WRONG} Name the incorrect step, explain why it is incorrect, and correct the solution from that step on. "
    f"{_REST}{_FIELDS}Incorrect step:"
)
NO_STEP = (
    f"{_WRONG} Explain why the first incorrect step is incorrect, and correct the solution from that step on. {_REST}"
    f"{_FIELDS}Explanation:"
)
NO_EXPLANATION = (
    f"{_WRONG} Name the incorrect step, and correct the solution from that step on. {_REST}"
    f"{_FIELDS}Incorrect step:"
)
NO_SOLUTION = (
    f"{_WRONG} Name the incorrect step, and explain why it is incorrect.{_FIELDS}Incorrect step:"
)
WHOLE_CHAIN = f"{_WRONG} Write a correct solution.{_FIELDS}Correct solution:"

_WRONG_ANSWER = "The original answer below is incorrect."
# The same for problems with options, where no step is named.
CHOICE_CORRECTION = (
    f"{_WRONG_ANSWER} Say which mistakes it makes, then write a corrected answer: what speaks for and against each "
    f"option, the reason for the choice, and the choice.{_CHOICE_FIELDS}Mistakes:"
)
CHOICE_WHOLE_ANSWER = (
    f"{_WRONG_ANSWER} Write a corrected answer: what speaks for and against each option, the reason for the choice, "
    f"and the choice.{_CHOICE_FIELDS}Corrected answer:"
)
CHOICE_NO_SOLUTION = f"{_WRONG_ANSWER} Say which mistakes it makes.{_CHOICE_FIELDS}Mistakes:"

# The other direction: a right chain is shown, and a wrong one learnt.
INJECTION = """\
The solution below is correct. Write a solution that goes wrong at the step named, and goes on from there. Write ... \
for the steps before it.

Question: {question}

Correct solution:
{{
{chain}
}}

Incorrect step: {part}

Incorrect solution:"""
CHOICE_INJECTION = """\
The answer below is correct. Write an answer with these mistakes.

Question: {question}

Options:
{choices}

Correct answer:
{{
{chain}
}}

Mistakes: {part}

Incorrect answer:"""

CAUTION = "Be careful: "  # before an explanation that stands in front of a chain

# The evolver sees a question alone, neither its answer nor a correction.
EVOLVE = """\
Write one new question that is related to the question below. It must be reasonable and say all that is needed, its \
answer must be a single number, and its wording and its numbers must differ from the question's. Write the question
only.

Question: {question}

New question:"""


class Example(NamedTuple):
    """A worked correction: a question, its options if there are any, a wrong attempt, and the correction."""

    question: str
    attempt: str
    correction: str
    choices: str = ""


# Of one error in the first step, where nothing is left out, and three later ones.
EXAMPLES = (
    Example(
        "A shop sells pens at 3 dollars each. Mara buys 4 pens and pays with a 20-dollar note. How much change does "
        "she get?",
        "Step 1: 4 pens cost 4 * 3 = 12 dollars.\n"
        "Step 2: Her change is 20 + 12 = 32 dollars.\n"
        "Step 3: The answer is \\boxed{32}.",
        " Step 2\n"
        "Explanation: The price is taken from the note. The step adds it, and change can't be more than was paid.\n"
        "Correct solution:\n"
        "...\n"
        "Step 2: Her change is 20 - 12 = 8 dollars.\n"
        "Step 3: The answer is \\boxed{8}.",
    ),
    Example(
        "A train goes 180 miles in 3 hours. How far does it go in 5 hours at the same speed?",
        "Step 1: The speed is 180 * 3 = 540 miles an hour.\n"
        "Step 2: In 5 hours it goes 540 * 5 = 2700 miles.\n"
        "Step 3: The answer is \\boxed{2700}.",
        " Step 1\n"
        "Explanation: A speed is a distance divided by a time. The step multiplies them.\n"
        "Correct solution:\n"
        "Step 1: The speed is 180 / 3 = 60 miles an hour.\n"
        "Step 2: In 5 hours it goes 60 * 5 = 300 miles.\n"
        "Step 3: The answer is \\boxed{300}.",
    ),
    Example(
        "A box holds 6 rows of 8 eggs. A quarter of the eggs are broken. How many are whole?",
        "Step 1: The box holds 6 * 8 = 48 eggs.\n"
        "Step 2: 48 / 4 = 12 eggs are broken.\n"
        "Step 3: So 12 eggs are whole.\n"
        "Step 4: The answer is \\boxed{12}.",
        " Step 3\n"
        "Explanation: 12 is the number of broken eggs. The whole ones are the others.\n"
        "Correct solution:\n"
        "...\n"
        "Step 3: So 48 - 12 = 36 eggs are whole.\n"
        "Step 4: The answer is \\boxed{36}.",
    ),
    Example(
        "Two sides of a triangle with a right angle between them are 5 and 12. How long is the third side?",
        "Step 1: By Pythagoras the third side c satisfies c^2 = 5^2 + 12^2.\n"
        "Step 2: So c^2 = 25 + 124 = 149.\n"
        "Step 3: The answer is \\boxed{\\sqrt{149}}.",
        " Step 2\n"
        "Explanation: The square of 12 is 144; the step takes it as 124.\n"
        "Correct solution:\n"
        "...\n"
        "Step 2: So c^2 = 25 + 144 = 169, and c = 13.\n"
        "Step 3: The answer is \\boxed{13}.",
    ),
)

# The corrected answer goes through each option, then says the reason and the choice.
CHOICE_EXAMPLES = (
    Example(
        "Where would you put a plate after washing it?",
        "A plate is used for eating, and people eat at a table. The answer is \\boxed{A}.",
        " It says where a plate is used, and the question is where a clean plate is kept.\n"
        "Corrected answer: (A) A table is where a plate is used. (B) A cupboard is where clean plates are kept. (C) An "
        "oven heats food. The question is about the time after washing, so the plate goes into the cupboard. The "
        "answer is \\boxed{B}.",
        "A. table\nB. cupboard\nC. oven",
    ),
    Example(
        "What do people need in order to read in a dark room?",
        "To read one needs something to read, which is a book. The answer is \\boxed{C}.",
        " It leaves out that the room is dark; a book alone can't be read there.\n"
        "Corrected answer: (A) A lamp gives light. (B) A curtain takes light away. (C) A book is what is read, and "
        "does not help to see. What is missing in a dark room is light. The answer is \\boxed{A}.",
        "A. lamp\nB. curtain\nC. book",
    ),
    Example(
        "A river froze overnight. What was the weather like?",
        "A river has much water, so it had rained. The answer is \\boxed{B}.",
        " It explains where the water comes from, and not why it became ice.\n"
        "Corrected answer: (A) Cold makes water into ice. (B) Rain brings water, which stays liquid. (C) Wind moves "
        "water. Only cold turns a river to ice. The answer is \\boxed{A}.",
        "A. cold\nB. rainy\nC. windy",
    ),
    Example(
        "What is a likely reason to cancel a picnic?",
        "A picnic needs food, and food can be bought, so the reason is hunger. The answer is \\boxed{C}.",
        " Hunger is a reason to go to a picnic, not to cancel it.\n"
        "Corrected answer: (A) Sunshine is good for a picnic. (B) A storm makes it impossible to sit outside. (C) "
        "Hunger is a reason to eat. A picnic is outside, so a storm ends it. The answer is \\boxed{B}.",
        "A. sunshine\nB. storm\nC. hunger",
    ),
)


def few_shot_prompt(examples: int, trace: Trace) -> str:
    """What the corrector sees: so many worked examples, then the learner's prompt."""
    template, worked = CORRECTION, EXAMPLES
    if trace.problem.choices:
        template, worked = CHOICE_CORRECTION, CHOICE_EXAMPLES
    shown: list[str] = []
    for example in worked[:examples]:
        values = {
            "question": example.question,
            "attempt": example.attempt,
            "choices": example.choices,
        }
        shown.append(fill_template(template, values) + example.correction)
    return "\n\n".join([*shown, str(trace.prompt)])


def is_correction(trace: Trace) -> bool:
    """Whether a trace was written by the corrector."""
    return trace.operator == "sample" and str(trace.prompt).startswith((_WRONG, _WRONG_ANSWER))


# What `potstill tune-prompts lema` tries: the paper's four examples fill most of a small corrector's context.
PROMPT_VARIANTS = PromptVariants(
    variants={
        "four-examples": {"settings.examples": 4},
        "two-examples": {"settings.examples": 2},
        "one-example": {"settings.examples": 1},
        "no-examples": {"settings.examples": 0},
    },
    values={"rounds": 0, "settings.chains": 1},
    is_written=is_correction,
)
