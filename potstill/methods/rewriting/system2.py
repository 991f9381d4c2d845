"""System 2 distillation: answers that slow procedures agree on are learnt without the reasoning, and without labels.

The paper's text was not read: its abstract, summaries and notes are the source. Inferred: the prompts' wording, the
number of samples and the share that must agree.

| constant | value | source |
|---|---|---|
| samples of a problem | 8 | inferred: the reference's default |
| share that must agree | 0.75 | inferred: the reference's default |
| procedures | chain of thought, rephrase and respond, System 2 attention | the paper's, with branch-solve-merge |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.answer_rows import answer_text, gold_answer_alone, is_read
from potstill.methods.replies import reply_alone
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Score,
    agreement,
    edit,
    is_finished,
    keep,
    read_answers,
    report_shares,
    rewrite,
    right,
    sample,
    score,
    share_of,
    verify,
    vote,
)

THINK = "{prompt}\n\nThink step by step, then state the answer on the last line, in \\boxed{{}}."
ANSWER = "{prompt}\n\nState the answer alone, in \\boxed{{}}."
# What is made of the question before it is answered.
FIRST_STEPS = {
    "rephrase": (
        "Rephrase and expand the question below so that it can be answered more easily. Keep all that it says, and do "
        "not answer it.\n\n{question}"
    ),
    "attention": (
        "Write the question below again without opinions and whatever does not matter for its answer. Keep all that "
        "does, and do not answer it.\n\n{question}"
    ),
}
# A rephrasing is shown beside the question; what was cleaned stands in its place, or it would be attended to again.
RESPOND = {
    "rephrase": "{prompt}\n\nThe question in other words:\n{text}\n\nAnswer it. State the answer in \\boxed{{}}.",
    "attention": "{text}\n\nAnswer the question. State the answer in \\boxed{{}}.",
}


def system2(
    problems: list[Trace],
    student: Trainable,
    *,
    procedure: Literal["rephrase", "attention", "think"] = "rephrase",
    arm: Literal["system2", "unfiltered", "system1", "gold"] = "system2",
    n: int = 8,
    min_agreement: float = 0.75,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, None]:
    """System 2 distillation: slow procedures are compiled into direct answers (Yu et al., arXiv:2407.06023).

    y* = majority{ y_k ~ M_II(x) }, a row (x, y*) where at least the share `min_agreement` of the n samples has this
    answer. No gold answer is looked at.

    Learns from: the answers alone on which most of its own slow samples agree.
    Needs: student (answers slowly, and is trained to answer at once).
    Controls: arm=unfiltered (the majority is learnt however small it is), system1 (the votes are direct answers: is it
        the procedure?), gold (the gold answers), procedure=attention (what does not matter is left out first), think
        (chains of thought, which the paper finds not to compile on arithmetic).
    Departure: what is inferred is named above. A sample that is cut or says no answer agrees with none.
    Partial: branch-solve-merge is not here, nor the filter of answers that change when the input is perturbed.
    Paper: 56 (from the abstract)
    Cite: Ping Yu, Jing Xu, Jason Weston, Ilia Kulikov: Distilling System 2 into System 1 (2024).

    Args:
        student: is its own teacher.
        procedure: how it answers slowly.
        arm: the method or one of its controls.
        n: slow samples of a problem.
        min_agreement: the least share of them that the majority must have.
        temperature: of the samples.
        max_new_tokens: longest sample.
    """
    sampling: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    if arm == "gold":
        yield Stage(student, keep(is_read, verify(edit(gold_answer_alone, problems))), "sft")
        return

    # System 2: the question is thought about, or made into a better one first.
    if arm == "system1":
        answers = sample(student, problems, prompt=ANSWER, n=n, **sampling)
    elif procedure == "think":
        answers = sample(student, problems, prompt=THINK, n=n, **sampling)
    else:
        first_step = FIRST_STEPS[procedure]
        questions = sample(student, problems, prompt=first_step, n=n, **sampling)
        questions = edit(reply_alone, questions)
        respond = RESPOND[procedure]
        answers = rewrite(student, questions, prompt=respond, guard=False, **sampling)

    # The filter without labels: how many of the n samples have the majority's answer.
    answers = score("answer", read_answers, keep(is_finished, answers))
    answers = keep(has_answer, answers)
    answers = vote(score("agreement", partial(share_of_samples, n), answers))
    if arm != "unfiltered":
        answers = keep(partial(is_agreed, min_agreement), answers)

    # System 1: the question and the answer, nothing between.
    rows = keep(is_read, verify(edit(own_answer, answers)))
    report_shares(
        "Answers that samples agree on",
        [share_of("agreed answers that are right", right, rows)],
        hint="Gold answers are looked at here alone: the rows were chosen without them.",
    )
    yield Stage(student, rows, "sft")


def share_of_samples(n: int, answers: Sequence[Trace]) -> list[Score]:
    """The share of a problem's n samples that have the answer of each of these, the readable ones."""
    answer_counts = Counter(answer.problem.id for answer in answers)
    shares: list[Score] = []
    for answer, share in zip(answers, agreement(answers), strict=True):
        votes = round(float(share or 0.0) * answer_counts[answer.problem.id])
        shares.append(votes / n)
    return shares


def has_answer(trace: Trace) -> tuple[bool, str]:
    """An answer can be read in it."""
    return trace.scores.get("answer") is not None, "no answer can be read"


def is_agreed(min_agreement: float, trace: Trace) -> tuple[bool, str]:
    """Enough of its problem's samples have its answer."""
    share = float(trace.scores["agreement"] or 0.0)
    return share >= min_agreement, f"{share:.0%} agree, where {min_agreement:.0%} must"


def own_answer(trace: Any) -> dict[str, str]:
    """The answer of a slow sample as a text of its own."""
    return answer_text(str(trace.scores["answer"]))
