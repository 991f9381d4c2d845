"""The problems' own solutions as texts to learn from: what a file's solution, or a built-in task's program, says."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.errors import StageError
from potstill.records import Trace
from potstill.traces import edit, keep, verify


def judge_solutions(
    method: str, problems: Sequence[Trace], *, alternative: str = ""
) -> list[Trace]:
    """The problems' own solutions, judged like a model's chains; problems without one go to the ledger.

    Args:
        method: the name that an error begins with.
        problems: blank traces.
        alternative: what to do without solutions; the end of the error's last line.

    Raises:
        StageError: no problem has a solution.
    """
    with_solution = keep(has_solution, problems)
    if not with_solution:
        advice = "--map solution=COLUMN"
        raise StageError(
            f"{method} learns the problems' own solutions, and none of {len(problems)} problems has one",
            expected="problems with a solution, as GSM8K's answer column or a column `solution` gives it",
            fix=f"{advice}; {alternative}" if alternative else advice,
        )
    return verify(edit(show_solution, with_solution))


def has_solution(trace: Trace) -> tuple[bool, str]:
    """The problem comes with a solution."""
    return bool(trace.problem.solution), "the problem has no solution"


def show_solution(trace: Trace) -> dict[str, str]:
    """The problem's solution as the text of a trace; a program stands in a block, as an answer's would."""
    solution = trace.problem.solution or ""
    if trace.problem.kind == "code":
        solution = f"```python\n{solution}\n```"
    return {"text": solution, "finish_reason": "stop"}
