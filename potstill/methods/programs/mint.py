"""MinT: each style in which solutions are annotated is a view, asked for by an instruction behind the question.

Read as the abstract; no code is released. Every step below is inferred.

| constant | value | source |
|---|---|---|
| instruction of a view | one, behind the question | abstract; the wording is ours |
| balance of the views | a view of n rows counts as n ** 0.5 | inferred |
| which view an answer is asked for | the first | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.errors import ConfigError, StageError
from potstill.metadata import require_metadata
from potstill.methods.answer_rows import ANSWER_ALONE
from potstill.methods.gold_solutions import judge_solutions
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    by_metadata,
    edit,
    keep,
    line,
    pose,
    prompt_text,
    report_shares,
    right,
    solve_posed,
    verify_programs,
    weigh,
)

NOISY = "noisy"
# What is asked for behind the question, by the name of the view. A style of other name is asked for by its name.
INSTRUCTIONS: Mapping[str, str] = {
    "steps": "Solve it step by step.",
    "equations": "Solve it by equations, one a line, without words.",
    "expression": "Solve it by one expression for x, then compute x.",
    NOISY: "Sketch a solution; it may be incomplete.",
}
OTHER_STYLE = "Write the solution in the style called {name}."

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_EQUATION = re.compile(rf"(?<![\w.,)-])({_NUMBER}(?:\s?[-+*/]\s?{_NUMBER})+)\s?=\s?(-?{_NUMBER})")
_TOKEN = re.compile(rf"{_NUMBER}|[-+*/]")
_RETURNED = "def solution():\n    return "
LONGEST_EXPRESSION = 300  # characters; results that are used twice double it each time


def mint(
    problems: list[Trace],
    student: Trainable,
    *,
    arm: Literal["mint", "one-view", "no-instruction"] = "mint",
    style: str = "",
    answer_view: str = "",
    balance: float = 0.5,
    noisy: bool = True,
) -> Generator[Stage, Trainable, Any]:
    """MinT: learn from solutions in several styles, each a view of its own (Liang et al., arXiv:2307.07951).

    Rows: (x, instruction of v) -> solution of x in the style v. No teacher writes.

    Learns from: the problems' own solutions, each behind the instruction of its style.
    Needs: student (is trained).
    Controls: noisy (False leaves out solutions that the verifier does not call right), balance (1 lets each row count
        alike), arm=one-view (the rows of one view alone), no-instruction (those of all views, told apart by nothing).
    Departure: every step is inferred from the abstract. A problem's metadata name its style (--set style=NAME); where
        they do not, rules make three views of a right solution: the solution, its equations alone, and one expression
        whose value is the answer; the last two where its equations follow from each other. A solution that is not
        right, or whose answer can't be read, is of a view of its own.
    Paper: 100 (from the abstract)
    Cite: Zhenwen Liang, Dian Yu, Xiaoman Pan, Wenlin Yao, Qingkai Zeng, Xiangliang Zhang, Dong Yu: MinT: Boosting
        Generalization in Mathematical Reasoning via Multi-View Fine-Tuning (2023).

    Args:
        student: learns all views.
        arm: the method or one of its controls.
        style: metadata that name the style of a problem's solution, such as "source"; empty makes views by rule.
        answer_view: the view that answers are asked for; empty is the first one.
        balance: a view of n rows counts as n to this power.
        noisy: also learn solutions that are not right, as a view of their own.
    """
    if style:
        require_metadata([style], [trace.problem for trace in problems], needed_by="mint")
    solutions = judge_solutions("mint", problems)
    require_right(solutions)

    # The views: of the solutions' styles, or made by rule; what is not right is the last one.
    views: dict[str, list[Trace]] = {}
    if style:
        for solution in solutions:
            if right(solution):
                views.setdefault(str(by_metadata(style)(solution)), []).append(solution)
    else:
        views = make_views([solution for solution in solutions if right(solution)])
    if noisy:
        # A style of this name keeps its rows.
        views.setdefault(NOISY, []).extend(s for s in solutions if not right(s))
    else:
        keep(right, solutions)  # the ledger says what is left out
    views = {name: rows for name, rows in views.items() if rows}
    report_views(views)

    # Which one is asked for.
    asked_view = answer_view or next(iter(views), "")
    if asked_view not in views:
        raise ConfigError(f"no view called {asked_view!r}", available=views, wanted=asked_view)
    if arm == "one-view":
        views = {asked_view: views[asked_view]}

    # All views together, each behind its instruction.
    weights = view_weights(views, balance)
    rows: list[Trace] = []
    for name, of_view in views.items():
        posed = of_view
        if arm != "no-instruction":
            posed = pose(partial(show_instruction, name), of_view, keep_text=True)
        rows += weigh(partial(constant_weight, weights[name]), posed)
    student = yield Stage(student, rows, "sft")
    if arm == "no-instruction":
        return None
    return partial(solve_posed, student, partial(show_instruction, asked_view))


def show_instruction(name: str, trace: Any) -> str:
    """What the learner sees: the problem, and behind it what the view asks for."""
    instruction = INSTRUCTIONS.get(name) or OTHER_STYLE.replace("{name}", name)
    return f"{prompt_text(trace)}\n\n{instruction}"


def view_weights(views: Mapping[str, Sequence[Trace]], balance: float) -> dict[str, float]:
    """The weight of a row of each view, so that a view of n rows counts as n to the power `balance`; 1 in the mean."""
    scaled = {name: len(rows) ** balance for name, rows in views.items()}
    per_unit = sum(len(rows) for rows in views.values()) / sum(scaled.values())
    return {name: per_unit * scaled[name] / len(rows) for name, rows in views.items()}


def require_right(solutions: Sequence[Trace]) -> None:
    """Refuse solutions of which none is right: where all is noise there is no view to ask for.

    Raises:
        StageError: none of them is right.
    """
    if not any(right(solution) for solution in solutions):
        raise StageError(
            f"mint asks for the style of right solutions, and none of {len(solutions)} is right to the verifier",
            expected="solutions whose answers can be read and are the gold ones",
            fix="--map solution=COLUMN, --kind number",
        )


def constant_weight(weight: float, _: Trace) -> float:
    """The weight of every row of a view."""
    return weight


def write_equations(trace: Any) -> str | None:
    """The equations of a right solution, one a line, and its answer; None where it has no equation."""
    equations = [f"{left} = {result}" for left, result in find_equations(trace.text)]
    if not equations:
        return None
    return "\n".join([*equations, ANSWER_ALONE.format(answer=trace.verdict.answer)])


def find_equations(text: str) -> list[tuple[str, str]]:
    """Both sides of each equation of numbers in a text, with one blank around operators; each once."""
    equations: dict[tuple[str, str], None] = {}
    for left, result in _EQUATION.findall(text):
        equations[" ".join(_TOKEN.findall(left)), result] = None
    return list(equations)


def make_views(solutions: Sequence[Trace]) -> dict[str, list[Trace]]:
    """Right solutions, and where one expression of their equations comes to the answer, both of these too."""
    programs = keep(right, verify_programs(edit(nest_equations, solutions)))
    return {
        "steps": list(solutions),
        "equations": edit(write_equations, among(programs, solutions, by=line)),
        "expression": edit(write_expression, programs),
    }


def nest_equations(trace: Any) -> str | None:
    """A program that returns the last equation's left side, earlier results replaced by what they come from."""
    expressions: dict[str, str] = {}
    last = ""
    for left, result in find_equations(trace.text):
        terms: list[str] = []
        for token in left.replace(",", "").split(" "):
            # A number that an earlier equation came to is that equation's left side.
            terms.append(expressions.get(token, token))
        last = " ".join(terms)
        if len(last) > LONGEST_EXPRESSION:
            return None
        expressions[result.replace(",", "")] = f"({last})"
    return _RETURNED + last if last else None


def write_expression(trace: Any) -> str:
    """The expression that a program returns, and what it came to."""
    expression = trace.text.removeprefix(_RETURNED)
    return f"x = {expression}\n{ANSWER_ALONE.format(answer=trace.verdict.answer)}"


def report_views(views: Mapping[str, Sequence[Trace]]) -> None:
    """Say how many rows each view has."""
    total = sum(len(rows) for rows in views.values())
    shares = [Share(name, len(rows), total) for name, rows in views.items()]
    report_shares("Views", shares, hint="Rows of each view, of all rows.")
