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
from potstill.methods.errors.orion.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Trace, blank
from potstill.traces import keep, problem, rewrite, right, sample, sound, verify
from potstill.world import story

Test = Callable[[Trace], bool]


def check(teacher: Model, student: Trainable, *, size: int = 400, seed: int = 0) -> dict[str, Any]:
    """Measure the world's teacher and student on stories that neither was trained on.

    Returns:
        teacher and student accuracy (answer, steps, unparsed), and under "rewriting" the shares of each condition with
        the paired differences own - none and own - shuffled, in points with 95 % intervals.
    """
    problems = [blank(p) for p in story.problems(size=size, seed=seed, split="check")]
    settings = Settings()
    chains = verify(sample(teacher, problems, **dict(settings.teacher_sampling)))
    answers = verify(sample(student, problems, n=4, temperature=0.6))
    mistakes = expose_errors(student, problems, 5, settings)
    erring = {t.problem.id for t in mistakes}
    bases = [t for t in keep(right, chains) if t.problem.id in erring]
    rewrites = {
        "own": _rewritten(student, bases, mistakes, problem, settings),
        "none": _rewritten(student, bases, [], problem, settings),
        "shuffled": _rewritten(student, bases, mistakes, shuffled_key(mistakes), settings),
    }
    return {
        "problems": size,
        "teacher": _shares(chains),
        "student": _shares(answers),
        "rewriting": {name: _shares(traces) for name, traces in rewrites.items()},
        "differences": {
            f"own - {other} ({name})": _points(rewrites["own"], rewrites[other], test)
            for other in ("none", "shuffled")
            for name, test in (("answer", right), ("steps", sound))
        },
    }


def _rewritten(
    student: Model,
    bases: Sequence[Trace],
    mistakes: Sequence[Trace],
    by: Callable[[Trace], str],
    s: Settings,
) -> list[Trace]:
    context = {"attempts": mistakes} if mistakes else None
    prompt = REFLECT if mistakes else REFLECT_ALONE
    drawn = rewrite(
        student,
        bases,
        prompt=prompt,
        context=context,
        by=by,
        guard=False,
        **dict(s.reflection_sampling),
    )
    return verify(drawn)


def _shares(traces: Sequence[Trace]) -> dict[str, float]:
    n = len(traces)
    if not n:
        raise InputError(
            "no problem where the student errs and the teacher is right",
            fix="more stories: --size 400",
        )
    return {
        "traces": n,
        "right": sum(map(right, traces)) / n,
        "steps": sum(map(sound, traces)) / n,
        "unparsed": sum(t.verdict.status == "unparsed" for t in traces) / n,
    }


def _points(one: Sequence[Trace], other: Sequence[Trace], test: Test) -> list[float]:
    """Difference in points, with its interval: [value, low, high]."""
    pairs = [float(test(a)) - float(test(b)) for a, b in zip(one, other, strict=True)]
    return [round(100 * end, 1) for end in difference_interval(pairs)]
