"""R3V in its text form: a student learns its own solutions, to mend its errors, and to choose among candidates.

| constant | value | source |
|---|---|---|
| rounds | 5 | paper, up to so many; the released loop of five counts the warm-up |
| samples a problem: temperature, top-k, top-p | 3: 0.9, 50, 0.95 | paper; at test time too: released code |
| the choice at test time | greedy | released code |
| candidates to choose from | 3: two right and one wrong, or one right and two wrong | paper, released code |
| learning rate, epochs, warm-up | 3e-5 constant, 3, 0.1 | paper |
| adapters | LoRA r 64, alpha 16, dropout 0.05 | paper; a recipe's `training` |
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.answer_rows import own_answer_alone
from potstill.methods.checks import require_wrong_attempts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.template import fill_template
from potstill.traces import (
    chance,
    dedupe,
    edit,
    is_finished,
    keep,
    learn,
    mix,
    plain,
    pose,
    problem,
    prompt_text,
    right_test,
    sample,
    show_one,
    split_by,
    verify,
    vote,
    words,
    wrong,
)
from potstill.traces.keys import group_traces
from potstill.traces.prompts import numbered_list

REFINE = """\
{prompt}

Here is a solution:
{attempt}

Judge whether it is right, and write a right one."""
SELECT = """\
{prompt}

Here are candidate solutions:
{candidates}

Compare them, and give the right answer."""
CANDIDATES = 3
SAMPLING: dict[str, Any] = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}
SFT: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 3e-5,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0.1,
}
Arm = Literal["r3v", "cot", "no-refine", "no-select"]
Solver = Callable[..., list[Trace]]


def r3v(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "r3v",
    answer_by: Literal["select", "vote", "plain"] = "select",
    rounds: int = 5,
    n: int = 3,
    steps: bool | None = None,
    teacher_temperature: float = 0.6,
    max_new_tokens: int = 2048,
) -> Generator[Stage, Trainable, Solver]:
    """R3V: self-improvement by reflection, in its text form (Cheng et al., arXiv:2411.00855).

    L = CE(y+ | q) + CE(y+ | q, y-) + CE(answer | q, {y1, y2, y3}), each round from the base model, on what all rounds
    so far have sampled. At test time the student chooses among three of its own solutions.

    Learns from: a teacher's right chains to begin with; its own right solutions, mended errors, and choices.
    Needs: teacher (writes the chains of the warm-up), student (writes, is trained, and chooses).
    Controls: arm=cot (its own solutions alone), no-refine (no mended errors), no-select (no choices), answer_by=vote
        (the most frequent answer of three: does it choose, or only vote?), plain (one solution).
    Departure: text alone. Candidates are of different wording; a sample that is cut or says no answer is no wrong one.
        With `steps` a learnt solution is right in every step. A row to choose from has the sentence that states the
        answer, in a box. At test time the solutions are sampled as in training and the choice is greedy, as in the
        released code, whatever temperature is measured at; answer_by=plain takes that one.
    Partial: images; rows of bare answers in the warm-up.
    Paper: 37
    Cite: Kanzhi Cheng, Yantao Li, Fangzhi Xu, Jianbing Zhang, Hao Zhou, Yang Liu: Vision-Language Models Can
        Self-Improve Reasoning via Reflection (2025).

    Args:
        teacher: of the warm-up.
        student: the base model.
        arm: the method or one of its controls.
        answer_by: how a problem is answered at test time: the student chooses one of three, they vote, or one is drawn.
        rounds: of sampling and training.
        n: samples a problem and round.
        steps: also demand that every step of a learnt solution is right; left open, where the verifier judges steps.
        teacher_temperature: of the warm-up's chains.
        max_new_tokens: longest text.
    """
    is_right = right_test(problems, steps)
    student_sampling = {**SAMPLING, "max_new_tokens": max_new_tokens}

    # Round 0: the warm-up on the teacher's right chains.
    teacher_sampling: dict[str, Any] = {
        "temperature": teacher_temperature,
        "max_new_tokens": max_new_tokens,
    }
    chains = keep(is_finished, sample(teacher, problems, **teacher_sampling))
    warm_up = keep(is_right, verify(chains))
    base = student
    student = yield Stage(base, warm_up, "sft", name="warm-up", **SFT)

    pool: list[Trace] = []
    for number in range(1, rounds + 1):
        # Samples of all rounds, the newest first; every round begins with the base model.
        samples = verify(keep(is_finished, sample(student, problems, n=n, **student_sampling)))
        pool = [*reversed(samples), *pool]
        require_wrong_attempts("r3v", pool, alternative="--set arm=cot")
        rows = rows_of_pool(arm, keep(is_right, pool), keep(wrong, pool))
        student = yield Stage(base, mix(warm_up, rows), "sft", name=f"round-{number}", **SFT)

    if answer_by == "plain":
        return partial(plain, student)
    if answer_by == "vote":
        return partial(solve_by_vote, student)
    return partial(solve_by_choice, student)


def rows_of_pool(arm: Arm, right_ones: list[Trace], wrong_ones: list[Trace]) -> list[Trace]:
    """What is learnt of all samples so far, the newest of each kind first."""
    # Each wording once: a choice between two equal texts is none.
    right_ones, wrong_ones = dedupe(words, right_ones), dedupe(words, wrong_ones)
    solutions, errors = dedupe(problem, right_ones), dedupe(problem, wrong_ones)
    rows = solutions
    if arm in ("r3v", "no-select"):
        rows = rows + refine_rows(solutions, errors)
    if arm in ("r3v", "no-refine"):
        rows = rows + select_rows(right_ones, wrong_ones, right_count=2)
        rows = rows + select_rows(right_ones, wrong_ones, right_count=1)
    return rows


def refine_rows(solutions: list[Trace], errors: list[Trace]) -> list[Trace]:
    """Right solutions under a prompt that shows an error on the problem."""
    with_error, _ = split_by(errors, solutions)
    show = partial(show_one, REFINE)
    return pose(show, with_error, context={"attempt": errors}, keep_text=True)


def select_rows(
    right_ones: Sequence[Trace], wrong_ones: Sequence[Trace], *, right_count: int
) -> list[Trace]:
    """Of each problem with enough solutions the newest ones to choose from, and the answer of the right ones."""
    wrong_of = group_traces(wrong_ones, problem)
    answers: list[Trace] = []
    candidates: list[Trace] = []
    for problem_id, group in group_traces(right_ones, problem).items():
        choices = [*group[:right_count], *wrong_of.get(problem_id, [])[: CANDIDATES - right_count]]
        if len(choices) == CANDIDATES:
            answers.append(group[0])
            candidates += choices
    posed = pose(show_candidates, answers, context={"candidates": candidates}, keep_text=True)
    return learn("all", edit(own_answer_alone, posed))


def show_candidates(trace: Any, candidates: Sequence[Any]) -> str:
    """The prompt that shows candidates, in an order by chance; the problem's own where there is none."""
    shuffled = sorted(candidates, key=lambda candidate: chance(candidate.id))
    values = {
        "prompt": prompt_text(trace),
        "candidates": numbered_list(candidate.text for candidate in shuffled),
    }
    return fill_template(SELECT, values) if candidates else values["prompt"]


# Test time.


def solve_by_choice(
    student: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """For each of n answers three solutions, of which the student chooses."""
    answers: list[Trace] = []
    for _ in range(n):
        drafts = sample(student, problems, n=CANDIDATES, **{**sampling, **SAMPLING})
        posed = pose(show_candidates, problems, context={"candidates": drafts})
        answers += sample(student, posed, **{**sampling, "temperature": 0.0})
    return answers


def solve_by_vote(
    student: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """For each of n answers three solutions, of which one with the most frequent answer stands for all."""
    answers: list[Trace] = []
    for _ in range(n):
        answers += vote(sample(student, problems, n=CANDIDATES, **{**sampling, **SAMPLING}))
    return answers
