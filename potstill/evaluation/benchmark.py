"""Run a solver on problems, judge what it answers, keep one row a problem and a fingerprint of what moves the score."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TypeAlias

from potstill import verifiers
from potstill.errors import ConfigError, InputError
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.models.model import Sampling
from potstill.records import Problem, Trace, blank, canonical, digest
from potstill.traces import using, verify
from potstill.traces.session import current
from potstill.traces.verification import version

Solver: TypeAlias = Callable[..., list[Trace]]
"""Called as solver(problems, n=…, **sampling); returns n traces a problem, failed ones included."""

LIBRARIES = ("potstill", "torch", "transformers", "tokenizers", "math-verify")


def evaluate(
    solver: Solver,
    problems: Sequence[Problem | Trace],
    *,
    name: str,
    n: int,
    sampling: Sampling,
    seed: int,
    threads: int | None = None,
) -> Evaluation:
    """Let a solver answer every problem n times and judge the answers.

    The solver is called with blank traces, `n`, and the settings of `sampling` that differ from the defaults, as in
    `partial(plain, student)`; exactly these, and the seed that its requests carry, make the fingerprint. It must return
    n traces a problem, failed ones included: a solver that keeps only its good answers would be scored on those alone.

    Args:
        problems: problems, or blank traces whose `prompt` is what the learner sees.
        name: of the arm, in results and comparisons.
        n: answers a problem.
        sampling: how each answer is sampled.
        seed: of every request; a model behind a store must have been opened with the same one.
        threads: torch's thread count if a local model answers; a sum's order changes with it, and so may a sample.
    """
    asked = [p if isinstance(p, Trace) else blank(p) for p in problems]
    _check_problems(asked)
    with using(dataclasses.replace(current(), seed=seed)):
        answers = verify(solver(list(asked), n=n, **dict(sampling.changed())))
    _check_answers(asked, answers, n)
    if all(t.verdict.status == "unjudged" for t in answers if not t.error) and not all(
        t.error for t in answers
    ):
        raise InputError(
            "no answer could be judged",
            expected="problems with a gold answer and a kind that has a verifier",
            fix="map the answer column (potstill evaluate --help) or choose other problems",
        )
    models = sorted({t.author.model for t in answers if t.author})
    fingerprint = Fingerprint(_task(asked, n, sampling), _run(solver, models, seed, threads))
    return Evaluation(name, _rows(asked, answers), fingerprint)


def _check_problems(asked: Sequence[Trace]) -> None:
    if not asked:
        raise InputError(
            "no problems to evaluate on",
            expected="at least one problem",
            fix="check --problems and --limit",
        )
    twice = [key for key, count in Counter(t.problem.id for t in asked).items() if count > 1]
    if twice:
        raise InputError(
            f"{len(twice)} problem ids occur more than once, e.g. {twice[0]!r}",
            expected="one problem an id: intervals and pairs go by problem",
            fix="deduplicate the problem file or map its id column",
        )


def _check_answers(asked: Sequence[Trace], answers: Sequence[Trace], n: int) -> None:
    found = Counter(t.problem.id for t in answers)
    stray = set(found) - {t.problem.id for t in asked}
    off = [t.problem.id for t in asked if found[t.problem.id] != n]
    if stray or off:
        odd = sorted(stray)[0] if stray else off[0]
        raise ConfigError(
            f"the solver returned {found[odd]} answers for problem {odd!r} ({len(off) + len(stray)} problems off)",
            expected=f"{n} answers for each of {len(asked)} problems, failed ones included",
            fix="let the solver take n and return every answer",
        )


def _rows(asked: Sequence[Trace], answers: Sequence[Trace]) -> tuple[Row, ...]:
    by_problem: dict[str, list[Trace]] = {t.problem.id: [] for t in asked}
    for trace in answers:
        by_problem[trace.problem.id].append(trace)
    return tuple(Row(problem, tuple(_answers(drawn))) for problem, drawn in by_problem.items())


def _answers(drawn: Sequence[Trace]) -> list[Answer]:
    seen: dict[tuple[str, ...], int] = {}
    made = []
    for trace in drawn:
        group = seen.setdefault(trace.parents, len(seen))
        status = "error" if trace.error else trace.verdict.status
        cut = trace.finish == "length"
        made.append(
            Answer(status, trace.answer, _sound(trace), trace.tokens.completion, cut, group)
        )
    return made


def _sound(trace: Trace) -> bool | None:
    """Whether the answer and every step is right, by what `verify` found; None where the kind has no step verifier."""
    if trace.problem.kind not in verifiers.WITH_STEPS:
        return None
    return not trace.error and trace.verdict.status == "right" and trace.scores.get("steps") == 1.0


def _task(asked: Sequence[Trace], n: int, sampling: Sampling) -> dict[str, str]:
    kinds = sorted({t.problem.kind for t in asked})
    return {
        "problems": digest("problems", [t.problem for t in asked]),
        "prompts": digest("prompts", [t.prompt for t in asked]),
        "sampling": canonical(dict(sampling.changed())),
        "n": str(n),
        "verifiers": " ".join(version(kind) for kind in kinds),
    }


def _run(solver: Solver, models: Sequence[str], seed: int, threads: int | None) -> dict[str, str]:
    return {
        "solver": _solver_name(solver),
        "models": " ".join(models),
        "seed": str(seed),
        "threads": str(threads or ""),
        "python": platform.python_version(),
        **{library: _version(library) for library in LIBRARIES},
    }


def _solver_name(solver: Solver) -> str:
    if isinstance(solver, functools.partial):
        return _solver_name(solver.func)
    return str(getattr(solver, "__qualname__", type(solver).__qualname__))


def _version(library: str) -> str:
    """The installed version, read without importing (a resumed run that needs no model must not load torch)."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"
