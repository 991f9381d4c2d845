r"""Follow a text through the equations that its question requires.

A text is judged by its claims, in order: equations of whole numbers ("5 + 0 = 5", also with several operations) and
boxed answers. Signs may be LaTeX's or Unicode's (`\cdot`, `×`, `−`), and numbers may have commas ("1,200").

- A false equation is wrong. In "3 + 4 - 2 = 7 - 2 = 5" the first one says that both expressions are equal.
- An equation that the question requires next is right; `a + b` and `b + a` are one, and so are `a + b + c = d` and its
  two equations. Steps that don't need each other (the legs of two kinds of animal) may come in any order.
- A true equation is right, and counts for no step, where its sentence begins with "Check:", where it repeats a step, or
  where it has several operations (the numbers put into the question's own equation).
- An equation or box whose next sentence begins with "Wait" is taken back, and says nothing.
- "Start again" goes back to the beginning.
- A boxed answer is right when every required equation has been there and the number is the question's.

Another way to the same answer is right too. True equations that are not required are judged by where the text ends: all
are right if its last box is, if no claim is wrong, and if there are as many operations as the question has (adding 0 or
multiplying by 1 need not be written). Otherwise the first of them is where the text left the way, and is wrong. An
equation with a number that stands neither in the question nor in an earlier equation is wrong at once.

An equation of several required operations is all of them: who writes the question's own equation with its result has
claimed every step, and "3 + 4 - 2 = 5. 3 + 4 = 7." with the right box is right in each. Right says that nothing false
is claimed; how much of a way is written out is asked for by `ReferenceGate.min_step_share`, which counts equations.

Where the question has an unknown, an equation with it is a claim too (`unknown.py` says what is read): "9n = 36",
"n = \frac{36}{9} = 4". It is wrong where it does not hold for the solution: a false one is never right.

- One with the unknown alone on a side is the step that leads there ("9n = 36", then "n = 4"), or all steps up to it if
  it shows an operation ("n = (35 + 1) / 9"). Its numbers must be known, or be results of these steps.
- Any other says nothing new if its numbers are known ("9n - 1 = 35"), and is another way if they are not ("18n = 72",
  or "n = 4" before anything was worked out).

Not read as claims, elsewhere than beside an unknown: decimals, fractions as `\frac`, brackets around more than a
negative number. A right text that needs one of these is judged by the rest, and its box may be judged wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from potstill.records import Problem, Span
from potstill.verifiers.equations.families import FAMILIES
from potstill.verifiers.equations.solution import Solution, Step
from potstill.verifiers.equations.unknown import Chain, read_chains
from potstill.verifiers.story import Equation

VERSION = "equations@3"  # part of the key under which verdicts with these steps are stored

Judgement: TypeAlias = Literal["right", "wrong", "other way"]

MAX_OPERATIONS = 12  # of an equation
# Other signs, each of one character, so that no place in a text moves; "&" is where LaTeX aligns its lines.
_SIGNS = str.maketrans("−–×÷·⋅∙\u00a0\u202f&", "--*/***   ")
_OPERATOR = r"(?:[-+*/]|\\times|\\cdot|\\div|(?<=[\d\s])x)"
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,3}(?!\d)|\d{1,12})"
_NUMBER = rf"(?:-?{_DIGITS}|\(-{_DIGITS}\))"
_EXPRESSION = rf"{_NUMBER}(?:\s?{_OPERATOR}\s?{_NUMBER}){{1,{MAX_OPERATIONS}}}"
_EQUATION = re.compile(rf"(?<![\w.])({_EXPRESSION}) ?= ?({_NUMBER})(?!\w|\.\d|,\d{{3}}(?!\d))")
_BOXED = re.compile(rf"\\boxed\{{\s{{0,9}}(-?{_DIGITS})\s{{0,9}}\}}")
_CLAIM = re.compile(rf"Start again|{_EQUATION.pattern}|{_BOXED.pattern}")
# "2*n + " in front of "5 - 3 = 9"; the x in front of a number is no operator behind a letter ("max 5 - 3 = 2").
_OPEN_OPERATION = re.compile(r"(?:[\w)]\s?(?:[-+*/]|\\times|\\cdot|\\div)|[\d)]\s?x)\s?$")
_RIGHT_SIDE = re.compile(_EXPRESSION)  # "7 - 2" of "3 + 4 - 2 = 7 - 2"
_NUMBER_PATTERN = re.compile(_NUMBER)
_OPERATOR_PATTERN = re.compile(rf"\s?({_OPERATOR})\s?")
_OPERATORS = {"x": "*", "\\times": "*", "\\cdot": "*", "\\div": "/"}


class Claim(NamedTuple):
    """An equation that a text states: `numbers[0] ops[0] numbers[1] … = result`."""

    numbers: tuple[int, ...]
    ops: tuple[str, ...]
    result: int

    @property
    def is_true(self) -> bool:
        """Whether both sides are equal, products before sums; a division by 0 is never true."""
        value = _evaluate(self.numbers, self.ops)
        return value is not None and value == self.result


def has_steps(problem: Problem) -> bool:
    """Whether the steps of a problem's texts can be judged: it is of a family, and its answer is the solution's."""
    return solution_of(problem) is not None


def solution_of(problem: Problem) -> Solution | None:
    """What a problem requires; None where it is of no family."""
    family = FAMILIES.get(problem.source.removeprefix("gym:"))
    if family is None or not problem.source.startswith("gym:"):
        return None
    match = family.question.fullmatch(problem.question.strip())
    solution = family.solve(match) if match is not None else None
    if solution is None or problem.answer != str(solution.answer):
        return None
    return solution


def steps(problem: Problem, text: str) -> tuple[Span, ...]:
    """A span of kind "step" for each claim that stands; score 1 if right, else 0. Empty where nothing is claimed."""
    solution = solution_of(problem)
    if solution is None:
        return ()
    return follow_text(solution, text).spans()


def follow_text(solution: Solution, text: str) -> Follower:
    """Judge the claims of a text in order, and say where it stands in the solution."""
    follower = Follower(solution, {abs(number) for number in solution.numbers})
    text = text.translate(_SIGNS)
    for claim in _all_claims(solution, text):
        start, stop = _place(claim)
        if isinstance(claim, Chain):
            if not _is_taken_back(text, stop):
                follower.judge_chain(claim)
        elif claim[0] == "Start again":
            follower.done.clear()
        elif not _is_taken_back(text, stop):
            follower.judge_claim(claim, is_check=_is_check(text, start))
    return follower


@dataclass(slots=True)
class Follower:
    """Where a text stands in a solution.

    Args:
        solution: what is required.
        known: numbers that the question and the equations so far have, without their signs: who takes 2 away adds -2.
        done: indices of the steps that have had their equation.
        judged: the claims so far: start, stop, judgement.
        operations: how many the true equations have, checks and repetitions left out.
        ends_right: whether the last box has the right answer.
    """

    solution: Solution
    known: set[int | Fraction]
    done: set[int] = field(default_factory=set)
    judged: list[tuple[int, int, Judgement]] = field(default_factory=list)
    operations: int = 0
    ends_right: bool = False

    def judge_claim(self, match: re.Match[str], *, is_check: bool) -> None:
        """Judge one claim, and go on where it is a step."""
        if match[0].startswith("\\boxed"):
            judgement = self._judge_box(_read_number(match[3]))
        else:
            claim = _read_claim(match)
            judgement = self._judge_equation(claim, is_check=is_check)
            self.known |= {abs(number) for number in (*claim.numbers, claim.result)}
        self.judged.append((match.start(), match.end(), judgement))

    def judge_chain(self, chain: Chain) -> None:
        """Judge one claim with the unknown, and go on where it is a step."""
        self.judged.append((chain.start, chain.stop, self._judge_unknown(chain)))
        self.known |= chain.numbers
        # "9n = 35 + 1" leaves the 36 to the next equation.
        self.known |= {abs(side.constant) for side in chain.sides if not side.factor}

    def spans(self) -> tuple[Span, ...]:
        """The claims as spans, another way judged by its end."""
        judgements = [judgement for _, _, judgement in self.judged]
        needed = sum(not _does_nothing(step.equation) for step in self.solution.steps)
        arrives = self.ends_right and "wrong" not in judgements and self.operations >= needed
        spans: list[Span] = []
        for start, stop, judgement in self.judged:
            is_right = judgement == "right" or (judgement == "other way" and arrives)
            spans.append(Span(start, stop, "step", 1.0, float(is_right)))
        return tuple(spans)

    def _judge_box(self, answer: int) -> Judgement:
        self.ends_right = answer == self.solution.answer
        if not self.ends_right:
            return "wrong"
        return "right" if len(self.done) == len(self.solution.steps) else "other way"

    def _judge_equation(self, claim: Claim, *, is_check: bool) -> Judgement:
        if not claim.is_true:
            return "wrong"
        if is_check:
            return "right"
        taken = self._steps_taken(claim)
        if not taken and self._repeats_step(claim):
            return "right"
        self.done |= taken
        self.operations += len(claim.ops)
        if taken:
            return "right"
        if not {abs(number) for number in claim.numbers} <= self.known:
            return "wrong"
        return "right" if len(claim.ops) > 1 else "other way"

    def _judge_unknown(self, chain: Chain) -> Judgement:
        if not chain.holds(Fraction(self.solution.answer)):
            return "wrong"
        taken = self._steps_to_factor(chain)
        self.done |= taken
        self.operations += len(taken)
        return "right" if taken or chain.numbers <= self.known else "other way"

    def _steps_to_factor(self, chain: Chain) -> set[int]:
        """The indices of the open steps that lead to a claim with the unknown alone on a side; empty where none do."""
        if chain.isolated_factor not in self.solution.factors:
            return set()
        # Of equal factors the last: 1*n = 5 is n = 5 as well.
        last = len(self.solution.factors) - 1
        while self.solution.factors[last] != chain.isolated_factor:
            last -= 1
        results = {abs(step.equation.result) for step in self.solution.steps[: last + 1]}
        if not chain.numbers <= self.known | results | {chain.isolated_factor}:
            return set()
        missing = set(range(last + 1)) - self.done
        return missing if chain.operations or missing == {last} else set()

    def _repeats_step(self, claim: Claim) -> bool:
        return any(_is_step(claim, [self.solution.steps[index]]) for index in self.done)

    def _steps_taken(self, claim: Claim) -> set[int]:
        """The indices of the open steps, one on the result of the other, that a claim is; empty where it is none."""
        for first, step in enumerate(self.solution.steps):
            if first in self.done or not self.done.issuperset(step.needs):
                continue
            run = [first]
            while len(run) < len(claim.ops):
                following = run[-1] + 1
                if not self._continues(run, following):
                    break
                run.append(following)
            if len(run) == len(claim.ops) and _is_step(
                claim, [self.solution.steps[index] for index in run]
            ):
                return set(run)
        return set()

    def _continues(self, run: list[int], index: int) -> bool:
        """Whether the step of an index works on the result of the last of a run, and else on what is done."""
        if index >= len(self.solution.steps):
            return False
        needs = self.solution.steps[index].needs
        return run[-1] in needs and self.done.issuperset(set(needs) - set(run))


def _is_step(claim: Claim, run: list[Step]) -> bool:
    """Whether a claim is the equation of these steps, each on the result of the one before; factors in any order."""
    numbers = [run[0].equation.left, *(step.equation.right for step in run)]
    ops = [step.equation.op for step in run]
    if claim.result != run[-1].equation.result or list(claim.ops) != ops:
        return False
    if set(ops) in ({"+"}, {"*"}):
        return sorted(claim.numbers) == sorted(numbers)
    return list(claim.numbers) == numbers


def _does_nothing(equation: Equation) -> bool:
    """Whether it adds or takes away 0, or multiplies or divides by 1: such a step may be left out."""
    if equation.op in "+-":
        adds_to_nothing = equation.op == "+" and equation.left == 0
        return equation.right == 0 or adds_to_nothing
    multiplies_one = equation.op == "*" and equation.left == 1
    return equation.right == 1 or multiplies_one


def _all_claims(solution: Solution, text: str) -> list[re.Match[str] | Chain]:
    """The claims of a text in order; what is read as an equation with the unknown is not read once more without it."""
    if not solution.unknown:
        return list(_claims(text))
    chains = list(read_chains(text, solution.unknown))
    text_without_chains = text
    for chain in chains:
        blank = ";" * (chain.stop - chain.start)
        text_without_chains = (
            text_without_chains[: chain.start] + blank + text_without_chains[chain.stop :]
        )
    return sorted([*chains, *_claims(text_without_chains)], key=_place)


def _place(claim: re.Match[str] | Chain) -> tuple[int, int]:
    """Where a claim starts and stops."""
    if isinstance(claim, Chain):
        return claim.start, claim.stop
    return claim.start(), claim.end()


def _claims(text: str) -> Iterator[re.Match[str]]:
    """The claims of a text in order; in "5 + 3 = 8 + 2 = 10" the 8 belongs to both equations."""
    position = 0
    while match := _CLAIM.search(text, position):
        position = match.end()
        if match[1] is None:
            yield match
            continue
        if not _OPEN_OPERATION.search(text[max(0, match.start() - 12) : match.start()]):
            yield match
        position = match.start(2)


def _read_claim(match: re.Match[str]) -> Claim:
    """The numbers and operations of an equation, and its right side's value."""
    numbers, ops = _read_expression(match[1])
    claim = Claim(numbers, ops, _read_number(match[2]))
    # In "3 + 4 - 2 = 7 - 2" the right side is an expression; in "4 + 3 = 7 - 2 = 5" each equation is one by itself.
    right_side = _RIGHT_SIDE.match(match.string, match.start(2))
    if right_side is not None and not claim.is_true:
        value = _evaluate(*_read_expression(right_side[0]))
        if value is not None and value == _evaluate(numbers, ops) and value.denominator == 1:
            return claim._replace(result=int(value))
    return claim


def _read_expression(expression: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The numbers of an expression, and the operators between them."""
    numbers: list[int] = []
    ops: list[str] = []
    position = 0
    while True:
        number = _NUMBER_PATTERN.match(expression, position)
        assert number is not None
        numbers.append(_read_number(number[0]))
        sign = _OPERATOR_PATTERN.match(expression, number.end())
        if sign is None:
            return tuple(numbers), tuple(ops)
        ops.append(_OPERATORS.get(sign[1], sign[1]))
        position = sign.end()


def _read_number(number: str) -> int:
    return int(number.strip("()").replace(",", ""))


def _evaluate(numbers: tuple[int, ...], ops: tuple[str, ...]) -> Fraction | None:
    """The value of a sum of products; None for a division by 0."""
    total, product = Fraction(0), Fraction(numbers[0])
    for op, number in zip(ops, numbers[1:], strict=True):
        if op == "*":
            product *= number
        elif op == "/":
            if number == 0:
                return None
            product /= number
        else:
            total += product
            product = Fraction(number if op == "+" else -number)
    return total + product


def _is_check(text: str, position: int) -> bool:
    """Whether the sentence that a claim stands in begins with "Check:"."""
    sentence = re.split(r"[.!] |\n", text[max(0, position - 200) : position])[-1]
    return sentence.lstrip().startswith("Check:")


def _is_taken_back(text: str, end: int) -> bool:
    """Whether the sentence after a claim begins with "Wait"."""
    return text[end : end + 20].lstrip(". \n$)").startswith("Wait")
