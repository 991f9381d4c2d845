"""The problems' own solutions as texts to learn from: what a file's solution, or a built-in task's program, says."""

from __future__ import annotations

from potstill.records import Trace


def has_solution(trace: Trace) -> tuple[bool, str]:
    """The problem comes with a solution."""
    return bool(trace.problem.solution), "the problem has no solution"


def show_solution(trace: Trace) -> dict[str, str]:
    """The problem's solution as the text of a trace; a program stands in a block, as an answer's would."""
    solution = trace.problem.solution or ""
    if trace.problem.kind == "code":
        solution = f"```python\n{solution}\n```"
    return {"text": solution, "finish_reason": "stop"}
