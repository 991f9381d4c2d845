"""SDFT: fine-tuning on demonstrations without leaving one's own words; whoever has seen one teaches whoever has not.

| constant | value | source |
|---|---|---|
| divergence | reverse KL, over the whole vocabulary | paper, sec. 3 |
| teacher's share of the student in a step | 0.01 | released code, `ref_model_mixup_alpha`, every step |
| temperature of its texts | 1 | inferred |
| longest text | 2048 | inferred |
| training: learning rate 2e-5, one epoch, 32 prompts a step | | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal

from potstill.methods.one_training import given_texts
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import problem, set_teacher_prompt, show_one, split_by

# The template of the paper's section 3: the query, a demonstration, and what is to be done.
TEACHER_PROMPT = """\
{prompt}

This is an example for a response to the question:
{demonstration}

Now answer with a response of your own, including the thinking process:"""


def sdft(
    problems: list[Trace],
    student: Trainable,
    writer: Model | None = None,
    *,
    arm: Literal["paper", "forward-kl", "frozen-teacher", "other-demonstration"] = "paper",
    teacher_update_rate: float = 0.01,
    teacher_prompt: str = TEACHER_PROMPT,
    steps: bool | None = None,
    rollout_temperature: float = 1.0,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """SDFT: self-distillation from demonstrations that only the teacher sees (Shenfeld et al., arXiv:2601.19897).

    L = mean_t KL( q(. | x, y_<t) || p(. | x, c, y_<t) ), y ~ q(. | x): c is the demonstration, and p a moving average
    of the student, p <- (1 - a) p + a q after each step.

    Learns from: its own texts, by the distribution that it has itself when it is shown a demonstration.
    Needs: student (writes and is trained; teaches itself), [writer] (writes the demonstrations).
    Controls: arm=forward-kl (as the released code computes it), frozen-teacher (the student as it starts),
        other-demonstration (the teacher is shown another problem's: what is learnt of style alone).
    Departure: the paper compares demonstrations by tasks and follows one training by another; here is one training.
    Cite: Idan Shenfeld, Mehul Damani, Jonas Hübotter, Pulkit Agrawal: Self-Distillation Enables Continual Learning
        (2026).

    Args:
        writer: whose right texts are shown, in the place of the problems' own solutions.
        arm: the paper, or one of its controls.
        teacher_update_rate: the student's share in each update of the teacher.
        teacher_prompt: what the teacher reads; `{demonstration}` is the solution, `{prompt}` what the student reads.
        steps: also demand that every step of a shown text is right; left open, where the verifier judges steps.
        rollout_temperature: of the student's texts.
        max_new_tokens: longest text, of the writer and of the student.
    """
    demonstrations = given_texts(
        "sdft",
        problems,
        writer or student,
        texts="teacher" if writer is not None else "solutions",
        steps=steps,
        max_new_tokens=max_new_tokens,
    )
    shown_by: Callable[[Trace], str] = problem
    if arm == "other-demonstration":
        shown_by = shuffled_key(demonstrations, what="demonstrations")
    demonstrated, _ = split_by(demonstrations, problems)
    rows = set_teacher_prompt(
        partial(show_one, teacher_prompt),
        demonstrated,
        context={"demonstration": demonstrations},
        by=shown_by,
    )
    keywords: dict[str, Any] = {
        "on_policy_fraction": 1.0,
        "rollout_temperature": rollout_temperature,
        "max_new_tokens": max_new_tokens,
        "teacher_model_kind": "base",
    }
    if arm != "frozen-teacher":
        keywords["teacher_model_kind"] = "ema"
        keywords["teacher_update_rate"] = teacher_update_rate
    objective = "forward_kl" if arm == "forward-kl" else "reverse_kl"
    yield Stage(student, rows, objective, **keywords)
