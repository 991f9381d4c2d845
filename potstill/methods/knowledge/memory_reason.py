"""Memory and reason: each step of a chain is labelled as a fact that is recalled or as a thought, and both are learnt.

The paper was read in excerpts; its released generator of rows, its format and its scripts whole.

| constant | value | source |
|---|---|---|
| kinds of steps | recalled (`[rag]` there, `memory` in the row), `reason` | released code |
| the planner sees | question and gold answer | released code |
| the facts | all questions of a plan in one call, which sees nothing else | released code |
| tries of a problem | 5, until the replies can be read | released code |
| temperature | 1, that of the interface | released code sets none |
| the row ends with | the gold answer, behind a tag of its own | released code |
| learning rate, epochs | 2e-4; 10 (StrategyQA; 5 and 15 elsewhere) | released README |
| warm-up, schedule, batch | 700 steps, cosine, 16; LoRA on the MLPs | released README; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.methods.answer_rows import ANSWER_ALONE
from potstill.methods.replies import reply_of
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    chance,
    count_reading,
    edit,
    fill_template,
    is_finished,
    keep,
    report_shares,
    retry,
    rewrite,
    right_test,
    sample,
    split_by,
    verify,
)

PLAN = """\
Plan the steps that lead to the correct answer of the question, one step a line. A step that needs a fact which can be \
looked up, such as one of science or history, is [memory] and the question that asks for the fact, understandable by \
itself. A step that concludes something is [reason] and the thought.

Question: {prompt}

Correct answer: {answer}"""
RECALL = """\
Answer each question below with the fact that it asks for, in one or two sentences. Number the answers like the \
questions.

{questions}"""
TRAINING: dict[str, Any] = {"num_train_epochs": 10, "learning_rate": 2e-4}

Arm = Literal["labelled", "unlabelled", "shuffled", "chains"]
_STEP = re.compile(r"[\s\d.)*#-]*\[(memory|reason)\][\s*:]*(.*)", re.IGNORECASE)
_NUMBER = re.compile(r"^[ \t*]*(\d{1,3})[.)][ \t*]+", re.MULTILINE)


class Step(NamedTuple):
    """A step of a plan or of a row: what kind it is, and its text in one line."""

    kind: str
    text: str


def memory_reason(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    knower: Model | None = None,
    *,
    arm: Arm = "labelled",
    tries: int = 5,
    steps: bool | None = None,
    sampling: Options = options(temperature=1.0, max_new_tokens=1024),
) -> Generator[Stage, Trainable, None]:
    """Memory and reason: disentangling memory and reasoning ability (Jin et al., arXiv:2411.13504).

    Learns from: the steps that a teacher planned in view of the gold answer, each labelled as recalled or reasoned, the
        recalled ones written by a model that was asked for the fact alone; then the gold answer.
    Needs: teacher (plans), student (is trained), [knower] (answers the plan's questions of fact in its place).
    Controls: arm=chains (the teacher's own right chains, without the answer in view: the paper's baseline), unlabelled
        (the same steps without labels), shuffled (each row's labels in another order: is it what they say?).
    Departure: a plan is a line a step, and the facts a numbered list, where the released code asks for four lines a
        step and for JSON. A recalled step is the fact; the released code keeps the planner's own words there and loses
        the facts that it asked for, the paper has them. The answer stands in a box. With `steps` a row is right in
        every step.
    Partial: the labels are words, `[memory]` and `[reason]`: not here are trained tokens of their own, four of each
        kind behind two or three common ones, whose embeddings start as those of the words.
    Paper: 119
    Cite: Mingyu Jin, Weidi Luo, Sitao Cheng, Xinyi Wang, Wenyue Hua, Ruixiang Tang, William Yang Wang, Yongfeng Zhang:
        Disentangling Memory and Reasoning Ability in Large Language Models (2024).

    Args:
        teacher: a strong model; it sees the gold answer.
        student: learns.
        knower: another one, which sees the questions of fact and nothing else.
        arm: the method or one of its controls.
        tries: of a problem, until plan and facts can be read.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        sampling: of the teacher and the knower.
    """
    is_right = right_test(problems, steps)
    settings = dict(sampling)
    if arm == "chains":
        chains = verify(keep(is_finished, sample(teacher, problems, **settings)))
        yield Stage(student, keep(is_right, chains), "sft", **TRAINING)
        return

    def write_rows(remaining: list[Trace], number: int) -> list[Trace]:
        """One try at each problem: a plan, the facts that it asks for, and the row of both."""
        plans = sample(teacher, remaining, prompt=PLAN, sample_index=number, **settings)
        plans = keep(is_plan, keep(is_finished, plans))
        # A plan without a question of fact needs no second call.
        asking, closed = split_plans(plans)
        facts = rewrite(
            knower or teacher,
            asking,
            prompt=ask_facts,
            guard=False,
            sample_index=number,
            **settings,
        )
        facts = keep(answers_all(asking), keep(is_finished, facts))
        # Plans whose facts could not be read are tried again as a whole, as the released code does.
        answered, _ = split_by(facts, asking)
        return edit(partial(write_row, arm), [*answered, *closed], context={"facts": facts})

    # The gold answer stands in every row: the verdict says whether its form can be read, and judges steps.
    rows, first_share = retry(write_rows, problems, tries)
    report_steps(rows, first_share)
    yield Stage(student, keep(is_right, verify(rows)), "sft", **TRAINING)


# A plan and its facts.


def read_steps(text: str) -> list[Step]:
    """The labelled steps of a reply, in order; a line without a label goes on with the step before it."""
    steps: list[Step] = []
    # What stands before the first label is an introduction, and is no step.
    for line in reply_of(text).splitlines():
        match = _STEP.fullmatch(line)
        if match is not None:
            steps.append(Step(match[1].lower(), match[2].strip()))
        elif steps and line.strip():
            joined = f"{steps[-1].text} {line.strip()}"
            steps[-1] = steps[-1]._replace(text=joined.strip())
    return [step for step in steps if step.text]


def facts_asked(trace: Any) -> list[str]:
    """The questions of fact that a plan asks."""
    return [step.text for step in read_steps(trace.text) if step.kind == "memory"]


def is_plan(trace: Trace) -> tuple[bool, str]:
    """It has a labelled step."""
    is_readable = bool(read_steps(trace.text))
    count_reading("labelled steps", trace.text, "strict" if is_readable else "unparsed")
    return is_readable, "no labelled step in it"


def split_plans(plans: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """The plans that ask for facts, and those that only reason."""
    asking = [plan for plan in plans if not plan.error and facts_asked(plan)]
    asking_ids = {plan.id for plan in asking}
    return asking, [plan for plan in plans if plan.id not in asking_ids]


def ask_facts(trace: Any) -> str:
    """The knower's prompt: the questions of a plan, numbered, and nothing else."""
    questions = [f"{number}. {text}" for number, text in enumerate(facts_asked(trace), 1)]
    return fill_template(RECALL, {"questions": "\n".join(questions)})


def read_facts(text: str) -> list[str]:
    """The answers of a numbered list, in order, each in one line; [] where a number is missing or comes twice."""
    # The split gives what stands before the list, then number and answer in turn.
    _, *parts = _NUMBER.split(reply_of(text))
    numbers, answers = parts[::2], parts[1::2]
    if [int(number) for number in numbers] != list(range(1, len(numbers) + 1)):
        return []
    facts = [" ".join(answer.split()) for answer in answers]
    return facts if all(facts) else []


def answers_all(plans: Sequence[Trace]) -> Callable[[Trace], tuple[bool, str]]:
    """A test of the replies to the questions of these plans, one of each problem."""
    # There is one plan a problem in a try.
    counts = {plan.problem.id: len(facts_asked(plan)) for plan in plans}

    def answers_each_question(trace: Trace) -> tuple[bool, str]:
        """It answers as many questions as its plan asks."""
        expected, read = counts[trace.problem.id], len(read_facts(trace.text))
        count_reading("facts", trace.text, "strict" if read == expected else "unparsed")
        return read == expected, f"{read} facts for {expected} questions"

    return answers_each_question


# Rows.


def write_row(arm: Arm, trace: Any, *, facts: Sequence[Any]) -> dict[str, str]:
    """The plan with a fact in the place of each question, and the gold answer behind it."""
    # Facts come in the order of the questions.
    remaining_facts = iter(read_facts(facts[0].text) if facts else [])
    steps: list[Step] = []
    for step in read_steps(trace.text):
        is_fact = step.kind == "memory"
        steps.append(step._replace(text=next(remaining_facts)) if is_fact else step)
    steps.append(Step("answer", ANSWER_ALONE.format(answer=trace.problem.answer)))
    if arm == "shuffled":
        steps = shuffle_kinds(trace.problem.id, steps)
    labels = ["" if arm == "unlabelled" else f"[{step.kind}] " for step in steps]
    lines = [label + step.text for label, step in zip(labels, steps, strict=True)]
    return {"text": "\n".join(lines), "finish_reason": "stop"}


def shuffle_kinds(seed: str, steps: Sequence[Step]) -> list[Step]:
    """The steps with their kinds in another order, by chance; the last step keeps its own."""
    # Only the order of the labels changes: a row has as many of each kind as before.
    *body, last = steps
    order = sorted(range(len(body)), key=lambda index: chance(seed, index))
    shuffled: list[Step] = []
    for step, index in zip(body, order, strict=True):
        shuffled.append(step._replace(kind=body[index].kind))
    return [*shuffled, last]


def report_steps(rows: Sequence[Trace], first_share: Share) -> None:
    """Say how many replies could be read at once, and how much is recalled."""
    counts = {"memory": 0, "reason": 0}
    for row in rows:
        for step in read_steps(row.text):
            counts[step.kind] += 1
    shares = [
        first_share._replace(label="problems whose replies could be read at the first try"),
        Share("labelled steps that are recalled", counts["memory"], sum(counts.values())),
    ]
    report_shares("Memory and reason", shares, hint="A fact is asked for apart from the reasoning.")
