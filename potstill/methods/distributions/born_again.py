"""Born-again networks: a student of its teacher's own size learns from it, and teaches the next one.

| constant | value | source |
|---|---|---|
| generations | 3 | the paper stops where the next one is no better; three to five there |
| share of the soft labels | 1 | the paper: the teacher's outputs alone, and with labels |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from potstill.methods.one_training import given_texts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace


def born_again(
    problems: list[Trace],
    student: Trainable,
    writer: Model | None = None,
    *,
    arm: Literal["paper", "cwtm", "dkpp"] = "paper",
    generations: int = 3,
    kd: float = 1.0,
    n: int = 1,
    steps: bool | None = None,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """Born-again networks: each generation learns anew from the one before (Furlanello et al., arXiv:1805.04770).

    L_k = (1 - kd) CE(q_k, y) + kd KL(p_{k-1} || q_k), where generation 0 learns the labels y alone.

    Learns from: the distribution of a model that began as it does itself, on texts of the data set.
    Needs: student (is trained, once a generation, each time from its start), [writer] (writes the texts).
    Controls: generations=0 (labels alone), kd=0.5 (soft labels beside the labels), arm=cwtm (labels weighted by how
        sure the teacher is), dkpp (the teacher's shares of other tokens changed about).
    Departure: all generations see the same order of rows and begin with the same weights; the paper draws new ones.
        In dkpp each share goes to the next token, where the paper permutes them at random; in cwtm the confidences
        are not divided by their sum in the batch.
    Partial: the ensemble of generations.
    Paper: 184
    Cite: Tommaso Furlanello, Zachary C. Lipton, Michael Tschannen, Laurent Itti, Anima Anandkumar: Born Again Neural
        Networks (2018).

    Args:
        writer: whose right texts are learnt, in the place of the problems' own solutions.
        arm: the paper, or one of its controls.
        generations: that learn from the one before; 0 is the first teacher alone.
        kd: share of the soft labels in the loss.
        n: texts sampled from the writer a problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        max_new_tokens: longest of them.
    """
    rows = given_texts(
        "born_again",
        problems,
        writer or student,
        texts="teacher" if writer is not None else "solutions",
        n=n,
        steps=steps,
        max_new_tokens=max_new_tokens,
    )
    teacher = yield Stage(student, rows, "sft", name="generation-0")
    for generation in range(1, generations + 1):
        keywords: dict[str, Any] = {"teacher": teacher}
        if arm != "cwtm":
            keywords["kd"] = kd
        objective = "forward_kl" if arm == "paper" else arm
        teacher = yield Stage(student, rows, objective, name=f"generation-{generation}", **keywords)
