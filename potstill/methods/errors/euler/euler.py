"""EULER: a model that is trained to err makes the mistakes that the learner sees in its prompt, also at test time.

This is version 1 of the arXiv entry whose version 2 is ORION: another method. Here errors stand in the prompt that is
learnt and answered; there they shape how the target is written. The paper's full text could not be read; what is read
and what is inferred stands in `settings.py`, the prompt in `prompts.py`.

Cite: Zhuoyang Wu, Xinze Li, Zhenghao Liu, Yukun Yan, Zhiyuan Liu, Minghe Yu, Cheng Yang, Yu Gu, Ge Yu, Maosong Sun:
    EULER: Enhancing the Reasoning Ability of Large Language Models through Error-Induced Learning (2025).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from potstill.errors import StageError
from potstill.methods.checks import sample_attempts
from potstill.methods.errors.euler.settings import ARMS, Arm, Settings
from potstill.methods.settings import apply_arm
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    answer_classes,
    keep,
    pair,
    plain,
    pose,
    problem,
    report_shares,
    right,
    right_test,
    sample,
    share_of,
    split_by,
    unparsed,
    verify,
    wrong,
)
from potstill.traces.keys import group_traces

Solver = Callable[..., list[Trace]]
ALONE = "the teacher's chains alone are --set arm=none"
ERRORS_SHOWN = (
    "An error model that errs always in the same way has one answer a problem; one that forgot the form of a solution "
    "has answers that can't be read."
)


def euler(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "euler",
    steps: bool | None = None,
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, Solver]:
    """EULER: error-induced learning (Wu et al., arXiv:2505.22131 v1).

    Exposure: - E log s( beta [log pi(y-|q) / pi_ref(y-|q) - log pi(y+|q) / pi_ref(y+|q)] ) + NLL(y-): the wrong y- is
    chosen. Errors: Y^e = k samples of that model on q. Learning: - sum_t log P_M( y*_t | y*_<t, I_e(q, Y^e) ) over the
    stronger model's right solutions y*. At test time the prompt is I_e(q, Y^e) too.

    Learns from: the teacher's right chains, under prompts that show errors on the question.
    Needs: teacher (writes), student (writes, is trained to err, and is trained to solve).
    Controls: arm=none (no errors anywhere: the teacher's chains alone), arm=train-only (errors while learning, the bare
        question at test time), arm=test-only (errors at test time alone), arm=shuffled (another problem's errors),
        arm=sampled (errors as the untrained student makes them: what the error model is worth).
    Departure: the teacher's solutions must be right. An error is shown as it comes, also where it is right, as at test
        time nobody knows; the report says how many are wrong. The prompt's wording is ours. The error model is trained
        away from the student's own right solutions, as the repository's later figure has it; the abstract has those of
        the stronger model there (settings.rejected=teacher).
    Partial: NEFTune, the held-out tenth and the choice of the best checkpoint are a recipe's settings, no part of it.

    Args:
        teacher: the stronger model: its right solutions are learnt.
        student: the base model of both: of the one that errs, and of the one that solves.
        arm: the method or one of its controls; a row of `ARMS`.
        steps: also demand that every step of a solution is right; left open, where the problems' verifier judges steps.
        settings: what the sources say and what is inferred.
    """
    settings = apply_arm(settings, ARMS[arm])
    shows_errors = settings.at_training or settings.at_test

    # Step 1, collect the student's right and wrong solutions; one that never errs costs no teacher.
    attempts: list[Trace] = []
    if shows_errors and settings.exposer == "trained":
        sampling = {"n": settings.attempts, **dict(settings.error_sampling)}
        attempts = sample_attempts("euler", student, problems, alternative=ALONE, **sampling)
    chains = sample(
        teacher,
        problems,
        n=settings.chains,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )
    chains = keep(right_test(problems, steps), verify(chains))

    # Step 2, the error model: the student, trained to prefer its wrong solutions.
    exposer: Model = student
    if attempts:
        exposer = yield Stage(
            student,
            make_inverted_pairs(attempts, chains, settings),
            "dpo",
            name="exposure",
            beta=settings.beta,
            sft=settings.chosen_weight,
            **dict(settings.exposure_training),
        )

    # Steps 3 and 4, errors on every problem stand in the prompt under which the teacher's solution is learnt.
    rows, errors = chains, []
    if settings.at_training:
        errors = verify(expose_errors(exposer, problems, settings))
        errors_key = shuffled_key(errors) if settings.shown == "shuffled" else problem
        rows = show_errors(settings, chains, errors, errors_key)
        report_errors(problems, attempts, errors)
    student = yield Stage(student, rows, "sft", name="euler")

    # Step 5, at test time the error model is asked for errors on every question.
    if not settings.at_test:
        return partial(plain, student)
    if settings.shown == "shuffled":
        errors = errors or expose_errors(exposer, problems, settings)
        return partial(solve_with_other_errors, student, settings, errors)
    return partial(solve_with_errors, student, exposer, settings)


def make_inverted_pairs(
    attempts: Sequence[Trace], chains: Sequence[Trace], settings: Settings
) -> list[Trace]:
    """The student's wrong solutions as the chosen side, each against a right one.

    Raises:
        StageError: no problem has a wrong attempt and a right solution.
    """
    right_solutions: list[Trace] = []
    if settings.rejected in ("teacher", "both"):
        right_solutions += chains
    if settings.rejected in ("student", "both"):
        right_solutions += keep(right, attempts)
    pairs = pair(keep(wrong, attempts), right_solutions, k=settings.pairs)
    if not pairs:
        raise StageError(
            "euler: none of the problems with a wrong attempt has a right solution beside it",
            expected=f"a problem with both (settings.rejected={settings.rejected})",
            fix="more attempts (--set settings.attempts=10), or the teacher's: --set settings.rejected=teacher",
        )
    return pairs


def expose_errors(exposer: Model, problems: Sequence[Trace], settings: Settings) -> list[Trace]:
    """What the error model writes on each problem: some errors each, as they come."""
    return sample(exposer, problems, n=settings.errors, **dict(settings.error_sampling))


def show_errors(
    settings: Settings,
    traces: Sequence[Trace],
    errors: Sequence[Trace],
    errors_key: Callable[[Trace], str],
) -> list[Trace]:
    """Each trace under the prompt that shows its errors; one without errors stays under the learner's own prompt."""
    with_errors, without_errors = split_by(errors, traces, by=errors_key)
    posed = pose(
        settings.prompt, with_errors, context={"errors": errors}, by=errors_key, keep_text=True
    )
    return [*posed, *without_errors]


# Test time.


def solve_with_errors(
    student: Model,
    exposer: Model,
    settings: Settings,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Solve problems under prompts that show what the error model writes on them."""
    errors = expose_errors(exposer, problems, settings)
    return sample(student, show_errors(settings, problems, errors, problem), n=n, **sampling)


def solve_with_other_errors(
    student: Model,
    settings: Settings,
    errors: Sequence[Trace],
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Solve problems under prompts that show the errors on a training problem each, chosen by hash."""
    training_ids = sorted({error.problem.id for error in errors})
    error_ids = {error.id for error in errors}

    def errors_key(trace: Trace) -> str:
        if trace.id in error_ids:
            return trace.problem.id
        hashed = int(hashlib.sha256(trace.problem.id.encode()).hexdigest(), 16)
        return training_ids[hashed % len(training_ids)]

    return sample(student, show_errors(settings, problems, errors, errors_key), n=n, **sampling)


# What the report shows.


def report_errors(
    problems: Sequence[Trace], attempts: Sequence[Trace], errors: Sequence[Trace]
) -> None:
    """Report of the errors how many are wrong, how different they are, and where the student had made none."""
    erring = {attempt.problem.id for attempt in attempts if wrong(attempt)}
    exposed = {error.problem.id for error in errors if wrong(error)}
    new_problems = [trace for trace in problems if trace.problem.id in exposed - erring]
    answers: dict[str, set[object]] = {}
    for group in group_traces(errors, problem).values():
        wrong_errors = [error for error in group if wrong(error)]
        answers[group[0].problem.id] = set(answer_classes(wrong_errors))
    several = [name for name, classes in answers.items() if len(classes) > 1]
    shares = [
        share_of("the student's own attempts: wrong", wrong, attempts),
        share_of("errors: wrong", wrong, errors),
        share_of("errors: the answer can't be read", unparsed, errors),
        Share("problems whose errors have several answers", len(several), len(answers)),
    ]
    if attempts:
        label = "problems with an error, and none among the attempts"
        shares.append(Share(label, len(new_problems), len(problems)))
    report_shares("Errors that the learner is shown", shares, hint=ERRORS_SHOWN)
