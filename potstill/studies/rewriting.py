"""Does the student read its errors? How often its rewrites verify with its own errors, with none, with shuffled ones.

If the three are equal the student only copies the reference, and a comparison of ORION's arms would be empty. Each
condition rewrites the same references of the same problems once (no resampling); differences are paired by problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from potstill.errors import InputError
from potstill.evaluation.intervals import difference_interval
from potstill.methods.errors.orion.orion import expose_errors
from potstill.methods.errors.orion.prompts import REFLECT, REFLECT_ALONE
from potstill.methods.errors.orion.settings import Settings
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Trace, blank
from potstill.traces import keep, problem, rewrite, right, sample, sound, verify
from potstill.world.prompts import DIRECT
from potstill.world.tasks import make_problems

Test = Callable[[Trace], bool]


def check(
    teacher: Model, student: Trainable, *, task: str = "story", size: int = 400, seed: int = 0
) -> dict[str, Any]:
    """Measure a teacher and a student of the world on problems that neither was trained on.

    Args:
        teacher: of the task's family.
        student: of the task's family.
        task: of the world.
        size: problems.
        seed: of the problems.

    Returns:
        teacher and student accuracy (answer, steps, unparsed), and under "rewriting" the shares of each condition with
        the paired differences own - none and own - shuffled, in points with 95 % intervals.
    """
    problems = [blank(p) for p in make_problems(task, size=size, seed=seed, split="check")]
    settings = Settings()
    chains = verify(sample(teacher, problems, **dict(settings.teacher_sampling)))
    answers = verify(sample(student, problems, n=4, temperature=0.6))

    # The teacher's right chains on the problems where the student errs: every condition rewrites these.
    attempts = expose_errors(student, problems, 5, settings)
    erring_problems = {attempt.problem.id for attempt in attempts}
    bases = [chain for chain in keep(right, chains) if chain.problem.id in erring_problems]
    rewrites = {
        "own": rewrite_once(student, bases, attempts, problem, settings),
        "none": rewrite_once(student, bases, [], problem, settings),
        "shuffled": rewrite_once(student, bases, attempts, shuffled_key(attempts), settings),
    }
    differences: dict[str, list[float]] = {}
    for other in ("none", "shuffled"):
        for what, test in (("answer", right), ("steps", sound)):
            points = paired_points(rewrites["own"], rewrites[other], test)
            differences[f"own - {other} ({what})"] = points
    return {
        "problems": size,
        "teacher": status_shares(chains),
        "student": status_shares(answers),
        "rewriting": {name: status_shares(traces) for name, traces in rewrites.items()},
        "differences": differences,
    }


def check_at_once(teacher: Model, *, task: str, size: int = 400, seed: int = 0) -> dict[str, float]:
    """How often a teacher that was taught to answer at once is right without a chain, on the problems of `check`."""
    problems = make_problems(task, size=size, seed=seed, split="check")
    asked = [blank(problem, DIRECT.format(question=problem.question)) for problem in problems]
    return status_shares(verify(sample(teacher, asked, temperature=0.6)))


def rewrite_once(
    student: Model,
    bases: Sequence[Trace],
    attempts: Sequence[Trace],
    attempts_key: Callable[[Trace], str],
    settings: Settings,
) -> list[Trace]:
    """One judged rewrite of each base, shown these attempts, or none where there are none."""
    rewrites = rewrite(
        student,
        bases,
        prompt=REFLECT if attempts else REFLECT_ALONE,
        context={"attempts": attempts} if attempts else None,
        by=attempts_key,
        guard=False,
        **dict(settings.reflection_sampling),
    )
    return verify(rewrites)


def status_shares(traces: Sequence[Trace]) -> dict[str, float]:
    """Shares right by answer, right in every step, and unparsed."""
    n = len(traces)
    if not n:
        raise InputError(
            "no problem where the student errs and the teacher is right",
            fix="more problems: --size 400",
        )
    unparsed = sum(trace.verdict.status == "unparsed" for trace in traces)
    return {
        "traces": n,
        "right": sum(map(right, traces)) / n,
        "steps": sum(map(sound, traces)) / n,
        "unparsed": unparsed / n,
    }


def paired_points(one: Sequence[Trace], other: Sequence[Trace], test: Test) -> list[float]:
    """Difference in points, with its interval: [value, low, high]."""
    differences = [float(test(a)) - float(test(b)) for a, b in zip(one, other, strict=True)]
    return [round(100 * end, 1) for end in difference_interval(differences)]
