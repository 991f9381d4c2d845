"""What the world's models are taught: solving, and rewriting a reference in the light of wrong attempts.

Rewriting rows teach to read, merge and word, not to calculate: a result that stands neither in the reference nor in an
attempt has no loss, or the student would learn the arithmetic from them. What errors tell is where to be careful: the
target works in small steps where a shown attempt went wrong, and only there.

A lesson is told of a family of tasks (`families.py`) and, where it begins with the student's samples, of a solved task.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from potstill.world.prompts import CORRECT_ALONE, DIRECT, REFLECT, REFLECT_ALONE

TEXTS_A_RARE_LESSON = 50  # in the tokenizer's corpus
ATTEMPTS_HEADING = "Wrong attempts:"  # in the rewriting prompts
Task: TypeAlias = Any
"""What a question asks, parsed: a `Story` or a `Walk`; only its own family looks into it."""


class Row(NamedTuple):
    """A user prompt and its completion; `silent` are pieces of the completion (start, stop) without loss."""

    prompt: str
    completion: str
    silent: tuple[tuple[int, int], ...] = ()


class Family(Protocol):
    """A family of tasks, as the lessons, the build and its check see it."""

    @property
    def name(self) -> str:
        """The name of its main task, which is also its verifier's kind."""
        ...

    @property
    def is_taught_at_once(self) -> bool:
        """Whether its teacher is also taught to answer without a chain, so that this can be measured."""
        ...

    def draw(self, rng: random.Random) -> tuple[str, Task]:
        """Return a question and its task."""
        ...

    def parse(self, question: str) -> Task | None:
        """Return the task of a question, or None if the question is not of this family."""
        ...

    def answer(self, task: Task) -> str:
        """Return the gold answer."""
        ...

    def brief_solution(self, task: Task) -> str:
        """Return the solution in the student's own style."""
        ...

    def long_solution(self, task: Task, rng: random.Random) -> str:
        """Return a solution in the teacher's style."""
        ...

    def stumble_once(self, task: Task, rng: random.Random) -> str:
        """Return a brief chain with one slip, carried on faithfully."""
        ...

    def answer_briefly(self, prompt: str, task: Task) -> Row:
        """Return the brief chain as the answer to a rewriting prompt: careful where an attempt in it went wrong."""
        ...

    def drill_step(self, rng: random.Random) -> Row:
        """Return a short row that teaches to do one step carefully."""
        ...


Lesson: TypeAlias = Callable[..., Row]


@dataclass(frozen=True, slots=True)
class SolvedTask:
    """A question and its task with the student's own samples on it, each marked right or wrong."""

    question: str
    task: Task
    samples: tuple[tuple[str, bool], ...]

    @property
    def wrong_samples(self) -> list[str]:
        """The samples that are wrong, in the order in which they were drawn."""
        return [text for text, is_right in self.samples if not is_right]


# Lessons that begin with a fresh task.


def solve_brief(rng: random.Random, family: Family) -> Row:
    """A task, solved in the student's own style."""
    question, task = family.draw(rng)
    return Row(question, family.brief_solution(task))


def solve_long(rng: random.Random, family: Family) -> Row:
    """A task, solved in the teacher's style."""
    question, task = family.draw(rng)
    return Row(question, family.long_solution(task, rng))


def solve_at_once(rng: random.Random, family: Family) -> Row:
    """A task, answered without a chain: what a model can do without reasoning is measured with this prompt."""
    question, task = family.draw(rng)
    answer = f"The answer is \\boxed{{{family.answer(task)}}}."
    return Row(DIRECT.format(question=question), answer)


def refine_long(rng: random.Random, family: Family) -> Row:
    """The teacher asked to rewrite a reference in the light of made-up wrong attempts: it answers in its own style."""
    question, task = family.draw(rng)
    attempts = [family.stumble_once(task, rng) for _ in range(rng.randint(1, 3))]
    prompt = rewriting_prompt(question, family.long_solution(task, rng), attempts)
    return Row(prompt, family.long_solution(task, rng))


def drill_step(rng: random.Random, family: Family) -> Row:
    """One step of a task, done carefully."""
    return family.drill_step(rng)


# Lessons that begin with a task which the student has tried.


def replay_sample(rng: random.Random, family: Family, solved: SolvedTask) -> Row:
    """One of the student's own samples, right or wrong: keeps its solving where it is while it learns to rewrite."""
    text, _ = rng.choice(solved.samples)
    return Row(solved.question, text)


def rewrite_own(rng: random.Random, family: Family, solved: SolvedTask) -> Row:
    """The teacher's long reasoning and the student's own wrong attempts, rewritten in the student's style."""
    attempts = list(dict.fromkeys(solved.wrong_samples))
    rng.shuffle(attempts)
    shown_attempts = attempts[: rng.randint(1, 3)]
    reference = family.long_solution(solved.task, rng)
    prompt = rewriting_prompt(solved.question, reference, shown_attempts)
    return family.answer_briefly(prompt, solved.task)


def rewrite_alone(rng: random.Random, family: Family, solved: SolvedTask) -> Row:
    """The teacher's long reasoning rewritten in the student's style, without attempts."""
    prompt = rewriting_prompt(solved.question, family.long_solution(solved.task, rng), ())
    return family.answer_briefly(prompt, solved.task)


def correct_alone(rng: random.Random, family: Family, solved: SolvedTask) -> Row:
    """The student's own wrong attempts put right without a reference."""
    attempts = solved.wrong_samples
    shown_attempts = rng.sample(attempts, min(2, len(attempts)))
    prompt = CORRECT_ALONE.format(
        question=solved.question, attempts=number_attempts(shown_attempts)
    )
    return family.answer_briefly(prompt, solved.task)


# Prompts, and the choice of a lesson.


def number_attempts(attempts: Sequence[str]) -> str:
    """A list as prompts show it."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(attempts, 1))


def rewriting_prompt(question: str, reference: str, attempts: Sequence[str]) -> str:
    """The rewriting prompt, with attempts or, where there are none, without."""
    template = REFLECT if attempts else REFLECT_ALONE
    return template.format(question=question, text=reference, attempts=number_attempts(attempts))


def choose_lesson(shares: Mapping[Lesson, float], rng: random.Random) -> Lesson:
    """A lesson drawn by its share."""
    return rng.choices(list(shares), list(shares.values()))[0]


def corpus(family: Family, size: int, seed: int) -> list[str]:
    """Texts of every kind of row, to train the tokenizer on."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for _ in range(size):
        for lesson in (solve_brief, solve_long, refine_long):
            rows.append(lesson(rng, family))

    # The words of the other prompts, in one task's rows.
    question, task = family.draw(rng)
    attempts = number_attempts([family.stumble_once(task, rng)])
    correcting = Row(
        CORRECT_ALONE.format(question=question, attempts=attempts), family.brief_solution(task)
    )
    rows += [correcting] * TEXTS_A_RARE_LESSON
    prompt = rewriting_prompt(question, family.long_solution(task, rng), ())
    rows += [Row(prompt, family.brief_solution(task))] * TEXTS_A_RARE_LESSON

    texts: list[str] = []
    for row in rows:
        texts += [row.prompt, row.completion]
    return texts
