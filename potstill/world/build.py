"""`potstill world build`: the script that made the shipped teacher and student.

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
from functools import partial
from pathlib import Path
from typing import Any

import torch

from potstill.data.atomic_write import write_text
from potstill.records import Problem
from potstill.verifiers import story as judge
from potstill.world import learn, lessons, story
from potstill.world.learn import DrawRow, Schedule
from potstill.world.lessons import Lesson, Row, SolvedStory
from potstill.world.tokenizer import make_tokenizer

Shares = Mapping[Lesson, float]
QuestionAndStory = tuple[str, judge.Story]
"""A story's question, and the story itself."""

SEED = 11
DIALS = story.TASKS["story"]
AIM = 0.38  # the student's share of right samples at temperature 0.8, where its solving is held
POOL, SAMPLES = 5000, 4  # stories and samples a story that show the student its own mistakes
# Tokens that a brief solution, a long one and a rewrite need at most.
BRIEF_TOKENS, LONG_TOKENS, REWRITE_TOKENS = 100, 330, 220
SAMPLING_TEMPERATURE, REWRITING_TEMPERATURE = 0.8, 0.6
TEACHER_LESSONS: Shares = {lessons.solve_long: 0.88, lessons.refine_long: 0.12}
STUDENT_LESSONS: Shares = {
    lessons.drill_step: 0.35,
    lessons.replay_sample: 0.2,
    lessons.rewrite_own: 0.3,
    lessons.rewrite_alone: 0.1,
    lessons.correct_alone: 0.05,
}


def to_problem(question: str, parsed: judge.Story) -> Problem:
    """A story as a problem that the verifier takes."""
    answer = judge.required_equations(parsed)[-1].result
    return Problem("", question, str(answer), "story")


def draw_stories(size: int, seed: str) -> list[QuestionAndStory]:
    """Stories from a stream of their own."""
    rng = random.Random(seed)
    return [story.draw_story(rng, DIALS) for _ in range(size)]


def score_texts(stories: Sequence[QuestionAndStory], texts: Sequence[str]) -> dict[str, float]:
    """Shares right by answer, right by every step, and unparsed."""
    right = right_in_every_step = unparsed = 0
    for (question, parsed), text in zip(stories, texts, strict=True):
        problem = to_problem(question, parsed)
        status = judge.judge(problem, text).status
        unparsed += status == "unparsed"
        if status == "right":
            right += 1
            right_in_every_step += all(span.score for span in judge.steps(problem, text))
    n = len(texts)
    return {
        "right": round(right / n, 4),
        "steps": round(right_in_every_step / n, 4),
        "unparsed": round(unparsed / n, 4),
    }


def measure_solving(model: Any, tokenizer: Any, size: int, max_new_tokens: int) -> dict[str, float]:
    """How well a model solves held-out stories at temperature 0.8."""
    stories = draw_stories(size, "held out/1")
    texts = learn.sample_texts(
        model,
        tokenizer,
        [question for question, _ in stories],
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=max_new_tokens,
        seed=1,
    )
    return score_texts(stories, texts)


def sample_solutions(
    model: Any, tokenizer: Any, size: int, seed: int, samples: int
) -> list[SolvedStory]:
    """Stories with the model's own samples, each marked right or wrong by its answer."""
    # Each story's question as often as it is sampled, one story behind the other.
    stories = draw_stories(size, f"pool/{seed}")
    prompts: list[str] = []
    for question, _ in stories:
        prompts += [question] * samples
    texts = learn.sample_texts(
        model,
        tokenizer,
        prompts,
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=BRIEF_TOKENS,
        seed=seed,
    )
    solved: list[SolvedStory] = []
    for index, (question, parsed) in enumerate(stories):
        problem = to_problem(question, parsed)
        marked: list[tuple[str, bool]] = []
        first = index * samples
        for text in texts[first : first + samples]:
            verdict = judge.judge(problem, text)
            marked.append((text, verdict.status == "right"))
        solved.append(SolvedStory(question, parsed, tuple(marked)))
    return solved


def measure_rewriting(
    model: Any, tokenizer: Any, pool: Sequence[SolvedStory], seed: int
) -> dict[str, dict[str, float]]:
    """How often rewrites verify with own errors, with none, with another story's: the same references each time."""
    # The stories that the model gets wrong, at most three of its errors on each, and a reference.
    rng = random.Random(seed)
    erring = [solved for solved in pool if solved.wrong_samples]
    own_attempts: list[list[str]] = []
    references: list[str] = []
    for solved in erring:
        own_attempts.append(list(dict.fromkeys(solved.wrong_samples))[:3])
        references.append(story.long_solution(solved.story, rng))
    attempts_by_condition: dict[str, list[list[str]]] = {
        "own": own_attempts,
        "none": [[] for _ in erring],
        "shuffled": own_attempts[1:] + own_attempts[:1],
    }

    # The same rewriting under each condition.
    stories = [(solved.question, solved.story) for solved in erring]
    scores: dict[str, dict[str, float]] = {}
    for condition, attempts in attempts_by_condition.items():
        prompts: list[str] = []
        for solved, reference, story_attempts in zip(erring, references, attempts, strict=True):
            prompts.append(lessons.rewriting_prompt(solved.question, reference, story_attempts))
        texts = learn.sample_texts(
            model,
            tokenizer,
            prompts,
            temperature=REWRITING_TEMPERATURE,
            max_new_tokens=REWRITE_TOKENS,
            seed=seed,
        )
        scores[condition] = score_texts(stories, texts)
    return scores


def train_teacher(work: Path, *, last: int = 8000, every: int = 500) -> Any:
    """Train the teacher; returns model and tokenizer."""
    tokenizer = make_tokenizer(lessons.corpus(DIALS, 600, SEED))
    schedule = Schedule(batch_tokens=2048, last=last, decay=last // 2)
    model = learn.new_model(tokenizer, SEED + 1)
    phase = learn.Phase("teacher", model, schedule, work, SEED + 1)
    draw_row = draw_from(TEACHER_LESSONS)
    while phase.step < last:
        loss = phase.train(tokenizer, draw_row, phase.step + every)
        scores = measure_solving(phase.model, tokenizer, 100, LONG_TOKENS)
        log_phase(work, "teacher", phase, loss, **scores)
        phase.save()
    return phase.model, tokenizer


def train_weak_solver(work: Path, tokenizer: Any, *, every: int = 100) -> Any:
    """Train a model to solve in the brief style until it reaches AIM; returns it."""
    schedule = Schedule(last=100_000)
    phase = learn.Phase("weak", learn.new_model(tokenizer, SEED), schedule, work, SEED)
    draw_row = draw_from({lessons.solve_brief: 1.0})
    mark = work / "weak.done"
    while not mark.exists():
        loss = phase.train(tokenizer, draw_row, phase.step + every)
        scores = measure_solving(phase.model, tokenizer, 200, BRIEF_TOKENS)
        log_phase(work, "weak", phase, loss, **scores)
        phase.save()
        if scores["right"] >= AIM:
            mark.write_text("reached\n")
    return phase.model


def train_student(work: Path, *, last: int = 2400, every: int = 300) -> Any:
    """Train the student: a weak solver that learns to rewrite; returns model and tokenizer."""
    tokenizer = make_tokenizer(lessons.corpus(DIALS, 600, SEED))
    model = train_weak_solver(work, tokenizer)
    # Its own mistakes, sampled before it learns to rewrite; others are held out for measuring.
    pool = load_pool(work, model, tokenizer)
    erring = [solved for solved in pool if solved.wrong_samples]
    held_out = sample_solutions(model, tokenizer, 200, 2, 4)
    schedule = Schedule(batch_tokens=4096, muon_lr=4e-3, adam_lr=2e-3, last=last, decay=last // 2)
    phase = learn.Phase("student", model, schedule, work, SEED + 2)
    while phase.step < last:
        draw_row = partial(draw_student_row, pool, erring)
        loss = phase.train(tokenizer, draw_row, phase.step + every)
        scores = measure_solving(phase.model, tokenizer, 200, BRIEF_TOKENS)
        rewrites = measure_rewriting(phase.model, tokenizer, held_out, 3)
        log_phase(work, "student", phase, loss, **scores, rewrites=rewrites)
        phase.save()
    return phase.model, tokenizer


def draw_student_row(pool: list[SolvedStory], erring: list[SolvedStory], rng: random.Random) -> Row:
    """A row of the student's lessons; all but two of them begin with a story that it got wrong."""
    lesson = lessons.choose_lesson(STUDENT_LESSONS, rng)
    if lesson is lessons.drill_step:
        return lesson(rng, DIALS)
    return lesson(rng, rng.choice(pool if lesson is lessons.replay_sample else erring))


def draw_from(shares: Shares) -> DrawRow:
    """Draws a row of these lessons for a random generator."""

    def draw_row(rng: random.Random) -> Row:
        return lessons.choose_lesson(shares, rng)(rng, DIALS)

    return draw_row


def load_pool(work: Path, model: Any, tokenizer: Any) -> list[SolvedStory]:
    """The weak checkpoint's samples, kept on disk so that a resumed build trains on the same."""
    file = work / "pool.json"
    if not file.exists():
        began = time.monotonic()
        sampled = sample_solutions(model, tokenizer, POOL, 1, SAMPLES)
        document = [[solved.question, solved.samples] for solved in sampled]
        write_text(file, json.dumps(document))
        minutes = round((time.monotonic() - began) / 60, 2)
        learn.append_log(work, who="pool", stories=len(sampled), minutes=minutes)
    pool: list[SolvedStory] = []
    for question, samples in json.loads(file.read_text()):
        parsed = judge.parse_story(question)
        assert parsed is not None
        pool.append(SolvedStory(question, parsed, tuple((text, right) for text, right in samples)))
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


def build(who: str, work: Path, out: Path, *, threads: int = 1) -> None:
    """Train `teacher` or `student` and write its checkpoint, going on from what `work` holds."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    train = {"teacher": train_teacher, "student": train_student}[who]
    model, tokenizer = train(work)
    save_checkpoint(model, tokenizer, out)
