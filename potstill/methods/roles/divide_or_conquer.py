"""Divide-or-Conquer: a student learns to decompose questions, and an untrained solver answers through the parts.

The released code was read: the prompts' contents, how decompositions are screened, and which rows each student learns.

| constant | value | source |
|---|---|---|
| sub-questions | at most 3, or none at all | released code, instruction |
| a decomposition is kept | where the teacher reaches gold through it (S_D-R), or always (S_D-T) | released code |
| the solver's rows | sub-answers and answer (S_E-T), or with the gold answer (S_E-A); all are kept | released code |
| a reply without a question | is learnt as "No decomposition" alone, whatever else it says | released code |
| decompositions a question | 1 | released code |
| temperature | 0.7 | released code, of its local models; its calls of the teacher set none, which is 1 there |
| learning rate, epochs | 2e-5, 5 (GSM8K; 3 of DROP) | paper |
| batch | 128 | paper; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.replies import reply_alone
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    among,
    count_reading,
    edit,
    fill_template,
    is_finished,
    keep,
    line,
    pose,
    report_shares,
    right,
    sample,
    share_of,
    solve_posed,
    verify,
)

UNDIVIDED = "No decomposition"
DECOMPOSE = f"""\
Break the question below down into the sub-questions whose answers help most to answer it, three at most, one a line \
and numbered. Leave out what does not help directly. Answer nothing. If the question needs no breaking down, write \
"{UNDIVIDED}".

Question: {{question}}"""
SOLVE = """\
Answer the sub-questions one by one, and then the question itself. At the end write the answer to the question, and \
not that to a sub-question, as \\boxed{{answer}}.

Question: {question}

Sub-questions:
{text}"""
ANSWER = """\
Answer the question. At the end write the answer as \\boxed{{answer}}.

Question: {question}"""
HINT = "The teacher divides each question; a decomposition is screened by where the teacher gets through it."
Arm = Literal["screened", "all", "untrained", "single-stage", "solver", "solver-gold"]
TRAINING: dict[str, Any] = {"num_train_epochs": 5, "learning_rate": 2e-5}


def divide_or_conquer(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    solver: Model | None = None,
    *,
    arm: Arm = "screened",
    n: int = 1,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Trainable, Any]:
    """Divide-or-Conquer: which part should you distil your LLM? (Wu et al., arXiv:2402.15000).

    Learns from: the teacher's decompositions of the questions, where it then reached the right answer through them.
    Needs: teacher (decomposes, and solves what it decomposed), student (is trained to decompose), [solver] (solves
        what the student decomposed, in the teacher's place).
    Controls: arm=all (decompositions whatever they lead to: the screening), untrained (the student decomposes as it
        is), single-stage (the solver answers undivided questions: the paper's comparison), solver (the other half: the
        student learns to solve, and the teacher decomposes), solver-gold (the same with the gold answer at the end).
    Departure: the prompts ask for what the released ones ask for, in words of ours, and for the answer in a box. A
        reply that has no question and does not say that there is none is dropped, where the released code learns "No
        decomposition" for it.
    Paper: 70
    Cite: Zhuofeng Wu, He Bai, Aonan Zhang, Jiatao Gu, VG Vinod Vydiswaran, Navdeep Jaitly, Yizhe Zhang:
        Divide-or-Conquer? Which Part Should You Distill Your LLM? (2024).

    Args:
        teacher: decomposes each question, and solves it through the parts.
        student: learns one of the two roles, which wants weights of its own.
        solver: any model; it is not trained.
        arm: the method or one of its controls.
        n: decompositions a question.
        temperature: of the teacher.
        max_new_tokens: longest decomposition, and longest solution.
    """
    solver = solver or teacher
    if arm == "untrained":
        return partial(solve_divided, student, solver)
    if arm == "single-stage":
        return partial(solve_posed, solver, ANSWER)

    # The teacher divides, and conquers.
    settings: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    replies = sample(teacher, pose(DECOMPOSE, problems), n=n, **settings)
    decompositions = keep(is_decomposition, edit(parts_alone, keep(is_finished, replies)))
    shares = [share_of("questions that are not divided", is_undivided, decompositions)]

    # Divide: the decompositions are the rows, screened by where they led.
    if arm in ("screened", "all"):
        rows = decompositions
        if arm == "screened":
            solutions = verify(sample(teacher, pose(show_parts, decompositions), **settings))
            shares.append(share_of("solutions through the parts: right", right, solutions))
            rows = among(keep(right, solutions), decompositions, by=line)
        report_shares("Decompositions", shares, hint=HINT)
        student = yield Stage(student, rows, "sft", **TRAINING)
        return partial(solve_divided, student, solver)

    # Conquer: the teacher's solutions through the parts are the rows, right or wrong.
    solutions = verify(sample(teacher, pose(show_parts, decompositions), **settings))
    shares.append(share_of("solutions through the parts: right", right, solutions))
    rows = keep(is_finished, solutions)
    if arm == "solver-gold":
        rows = edit(end_with_gold, rows)
    report_shares("Decompositions", shares, hint=HINT)
    student = yield Stage(student, rows, "sft", **TRAINING)
    return partial(solve_divided, teacher, student)


def solve_divided(
    decomposer: Model, solver: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Decompose each question n times, and solve each decomposition once."""
    decompositions = edit(
        parts_alone, sample(decomposer, pose(DECOMPOSE, problems), n=n, **sampling)
    )
    return sample(solver, pose(show_parts, decompositions), **sampling)


def parts_alone(trace: Any) -> str | dict[str, str]:
    """The reply behind its thought; where it says that there is nothing to divide, that alone and no answer."""
    reply = reply_alone(trace)
    if "?" not in reply and says_undivided(reply):
        return {"text": UNDIVIDED, "finish_reason": "stop"}
    return reply


def is_decomposition(trace: Trace) -> tuple[bool, str]:
    """It asks something, or says that there is nothing to divide."""
    is_readable = "?" in trace.text or is_undivided(trace)
    count_reading("decomposition", trace.text, "strict" if is_readable else "unparsed")
    return is_readable, "no question in it"


def is_undivided(trace: Trace) -> bool:
    """It says that the question needs no breaking down."""
    return says_undivided(trace.text)


def says_undivided(reply: str) -> bool:
    """Whether a reply begins with the words for it."""
    return re.match(rf"\W*{UNDIVIDED}", reply, re.IGNORECASE) is not None


def show_parts(trace: Any) -> str:
    """The solver's prompt: the question with its sub-questions, or alone where nothing asks any."""
    template = SOLVE if "?" in trace.text else ANSWER
    return fill_template(template, {"question": trace.question, "text": trace.text.strip()})


def end_with_gold(trace: Any) -> dict[str, str]:
    """The solution with the gold answer in its last box, or in a box in the place of its last line."""
    before, box, _ = trace.text.rpartition("\\boxed{")
    if not box:
        lines_before = trace.text.rstrip().rpartition("\n")[0]
        before, box = f"{lines_before}\n" if lines_before else "", "\\boxed{"
    return {"text": f"{before}{box}{trace.problem.answer}}}", "finish_reason": "stop"}
