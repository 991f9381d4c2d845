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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from potstill.records import Problem
from potstill.verifiers import story as judge
from potstill.world import learn, lessons, story, tokens
from potstill.world.lessons import Row, Worked

Shares = dict[Callable[..., Row], float]

SEED = 11
DIALS = story.TASKS["story"]
AIM = 0.38  # the student's share of right samples at temperature 0.8, where its solving is held
POOL, SAMPLES = 5000, 4  # stories and samples a story that show the student its own mistakes
TEACHER: Shares = {lessons.solve_long: 0.88, lessons.refine_long: 0.12}
STUDENT: Shares = {
    lessons.drill: 0.35,
    lessons.replay: 0.2,
    lessons.rewrite_own: 0.3,
    lessons.rewrite_alone: 0.1,
    lessons.correct_alone: 0.05,
}


def problem(question: str, told: judge.Story) -> Problem:
    """A story as a problem that the verifier takes."""
    return Problem("", question, str(judge.required_equations(told)[-1].result), "story")


def held_out(size: int, seed: int) -> list[tuple[str, judge.Story]]:
    """Stories for measuring, from a stream of their own."""
    rng = random.Random(f"held out/{seed}")
    return [story.draw(rng, DIALS) for _ in range(size)]


def marks(told: Sequence[tuple[str, judge.Story]], texts: Sequence[str]) -> dict[str, float]:
    """Shares right by answer, right by every step, and unparsed."""
    verdicts = [judge.judge(problem(q, s), text).status for (q, s), text in zip(told, texts)]
    whole = [
        v == "right" and all(span.score for span in judge.steps(problem(q, s), text))
        for (q, s), text, v in zip(told, texts, verdicts)
    ]
    n = len(verdicts)
    return {
        "right": round(verdicts.count("right") / n, 4),
        "steps": round(sum(whole) / n, 4),
        "unparsed": round(verdicts.count("unparsed") / n, 4),
    }


def solving(model: Any, tokenizer: Any, size: int, seed: int, length: int) -> dict[str, float]:
    """How well a model solves held-out stories at temperature 0.8."""
    told = held_out(size, seed)
    texts = learn.write(
        model, tokenizer, [q for q, _ in told], temperature=0.8, tokens=length, seed=seed
    )
    return marks(told, texts)


def sampled(model: Any, tokenizer: Any, size: int, seed: int, samples: int) -> list[Worked]:
    """Stories with the model's own samples, each marked right or wrong by its answer."""
    rng = random.Random(f"pool/{seed}")
    told = [story.draw(rng, DIALS) for _ in range(size)]
    prompts = [q for q, _ in told for _ in range(samples)]
    texts = learn.write(model, tokenizer, prompts, temperature=0.8, tokens=100, seed=seed)
    works = []
    for i, (q, s) in enumerate(told):
        own = texts[i * samples : (i + 1) * samples]
        right = [judge.judge(problem(q, s), text).status == "right" for text in own]
        works.append(Worked(q, s, tuple(zip(own, right))))
    return works


def rewriting(
    model: Any, tokenizer: Any, works: Sequence[Worked], seed: int
) -> dict[str, dict[str, float]]:
    """How often rewrites verify with own errors, with none, with another story's: the same references each time."""
    rng = random.Random(seed)
    works = [w for w in works if any(not right for _, right in w.samples)]
    wrongs = [
        list(dict.fromkeys(text for text, right in w.samples if not right))[:3] for w in works
    ]
    references = [story.long(w.story, rng) for w in works]
    told = [(w.question, w.story) for w in works]
    result = {}
    for name, shown in (
        ("own", wrongs),
        ("none", [[]] * len(works)),
        ("shuffled", wrongs[1:] + wrongs[:1]),
    ):
        prompts = [
            lessons.reflect(w.question, ref, errs) for w, ref, errs in zip(works, references, shown)
        ]
        texts = learn.write(model, tokenizer, prompts, temperature=0.6, tokens=220, seed=seed)
        result[name] = marks(told, texts)
    return result


def teacher(work: Path, *, last: int = 8000, every: int = 500) -> Any:
    """Train the teacher; returns model and tokenizer."""
    tokenizer = tokens.make(lessons.corpus(DIALS, 600, SEED))
    pace = learn.Pace(batch_tokens=2048, last=last, decay=last // 2)
    phase = learn.Phase("teacher", learn.new_model(tokenizer, SEED + 1), pace, work, SEED + 1)
    lesson = _dealt(TEACHER, DIALS)
    while phase.step < last:
        loss = phase.train(tokenizer, lesson, phase.step + every)
        found = solving(phase.model, tokenizer, 100, 1, 330)
        learn.log(
            work,
            who="teacher",
            step=phase.step,
            loss=round(loss, 4),
            minutes=_minutes(phase),
            **found,
        )
        phase.save()
    return phase.model, tokenizer


def weak(work: Path, tokenizer: Any, *, every: int = 100) -> Any:
    """Train a model to solve in the brief style until it reaches AIM; returns it."""
    phase = learn.Phase(
        "weak", learn.new_model(tokenizer, SEED), learn.Pace(last=100_000), work, SEED
    )
    lesson = _dealt({lessons.solve_brief: 1.0}, DIALS)
    mark = work / "weak.done"
    while not mark.exists():
        loss = phase.train(tokenizer, lesson, phase.step + every)
        found = solving(phase.model, tokenizer, 200, 1, 100)
        learn.log(
            work, who="weak", step=phase.step, loss=round(loss, 4), minutes=_minutes(phase), **found
        )
        phase.save()
        if found["right"] >= AIM:
            mark.write_text("reached\n")
    return phase.model


def student(work: Path, *, last: int = 2400, every: int = 300) -> Any:
    """Train the student: a weak solver that learns to rewrite; returns model and tokenizer."""
    tokenizer = tokens.make(lessons.corpus(DIALS, 600, SEED))
    model = weak(work, tokenizer)
    works = _pool(work, model, tokenizer)
    held = sampled(model, tokenizer, 200, 2, 4)
    pace = learn.Pace(batch_tokens=4096, muon_lr=4e-3, adam_lr=2e-3, last=last, decay=last // 2)
    phase = learn.Phase("student", model, pace, work, SEED + 2)
    erring = [w for w in works if any(not right for _, right in w.samples)]
    while phase.step < last:
        loss = phase.train(tokenizer, partial(_worked, works, erring), phase.step + every)
        found = solving(phase.model, tokenizer, 200, 1, 100)
        rewrites = rewriting(phase.model, tokenizer, held, 3)
        entry = {
            "who": "student",
            "step": phase.step,
            "loss": round(loss, 4),
            "minutes": _minutes(phase),
        }
        learn.log(work, **entry, **found, rewrites=rewrites)
        phase.save()
    return phase.model, tokenizer


def _worked(works: list[Worked], erring: list[Worked], rng: random.Random) -> Row:
    lesson = lessons.deck(STUDENT, rng)
    if lesson is lessons.drill:
        return lessons.drill(rng, DIALS)
    return lesson(rng, rng.choice(works if lesson is lessons.replay else erring))


def _dealt(shares: Shares, dials: story.Dials) -> Callable[[random.Random], Row]:
    return lambda rng: lessons.deck(shares, rng)(rng, dials)


def _pool(work: Path, model: Any, tokenizer: Any) -> list[Worked]:
    """The weak checkpoint's samples, kept on disk so that a resumed build trains on the same."""
    file = work / "pool.json"
    if not file.exists():
        began = time.monotonic()
        works = sampled(model, tokenizer, POOL, 1, SAMPLES)
        file.write_text(json.dumps([[w.question, w.samples] for w in works]))
        learn.log(
            work, who="pool", stories=len(works), minutes=round((time.monotonic() - began) / 60, 2)
        )
    made = []
    for question, samples in json.loads(file.read_text()):
        parsed = judge.parse_story(question)
        assert parsed is not None
        made.append(Worked(question, parsed, tuple((text, right) for text, right in samples)))
    return made


def _minutes(phase: learn.Phase) -> float:
    return round(phase.seconds / 60, 2)


def ship(model: Any, tokenizer: Any, out: Path) -> None:
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
    """Train and ship `teacher` or `student`, going on from what `work` holds."""
    torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    model, tokenizer = {"teacher": teacher, "student": student}[who](work)
    ship(model, tokenizer, out)
