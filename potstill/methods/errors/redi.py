"""REDI: supervised on a teacher's right traces, then an asymmetric loss that pushes its wrong ones away.

| constant | value | source |
|---|---|---|
| traces a problem | 4 | inferred; the paper takes recorded ones, one to four a problem |
| rows of stage 1 | the first right trace a problem | released code; 77,629 |
| rows of stage 2 | the first right and the first wrong trace a problem | paper, released code; 53,175 |
| longest trace of a pair | 19,000 tokens; a pair with a longer one is dropped | paper, released code |
| alpha | 0.8; 1 is the symmetric loss, 0 the chosen side alone | paper |
| stage 1: learning rate, epochs, warm-up, decay | 5e-5, 5, 0.1, linear | paper |
| stage 2: learning rate, epochs, warm-up, decay | 1e-6, 1, 0.1, linear | paper |
| rivals' rates: dpo (beta 0.001), simpo (beta 2, gamma 1), symmetric | 2e-7, 5e-7, 2e-7 | paper |
| batch, weight decay, longest prompt | 128 then 32, 1e-4, 800 tokens | paper; a recipe's |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any, Literal

from potstill.methods.checks import require_pairs
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    dedupe,
    has_length,
    is_finished,
    keep,
    pair_all,
    problem,
    report_shares,
    right_test,
    sample,
    share_of,
    unparsed,
    verify,
    wrong,
)

Arm = Literal["redi", "chosen-only", "symmetric", "dpo", "simpo", "sft"]
# The objective of stage 2 and its keywords; alpha is the method's value where it is not said.
STAGE_2: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "redi": ("redi", {"learning_rate": 1e-6}),
    "chosen-only": ("redi", {"learning_rate": 1e-6, "alpha": 0.0}),
    "symmetric": ("redi", {"learning_rate": 2e-7, "alpha": 1.0}),
    "dpo": ("dpo", {"learning_rate": 2e-7, "beta": 0.001}),
    "simpo": ("simpo", {"learning_rate": 5e-7, "beta": 2.0, "gamma": 1.0}),
}


def redi(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "redi",
    alpha: float = 0.8,
    n: int = 4,
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 32768,
    max_pair_tokens: int = 19000,
) -> Generator[Stage, Trainable, None]:
    """REDI: reinforcement distillation from a teacher's right and wrong traces (Xu et al., arXiv:2505.24850).

    Stage 1: -log pi(y_w|q). Stage 2: -log pi(y_w|q) / |y_w| + alpha log pi(y_l|q) / |y_l|, without a reference.

    Learns from: the teacher's right traces, then pairs of a right and a wrong one.
    Needs: teacher (writes), student (is trained).
    Controls: arm=chosen-only (alpha 0 and the same steps: what the wrong traces add), symmetric (alpha 1), dpo, simpo
        (the usual losses on the same pairs), sft (no second stage).
    Departure: one verifier says what is right, where the paper wants two to agree. A trace that was cut or whose answer
        can't be read is no negative one. With `steps` a positive trace is right in every step.
    Paper: 1
    Cite: Shuyao Xu, Cheng Peng, Jiangxuan Long, Weidi Xu, Wei Chu, Yuan Qi: Harnessing Negative Signals: Reinforcement
        Distillation from Teacher Data for LLM Reasoning (2025).

    Args:
        teacher: whose right and wrong traces are learnt; recorded ones where they are there.
        arm: the method or one of its controls.
        alpha: weight of the wrong trace in stage 2, from 0 to 1.
        n: traces of the teacher a problem.
        steps: also demand that every step of a positive trace is right; left open, where the problems' verifier judges
            steps.
        temperature: of the teacher.
        max_new_tokens: longest trace.
        max_pair_tokens: longest trace of stage 2.
    """
    # The teacher's traces with their verdicts: right, wrong, or of no use.
    is_right = right_test(problems, steps)
    traces = verify(
        sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    )
    finished = keep(is_finished, traces)
    positives, negatives = keep(is_right, finished), keep(wrong, finished)
    shares = [
        share_of("right", is_right, traces),
        share_of("wrong", wrong, traces),
        share_of("the answer can't be read", unparsed, traces),
    ]
    report_shares("The teacher's traces", shares, hint="Right and wrong ones are learnt from.")

    # The first right and the first wrong one of each problem; where one of the two is too long there is no pair.
    first_right, first_wrong = dedupe(problem, positives), dedupe(problem, negatives)
    is_short = partial(has_length, 1, max_pair_tokens)
    pairs = pair_all(keep(is_short, first_right), keep(is_short, first_wrong), k=1)
    if arm != "sft":
        require_pairs("redi", pairs, alternative="right traces alone are --set arm=sft")

    # Stage 1: the first right trace of each problem.
    schedule: dict[str, Any] = {"warmup_steps": 0.1, "lr_scheduler_type": "linear"}
    epochs = {"num_train_epochs": 5, "learning_rate": 5e-5}
    student = yield Stage(student, first_right, "sft", name="sft", **schedule, **epochs)
    if arm == "sft":
        return

    # Stage 2: one epoch on the pairs, from there.
    objective, keywords = STAGE_2[arm]
    if arm == "redi":
        keywords = {"alpha": alpha, **keywords}
    yield Stage(student, pairs, objective, name="redi", num_train_epochs=1, **schedule, **keywords)
