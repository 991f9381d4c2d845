"""What the world's models are taught: solving, and rewriting a reference in the light of wrong attempts.

Rewriting rows teach to read, merge and word, not to calculate: a result that stands neither in the reference nor in an
attempt has no loss, or the student would learn the arithmetic from them. What errors tell is where to be careful: the
target works in small steps where a shown attempt went wrong, and only there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from potstill.verifiers.story import (
    Equation,
    Story,
    apply_event,
    join_equations,
    required_equations,
)
from potstill.world.prompts import CORRECT_ALONE, REFLECT, REFLECT_ALONE
from potstill.world.story import (
    Dials,
    brief_solution,
    careful_steps,
    draw_story,
    long_solution,
    near_miss,
    write_equation,
)

TEXTS_A_RARE_LESSON = 50  # in the tokenizer's corpus


class Row(NamedTuple):
    """A user prompt and its completion; `silent` are pieces of the completion (start, stop) without loss."""

    prompt: str
    completion: str
    silent: tuple[tuple[int, int], ...] = ()


Lesson: TypeAlias = Callable[..., Row]


@dataclass(frozen=True, slots=True)
class SolvedStory:
    """A story with the student's own samples on it, each marked right or wrong."""

    question: str
    story: Story
    samples: tuple[tuple[str, bool], ...]

    @property
    def wrong_samples(self) -> list[str]:
        """The samples that are wrong, in the order in which they were drawn."""
        return [text for text, is_right in self.samples if not is_right]


def solve_brief(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the student's own style."""
    question, story = draw_story(rng, dials)
    return Row(question, brief_solution(story))


def solve_long(rng: random.Random, dials: Dials) -> Row:
    """A story, solved in the teacher's style."""
    question, story = draw_story(rng, dials)
    return Row(question, long_solution(story, rng))


def refine_long(rng: random.Random, dials: Dials) -> Row:
    """The teacher asked to rewrite a reference in the light of made-up wrong attempts: it answers in its own style."""
    question, story = draw_story(rng, dials)
    attempts = [stumble_once(story, rng) for _ in range(rng.randint(1, 3))]
    prompt = rewriting_prompt(question, long_solution(story, rng), attempts)
    return Row(prompt, long_solution(story, rng))


def stumble_once(story: Story, rng: random.Random) -> str:
    """A brief chain with one slip, carried on faithfully to a wrong total."""
    equations = required_equations(story)
    slip_index = rng.randrange(len(equations))
    steps: list[str] = []
    total = story.start
    for index, (equation, event) in enumerate(zip(equations, story.events, strict=True)):
        result = apply_event(total, event)
        if index == slip_index:
            result = near_miss(result, rng)
        steps.append(write_equation(equation._replace(left=total, result=result)))
        total = result
    return f"{' '.join(steps)} The answer is \\boxed{{{total}}}."


def number_attempts(attempts: Sequence[str]) -> str:
    """A list as prompts show it."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(attempts, 1))


def rewriting_prompt(question: str, reference: str, attempts: Sequence[str]) -> str:
    """The rewriting prompt, with attempts or, where there are none, without."""
    template = REFLECT if attempts else REFLECT_ALONE
    return template.format(question=question, text=reference, attempts=number_attempts(attempts))


def replay_sample(rng: random.Random, solved: SolvedStory) -> Row:
    """One of the student's own samples, right or wrong: keeps its solving where it is while it learns to rewrite."""
    text, _ = rng.choice(solved.samples)
    return Row(solved.question, text)


def rewrite_own(rng: random.Random, solved: SolvedStory) -> Row:
    """The teacher's long reasoning and the student's own wrong attempts, rewritten in the student's style."""
    attempts = list(dict.fromkeys(solved.wrong_samples))
    rng.shuffle(attempts)
    shown_attempts = attempts[: rng.randint(1, 3)]
    reference = long_solution(solved.story, rng)
    prompt = rewriting_prompt(solved.question, reference, shown_attempts)
    return answer_briefly(prompt, solved.story)


def rewrite_alone(rng: random.Random, solved: SolvedStory) -> Row:
    """The teacher's long reasoning rewritten in the student's style, without attempts."""
    prompt = rewriting_prompt(solved.question, long_solution(solved.story, rng), ())
    return answer_briefly(prompt, solved.story)


def drill_step(rng: random.Random, dials: Dials) -> Row:
    """One calculation of a story in small steps: short rows that teach being careful, and not when."""
    _, story = draw_story(rng, dials)
    equation = rng.choice(required_equations(story))
    written = write_equation(equation)
    calculation, _, _ = written.partition(" =")
    return Row(f"Let me be careful: {calculation}", f"{careful_steps(equation)} {written}")


def correct_alone(rng: random.Random, solved: SolvedStory) -> Row:
    """The student's own wrong attempts put right without a reference."""
    attempts = solved.wrong_samples
    shown_attempts = rng.sample(attempts, min(2, len(attempts)))
    prompt = CORRECT_ALONE.format(
        question=solved.question, attempts=number_attempts(shown_attempts)
    )
    return answer_briefly(prompt, solved.story)


def answer_briefly(prompt: str, story: Story) -> Row:
    """The brief chain as the answer to a prompt: careful where an attempt went wrong, silent on what nothing shows."""
    equations = required_equations(story)
    parts: list[str] = []
    silent: list[tuple[int, int]] = []
    position = 0  # in the completion, where the next part begins
    for index, equation in enumerate(equations):
        part = write_equation(equation)
        result_start = part.index("=") + 1
        calculation = part[:result_start]
        if _is_disputed(calculation, equation.result, prompt):
            part = f"{careful_steps(equation)} {part}"
        elif not _is_shown(equations, index, prompt):
            silent.append((position + result_start, position + len(part) - 1))
        parts.append(part)
        position += len(part) + 1
    answer = f"The answer is \\boxed{{{equations[-1].result}}}."
    return Row(prompt, f"{' '.join(parts)} {answer}", tuple(silent))


def _is_shown(equations: Sequence[Equation], index: int, prompt: str) -> bool:
    """Whether the prompt holds an equation, alone or taken together with the one before it."""
    if write_equation(equations[index]) in prompt:
        return True
    if index == 0:
        return False
    both = join_equations(list(equations[index - 1 : index + 1]))
    return both is not None and write_equation(both) in prompt


def _is_disputed(calculation: str, result: int, prompt: str) -> bool:
    """Whether an attempt in the prompt has another result for this calculation."""
    _, heading, attempts = prompt.partition("Wrong attempts:")
    if not heading:
        return False
    other_result = rf"(?<!\d){re.escape(calculation)} (?!{result}\.)"
    return re.search(other_result, attempts) is not None


def choose_lesson(shares: Mapping[Lesson, float], rng: random.Random) -> Lesson:
    """A lesson drawn by its share."""
    return rng.choices(list(shares), list(shares.values()))[0]


def corpus(dials: Dials, size: int, seed: int) -> list[str]:
    """Texts of every kind of row, to train the tokenizer on."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for _ in range(size):
        for lesson in (solve_brief, solve_long, refine_long):
            rows.append(lesson(rng, dials))

    # The words of the other prompts, in one story's rows.
    question, story = draw_story(rng, dials)
    attempts = number_attempts([stumble_once(story, rng)])
    correcting = Row(
        CORRECT_ALONE.format(question=question, attempts=attempts), brief_solution(story)
    )
    rows += [correcting] * TEXTS_A_RARE_LESSON
    prompt = rewriting_prompt(question, long_solution(story, rng), ())
    rows += [Row(prompt, brief_solution(story))] * TEXTS_A_RARE_LESSON

    texts: list[str] = []
    for row in rows:
        texts += [row.prompt, row.completion]
    return texts
