"""FAIR (formerly MAPD): several teachers explain a student's mistakes, and review each other's rationales.

| constant | value | source |
|---|---|---|
| teachers | 3 in the paper; 2 or more here | paper |
| temperature, tokens of the teachers, also as reviewers | 0.8, 512 | paper, released code |
| the exam: answers a problem, temperature, top-p, tokens | 1, 0.3, 0.9, 512 | released code |
| a rationale is accepted | above a mean of 3, on a scale from 1 to 5 | released code; its comment says 4 |
| alpha, weight of the feedback | 0.5 | paper |
| learning rate, epochs, batch | 1e-5 constant, 10, 16 | paper; batch a recipe's |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from statistics import fmean
from typing import Any, Literal

from potstill.errors import ConfigError
from potstill.methods.checks import sample_attempts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    among,
    ask,
    best,
    by_chance,
    dedupe,
    is_finished,
    keep,
    line,
    mix,
    pose,
    problem,
    read_score,
    report_shares,
    rewrite,
    right,
    sample,
    score,
    share_of,
    show_one,
    split_by,
    verify,
    weigh,
    wrong,
)

FEEDBACK = """\
Question: {question}

A student's answer:
{text}

The correct answer is {answer}. Point out what mistakes the student makes."""

# What the learner sees of it; the released code shows it the gold answer too.
LEARN_FEEDBACK = """\
Question: {question}

A wrong answer:
{attempt}

The correct answer is {answer}. What mistakes does the wrong answer make?"""

REVIEW = """\
Question: {question}

The correct answer is {answer}.

A colleague's reasoning:
{text}

How good is this reasoning, from 1 to 5? 1 is wrong, 5 is right and clear. Write "Score: " and the number as the last \
line."""
Arm = Literal["fair", "no-feedback", "no-review", "verified", "one-teacher"]
REVIEWED = ("fair", "no-feedback")  # the arms whose rationales peers accept
EXAM: dict[str, Any] = {"temperature": 0.3, "top_p": 0.9}
SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 10,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0.03,
}


def fair(
    problems: list[Trace],
    teachers: list[Model],
    student: Trainable,
    *,
    arm: Arm = "fair",
    alpha: float = 0.5,
    min_score: float = 3.0,
    n: int = 1,
    temperature: float = 0.8,
    max_new_tokens: int = 512,
) -> Generator[Stage, Trainable, None]:
    """FAIR: mistakes explained and rationales peer-reviewed by several teachers (Li et al., arXiv:2410.03663).

    L = alpha CE(feedback | q, wrong answer, gold) + (1 - alpha) CE(rationale | q), on the problems that the student got
    wrong.

    Learns from: a teacher's feedback on its wrong answer, and a rationale that the other teachers accept.
    Needs: teachers (explain, write and review), student (answers and is trained).
    Controls: arm=no-feedback (alpha 0), no-review (any teacher's rationale), verified (rationales with the right answer
        instead of accepted ones), one-teacher (the first one alone, without peers).
    Departure: the prompts' wording is ours. Teachers see the gold answer alone, where the released code shows them all
        of GSM8K's solution. A feedback or rationale that is cut is no row. Both kinds are in one batch and one mean
        over tokens, where the paper adds a mean of each, so that the longer kind weighs more here.
    Paper: 77
    Cite: Zhuochun Li, Yuelyu Ji, Rui Meng, Daqing He: Enhance Reasoning by Learning from Mistakes: Peer-Review
        Knowledge Distillation from Multiple Large Language Models (2025).

    Args:
        teachers: two or more, who review each other.
        student: takes the exam and is trained.
        arm: the method or one of its controls.
        alpha: weight of the feedback beside the rationale, from 0 to 1.
        min_score: a rationale with a higher mean of its peers' scores is accepted.
        n: answers a problem in the exam; one wrong answer of each problem is explained.
        temperature: of the teachers, also as reviewers.
        max_new_tokens: longest text.
    """
    if len(teachers) < 2 and arm in REVIEWED:
        raise ConfigError(
            f"fair got {len(teachers)} teacher: nobody can review its rationales",
            expected="two teachers at least",
            fix="--role teachers=A --role teachers=B, or --set arm=one-teacher",
        )
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}

    # Step 1, the exam: one wrong answer of each problem that the student gets wrong.
    exam = {**EXAM, "max_new_tokens": max_new_tokens}
    answers = sample_attempts("fair", student, problems, n=n, **exam)
    mistakes = dedupe(problem, keep(wrong, answers))
    erring, _ = split_by(mistakes, problems)

    # Steps 2 and 3: each teacher's feedback, and its rationale, which the other teachers review.
    feedbacks: list[Trace] = []
    rationales: list[Trace] = []
    for teacher in teachers[:1] if arm == "one-teacher" else teachers:
        feedbacks += rewrite(teacher, mistakes, prompt=FEEDBACK, guard=False, **sampling)
        written = keep(is_finished, sample(teacher, erring, **sampling))
        if arm in REVIEWED:
            peers = [other for other in teachers if other is not teacher]
            written = review(peers, written, sampling)
        rationales += written
    accepted = accept_rationales(arm, min_score, rationales)

    # Step 4: of each problem with both, one feedback and one rationale by chance.
    feedbacks = keep(says_something, keep(is_finished, feedbacks))
    rationale_rows = best(by_chance, among(feedbacks, accepted), by=problem)
    if arm == "no-feedback":
        yield Stage(student, rationale_rows, "sft", **SCHEDULE)
        return
    feedbacks = best(by_chance, among(accepted, feedbacks), by=problem)
    show, context = partial(show_one, LEARN_FEEDBACK), {"attempt": mistakes}
    feedback_rows = pose(show, feedbacks, context=context, by=line, keep_text=True)

    # Step 5, training on both at once; the weights are 1 where alpha is one half.
    rationale_rows = weigh(partial(same_weight, 2 * (1 - alpha)), rationale_rows)
    feedback_rows = weigh(partial(same_weight, 2 * alpha), feedback_rows)
    yield Stage(student, mix(rationale_rows, feedback_rows), "sft", **SCHEDULE)


def review(
    peers: Sequence[Model], rationales: list[Trace], sampling: dict[str, Any]
) -> list[Trace]:
    """The rationales with each peer's score, None where it can't be read."""
    for number, peer in enumerate(peers, 1):
        scorer = ask(peer, REVIEW, read_review, **sampling)
        rationales = score(f"review_{number}", scorer, rationales)
    return rationales


def read_review(text: str) -> float | None:
    """A peer's score, from 1 to 5."""
    return read_score(text, 1, 5, reader="peer reviews")


def accept_rationales(arm: Arm, min_score: float, rationales: list[Trace]) -> list[Trace]:
    """The rationales that peers or, in a control, the verifier accepts; and how many of them are right."""
    accepted = keep(says_something, rationales)
    if arm in REVIEWED:
        accepted = keep(partial(is_accepted, min_score), accepted)
    elif arm == "verified":
        accepted = keep(right, verify(accepted))
    shares = [share_of("accepted and right", right, verify(accepted))]
    hint = "Peers accept without a verifier: how often they are right."
    report_shares("Rationales", shares, hint=hint)
    return accepted


def is_accepted(min_score: float, rationale: Trace) -> tuple[bool, str]:
    """The mean of its peers' readable scores is high enough."""
    scores: list[float] = []
    for name, value in rationale.scores.items():
        if name.startswith("review_") and isinstance(value, float):
            scores.append(value)
    if not scores:
        return False, "no review that can be read"
    return fmean(scores) > min_score, f"its peers' mean score is not above {min_score:g}"


def says_something(trace: Trace) -> tuple[bool, str]:
    """There is a text behind whatever thought its writer had."""
    return bool(trace.reply.strip()), "empty"


def same_weight(weight: float, trace: Trace) -> float:
    """One weight for all."""
    return weight
