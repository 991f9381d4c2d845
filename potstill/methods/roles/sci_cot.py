"""Sci-CoT: one student writes the rationale of a question, another one reads the answer off it.

Read as its abstract alone, which says that rationales are generated and answers inferred in two stages.

| constant | value | source |
|---|---|---|
| stages | rationale, answer | abstract |
| a rationale is learnt | where the teacher's answer behind it is right | inferred |
| rationales of the first stage's student among those that the second one reads | half of the problems | inferred |
| rationales a problem, temperature | 1, 0.7 | inferred |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.answer_rows import own_answer_alone
from potstill.methods.replies import reply_alone, reply_of
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    chance_fraction,
    dedupe,
    edit,
    is_finished,
    keep,
    plain,
    pose,
    problem,
    report_shares,
    right,
    sample,
    verify,
)
from potstill.traces.reasoning_steps import without_last_line

# The wording of both prompts is ours.
EXPLAIN = """\
{prompt}

Explain step by step what leads to the answer. In the last line write the answer alone, as \\boxed{{answer}}."""
INFER = """\
{prompt}

Rationale:
{text}

Give the answer that follows from the rationale, as \\boxed{{answer}}."""

BOX = "\\boxed"


def sci_cot(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["sci-cot", "cot", "answer"] = "sci-cot",
    own_share: float = 0.5,
    n: int = 1,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, Any]:
    """Sci-CoT: knowledge distillation for scientific QA in two stages (Ma et al., arXiv:2308.04679).

    Rows: x -> r for the first student; (x, r) -> a for the second, r of the teacher or of the first student.

    Learns from: the teacher's rationales that lead to the right answer, and its answers behind rationales.
    Needs: teacher (writes rationales with answers), student (is trained, once for each stage).
    Controls: arm=cot (one student writes rationale and answer), answer (the answers without rationales), own_share=0
        (the second student learns behind the teacher's rationales alone), 1 (behind the first student's alone).
    Departure: every step is inferred. What the second student reads at test time was written by the first one, so it
        learns behind such texts too, right or wrong ones, up to where they state an answer. The answer that it learns
        is always the teacher's right one.
    Paper: 116 (from the abstract)
    Cite: Yuhan Ma, Haiqi Jiang, Chenyou Fan: Sci-CoT: Leveraging Large Language Models for Enhanced Knowledge
        Distillation in Small Models for Scientific QA (2023).

    Args:
        teacher: is asked once a rationale.
        student: the base model of both.
        arm: the method or one of its controls.
        own_share: of the problems whose answers are learnt behind the first student's rationales.
        n: rationales a problem, of the teacher and of the first student.
        temperature: of both.
        max_new_tokens: longest rationale; one that is cut there is no row.
    """
    # The teacher's explanations that end in the right answer, and what stands before it.
    settings: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    replies = sample(teacher, problems, prompt=EXPLAIN, n=n, **settings)
    chains = keep(right, verify(edit(reply_alone, keep(is_finished, replies))))
    answers = dedupe(problem, edit(own_answer_alone, chains))
    if arm == "cot":
        student = yield Stage(student, chains, "sft")
        return partial(plain, student)
    if arm == "answer":
        student = yield Stage(student, answers, "sft")
        return partial(plain, student)

    # Stage 1: rationales without their answers.
    rationales = keep(is_rationale, edit(rationale_alone, chains))
    explainer = yield Stage(student, rationales, "sft", name="rationale")

    # Stage 2: answers behind the teacher's rationales of some problems, and behind the first student's of the others.
    explained = among(rationales, problems)
    own_problems = [trace for trace in explained if reads_own(own_share, trace)]
    written = keep(is_finished, sample(explainer, own_problems, n=n, **settings))
    own_rationales = keep(is_rationale, edit(without_boxes, written))
    others = [trace for trace in rationales if not reads_own(own_share, trace)]
    all_rationales = [*others, *own_rationales]
    rows = edit(say_answer, pose(INFER, all_rationales), context={"answers": answers})
    share = Share(
        "answers behind the first student's rationales", len(own_rationales), len(all_rationales)
    )
    report_shares("Rationales", [share], hint="What the second student reads while it learns.")
    answerer = yield Stage(student, rows, "sft", name="answer")
    return partial(solve_in_two, explainer, answerer)


def solve_in_two(
    explainer: Model, answerer: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """n rationales of each problem, and an answer behind each of them."""
    rationales = edit(without_boxes, sample(explainer, problems, n=n, **sampling))
    return sample(answerer, pose(INFER, rationales), **sampling)


def rationale_alone(trace: Any) -> dict[str, str]:
    """An explanation without the line, or in one line the sentence, that states the answer."""
    return {"text": without_last_line(trace.text), "finish_reason": "stop"}


def without_boxes(trace: Any) -> dict[str, str]:
    """What the first student wrote up to where it states an answer, which is not its part."""
    text = reply_of(trace.text)
    before, box, _ = text.partition(BOX)
    # The line, or in one line the sentence, in which the answer stands goes with it.
    if box:
        text = without_last_line(before + box)
    return {"text": text, "finish_reason": trace.finish_reason}


def is_rationale(trace: Trace) -> tuple[bool, str]:
    """It explains something, and does not state the answer."""
    if not trace.text.strip():
        return False, "no rationale before the answer"
    return BOX not in trace.text, "states the answer before its last line"


def reads_own(own_share: float, trace: Trace) -> bool:
    """Whether the answer of a problem is learnt behind the first student's rationale."""
    return chance_fraction("sci_cot", trace.problem.id) < own_share


def say_answer(trace: Any, answers: Sequence[Any]) -> dict[str, str]:
    """The teacher's right answer as the text behind a rationale."""
    return {"text": answers[0].text, "finish_reason": "stop"}
