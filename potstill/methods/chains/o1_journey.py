"""O1 Replication Journey, part 2: plain distillation of long thoughts, behind a first training on their format.

Read: the paper's abstract and summaries of its method. Inferred: the prompt that reformats a solution, and filters.

| constant | value | source |
|---|---|---|
| first training | solutions that a small model makes long and orderly | summaries: GPT-4o-mini reformats them |
| second training | tens of thousands of the teacher's long thoughts | abstract |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.methods.replies import reply_alone
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    edit,
    is_finished,
    keep,
    keep_reasoned,
    rewrite,
    right_test,
    sample,
    verify,
)

REFORMAT = """\
Write the solution below again at length, as somebody thinks: in many small steps, one a line, with the reason for \
each, and the answer in \\boxed{{}} at the end. Add nothing that the solution does not need, and change no result.

Question: {question}

Solution:
{text}"""


def o1_journey(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    editor: Model | None = None,
    *,
    arm: Literal["two-stage", "distilled-only", "format-only"] = "two-stage",
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 32768,
    gate: ReferenceGate = ReferenceGate(),
) -> Generator[Stage, Trainable, None]:
    """O1 Replication Journey, part 2: simple distillation in two trainings (Huang et al., arXiv:2411.16489).

    Learns from: the problems' solutions in a long format first, then the teacher's right long thoughts as they are.
    Needs: teacher (thinks at length), student (is trained twice), [editor] (puts solutions into the long format).
    Controls: arm=distilled-only (the second training alone, which is `sft`), format-only (the first one alone: is it
        the format?).
    Departure: a reformatted solution is a row where it is finished, right and shows as much of the solution as `gate`
        asks for; a thought where it is finished and right. The teacher is the editor where there is none. With `steps`
        a row's steps are right too.
    Partial: the paper's record of transparency is the data card that `potstill export` writes.
    Paper: 106 (from the abstract)
    Cite: Zhen Huang, Haoyang Zou, Xuefeng Li, Yixiu Liu, Yuxiang Zheng, Ethan Chern, Shijie Xia, Yiwei Qin, Weizhe
        Yuan, Pengfei Liu: O1 Replication Journey -- Part 2: Surpassing O1-preview through Simple Distillation, Big
        Progress or Bitter Lesson? (2024).

    Args:
        teacher: a model that thinks at length.
        student: learns.
        editor: a small model that reformats.
        arm: the method or one of its controls.
        n: thoughts sampled of each problem; every right one is a row.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest thought.
        gate: how much of the solution its reformatting must show.
    """
    is_right = right_test(problems, steps)

    # First training: the format of long thoughts.
    if arm != "distilled-only":
        solutions = verify(edit(show_solution, keep(has_solution, problems)))
        written = rewrite(editor or teacher, solutions, prompt=REFORMAT, guard=False)
        written = edit(reply_alone, keep(is_finished, written))
        written = keep(is_right, verify(written))
        student = yield Stage(student, keep_reasoned(written, gate=gate), "sft")

    # Second training: the teacher's own.
    if arm != "format-only":
        thoughts = sample(
            teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens
        )
        yield Stage(student, keep(is_right, verify(keep(is_finished, thoughts))), "sft")
