"""Run a solver on problems, judge its answers, keep one row a problem and a fingerprint of what moves the score."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, TypeAlias

from potstill import verifiers
from potstill.errors import ConfigError, InputError
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.metadata import known_metadata
from potstill.models.model import Sampling
from potstill.models.phase import in_phase
from potstill.records import Author, Problem, Trace, blank, canonical, digest
from potstill.traces import answer_classes, using, verify
from potstill.traces.sample_indices import SampleCounter
from potstill.traces.session import current_session
from potstill.traces.usage import Usage, UsageMeter
from potstill.traces.verification import verifier_version
from potstill.values import plain_value

Solver: TypeAlias = Callable[..., list[Trace]]
"""Called as solver(problems, n=…, **sampling); returns n traces a problem, failed ones included."""

SHOWN_VALUE = 40  # characters of a solver's value in a fingerprint
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
    traces = [problem if isinstance(problem, Trace) else blank(problem) for problem in problems]
    check_problems(traces)
    # The session's seed is that of every request; a store of another seed refuses to answer.
    # And its phase is a measurement, whoever the solver asks: an answer that was cut stays one.
    # Samples are counted anew, so that two solvers of one model are compared on the same ones.
    # What judges the answers is no part of what they cost.
    meter = UsageMeter()
    session = dataclasses.replace(current_session(), seed=seed, samples=SampleCounter())
    with in_phase("evaluation"):
        with using(dataclasses.replace(session, usage=meter)):
            answers = solver(list(traces), n=n, **dict(sampling.changed()))
        with using(session):
            answers = verify(answers)
    check_answers(traces, answers, n)
    check_judged(answers)

    # The answers say who wrote them, the meter who else was asked: a solver may ask a planner or a judge of drafts too.
    authors = {trace.author.model for trace in answers if trace.author is not None}
    models = sorted(authors | meter.model_ids())
    task = describe_task(traces, n, sampling)
    run = describe_run(solver, models, seed, threads)
    # What the learner was shown in the end: a solver may pose another prompt than its problems'.
    run["learner_prompts"] = digest("prompts", list(dict.fromkeys(t.prompt for t in answers)))
    fingerprint = Fingerprint(task, run)
    return Evaluation(name, collect_rows(traces, answers, meter.by_problem()), fingerprint)


def check_problems(problems: Sequence[Trace]) -> None:
    """Refuse an empty set of problems, and two problems with one id."""
    if not problems:
        raise InputError(
            "no problems to evaluate on",
            expected="at least one problem",
            fix="check --problems and --limit",
        )
    counts = Counter(trace.problem.id for trace in problems)
    repeated_ids = [problem_id for problem_id, count in counts.items() if count > 1]
    if repeated_ids:
        raise InputError(
            f"{len(repeated_ids)} problem ids occur more than once, e.g. {repeated_ids[0]!r}",
            expected="one problem an id: intervals and pairs go by problem",
            fix="deduplicate the problem file or map its id column",
        )


def check_answers(problems: Sequence[Trace], answers: Sequence[Trace], n: int) -> None:
    """Refuse a solver that does not return n answers to each problem, and to no other."""
    counts = Counter(trace.problem.id for trace in answers)
    problem_ids = [trace.problem.id for trace in problems]
    stray_ids = sorted(set(counts) - set(problem_ids))
    miscounted_ids = [problem_id for problem_id in problem_ids if counts[problem_id] != n]
    off = stray_ids + miscounted_ids
    if off:
        raise ConfigError(
            f"the solver returned {counts[off[0]]} answers for problem {off[0]!r} ({len(off)} problems off)",
            expected=f"{n} answers for each of {len(problems)} problems, failed ones included",
            fix="let the solver take n and return every answer",
        )


def check_judged(answers: Sequence[Trace]) -> None:
    """Refuse answers of which no verifier could judge one, unless all of them failed."""
    finished = [trace for trace in answers if not trace.error]
    if finished and all(trace.verdict.status == "unjudged" for trace in finished):
        raise InputError(
            "no answer could be judged",
            expected="problems with a gold answer and a kind that has a verifier",
            fix="map the answer column (potstill evaluate --help) or choose other problems",
        )


def collect_rows(
    problems: Sequence[Trace],
    answers: Sequence[Trace],
    usage: Mapping[str, Mapping[str, Usage]] = MappingProxyType({}),
) -> tuple[Row, ...]:
    """One row a problem, in the order of the problems; `usage` is by problem and role."""
    # A solver may return its answers in any order.
    answers_by_problem: dict[str, list[Trace]] = {trace.problem.id: [] for trace in problems}
    ballots_by_problem: dict[str, list[int | None]] = {trace.problem.id: [] for trace in problems}
    for trace, ballot in zip(answers, answer_classes(answers), strict=True):
        answers_by_problem[trace.problem.id].append(trace)
        ballots_by_problem[trace.problem.id].append(ballot)
    metadata_by_problem = {trace.problem.id: known_metadata(trace.problem) for trace in problems}
    rows: list[Row] = []
    for problem_id, traces in answers_by_problem.items():
        judged = tuple(judge_answers(traces, ballots_by_problem[problem_id]))
        metadata = metadata_by_problem[problem_id]
        rows.append(Row(problem_id, judged, usage.get(problem_id, {}), metadata))
    return tuple(rows)


def judge_answers(traces: Sequence[Trace], ballots: Sequence[int | None]) -> list[Answer]:
    """What an evaluation keeps of the judged answers to one problem.

    Args:
        traces: the judged answers.
        ballots: the number of each one's class of equal answers.
    """
    # Answers of one plan have the same parents; plans are numbered as they come.
    group_by_parents: dict[tuple[str, ...], int] = {}
    answers: list[Answer] = []
    draws: set[tuple[Author, str]] = set()
    for trace, ballot in zip(traces, ballots, strict=True):
        draw = draw_of(trace)
        answers.append(
            Answer(
                status="error" if trace.error else trace.verdict.status,
                answer=trace.answer,
                steps=are_steps_right(trace),
                tokens=trace.tokens.completion,
                cut=trace.finish_reason == "length",
                group=group_by_parents.setdefault(trace.parents, len(group_by_parents)),
                ballot=ballot,
                is_repeat=draw in draws,
            )
        )
        if draw is not None:
            draws.add(draw)
    return answers


def draw_of(trace: Trace) -> tuple[Author, str] | None:
    """What tells one draw from another: the call and its text; None where nobody says who wrote it, or it failed."""
    author = trace.author
    if author is None or trace.error:
        return None
    if dict(author.settings).get("temperature") == 0:
        author = author._replace(sample_index=0)  # all greedy samples are one
    return author, trace.text


def are_steps_right(trace: Trace) -> bool | None:
    """Whether the answer and every step is right, by what `verify` found; None where no verifier has steps for it."""
    if not verifiers.has_steps(trace.problem):
        return None
    return not trace.error and trace.verdict.status == "right" and trace.scores.get("steps") == 1.0


def describe_task(problems: Sequence[Trace], n: int, sampling: Sampling) -> dict[str, str]:
    """What was asked: the part of a fingerprint that must be equal for a comparison."""
    kinds = sorted({trace.problem.kind for trace in problems})
    return {
        "problems": digest("problems", [trace.problem for trace in problems]),
        "prompts": digest("prompts", [trace.prompt for trace in problems]),
        "sampling": canonical(dict(sampling.changed())),
        "n": str(n),
        "verifiers": " ".join(verifier_version(kind) for kind in kinds),
    }


def describe_run(
    solver: Solver, models: Sequence[str], seed: int, threads: int | None
) -> dict[str, str]:
    """Who answered and where: the part of a fingerprint that may differ between arms."""
    run = {
        "solver": solver_name(solver),
        "solver_values": solver_values(solver),
        "solver_code": digest("solver", plain_value(solver)),
        "models": " ".join(models),
        "seed": str(seed),
        "threads": str(threads or ""),
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        run[library] = installed_version(library)
    return run


def solver_values(solver: Solver) -> str:
    """The values that a solver was bound with, as JSON; those of its code are in `solver_code`."""
    values: dict[str, Any] = {}
    while isinstance(solver, functools.partial):
        for position, value in enumerate(solver.args):
            values.setdefault(str(position), value)
        values = {**solver.keywords, **values}
        solver = solver.func
    readable = {}
    for name, value in values.items():
        if value is None or isinstance(value, str | bool | int | float):
            readable[name] = str(value)[:SHOWN_VALUE]
    return canonical(readable)


def solver_name(solver: Solver) -> str:
    """The name of the function under a solver's bound arguments."""
    if isinstance(solver, functools.partial):
        return solver_name(solver.func)
    return str(getattr(solver, "__qualname__", type(solver).__qualname__))


def installed_version(library: str) -> str:
    """The installed version, read without importing (a resumed run that needs no model must not load torch)."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"
