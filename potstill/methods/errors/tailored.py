"""Tailored learning: a teacher answers the student's own errors, and the student tells its errors from what is right.

| constant | value | source |
|---|---|---|
| rounds | 3 | the authors' figure |
| samples a problem in the exam, tokens | 4, 128 | paper |
| temperature of the exam | 1 | released code: its library's default, with the 50 likeliest tokens |
| temperature of the teacher | 0.7 | inferred |
| rationales a problem: teacher's, student's errors | 10, 4 at most | released code |
| learning rate, weight decay, epochs a round, warm-up steps | 7e-6, 0.01, 10, 100 | released code |
| temperature of the contrastive loss | 1 | inferred |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.methods.checks import require_pairs, require_wrong_attempts
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    by_chance,
    chance,
    dedupe,
    is_finished,
    keep,
    pair_all,
    problem,
    report_shares,
    rewrite,
    right,
    right_test,
    sample,
    share_of,
    verify,
    words,
    wrong,
)

TAILOR = """\
{prompt}

A student answered:
{text}

The answer is wrong. Write a correct solution for this student, step by step, that avoids its mistake."""
UNTAILORED = "{prompt}\n\nWrite a correct solution, step by step."
SFT: dict[str, Any] = {
    "num_train_epochs": 10,
    "learning_rate": 7e-6,
    "weight_decay": 0.01,
    "warmup_steps": 100,
}
CONTRAST: dict[str, Any] = {"num_train_epochs": 1, "learning_rate": 7e-6, "weight_decay": 0.01}


def tailored(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["tailored", "no-reflection", "untailored"] = "tailored",
    rounds: int = 3,
    n: int = 4,
    max_rationales: int = 10,
    steps: bool | None = None,
    exam_sampling: Options = options(temperature=1.0, max_new_tokens=128),
    teacher_sampling: Options = options(temperature=0.7, max_new_tokens=512),
) -> Generator[Stage, Trainable, None]:
    """Tailored learning with self-reflection on the student's errors (Wang et al., arXiv:2310.13332).

    L = L_MLE + lambda L_CL on the teacher's rationales r+ and the student's own wrong ones r-, round after round; here
    one after the other, with L_CL = -log( e^l(r+) / (e^l(r+) + e^l(r-)) ), l the mean log-probability.

    Learns from: the teacher's right solutions, written for its errors, and their contrast with these errors.
    Needs: teacher (sees the errors and writes), student (takes the exam and is trained).
    Controls: arm=no-reflection (no contrastive stage), untailored (the teacher does not see the errors, and writes as
        many solutions).
    Departure: the teacher's solutions must be right. The two losses are stages of their own, the contrastive one an
        epoch of pairs. The prompts' wording is ours, and no examples are shown. A text without an answer is no error to
        learn from; in the released code it is one. Later rounds learn the solutions of earlier ones too.
    Partial: the paper's contrastive loss, of weight 0.5, is of cosines between last states, with a margin of 1 and
        another right rationale on the near side; here it is of likelihoods. Prompt tokens have no loss, where the paper
        gives them a weight of 0.1.
    Paper: 88
    Cite: Zhaoyang Wang, Shaohan Huang, Yuxuan Liu, Jiahai Wang, Minghui Song, Zihan Zhang, Haizhen Huang, Furu Wei,
        Weiwei Deng, Feng Sun, Qi Zhang: Democratizing Reasoning Ability: Tailored Learning from Large Language Model
        (2023).

    Args:
        teacher: writes a solution for each different error.
        student: errs, and is trained round after round from where it is.
        arm: the method or one of its controls.
        rounds: of exam, feedback and training; they end before that where the student errs no more.
        n: samples a problem in the exam.
        max_rationales: solutions of the teacher that are learnt of a problem, those of all rounds together.
        steps: also demand that every step of a solution is right; left open, where the verifier judges steps.
        exam_sampling: of the student.
        teacher_sampling: of the teacher.
    """
    is_right = right_test(problems, steps)
    rationales: list[Trace] = []
    for number in range(1, rounds + 1):
        # Exam: the student's different wrong answers.
        answers = verify(sample(student, problems, n=n, **dict(exam_sampling)))
        if number == 1:
            require_wrong_attempts("tailored", answers)
        errors = dedupe(words, keep(wrong, answers))
        if not errors:
            return

        # Feedback: the teacher answers each of them.
        prompt = UNTAILORED if arm == "untailored" else TAILOR
        written = rewrite(teacher, errors, prompt=prompt, guard=False, **dict(teacher_sampling))
        solutions = verify(keep(is_finished, written))
        shares = [
            share_of("the student is right", right, answers),
            share_of("the teacher is right", is_right, solutions),
        ]
        report_shares(f"Exam {number}", shares, hint="What the teacher gets wrong is not learnt.")
        rationales = dedupe(words, [*rationales, *keep(is_right, solutions)])
        rationales = best(by_chance, rationales, by=problem, k=max_rationales)
        pairs = pair_all(rationales, errors, k=n, rank=pair_by_chance)

        # Customised learning, and self-reflection on its own errors.
        if arm != "no-reflection" and number == 1:
            require_pairs("tailored", pairs, alternative="--set arm=no-reflection")
        student = yield Stage(student, rationales, "sft", name=f"learn-{number}", **SFT)
        if arm != "no-reflection" and pairs:
            name = f"reflect-{number}"
            student = yield Stage(student, pairs, "contrastive", name=name, **CONTRAST)


def pair_by_chance(rationale: Trace, error: Trace) -> str:
    """A pair's place in a shuffle, so that each rationale may meet each error."""
    return chance("reflect", rationale.id, error.id)
