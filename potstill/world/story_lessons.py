"""What the lessons know of stories: a slip that is carried on, a calculation in small steps, and a careful answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.verifiers.story import (
    Equation,
    Story,
    apply_event,
    join_equations,
    parse_story,
    required_equations,
)
from potstill.world.lessons import ATTEMPTS_HEADING, Row
from potstill.world.story import (
    TASKS,
    Dials,
    brief_solution,
    careful_steps,
    draw_story,
    long_solution,
    near_miss,
    write_equation,
)


@dataclass(frozen=True, slots=True)
class StoryFamily:
    """The family `story`, of one difficulty."""

    dials: Dials = TASKS["story"]
    name: str = "story"
    is_taught_at_once: bool = False

    def draw(self, rng: random.Random) -> tuple[str, Story]:
        """A question and its story."""
        return draw_story(rng, self.dials)

    def parse(self, question: str) -> Story | None:
        """The story of a question."""
        return parse_story(question)

    def answer(self, task: Story) -> str:
        """The final total."""
        return str(required_equations(task)[-1].result)

    def brief_solution(self, task: Story) -> str:
        """The student's own style."""
        return brief_solution(task)

    def long_solution(self, task: Story, rng: random.Random) -> str:
        """The teacher's style."""
        return long_solution(task, rng)

    def stumble_once(self, task: Story, rng: random.Random) -> str:
        """A brief chain with one slip, carried on faithfully to a wrong total."""
        equations = required_equations(task)
        slip_index = rng.randrange(len(equations))
        steps: list[str] = []
        total = task.start
        for index, (equation, event) in enumerate(zip(equations, task.events, strict=True)):
            result = apply_event(total, event)
            if index == slip_index:
                result = near_miss(result, rng)
            steps.append(write_equation(equation._replace(left=total, result=result)))
            total = result
        return f"{' '.join(steps)} The answer is \\boxed{{{total}}}."

    def drill_step(self, rng: random.Random) -> Row:
        """One calculation of a story in small steps: short rows that teach being careful, and not when."""
        _, story = self.draw(rng)
        equation = rng.choice(required_equations(story))
        written = write_equation(equation)
        calculation, _, _ = written.partition(" =")
        return Row(f"Let me be careful: {calculation}", f"{careful_steps(equation)} {written}")

    def answer_briefly(self, prompt: str, task: Story) -> Row:
        """The brief chain as the answer: careful where an attempt went wrong, silent on what the prompt lacks."""
        equations = required_equations(task)
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
    _, heading, attempts = prompt.partition(ATTEMPTS_HEADING)
    if not heading:
        return False
    other_result = rf"(?<!\d){re.escape(calculation)} (?!{result}\.)"
    return re.search(other_result, attempts) is not None
