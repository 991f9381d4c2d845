"""`potstill world build`: the script that made the shipped teachers and students, a pair for each family of tasks.

The teacher learns to solve in its own long style, and to rewrite a reference. The student learns to solve in the brief
style until it is right about `AIM` of the time. From then on its solving rows are its own samples, right or wrong,
which slows its progress in solving (docs/LOG.md), while it learns to rewrite a reference in the light of wrong attempts
sampled from that weak checkpoint.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from potstill.data.atomic_write import write_text
from potstill.records import Problem
from potstill.verifiers import judge, steps
from potstill.world import learn, lessons
from potstill.world.families import FAMILIES, SHIPPED
from potstill.world.learn import DrawRow, Schedule
from potstill.world.lessons import Family, Lesson, Row, SolvedTask, Task
from potstill.world.prompts import DIRECT
from potstill.world.tokenizer import make_tokenizer

Shares = Mapping[Lesson, float]
QuestionAndTask = tuple[str, Task]

SEED = 11
AIM = 0.38  # the student's share of right samples at temperature 0.8, where its solving is held
SAMPLES = 4  # of a task, that show the student its own mistakes
CORPUS_SIZE = 600  # tasks in the tokenizer's corpus
CHECKPOINTS = Path(__file__).parent / "checkpoints"
AT_ONCE_TOKENS = 24  # that an answer without a chain needs at most
SAMPLING_TEMPERATURE, REWRITING_TEMPERATURE = 0.8, 0.6
STUDENT_LESSONS: Shares = {
    lessons.drill_step: 0.35,
    lessons.replay_sample: 0.2,
    lessons.rewrite_own: 0.3,
    lessons.rewrite_alone: 0.1,
    lessons.correct_alone: 0.05,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the models of a family are built: steps of each training, and the tokens that texts need at most."""

    teacher_lessons: Shares
    teacher_steps: int
    student_steps: int
    student_schedule: int  # steps that the student's learning rates are planned for
    pool: int  # tasks that the student's own mistakes are sampled on
    brief_tokens: int
    long_tokens: int
    rewrite_tokens: int
    measured: int = 200  # tasks that a solver and its rewriting are measured on
    weak_every: int = 100  # steps between two measurements of the weak solver
    begins_as: str = (
        ""  # the shipped checkpoint whose layers the weak solver begins with; "" is none
    )


SETTINGS: Mapping[str, Settings] = MappingProxyType(
    {
        "story": Settings(
            teacher_lessons={lessons.solve_long: 0.88, lessons.refine_long: 0.12},
            teacher_steps=8000,
            student_steps=2400,
            student_schedule=2400,
            pool=5000,
            brief_tokens=100,
            long_tokens=330,
            rewrite_tokens=220,
        ),
        "walk": Settings(
            # Answering at once is taught too, so that what the chain is worth is measured on a model that knows how.
            teacher_lessons={
                lessons.solve_long: 0.88,
                lessons.refine_long: 0.05,
                lessons.solve_at_once: 0.07,
            },
            teacher_steps=2200,
            student_steps=600,
            student_schedule=900,
            pool=800,
            brief_tokens=190,
            long_tokens=460,
            rewrite_tokens=260,
            measured=60,
            weak_every=50,
            begins_as="student",
        ),
    }
)


def to_problem(family: Family, question: str, task: Task) -> Problem:
    """A task as a problem that the verifier takes."""
    return Problem("", question, family.answer(task), family.name)


def draw_tasks(family: Family, size: int, seed: str) -> list[QuestionAndTask]:
    """Tasks from a stream of their own."""
    rng = random.Random(seed)
    return [family.draw(rng) for _ in range(size)]


def score_texts(
    family: Family, tasks: Sequence[QuestionAndTask], texts: Sequence[str]
) -> dict[str, float]:
    """Shares right by answer, right by every step, and unparsed."""
    problems = [to_problem(family, question, task) for question, task in tasks]
    items = list(zip(problems, texts, strict=True))
    right = right_in_every_step = unparsed = 0
    for verdict, spans in zip(judge(items), steps(items), strict=True):
        unparsed += verdict.status == "unparsed"
        if verdict.status == "right":
            right += 1
            right_in_every_step += all(span.score for span in spans or ())
    n = len(texts)
    return {
        "right": round(right / n, 4),
        "steps": round(right_in_every_step / n, 4),
        "unparsed": round(unparsed / n, 4),
    }


def measure_solving(
    family: Family,
    model: Any,
    tokenizer: Any,
    *,
    size: int,
    max_new_tokens: int,
    template: str = "{question}",
) -> dict[str, float]:
    """How well a model solves held-out tasks at temperature 0.8, asked by a template."""
    tasks = draw_tasks(family, size, "held out/1")
    texts = learn.sample_texts(
        model,
        tokenizer,
        [template.format(question=question) for question, _ in tasks],
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=max_new_tokens,
        seed=1,
    )
    return score_texts(family, tasks, texts)


def sample_solutions(
    family: Family, model: Any, tokenizer: Any, *, size: int, seed: int
) -> list[SolvedTask]:
    """Tasks with the model's own samples, each marked right or wrong by its answer."""
    # Each task's question as often as it is sampled, one task behind the other.
    tasks = draw_tasks(family, size, f"pool/{seed}")
    prompts: list[str] = []
    for question, _ in tasks:
        prompts += [question] * SAMPLES
    texts = learn.sample_texts(
        model,
        tokenizer,
        prompts,
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=SETTINGS[family.name].brief_tokens,
        seed=seed,
    )
    solved: list[SolvedTask] = []
    for index, (question, task) in enumerate(tasks):
        problem = to_problem(family, question, task)
        first = index * SAMPLES
        task_texts = texts[first : first + SAMPLES]
        verdicts = judge([(problem, text) for text in task_texts])
        marked: list[tuple[str, bool]] = []
        for text, verdict in zip(task_texts, verdicts, strict=True):
            marked.append((text, verdict.status == "right"))
        solved.append(SolvedTask(question, task, tuple(marked)))
    return solved


def measure_rewriting(
    family: Family, model: Any, tokenizer: Any, pool: Sequence[SolvedTask], seed: int
) -> dict[str, dict[str, float]]:
    """How often rewrites verify with own errors, with none, with another task's: the same references each time."""
    # The tasks that the model gets wrong, at most three of its errors on each, and a reference.
    rng = random.Random(seed)
    erring = [solved for solved in pool if solved.wrong_samples]
    own_attempts: list[list[str]] = []
    references: list[str] = []
    for solved in erring:
        own_attempts.append(list(dict.fromkeys(solved.wrong_samples))[:3])
        references.append(family.long_solution(solved.task, rng))
    attempts_by_condition: dict[str, list[list[str]]] = {
        "own": own_attempts,
        "none": [[] for _ in erring],
        "shuffled": own_attempts[1:] + own_attempts[:1],
    }

    # The same rewriting under each condition.
    tasks = [(solved.question, solved.task) for solved in erring]
    scores: dict[str, dict[str, float]] = {}
    for condition, attempts in attempts_by_condition.items():
        prompts: list[str] = []
        for solved, reference, task_attempts in zip(erring, references, attempts, strict=True):
            prompts.append(lessons.rewriting_prompt(solved.question, reference, task_attempts))
        texts = learn.sample_texts(
            model,
            tokenizer,
            prompts,
            temperature=REWRITING_TEMPERATURE,
            max_new_tokens=SETTINGS[family.name].rewrite_tokens,
            seed=seed,
        )
        scores[condition] = score_texts(family, tasks, texts)
    return scores


def train_teacher(family: Family, work: Path, *, every: int = 500) -> Any:
    """Train the teacher; returns model and tokenizer."""
    settings = SETTINGS[family.name]
    last = settings.teacher_steps
    tokenizer = make_tokenizer(lessons.corpus(family, CORPUS_SIZE, SEED))
    schedule = Schedule(batch_tokens=2048, last=last, decay=last // 2)
    model = learn.new_model(tokenizer, SEED + 1)
    phase = learn.Phase("teacher", model, schedule, work, SEED + 1)
    draw_row = draw_from(family, settings.teacher_lessons)
    while phase.step < last:
        loss = phase.train(tokenizer, draw_row, phase.step + every)
        phase.save()
        scores: dict[str, Any] = {}
        scores |= measure_solving(
            family, phase.model, tokenizer, size=100, max_new_tokens=settings.long_tokens
        )
        if family.is_taught_at_once:
            scores["at_once"] = measure_solving(
                family,
                phase.model,
                tokenizer,
                size=200,
                max_new_tokens=AT_ONCE_TOKENS,
                template=DIRECT,
            )
        log_phase(work, "teacher", phase, loss, **scores)
    return phase.model, tokenizer


def train_weak_solver(family: Family, work: Path, tokenizer: Any) -> Any:
    """Train a model to solve in the brief style until it reaches AIM; returns it."""
    settings = SETTINGS[family.name]
    schedule = Schedule(last=100_000)
    if settings.begins_as:
        model = learn.model_from(CHECKPOINTS / settings.begins_as, tokenizer, SEED)
    else:
        model = learn.new_model(tokenizer, SEED)
    phase = learn.Phase("weak", model, schedule, work, SEED)
    draw_row = draw_from(family, {lessons.solve_brief: 1.0})
    mark = work / "weak.done"
    while not mark.exists():
        loss = phase.train(tokenizer, draw_row, phase.step + settings.weak_every)
        phase.save()
        scores = measure_solving(
            family, phase.model, tokenizer, size=200, max_new_tokens=settings.brief_tokens
        )
        log_phase(work, "weak", phase, loss, **scores)
        if scores["right"] >= AIM:
            mark.write_text("reached\n")
    return phase.model


def train_student(family: Family, work: Path, *, every: int = 300) -> Any:
    """Train the student: a weak solver that learns to rewrite; returns model and tokenizer."""
    settings = SETTINGS[family.name]
    tokenizer = make_tokenizer(lessons.corpus(family, CORPUS_SIZE, SEED))
    model = train_weak_solver(family, work, tokenizer)
    # Its own mistakes, sampled before it learns to rewrite; others are held out for measuring.
    pool = load_pool(family, work, model, tokenizer)
    erring = [solved for solved in pool if solved.wrong_samples]
    held_out = sample_solutions(family, model, tokenizer, size=settings.measured, seed=2)
    planned = settings.student_schedule
    schedule = Schedule(
        batch_tokens=4096, muon_lr=4e-3, adam_lr=2e-3, last=planned, decay=planned // 2
    )
    phase = learn.Phase("student", model, schedule, work, SEED + 2)
    while phase.step < settings.student_steps:
        draw_row = partial(draw_student_row, family, pool, erring)
        loss = phase.train(tokenizer, draw_row, phase.step + every)
        phase.save()
        scores = measure_solving(
            family, phase.model, tokenizer, size=200, max_new_tokens=settings.brief_tokens
        )
        rewrites = measure_rewriting(family, phase.model, tokenizer, held_out, 3)
        log_phase(work, "student", phase, loss, **scores, rewrites=rewrites)
    return phase.model, tokenizer


def draw_student_row(
    family: Family, pool: list[SolvedTask], erring: list[SolvedTask], rng: random.Random
) -> Row:
    """A row of the student's lessons; all but two of them begin with a task that it got wrong."""
    lesson = lessons.choose_lesson(STUDENT_LESSONS, rng)
    if lesson is lessons.drill_step:
        return lesson(rng, family)
    return lesson(rng, family, rng.choice(pool if lesson is lessons.replay_sample else erring))


def draw_from(family: Family, shares: Shares) -> DrawRow:
    """Draws a row of these lessons for a random generator."""

    def draw_row(rng: random.Random) -> Row:
        return lessons.choose_lesson(shares, rng)(rng, family)

    return draw_row


def load_pool(family: Family, work: Path, model: Any, tokenizer: Any) -> list[SolvedTask]:
    """The weak checkpoint's samples, kept on disk so that a resumed build trains on the same."""
    file = work / "pool.json"
    if not file.exists():
        began = time.monotonic()
        sampled = sample_solutions(
            family, model, tokenizer, size=SETTINGS[family.name].pool, seed=1
        )
        document = [[solved.question, solved.samples] for solved in sampled]
        write_text(file, json.dumps(document))
        minutes = round((time.monotonic() - began) / 60, 2)
        learn.append_log(work, who="pool", tasks=len(sampled), minutes=minutes)
    pool: list[SolvedTask] = []
    for question, samples in json.loads(file.read_text()):
        task = family.parse(question)
        assert task is not None
        pool.append(SolvedTask(question, task, tuple((text, right) for text, right in samples)))
    return pool


def log_phase(work: Path, who: str, phase: learn.Phase, loss: float, **scores: Any) -> None:
    """A line of the build's log: how far a phase is, its loss, and what was measured."""
    learn.append_log(
        work,
        who=who,
        step=phase.step,
        loss=round(loss, 4),
        minutes=round(phase.seconds / 60, 2),
        **scores,
    )


def save_checkpoint(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a checkpoint as package data: bfloat16 safetensors, tokenizer, generation settings."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def build(name: str, work: Path, out: Path, *, threads: int = 1) -> None:
    """Train a checkpoint (`teacher`, `student`, `walk-teacher`, …) and write it, going on from what `work` holds."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = SHIPPED[name]
    train = {"teacher": train_teacher, "student": train_student}[checkpoint.role]
    model, tokenizer = train(FAMILIES[checkpoint.family], work)
    save_checkpoint(model, tokenizer, out)
