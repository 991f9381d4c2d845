"""Distributions of a next token that student and teacher write together: pure functions of probabilities.

Shapes: R rows of a batch, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor

# Interleaved sampling: how many of the teacher's likeliest tokens a student's token may be, and how the teacher draws
# the token that stands in for another (SKD, arXiv:2410.11325).
TEACHER_BEST = 25
TEACHER_TEMPERATURE, TEACHER_TOP_P = 0.2, 0.5


def mixed(student_RV: Tensor, teacher_RV: Tensor, share: float) -> Tensor:
    """`share p + (1 - share) q` (teacher-mixed sampling, MiniLLM, arXiv:2306.08543, sec. 2.2)."""
    return share * teacher_RV + (1 - share) * student_RV


def interleaved(
    student_RV: Tensor, teacher_RV: Tensor, teacher_logits_RV: Tensor, *, best: int = TEACHER_BEST
) -> Tensor:
    """The student's token where it is among the teacher's `best`, else the teacher's (SKD, arXiv:2410.11325, alg. 1).

    Drafting in blocks of five and dropping what follows a rejection gives the same texts with the same probabilities:
    whether a token stays depends on what stands before it alone. So there is no block here, and nothing is dropped:
    `P(y) = q(y) [y in K] + q(not K) p(y)`. A block saves calls of a teacher that is far away; this one is at hand.

    Args:
        student_RV: q, the probabilities that the student draws from.
        teacher_RV: p, those that the teacher draws a replacement from.
        teacher_logits_RV: the teacher's logits, whose `best` largest are K.
    """
    count = min(best, teacher_logits_RV.shape[-1])
    smallest_R1 = teacher_logits_RV.topk(count, -1).values[:, -1:]
    accepted_RV = student_RV * (teacher_logits_RV >= smallest_R1)
    rejected_R1 = (1 - accepted_RV.sum(-1, keepdim=True)).clamp_min(0)
    return accepted_RV + rejected_R1 * teacher_RV
