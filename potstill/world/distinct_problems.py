"""Draw distinct problems of a family of the built-in world, each from a seed of its own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection

from potstill.errors import ConfigError
from potstill.records import Problem

TRIES = 20  # draws a problem that was asked for; a small task may have fewer distinct problems


def draw_distinct_problems(
    draw: Callable[[random.Random, str], Problem],
    *,
    task: str,
    tasks: Collection[str],
    size: int,
    seed: int,
    split: str,
) -> list[Problem]:
    """`size` problems with distinct questions; the same (task, seed, split, index) always gives the same problem.

    Args:
        draw: makes a problem with a random generator and the problem's id.
        task: which one is drawn.
        tasks: what the family has.
        size: how many problems; fewer where the task has fewer.
        seed: of the drawing.
        split: its name is part of every seed, so that splits are drawn apart.

    Raises:
        ConfigError: for a task that the family does not have.
    """
    if task not in tasks:
        raise ConfigError(
            f"no world task called {task!r}",
            available=tasks,
            wanted=task,
            fix=f"world:{next(iter(tasks))}",
        )
    problem_by_question: dict[str, Problem] = {}
    # Two indices may give one question: the later one is passed over.
    for index in range(size * TRIES):
        if len(problem_by_question) == size:
            break
        rng = random.Random(hashlib.sha256(f"{task}/{seed}/{split}/{index}".encode()).digest())
        problem = draw(rng, f"{task}-{split}-{seed}-{index}")
        problem_by_question.setdefault(problem.question, problem)
    return list(problem_by_question.values())
