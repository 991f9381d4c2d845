"""What the world's models are taught: solving, and rewriting a reference in the light of wrong attempts.

Rewriting rows teach to read, merge and word, not to calculate: a result that stands neither in the reference nor in an
attempt has no loss, or the student would learn the arithmetic from them. What errors tell is where to be careful: the
target works in small steps where a shown attempt went wrong, and only there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from potstill.verifiers.story import Story, apply_event, join_equations, required_equations
from potstill.world.prompts import CORRECT_ALONE, REFLECT, REFLECT_ALONE
from potstill.world.story import Dials, brief, careful, draw, long, slip, write


class Row(NamedTuple):
    """A user prompt and its completion; `silent` are pieces of the completion (start, stop) without loss."""

    prompt: str
    completion: str
    silent: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Worked:
    """A story with the student's own samples on it, each marked right or wrong."""

    question: str
    story: Story
    samples: tuple[tuple[str, bool], ...]


def solve_brief(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the student's own style."""
    question, story = draw(rng, dials)
    return Row(question, brief(story))


def solve_long(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the teacher's style."""
    question, story = draw(rng, dials)
    return Row(question, long(story, rng))


def refine_long(rng: random.Random, dials: Dials) -> Row:
    """The teacher asked to rewrite a reference in the light of made-up wrong attempts: it answers in its own style."""
    question, story = draw(rng, dials)
    wrongs = [stumble(story, rng) for _ in range(rng.randint(1, 3))]
    return Row(reflect(question, long(story, rng), wrongs), long(story, rng))


def stumble(story: Story, rng: random.Random) -> str:
    """A brief chain with one slip, carried on faithfully to a wrong total."""
    line = required_equations(story)
    at = rng.randrange(len(line))
    told, total = [], story.start
    for i, e in enumerate(line):
        after = apply_event(total, story.events[i])
        after = slip(after, rng) if i == at else after
        told.append(write(e._replace(left=total, result=after)))
        total = after
    return " ".join(told) + f" The answer is \\boxed{{{total}}}."


def numbered(attempts: Sequence[str]) -> str:
    """A list as prompts show it."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(attempts, 1))


def reflect(question: str, text: str, attempts: Sequence[str]) -> str:
    """The rewriting prompt, with attempts or, where there are none, without."""
    template = REFLECT if attempts else REFLECT_ALONE
    return template.format(question=question, text=text, attempts=numbered(attempts))


def replay(rng: random.Random, work: Worked) -> Row:
    """One of the student's own samples, right or wrong: keeps its solving where it is while it learns to rewrite."""
    return Row(work.question, rng.choice(work.samples)[0])


def rewrite_own(rng: random.Random, work: Worked) -> Row:
    """The teacher's long reasoning and the student's own wrong attempts, rewritten in the student's style."""
    wrongs = list(dict.fromkeys(text for text, right in work.samples if not right))
    rng.shuffle(wrongs)
    chosen = wrongs[: rng.randint(1, 3)]
    return in_brief(reflect(work.question, long(work.story, rng), chosen), work.story)


def rewrite_alone(rng: random.Random, work: Worked) -> Row:
    """The teacher's long reasoning rewritten in the student's style, without attempts."""
    return in_brief(reflect(work.question, long(work.story, rng), ()), work.story)


def drill(rng: random.Random, dials: Dials) -> Row:
    """One calculation of a story in small steps: short rows that teach being careful, and not when."""
    e = rng.choice(required_equations(draw(rng, dials)[1]))
    return Row(f"Let me be careful: {write(e).split(' =')[0]}", f"{careful(e)} {write(e)}")


def correct_alone(rng: random.Random, work: Worked) -> Row:
    """The student's own wrong attempts put right without a reference."""
    wrongs = [text for text, right in work.samples if not right]
    prompt = CORRECT_ALONE.format(
        question=work.question, attempts=numbered(rng.sample(wrongs, min(2, len(wrongs))))
    )
    return in_brief(prompt, work.story)


def in_brief(prompt: str, story: Story) -> Row:
    """The brief chain as the answer to a prompt: careful where an attempt went wrong, silent on what nothing shows."""
    line, parts, silent, at = required_equations(story), [], [], 0
    for i, e in enumerate(line):
        told = write(e)
        cut = told.index("=") + 1
        both = join_equations(line[i - 1 : i + 1]) if i else None
        if _disputed(told[:cut], e.result, prompt):
            told = f"{careful(e)} {told}"
        elif told not in prompt and not (both and write(both) in prompt):
            silent.append((at + cut, at + len(told) - 1))
        parts.append(told)
        at += len(told) + 1
    return Row(
        prompt, f"{' '.join(parts)} The answer is \\boxed{{{line[-1].result}}}.", tuple(silent)
    )


def _disputed(left: str, result: int, prompt: str) -> bool:
    """Whether an attempt in the prompt has another result for this calculation."""
    attempts = prompt.split("Wrong attempts:", 1)[-1] if "Wrong attempts:" in prompt else ""
    return re.search(rf"(?<!\d){re.escape(left)} (?!{result}\.)", attempts) is not None


def deck(lessons: dict[Callable[..., Row], float], rng: random.Random) -> Callable[..., Row]:
    """A lesson drawn by its share."""
    return rng.choices(list(lessons), list(lessons.values()))[0]


def corpus(dials: Dials, size: int, seed: int) -> list[str]:
    """Texts of every kind of row, to train the tokenizer on."""
    rng = random.Random(seed)
    rows = [
        lesson(rng, dials) for _ in range(size) for lesson in (solve_brief, solve_long, refine_long)
    ]
    question, story = draw(rng, dials)
    rows += [
        Row(
            CORRECT_ALONE.format(question=question, attempts=numbered([stumble(story, rng)])),
            brief(story),
        )
    ] * 50
    rows += [Row(reflect(question, long(story, rng), ()), brief(story))] * 50
    return [text for prompt, completion, *_ in rows for text in (prompt, completion)]
