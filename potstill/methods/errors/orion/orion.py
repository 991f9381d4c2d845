"""ORION: the student rewrites the teacher's reasoning in the light of its own errors (arXiv:2505.22131 v2).

The paper's full text could not be read: what follows is its abstract's method, with the mechanics of its siblings EULER
and P-ALIGN. What is inferred stands in `orion_settings.py`, the prompts in `orion_prompts.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

from potstill.methods.errors.orion.filters import (
    alike,
    boxed,
    copied,
    finished,
    long_enough,
    rotated,
    self_contained,
    steady,
)
from potstill.methods.errors.orion.prompt_length import left_out, shown
from potstill.methods.errors.orion.prompts import CORRECT_ALONE, REFLECT, REFLECT_ALONE
from potstill.methods.errors.orion.settings import ARMS, Arm, Settings
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import each, keep, problem, rewrite, right, sample, score, sound, verify, wrong

Test = Callable[[Trace], bool]


def orion(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    n: int = 5,
    arm: Arm = "own",
    steps: bool = False,
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """ORION: error-aware self-reflection (arXiv:2505.22131).

    Exposure: Y_i^e = { y_i^j : V(y_i^j, a_i*) = 0 }. Reflection: y~_i = M(I_ref(q_i, c_i^T, Y_i^e)).
    Data: { (q_i, y~_i) : V(y~_i, a_i*) = 1 }, one row a problem. The learner sees the bare question.

    Args:
        n: solutions sampled from the student a problem, to expose its errors.
        arm: which ablation; a row of `ARMS`.
        steps: also demand that every step is right; for problems with a step verifier.
        settings: what is inferred.
    """
    s = replace(settings, **ARMS[arm])  # type: ignore[arg-type]
    passes = sound if steps else right
    chains = keep(passes, verify(sample(teacher, problems, max_tokens=s.most, **dict(s.teaching))))
    if s.writer == "nobody":
        yield Stage(student, copied(chains, chains, []), "sft")
        return
    mistakes = [] if s.errors == "none" else expose(student, problems, n, s)
    erring = {t.problem.id for t in mistakes}
    by = rotated(mistakes) if s.errors == "shuffled" else problem
    bases = score(
        "left_out", partial(left_out, s, mistakes, by), chains if s.reference else problems
    )
    seen = [t for t in bases if t.problem.id in erring]
    unseen = [t for t in bases if t.problem.id not in erring]
    writer = teacher if s.writer == "teacher" else student
    prompt = partial(shown, REFLECT if s.reference else CORRECT_ALONE, s)
    told = partial(rewrite, writer, prompt=prompt, context={"attempts": mistakes}, by=by)
    rows = reflect(told, seen, passes, s)
    alone = s.reference and (s.no_errors == "reflect" or s.errors == "none")
    if alone:
        rows += reflect(
            partial(rewrite, writer, prompt=partial(shown, REFLECT_ALONE, s)), unseen, passes, s
        )
    elif s.no_errors == "drop":
        keep(erred, unseen)
    kept = {t.problem.id for t in rows}
    failed = [t for t in chains if t.problem.id not in kept]
    rows += [
        t
        for t in failed
        if (s.on_fail if alone or t.problem.id in erring else s.no_errors) == "teacher"
    ]
    yield Stage(student, copied(rows, chains, mistakes), "sft")


def expose(student: Model, problems: list[Trace], n: int, s: Settings) -> list[Trace]:
    """Steps 1 and 2: the student's wrong attempts, at most k a problem; not the unparsed, cut-off or looping ones."""
    attempts = verify(sample(student, problems, n=n, **dict(s.exposure)))
    wrongs = keep(partial(steady, s.loop), keep(finished, keep(wrong, attempts)))
    return each(partial(select, s), wrongs, by=problem)


def erred(trace: Trace) -> tuple[bool, str]:
    """Never: names the policy in the ledger."""
    return False, "the student made no error to be shown"


def select(s: Settings, attempts: list[Trace]) -> list[Trace]:
    """One attempt a distinct wrong answer, the most frequent answer first, in its shortest wording."""
    counts = Counter(t.answer for t in attempts)
    ordered = sorted(attempts, key=lambda t: (-counts[t.answer], len(t.text), t.id))
    chosen: list[Trace] = []
    for t in ordered:
        if len(chosen) < s.k and all(
            t.answer != c.answer and alike(t, c) < s.jaccard for c in chosen
        ):
            chosen.append(t)
    ids = {t.id for t in chosen}

    def selected(trace: Trace) -> bool:
        return trace.id in ids

    return keep(selected, ordered)


def reflect(
    told: Callable[..., list[Trace]], bases: list[Trace], passes: Test, s: Settings
) -> list[Trace]:
    """Steps 3 and 4: rewrite each base until a rewrite passes every gate, at most 1 + m times; one row a problem."""
    gates = (
        finished,
        passes,
        boxed,
        self_contained,
        partial(long_enough, s.least, s.most),
        partial(steady, s.loop),
    )
    rows: list[Trace] = []
    for draw in range(1 + s.resamples):
        if not bases:
            break
        written = told(bases, draw=draw, guard=False, max_tokens=s.most, **dict(s.reflection))
        for test in gates:
            written = keep(test, verify(written) if test is passes else written)
        rows += written
        done = {t.problem.id for t in rows}
        bases = [t for t in bases if t.problem.id not in done]
    return rows
