"""Mentor-KD: a mid-size model learns the task from the teacher, then writes and gives soft labels for the student.

| constant | value | source |
|---|---|---|
| rationales a problem, of the teacher and of the mentor | 3, 3 | released code, `rand_sampled`, `n_aug_diversity` |
| temperature of the mentor's | 0.7 | released code, `augment_train_data.sh`; 1.3 is its default |
| temperature of the teacher's | 0.7 | inferred |
| share of the soft labels, lambda | 0.3 | released code, `kd_lambda` |
| temperature of the soft labels | 2 | released code, `run_mentor_kd.sh`; 1 is its default |
| training: epochs, learning rate | 20; mentor 1e-4 to 3e-4, student 2e-4 | released code, of T5; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import keep, mix, report_shares, right_test, sample, share_of, verify

KD_TEMPERATURE = 2.0


def mentor_kd(
    problems: list[Trace],
    teacher: Model,
    mentor: Trainable,
    student: Trainable,
    *,
    arm: Literal["paper", "no-augmentation", "no-soft-labels", "teacher-texts"] = "paper",
    n: int = 3,
    kd: float = 0.3,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """Mentor-KD: a mentor between teacher and student adds rationales and soft labels (Lee et al., arXiv:2410.09037).

    L = (1 - kd) CE(q, y) + kd KL(p_mentor || q) over the right rationales y of the teacher and of the mentor.

    Learns from: the teacher's and its mentor's right chains, with the mentor's distribution on them.
    Needs: teacher (writes), mentor (is trained, writes; its next-token distribution is learnt), student (is trained).
    Controls: arm=no-augmentation (the mentor writes nothing), no-soft-labels (texts alone), teacher-texts (no mentor).
    Departure: the divergence is a mean over tokens without padding; the code's is a sum over each text's tokens,
        padding among them, so that its lambda weighs more. Neither multiplies it by the square of the temperature. The
        last training is kept, where the code picks an epoch on the test split.
    Paper: 44
    Cite: Hojae Lee, Junho Kim, SangKeun Lee: Mentor-KD: Making Small Language Models Better Multi-step Reasoners
        (2024).

    Args:
        arm: the paper, or one of its controls.
        n: rationales sampled a problem, of the teacher and of the mentor.
        kd: share of the soft labels in the loss, lambda.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of all rationales.
        max_new_tokens: longest rationale.
    """
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}

    # Step 1: the teacher's rationales, those alone whose answer is right.
    rationales = keep(is_right, verify(sample(teacher, problems, n=n, **sampling)))
    if arm == "teacher-texts":
        yield Stage(student, rationales, "sft", name="student")
        return

    # Step 2: the mentor learns the task from them.
    mentor = yield Stage(mentor, rationales, "sft", name="mentor")

    # Step 3: and writes more of them, those alone whose answer is right.
    if arm != "no-augmentation":
        written = verify(sample(mentor, problems, n=n, **sampling))
        report_shares("Mentor", [share_of("right", is_right, written)], hint="Of its rationales.")
        rationales = mix(rationales, keep(is_right, written))

    # Step 4: the student learns all of them, and what the mentor would have said at every token.
    if arm == "no-soft-labels":
        yield Stage(student, rationales, "sft", name="student")
        return
    yield Stage(
        student,
        rationales,
        "forward_kl",
        name="student",
        teacher=mentor,
        kd=kd,
        temperature=KD_TEMPERATURE,
    )
