"""TED: filters on every layer learn what matters for the task, then the student's filtered states follow the teacher's.

| constant | value | source |
|---|---|---|
| weights of likelihood, divergence and layers | 1, 1, 1 | released scripts: 1, 0 to 20, 10 to 7,500, by task |
| temperature of the divergence | 2, times 4 | released code |
| layers | as many as the shallower model has, by relative depth | released code: at even intervals |
| learning rate of the filters | 1e-3 | inferred: that of the model, 1e-5 to 1e-4, in the released scripts |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.methods.one_training import given_texts
from potstill.models.model import Trainable
from potstill.records import Stage, Trace


def ted(
    problems: list[Trace],
    teacher: Trainable,
    student: Trainable,
    *,
    arm: Literal["paper", "fresh-filters", "no-layers"] = "paper",
    texts: Literal["solutions", "teacher"] = "solutions",
    layers: int = 0,
    kl: float = 1.0,
    mse: float = 1.0,
    projector_lr: float = 1e-3,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """TED: task-aware layer-wise distillation in two stages (Liang et al., arXiv:2210.01351).

    First: min over filters F of the task's loss of F_s(h_s) and F_t(h_t), both models frozen. Then, for the student:
    L = CE + kl 4 KL(p || q) at temperature 2 + mse mean_l |F_s(h_s) - F_t(h_t)|^2.

    Learns from: texts with the teacher's distribution, and the part of its layers' states that the task needs.
    Needs: teacher (its states and next-token distribution are learnt, on its texts where they are asked for), student
        (is trained).
    Controls: arm=fresh-filters (filters that never saw the task), no-layers (the divergence alone).
    Departure: both models begin as they are given; the paper trains both on the task before the filters. In its
        layer-wise comparison the student alone has a filter; with fresh-filters both have one. States are scaled to
        one length first, since in decoders a few dimensions outweigh all others, and the weights of its encoders say
        nothing of such states.
    Paper: 128
    Cite: Chen Liang, Simiao Zuo, Qingru Zhang, Pengcheng He, Weizhu Chen, Tuo Zhao: Less is More: Task-aware Layer-wise
        Distillation for Language Model Compression (2022).

    Args:
        arm: the paper, or one of its controls.
        texts: whose texts are learnt: the problems' own solutions, or the teacher's right ones.
        layers: pairs of layers that are compared; 0 is as many as the shallower model has.
        kl: weight of the divergence.
        mse: weight of the layers' distance.
        projector_lr: learning rate of the filters.
        max_new_tokens: longest text of the teacher.
    """
    rows = given_texts("ted", problems, teacher, texts=texts, max_new_tokens=max_new_tokens)
    if arm == "no-layers":
        # CE + kl KL as one mixture; its sum has the weight 1 + kl in the paper's loss.
        share = kl / (1 + kl)
        yield Stage(
            student,
            rows,
            "forward_kl",
            name="student",
            teacher=teacher,
            kd=share,
            temperature=2.0,
            squared=True,
        )
        return

    filters: dict[str, Any] = {"layers": layers, "projector_lr": projector_lr}
    # Stage 1: both models are frozen, and the filters learn the task.
    if arm == "paper":
        trained = yield Stage(
            student, rows, "ted_filters", name="filters", teacher=teacher, **filters
        )
        filters["filters"] = trained

    # Stage 2: the student learns, and its filters with it.
    yield Stage(student, rows, "ted", name="student", teacher=teacher, kl=kl, mse=mse, **filters)
