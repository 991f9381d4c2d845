"""What the world's models are taught: rows of (user prompt, completion) for solving and for rewriting a reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from potstill.methods.orion_prompts import CORRECT_ALONE, REFLECT, REFLECT_ALONE
from potstill.verifiers.story import Story, apply, required
from potstill.world.story import Dials, brief, draw, long, slip, write

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Worked:
    """A story with the student's own samples on it, each marked right or wrong."""

    question: str
    story: Story
    samples: tuple[tuple[str, bool], ...]


def solve_brief(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the student's own style."""
    question, story = draw(rng, dials)
    return question, brief(story)


def solve_long(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the teacher's style."""
    question, story = draw(rng, dials)
    return question, long(story, rng)


def refine_long(rng: random.Random, dials: Dials) -> Row:
    """The teacher asked to rewrite a reference in the light of made-up wrong attempts: it answers in its own style."""
    question, story = draw(rng, dials)
    wrongs = [stumble(story, rng) for _ in range(rng.randint(1, 3))]
    return reflect(question, long(story, rng), wrongs), long(story, rng)


def stumble(story: Story, rng: random.Random) -> str:
    """A brief chain with one slip, carried on faithfully to a wrong total."""
    line = required(story)
    at = rng.randrange(len(line))
    told, total = [], story.start
    for i, e in enumerate(line):
        after = apply(total, story.events[i])
        after = slip(after, rng) if i == at else after
        told.append(write(e._replace(left=total, result=after)))
        total = after
    return " ".join(told) + f" The answer is \\boxed{{{total}}}."


def numbered(attempts: Sequence[str]) -> str:
    """A list as prompts show it."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(attempts, 1))


def reflect(question: str, text: str, attempts: Sequence[str]) -> str:
    """ORION's prompt, with attempts or (none given) without."""
    template = REFLECT if attempts else REFLECT_ALONE
    return template.format(question=question, text=text, attempts=numbered(attempts))


def replay(rng: random.Random, work: Worked) -> Row:
    """One of the student's own samples, right or wrong: keeps its solving where it is while it learns to rewrite."""
    return work.question, rng.choice(work.samples)[0]


def rewrite_own(rng: random.Random, work: Worked) -> Row:
    """The teacher's long reasoning and the student's own wrong attempts, rewritten in the student's style."""
    wrongs = list(dict.fromkeys(text for text, right in work.samples if not right))
    rng.shuffle(wrongs)
    chosen = wrongs[: rng.randint(1, 3)]
    return reflect(work.question, long(work.story, rng), chosen), brief(work.story)


def rewrite_alone(rng: random.Random, work: Worked) -> Row:
    """The teacher's long reasoning rewritten in the student's style, without attempts."""
    return reflect(work.question, long(work.story, rng), ()), brief(work.story)


def correct_alone(rng: random.Random, work: Worked) -> Row:
    """The student's own wrong attempts put right without a reference."""
    wrongs = [text for text, right in work.samples if not right]
    prompt = CORRECT_ALONE.format(question=work.question, attempts=numbered(rng.sample(wrongs, min(2, len(wrongs)))))
    return prompt, brief(work.story)


def deck(lessons: dict[Callable[..., Row], float], rng: random.Random) -> Callable[..., Row]:
    """A lesson drawn by its share."""
    return rng.choices(list(lessons), list(lessons.values()))[0]


def corpus(dials: Dials, size: int, seed: int) -> list[str]:
    """Texts of every kind of row, to train the tokenizer on."""
    rng = random.Random(seed)
    rows = [lesson(rng, dials) for _ in range(size) for lesson in (solve_brief, solve_long, refine_long)]
    question, story = draw(rng, dials)
    rows += [(CORRECT_ALONE.format(question=question, attempts=numbered([stumble(story, rng)])), brief(story))] * 50
    rows += [(reflect(question, long(story, rng), ()), brief(story))] * 50
    return [text for row in rows for text in row]
