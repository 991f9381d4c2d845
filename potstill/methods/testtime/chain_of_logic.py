"""Chain of Logic: a rule is taken apart into elements, each one is answered, and the whole is put together again.

The abstract was read, and summaries of the six steps; every step here is inferred from these, and all wording is ours.

| constant | value | source |
|---|---|---|
| demonstrations | 1, of another rule than the question's | abstract and summaries: one shot, a different rule |
| steps | elements, expression, a question with reasons and answer for each, substitution, result | summaries |
| calls an answer | 1 | inferred: one demonstration shows all steps |
"""

from __future__ import annotations

import ast
import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from potstill.models.model import Model
from potstill.records import Problem, Stage, Trace
from potstill.traces import count_reading, edit, sample

Arm: TypeAlias = Literal["chain", "self-ask", "cot", "standard", "zero-shot"]
# The demonstration is a rule that nobody asks about, and its facts.
CASE = """\
Rule: A library waives a late fee if the borrower was in hospital on the due date, or if the book came back within \
seven days and the borrower has no other late book.
Facts: Ada's book was due on 3 May, and she brought it back on 8 May. On 3 May she was at home. Her other books were \
all on time.
Issue: Is Ada's late fee waived?"""
CHAIN = """\
Elements:
E1: the borrower was in hospital on the due date
E2: the book came back within seven days
E3: the borrower has no other late book
Expression: E1 or (E2 and E3)
Question 1: Was the borrower in hospital on the due date? On 3 May Ada was at home. E1 = No
Question 2: Did the book come back within seven days? 8 May is five days after 3 May. E2 = Yes
Question 3: Has the borrower no other late book? Her other books were all on time. E3 = Yes
Substituted: No or (Yes and Yes)
Result: No or Yes, which is Yes.
The answer is \\boxed{Yes}."""
SELF_ASK = """\
Are follow-up questions needed here: Yes.
Follow-up: Was Ada in hospital on the due date? Answer: No, she was at home.
Follow-up: Did the book come back within seven days? Answer: Yes, after five.
Follow-up: Has she no other late book? Answer: Yes, the others were all on time.
So the answer is \\boxed{Yes}."""
COT = """\
Ada was at home on the due date, so being in hospital does not help her. The book came back five days late, which is \
within seven days, and her other books were all on time. So the second case of the rule holds.
The answer is \\boxed{Yes}."""
STANDARD = "The answer is \\boxed{Yes}."
REQUEST = """\
Answer the question at the end in the way that the example shows, with the answer in the form that its question asks \
for.

Example:
{case}

{demonstration}

Question:
{prompt}"""
DEMONSTRATIONS: Mapping[Arm, str] = {
    "chain": CHAIN,
    "self-ask": SELF_ASK,
    "cot": COT,
    "standard": STANDARD,
}
_EXPRESSION = re.compile(r"^[ \t*#]{0,9}Expression[ \t*]{0,9}:(.{1,400})$", re.MULTILINE)
_VALUE = re.compile(r"\bE(\d{1,3})[ \t*]{0,9}=[ \t*]{0,9}(Yes|No)\b", re.IGNORECASE)
_TOKENS = re.compile(r"(?:E\d{1,3}|and|or|not|[()]|\s)+")
MAX_BRACKETS = 40  # what a rule may nest; deeper ones come from no rule


def chain_of_logic(
    problems: list[Trace],
    student: Model,
    *,
    arm: Arm = "chain",
    resolver: Literal["student", "code"] = "student",
) -> Generator[Stage, Model, Any]:
    """Chain of Logic: rule-based reasoning with language models (Servantez et al., arXiv:2402.10400).

    The rule's elements E_1 … E_k and their expression are written down, each element is decided apart from the others,
    and the answer is the expression with these values.

    Learns from: nothing; it is a way to ask any student.
    Needs: student (answers behind a demonstration).
    Controls: arm=self-ask (follow-up questions without an expression), cot (one demonstration with a chain of thought),
        standard (one with the answer alone), zero-shot (none), resolver=code (a program resolves the expression: is it
        the logic that fails, or the elements?).
    Departure: demonstration and prompts are ours; resolver=code is no part of the paper.
    Paper: 177 (from the abstract)
    Cite: Sergio Servantez, Joe Barrow, Kristian Hammond, Rajiv Jain: Chain of Logic: Rule-Based Reasoning with Large
        Language Models (2024).

    Args:
        student: any model.
        arm: the method or one of the paper's other prompts.
        resolver: who resolves the expression of arm=chain in the end.
    """
    return partial(solve_by_logic, student, arm, resolver == "code" and arm == "chain")
    yield  # nothing is trained


def solve_by_logic(
    student: Model,
    arm: Arm,
    resolves: bool,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Answer each problem n times behind the demonstration; a program may have the last word on the expression."""
    if arm == "zero-shot":
        return sample(student, problems, n=n, **sampling)
    # The demonstration holds braces of LaTeX, which the template would take for names.
    prompt = REQUEST.replace("{case}", CASE).replace(
        "{demonstration}", DEMONSTRATIONS[arm].replace("{", "{{").replace("}", "}}")
    )
    replies = sample(student, problems, prompt=prompt, n=n, **sampling)
    return edit(state_result, replies) if resolves else replies


def state_result(trace: Any) -> str:
    """The reply with what its expression amounts to as its last line; as it is where that can't be told."""
    truth = resolve_expression(trace.text)
    count_reading("logical expression", trace.text, "unparsed" if truth is None else "strict")
    answer = None if truth is None else answer_in_form(trace.problem, truth)
    if answer is None:
        return str(trace.text)
    return f"{trace.text.rstrip()}\nResolved by a program: \\boxed{{{answer}}}."


def answer_in_form(problem: Problem, truth: bool) -> str | None:
    """Yes or No; of a multiple choice the letter of the choice that says so, None where none does."""
    word = "Yes" if truth else "No"
    if not problem.choices:
        return word
    synonyms = {"yes", "true"} if truth else {"no", "false"}
    for number, choice in enumerate(problem.choices):
        if choice.strip(" .").casefold() in synonyms:
            return chr(ord("A") + number)
    return None


def resolve_expression(text: str) -> bool | None:
    """What the last expression of a text is with the last value of each element; None where one of them is missing."""
    expressions = _EXPRESSION.findall(text)
    if not expressions:
        return None
    # Words of logic in any case; anything beside them and elements is no expression.
    formula = re.sub(
        r"\b(and|or|not)\b",
        lambda word: word[0].lower(),
        expressions[-1].strip(" \t*."),
        flags=re.I,
    )
    if not _TOKENS.fullmatch(formula) or formula.count("(") > MAX_BRACKETS:
        return None
    # The last answer to an element counts: a reply may take an earlier one back.
    values = {number: value.lower() == "yes" for number, value in _VALUE.findall(text)}
    try:
        return evaluate_formula(ast.parse(formula.strip(), mode="eval").body, values)
    except (SyntaxError, KeyError):
        return None


def evaluate_formula(node: ast.expr, values: Mapping[str, bool]) -> bool:
    """The value of a formula of elements, `and`, `or` and `not`.

    Raises:
        KeyError: an element without a value.
        SyntaxError: anything else, such as a call.
    """
    if isinstance(node, ast.Name):
        return values[node.id.removeprefix("E")]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not evaluate_formula(node.operand, values)
    if isinstance(node, ast.BoolOp):
        parts = [evaluate_formula(part, values) for part in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    raise SyntaxError(type(node).__name__)
