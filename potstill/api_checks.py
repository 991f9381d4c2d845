"""What the functions of `potstill.api` refuse before they begin: wrong kinds of arguments, with the call that works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from potstill.errors import ConfigError
from potstill.models.model import Model
from potstill.records import Problem, Trace

# Operators whose first argument is a function, and one that people want.
OPERATOR_FUNCTIONS: Mapping[str, str] = {
    "keep": "ps.keep(ps.right, traces), or another function",
    "best": 'ps.best(lambda trace: trace.scores["NAME"], traces), or another function',
    "weigh": "ps.weigh(lambda trace: 0.5, traces), or another function",
    "edit": "ps.edit(lambda trace: trace.text.strip(), traces), or another function",
    "dedupe": "ps.dedupe(ps.line, traces), or another function",
    "until": "ps.until(attempt, traces, rounds=3), with attempt(traces, round) -> (done, again)",
}

# What the functions take that judge, read and compare answers.
ANSWER_FUNCTIONS: Mapping[str, str] = {
    "judge": "a problem, or a trace on it, and the text of an answer",
    "read": "a problem, or a trace on it, and the text of an answer",
    "equal": "a problem, or a trace on it, and two answers",
}


def refuse_others(items: Any, kind: type, function: str, *, fix: str) -> None:
    """Refuse a list with something else in it than the function takes, with what to do."""
    for item in [items] if isinstance(items, str | Path) else items:
        if not isinstance(item, kind):
            raise ConfigError(
                f"{function} was given a {type(item).__name__}: {str(item)[:60]!r}",
                expected=f"a list of ps.{kind.__name__}",
                fix=fix,
            )


def check_reading(function: str, source: Any, limit: Any, mapping: Any) -> None:
    """Refuse a source, a limit or a mapping of another kind than what reads rows takes."""
    if not isinstance(source, str | Path) and not isinstance(source, Iterable):
        raise ConfigError(
            f"{function} was given {source!r:.60}",
            expected="a file, hf:NAME or another spec, or a list",
            fix=f'ps.{function}("train.jsonl")',
        )
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigError(
            f"limit is {limit!r}",
            expected="a whole number; 0 is all",
            fix=f"ps.{function}(…, limit=100)",
        )
    if mapping is not None and not isinstance(mapping, Mapping):
        raise ConfigError(
            f"mapping is {mapping!r:.60}",
            expected="a dictionary from fields to columns",
            fix=f'ps.{function}(…, mapping={{"question": "COLUMN"}})',
        )


def refuse_other_than_function(function: Any, operator: str, fix: str) -> None:
    """Refuse the name of a function, or anything else, in the place of an operator's function."""
    if not callable(function):
        raise ConfigError(
            f"{operator} was given {str(function)[:60]!r} as its function",
            expected="a function of a trace",
            fix=fix,
        )


def refuse_other_than_model(model: Any, function: str) -> None:
    """Refuse a spec, or anything else, in the place of a loaded model."""
    if not isinstance(model, Model):
        raise ConfigError(
            f"{function} was given {str(model)[:60]!r} as the model",
            expected="a loaded model",
            fix='ps.load_model("world:student"), or another spec',
        )


def refuse_other_than_answer(name: str, problem: object, *texts: object) -> None:
    """Refuse what is no problem with texts, and say how the function is called."""
    is_problem = isinstance(problem, Problem | Trace)
    if is_problem and all(isinstance(text, str) for text in texts):
        return
    if isinstance(problem, Trace):
        problem = problem.problem
    types = [type(value).__name__ for value in (problem, *texts)]
    raise ConfigError(
        f"{name} was given a {' and a '.join(types)}",
        expected=ANSWER_FUNCTIONS[name],
        fix="ps.judge(trace.problem, trace.text); ps.verify(traces) judges traces, ps.read_answers(traces) reads them",
    )


def numbered_rows(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Rows with where each stands; what is no mapping is refused."""
    places_and_rows = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ConfigError(
                f"row {number} is a {type(row).__name__}: {str(row)[:60]!r}",
                expected="rows as dictionaries from columns to values",
                fix='[{"prompt": "…", "completion": "…"}], or a file',
            )
        places_and_rows.append((f"row {number}", dict(row)))
    return places_and_rows
