"""What the lessons know of walks: a slip that is carried on, a step with what it rests on, and a careful answer."""

from __future__ import annotations

import random
from dataclasses import dataclass

from potstill.verifiers.walk import (
    Event,
    Walk,
    first_wrong_event,
    join_steps,
    parse_walk,
    required_steps,
    take_step,
    write_place,
    write_step,
)
from potstill.world.lessons import ATTEMPTS_HEADING, Row
from potstill.world.walk import (
    TASKS,
    Dials,
    brief_solution,
    careful_steps,
    draw_walk,
    final_place,
    long_solution,
    slip,
)


@dataclass(frozen=True, slots=True)
class WalkFamily:
    """The family `walk`, of one difficulty."""

    dials: Dials = TASKS["walk"]
    name: str = "walk"
    is_taught_at_once: bool = True

    def draw(self, rng: random.Random) -> tuple[str, Walk]:
        """A question and its walk."""
        return draw_walk(rng, self.dials)

    def parse(self, question: str) -> Walk | None:
        """The walk of a question."""
        return parse_walk(question)

    def answer(self, task: Walk) -> str:
        """The final place."""
        return final_place(task)

    def brief_solution(self, task: Walk) -> str:
        """The student's own style."""
        return brief_solution(task)

    def long_solution(self, task: Walk, rng: random.Random) -> str:
        """The teacher's style."""
        return long_solution(task, rng)

    def stumble_once(self, task: Walk, rng: random.Random) -> str:
        """A brief chain with one slip, carried on faithfully to where it leads."""
        slip_index = rng.randrange(len(task.events))
        parts: list[str] = []
        place = task.start
        for index, event in enumerate(task.events):
            step = take_step(place, event)
            if index == slip_index:
                step = slip(step, rng)
            parts.append(write_step(step))
            place = step.after
        answer = f"The answer is \\boxed{{{write_place(place.x, place.y)}}}."
        return f"{' '.join(parts)} {answer}"

    def drill_step(self, rng: random.Random) -> Row:
        """One step of a walk with what it rests on: short rows that teach being careful, and not when."""
        _, walk = self.draw(rng)
        step = rng.choice(required_steps(walk))
        before = f"{write_place(step.before.x, step.before.y)}, facing {step.before.facing}"
        prompt = f"Let me be careful: {before}, {_write_event(step.event)}"
        return Row(prompt, f"{careful_steps(step)} {write_step(step)}")

    def answer_briefly(self, prompt: str, task: Walk) -> Row:
        """The brief chain as the answer: careful where an attempt went wrong, silent on what the prompt lacks."""
        _, _, attempts = prompt.partition(ATTEMPTS_HEADING)
        disputed = {first_wrong_event(task, attempt) for attempt in attempts.split("\n") if attempt}
        steps = required_steps(task)
        parts: list[str] = []
        silent: list[tuple[int, int]] = []
        position = 0  # in the completion, where the next part begins
        for index, step in enumerate(steps):
            part = write_step(step)
            both = join_steps(steps[index - 1 : index + 1]) if index else None
            is_shown = part in prompt or (both is not None and write_step(both) in prompt)
            if index in disputed:
                part = f"{careful_steps(step)} {part}"
            elif not is_shown:
                silent.append((position + part.index(":") + 1, position + len(part) - 1))
            parts.append(part)
            position += len(part) + 1
        answer = f"The answer is \\boxed{{{final_place(task)}}}."
        return Row(prompt, f"{' '.join(parts)} {answer}", tuple(silent))


def _write_event(event: Event) -> str:
    """An event on its own, as a drill asks for it."""
    return event.what if event.is_turn else f"{event.what} {event.steps}"
