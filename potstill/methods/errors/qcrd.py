"""QCRD: a teacher's rationales that agree against those that don't, and against what an older student writes.

| constant | value | source |
|---|---|---|
| rationales a problem, temperature | 5, 0.7 | second description |
| the student's negatives: a problem, temperature, age in iterations | 1, 1.5, 5 | second description |
| beta, delta | 0.2, 3 | second description |
| iterations | 6 | inferred: the first that has a student five iterations old |
| epochs an iteration, learning rate | 1, 5e-5 | inferred |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from potstill.methods.checks import require_pairs
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    agreement,
    has_answer,
    is_finished,
    keep,
    pair_all,
    problem,
    report_shares,
    right,
    same_answer,
    sample,
    score,
    share_of,
    verify,
)
from potstill.traces.keys import group_traces

Arm = Literal["qcrd", "positives", "teacher-negatives", "current-student"]
Quality = Literal["votes", "none"]
QUALITY = "score"  # what the objective reads as the quality of a rationale
ITERATION: dict[str, Any] = {"num_train_epochs": 1, "learning_rate": 5e-5}


@dataclass(frozen=True, slots=True)
class Settings:
    """QCRD's constants.

    Args:
        age: how many iterations older the student is that writes negatives; the untrained one at first.
        beta: weight of the negatives.
        delta: nats a token beyond which a negative is not pushed further.
        teacher_sampling: of the teacher's rationales.
        student_sampling: of the student's negatives.
    """

    age: int = 5
    beta: float = 0.2
    delta: float = 3.0
    teacher_sampling: Options = options(temperature=0.7, max_new_tokens=1024)
    student_sampling: Options = options(temperature=1.5, max_new_tokens=1024)


def qcrd(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "qcrd",
    n: int = 5,
    iterations: int = 6,
    quality: Quality = "votes",
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """QCRD: quality-guided contrastive rationale distillation (Wang et al., arXiv:2405.13014).

    L = s+ min CE(r+) - beta (1 - s-) min( min CE(r-) - delta, 0 ): of each problem the likeliest rationale r+ whose
    answer most agree on, against the likeliest r- that disagrees; s is their quality.

    Learns from: the teacher's rationales with the answer that most of them give, against rationales with other answers.
    Needs: teacher (writes), student (writes negatives, and is trained).
    Controls: arm=positives (supervised alone), teacher-negatives (no rationale of the student), current-student (of the
        student as it is, not of an older one), quality=none (all rationales count alike).
    Departure: the objective is put together from a description of it, whose formula has the least loss where its words
        have the most different rationale; here it is the least. Quality is a rationale's share of the votes, the
        student's negatives among them, where the paper trains a discriminator. A student's rationale with the
        majority's answer is no negative one. A first, supervised stage learns all positives, those without a negative
        too. Where two answers have as many votes there is no majority.
    Partial: not here are the discriminator, and the second task of naming the answer at once; so neither are their
        weights, 0.5 for each of the three losses, the third falling by a tenth an iteration.
    Paper: 99
    Cite: Wei Wang, Zhaowei Li, Qi Xu, Yiqing Cai, Hang Song, Qi Qi, Ran Zhou, Zhida Huang, Tao Wang, Li Xiao: QCRD:
        Quality-guided Contrastive Rationale Distillation for Large Language Models (2025).

    Args:
        teacher: writes the rationales; no gold answer is needed.
        student: learns; older states of it write negatives.
        arm: the method or one of its controls.
        n: rationales of the teacher a problem.
        iterations: of training, each with new negatives of the student.
        quality: what a rationale counts: its share of the "votes", or "none".
        settings: the paper's constants.
    """
    # The teacher's rationales, and the answer on which most of them agree.
    rationales = sample(teacher, problems, n=n, **dict(settings.teacher_sampling))
    rationales = keep(is_finished, rationales)
    positives, negatives = split_by_majority(rationales)
    shares = [
        share_of("positive", right, verify(positives)),
        share_of("negative", right, verify(negatives)),
    ]
    hint = "How many rationales are right, of those with the majority's answer and of the others."
    report_shares("Right rationales", shares, hint=hint)

    # Supervised on the positives; then iterations against the negatives of the teacher and an older student.
    constants = {"beta": settings.beta, "delta": settings.delta, **ITERATION}
    students = [student]
    student = yield Stage(student, positives, "sft", name="positives", **ITERATION)
    if arm == "positives":
        return
    for number in range(1, iterations + 1):
        students.append(student)
        writer = students[max(0, len(students) - 1 - settings.age)]
        if arm == "current-student":
            writer = student
        rivals = negatives
        if arm != "teacher-negatives":
            written = sample(writer, problems, **dict(settings.student_sampling))
            written = keep(is_finished, written)
            rivals = [*negatives, *keep_disagreeing(positives, written)]
        rows = make_pairs(positives, rivals, quality)
        require_pairs("qcrd", rows, alternative="positives alone are --set arm=positives")
        name = f"iteration-{number}"
        student = yield Stage(student, rows, "qcrd", name=name, **constants)


def split_by_majority(rationales: list[Trace]) -> tuple[list[Trace], list[Trace]]:
    """The rationales with the answer that most of their problem's give, and those with another one.

    Those without an answer, and those of a problem whose first two answers have as many votes, are neither.
    """
    answered = keep(has_answer, rationales)
    answer = same_answer(answered)
    majorities: dict[str, Hashable] = {}
    for group in group_traces(answered, problem).values():
        votes = Counter(answer(trace) for trace in group).most_common(2)
        if len(votes) == 1 or votes[0][1] > votes[1][1]:
            majorities[group[0].problem.id] = votes[0][0]

    def is_of_majority(trace: Trace) -> tuple[bool, str]:
        return majorities.get(trace.problem.id) == answer(trace), "not the majority's answer"

    def is_of_minority(trace: Trace) -> tuple[bool, str]:
        majority = majorities.get(trace.problem.id)
        return majority not in (None, answer(trace)), "no other answer than the majority's"

    return keep(is_of_majority, answered), keep(is_of_minority, answered)


def keep_disagreeing(positives: Sequence[Trace], written: list[Trace]) -> list[Trace]:
    """The student's rationales with another answer than the positive ones of their problem."""
    answered = keep(has_answer, written)
    answer = same_answer([*positives, *answered])
    positive_answers = {answer(trace) for trace in positives}

    def disagrees(trace: Trace) -> tuple[bool, str]:
        return answer(trace) not in positive_answers, "the majority's answer"

    return keep(disagrees, answered)


def make_pairs(positives: list[Trace], negatives: list[Trace], quality: Quality) -> list[Trace]:
    """Each positive with each negative of its problem, both with their share of its votes where that is asked for."""
    if quality == "votes":
        scored = score(QUALITY, agreement, [*positives, *negatives])
        positives, negatives = scored[: len(positives)], scored[len(positives) :]
    return pair_all(positives, negatives)
