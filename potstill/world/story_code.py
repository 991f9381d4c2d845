"""Stories as program tasks: the running-total stories, with a first count that the program reads from its input.

"Ned has n shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now? Read n from each
line of the input, print each answer." The code verifier runs a program once for all lines of a test, in its sandbox
(about 0.1 s).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from potstill.records import Problem
from potstill.verifiers.story import Event, Story, apply_event, parse_story
from potstill.world import story

PREFIX = "story-code"
TASKS = {name.replace("story", PREFIX): name for name in story.TASKS}
"""Task -> the stories that it is made of."""

HOW_IT_IS_RUN = "Read n from each line of the input, print each answer."
INPUT_LINES = 3  # first counts that one test gives: a program that prints a constant fails
MAX_FIRST_COUNT = 999

_QUESTION = re.compile(
    r"(\w+) has n (\w+)\.(.*? How many \w+ does \w+ have now\?) Read n from each line"
)
_ASSIGNMENT = re.compile(r"^\s*n ([-+*]|//)= (\d{1,6})\s*$", re.MULTILINE)


def problems(
    task: str = PREFIX, *, size: int = 500, seed: int = 0, split: str = "train"
) -> list[Problem]:
    """The stories of a task as program problems, with a test and a reference program.

    The same (task, seed, split, index) always gives the same problem, and the one of the story with this index.
    """
    program_problems: list[Problem] = []
    for story_problem in story.problems(TASKS[task], size=size, seed=seed, split=split):
        parsed = parse_story(story_problem.question)
        assert parsed is not None
        program_problems.append(
            Problem(
                story_problem.id.replace(TASKS[task], task, 1),
                write_question(story_problem.question),
                None,
                "code",
                write_program(parsed.events),
                tests=(write_test(parsed, random.Random(story_problem.id)),),
                source=task,
                metadata=story_problem.metadata,
            )
        )
    return program_problems


def write_question(story_question: str) -> str:
    """The question of a program task: the story without its first count, and how it is read and answered."""
    question = re.sub(r" has \d+ ", " has n ", story_question, count=1)
    return f"{question} {HOW_IT_IS_RUN}"


def write_test(parsed: Story, rng: random.Random) -> str:
    """The test of a program: some first counts with which the story can happen, the story's own among them."""
    # The story's own first count is always possible; the others are drawn, so that no constant passes.
    possible = [count for count in range(2, MAX_FIRST_COUNT) if can_happen(count, parsed.events)]
    others = [count for count in possible if count != parsed.start]
    counts = [parsed.start, *rng.sample(others, min(INPUT_LINES - 1, len(others)))]
    outputs = [final_total(count, parsed.events) for count in counts]
    return json.dumps({"stdin": write_lines(counts), "stdout": write_lines(outputs)})


def can_happen(first_count: int, events: Sequence[Event]) -> bool:
    """Whether no event takes away more than there is, or halves an odd number."""
    total = first_count
    for event in events:
        if event.op == "/" and total % event.operand:
            return False
        total = apply_event(total, event)
        if total < 0:
            return False
    return True


def final_total(first_count: int, events: Sequence[Event]) -> int:
    """The total after all events."""
    total = first_count
    for event in events:
        total = apply_event(total, event)
    return total


def write_lines(numbers: Sequence[int]) -> str:
    """Numbers, one a line."""
    return "".join(f"{number}\n" for number in numbers)


def read_question(text: str) -> tuple[str, str, tuple[Event, ...]] | None:
    """The first program task in a text: who has what, and the events; None where there is none."""
    question = _QUESTION.search(text)
    if question is None:
        return None
    name, item, events_and_question = question.groups()
    # As a story with any first count: what happens in it does not depend on that.
    parsed = parse_story(f"{name} has 0 {item}.{events_and_question}")
    return None if parsed is None else (name, item, parsed.events)


def write_program(events: Sequence[Event]) -> str:
    """A program that carries out the events on each line of its input."""
    lines = ["for line in open(0):", "    n = int(line)"]
    for event in events:
        op = "//" if event.op == "/" else event.op
        lines.append(f"    n {op}= {event.operand}")
    lines.append("    print(n)")
    return "\n".join(lines)


def read_program(text: str) -> list[Event]:
    """The events that a program of this form carries out, in order."""
    return [Event(op.replace("//", "/"), int(n)) for op, n in _ASSIGNMENT.findall(text)]
