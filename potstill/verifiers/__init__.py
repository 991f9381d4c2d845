"""Trace text to verdict: right, wrong, unparsed or unjudged, with a reason. One module a kind, listed in `MODULES`.

Importing this loads no verifier; each is imported when its kind is first judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Protocol

from potstill.errors import ConfigError
from potstill.records import Problem, Span, Verdict

MODULES = MappingProxyType(
    {
        "math": "potstill.verifiers.math.equality",
        "number": "potstill.verifiers.number",
        "choice": "potstill.verifiers.choice",
        "exact": "potstill.verifiers.exact",
        "regex": "potstill.verifiers.regex",
        "format": "potstill.verifiers.format",
        "table": "potstill.verifiers.sql.verifier",
        "code": "potstill.verifiers.code.verifier",
        "judge": "potstill.verifiers.rubric",
        "gym": "potstill.verifiers.gym",
        "story": "potstill.verifiers.story",
    }
)
KINDS = tuple(MODULES)
WITH_STEPS = ("story",)  # kinds whose module also has steps(problem, text)


class Verifier(Protocol):
    """What each module of the table offers."""

    VERSION: str

    def judge(self, problem: Problem, text: str) -> Verdict:
        """The verdict on a text that answers the problem."""
        ...


def judge(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """One verdict an item, in order; kinds that compute much are judged in worker processes, all of a kind at once."""
    verdicts: dict[int, Verdict] = {}
    for kind in dict.fromkeys(problem.kind for problem, _ in items):
        module = _module(kind)
        mine = [i for i, (problem, _) in enumerate(items) if problem.kind == kind]
        together = getattr(module, "judge_all", None)  # what computes much has it
        if together:
            verdicts.update(zip(mine, together([items[i] for i in mine]), strict=True))
        else:
            verdicts.update((i, module.judge(*items[i])) for i in mine)
    return [verdicts[i] for i in range(len(items))]


def version(kind: str) -> str:
    """The verifier of a kind with its version, such as "math@1"; stored verdicts are kept under it."""
    return _module(kind).VERSION


def steps(items: Sequence[tuple[Problem, str]]) -> list[tuple[Span, ...] | None]:
    """Spans of kind "step" with score 1.0 or 0.0, an item; None where the kind has no step verifier."""
    return [
        _steps(problem, text) if problem.kind in WITH_STEPS else None for problem, text in items
    ]


def check_gold(problems: Sequence[Problem]) -> list[tuple[Problem, Verdict]]:
    """The problems whose own gold answer is not judged right; a problem without one is not among them.

    Nor is one that a model judges: its answer is a reference, and showing it to the judge would cost a call.
    """
    known = [problem for problem in problems if has_gold(problem)]
    verdicts = judge([(problem, _gold(problem)) for problem in known])
    return [
        (problem, verdict)
        for problem, verdict in zip(known, verdicts, strict=True)
        if verdict.status != "right"
    ]


def failed_gold(failing: int, known: Sequence[Problem], spec: str) -> dict[str, str]:
    """What to say of gold answers that fail: found, expected and fix of an error."""
    if known[0].kind == "code":
        return {
            "found": f"{failing} of {len(known)} reference solutions in {spec} fail their own tests",
            "expected": "solutions that pass the tests of their rows; each reason says which test failed, and how",
            "fix": "mend the solution or the test in that row, or read no solutions with --map solution=",
        }
    return {
        "found": f"{failing} of {len(known)} gold answers in {spec} fail their own verifier",
        "expected": f"gold answers that the {known[0].kind!r} verifier calls right",
        "fix": "choose the verifier with --kind, or the answer column with --map answer=COLUMN",
    }


def has_gold(problem: Problem) -> bool:
    """Whether a problem has what `check_gold` checks; a program's is its solution."""
    gold = problem.solution if problem.kind == "code" else problem.answer
    return gold is not None and problem.kind != "judge"


def _steps(problem: Problem, text: str) -> tuple[Span, ...]:
    from potstill.verifiers import story

    return story.steps(problem, text)


def _gold(problem: Problem) -> str:
    """The gold answer as its verifier reads it; a pattern can't be written out, so its solution stands for it."""
    answer = problem.answer or ""
    if problem.kind == "regex":
        return problem.solution or answer
    if problem.kind == "format":
        from potstill.verifiers import format as form

        return form.example(answer)
    if problem.kind == "code":
        from potstill.verifiers.code import verifier

        return verifier.gold(problem)
    if problem.kind == "table":
        from potstill.verifiers.sql import verifier as sql_verifier

        return sql_verifier.gold_text(problem)
    if problem.kind in ("math", "story"):
        return f"\\boxed{{{answer}}}"
    if problem.kind in ("number", "choice"):
        return f"The answer is {answer}."
    return f"<answer>{answer}</answer>"


def _module(kind: str) -> Verifier:
    if kind not in MODULES:
        raise ConfigError(
            f"there is no verifier of kind {kind!r}",
            available=KINDS,
            wanted=kind,
            fix="give the problems one of these kinds, for example --kind number",
        )
    module: Verifier = import_module(MODULES[kind])
    return module
