"""Distillation by text alone: the teacher's prompt asks for chains, the student is trained under a simpler one.

Read: the paper's abstract, and summaries of its method. Inferred: the prompt's wording, and the sampling.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.methods.answer_rows import gold_answer_alone, is_read, own_answer_alone
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    edit,
    is_finished,
    keep,
    report_shares,
    right,
    right_test,
    sample,
    share_of,
    verify,
)

CHAIN_OF_THOUGHT = """\
{prompt}

Think step by step: say what is given and what is asked, work towards the answer one step at a time, and check each \
step before you go on. State the answer on the last line, in \\boxed{{}}."""


def synthetic_cot(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["cot", "answers", "gold", "right-only"] = "cot",
    teacher_prompt: str = CHAIN_OF_THOUGHT,
    n: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, None]:
    """Distillation with synthetic chains of a frontier open model (Shirgaonkar et al., arXiv:2410.18588).

    Learns from: the teacher's chains and answers under a task's own prompt; gold answers are not looked at.
    Needs: teacher (writes), student (is trained under the problems' simpler prompt).
    Controls: arm=answers (the teacher's answers to the simple prompt, without a chain: vanilla distillation), gold
        (the data set's answers: fine-tuning without a teacher), right-only (chains with another answer are dropped).
    Departure: the task's prompt is ours; `teacher_prompt` takes another one. A chain that is cut, or in which no answer
        can be read, is no row.
    Partial: summaries by chain of density, and grading by people, are not here.
    Paper: 101 (from the abstract)
    Cite: Anup Shirgaonkar, Nikhil Pandey, Nazmiye Ceren Abay, Tolga Aktas, Vijay Aski: Knowledge Distillation Using
        Frontier Open-source LLMs: Generalizability and the Role of Synthetic Data (2024).

    Args:
        teacher: a large model.
        student: learns under the prompt that it will be asked with.
        arm: the method or one of its controls.
        teacher_prompt: what the teacher sees; `{prompt}` is what the student sees.
        n: chains of each problem.
        temperature: of the teacher.
        max_new_tokens: longest chain.
    """
    if arm == "gold":
        yield Stage(student, keep(is_read, verify(edit(gold_answer_alone, problems))), "sft")
        return
    prompt = "{prompt}" if arm == "answers" else teacher_prompt
    chains = sample(
        teacher,
        problems,
        prompt=prompt,
        n=n,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    rows = keep(is_read, verify(keep(is_finished, chains)))
    report_shares(
        "Synthetic labels",
        [share_of("labels that are the gold answer", right, rows)],
        hint="The teacher's answers are learnt whether they are right or not.",
    )
    if arm == "answers":
        rows = verify(edit(own_answer_alone, rows))
    elif arm == "right-only":
        rows = keep(right_test(problems, None), rows)
    yield Stage(student, rows, "sft")
