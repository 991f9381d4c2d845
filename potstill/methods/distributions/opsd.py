"""OPSD: the student that is shown a right solution teaches the student that is not, on what the latter writes.

| constant | value | source |
|---|---|---|
| divergence | Jensen-Shannon, beta 0.5, over the whole vocabulary | released code, `run_opsd.sh` |
| teacher | the student as it starts (`fixed_teacher`) | released code, recommended there |
| temperature of its texts | 1.2 | released code, `run_opsd.sh` |
| longest text | 2048 | released code, `run_opsd.sh` |
| texts a problem and step | 1 | released code |
| training: LoRA of rank 64, learning rate 2e-5, 30 epochs | | released code; left to the recipe |
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

# The intents of the released code's prompt in our words; what the student reads comes last, word for word.
TEACHER_PROMPT = """\
Here is a reference solution of the problem below:

{solution_shown}

Understand why it is right, then solve the problem again by reasoning of your own.

{prompt}"""


def opsd(
    problems: list[Trace],
    student: Trainable,
    writer: Model | None = None,
    *,
    arm: Literal["paper", "other-solution", "live-teacher"] = "paper",
    beta: float = 0.5,
    teacher_prompt: str = TEACHER_PROMPT,
    steps: bool | None = None,
    rollout_temperature: float = 1.2,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """OPSD: self-distillation on-policy from solutions that only the teacher sees (Zhao et al., arXiv:2601.18734).

    L = mean_t JSD_beta( p(. | x, y*, y_<t) || q(. | x, y_<t) ), y ~ q(. | x): p is the student as it starts, y* the
    solution; no gradient goes into p.

    Learns from: its own texts, by the distribution that it has itself when it is shown a right solution.
    Needs: student (writes and is trained; teaches itself), [writer] (writes the solutions).
    Controls: arm=other-solution (the teacher is shown another problem's: what is learnt of style alone), live-teacher
        (it is the student as it is at each step).
    Departure: the prompt says what the code's says in other words; texts are drawn without top-p 0.95 and top-k 20.
        Later versions of the paper clip the divergence of single tokens, which is not here.
    Cite: Siyan Zhao, Zhihui Xie, Mengchen Liu, Jing Huang, Guan Pang, Feiyu Chen, Aditya Grover: Self-Distilled
        Reasoner: On-Policy Self-Distillation for Large Language Models (2026).

    Args:
        writer: whose right texts are shown, in the place of the problems' own solutions.
        arm: the paper, or one of its controls.
        beta: of the divergence; 0 is the forward, 1 the reverse KL.
        teacher_prompt: what the teacher reads; `{solution_shown}` is the solution, `{prompt}` what the student reads.
        steps: also demand that every step of a shown text is right; left open, where the verifier judges steps.
        rollout_temperature: of the student's texts.
        max_new_tokens: longest text, of the writer and of the student.
    """
    solutions = given_texts(
        "opsd",
        problems,
        writer or student,
        texts="teacher" if writer is not None else "solutions",
        steps=steps,
        max_new_tokens=max_new_tokens,
    )
    shown_by: Callable[[Trace], str] = problem
    if arm == "other-solution":
        shown_by = shuffled_key(solutions, what="solutions")
    solved, _ = split_by(solutions, problems)
    rows = set_teacher_prompt(
        partial(show_one, teacher_prompt),
        solved,
        context={"solution_shown": solutions},
        by=shown_by,
    )
    keywords: dict[str, Any] = {
        "teacher_model_kind": "live" if arm == "live-teacher" else "base",
        "on_policy_fraction": 1.0,
        "rollout_temperature": rollout_temperature,
        "max_new_tokens": max_new_tokens,
    }
    yield Stage(student, rows, "jsd", beta=beta, **keywords)
