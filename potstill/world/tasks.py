"""Every kind of problem of the world by its task: `world:TASK`."""

from __future__ import annotations

from difflib import get_close_matches

from potstill.errors import ConfigError
from potstill.records import Problem
from potstill.world import story, story_code, walk
from potstill.world.gym import problems as gym

TASKS = (*story.TASKS, *story_code.TASKS, *walk.TASKS, *gym.TASKS)


def make_problems(task: str, *, size: int, seed: int = 0, split: str = "train") -> list[Problem]:
    """`size` distinct problems of a task; the same (task, seed, split, index) always gives the same problem.

    Raises:
        ConfigError: for a task that does not exist.
    """
    if task not in TASKS:
        raise ConfigError(
            f"no world task called {task!r}",
            available=TASKS,
            wanted=task,
            fix=f"world:{_nearest_task(task)}",
        )
    if task in gym.TASKS:
        return gym.make_problems(task, size=size, seed=seed, split=split)
    if task in story_code.TASKS:
        return story_code.problems(task, size=size, seed=seed, split=split)
    if task in walk.TASKS:
        return walk.problems(task, size=size, seed=seed, split=split)
    return story.problems(task, size=size, seed=seed, split=split)


def _nearest_task(name: str) -> str:
    """What an unknown name may have meant: its family ("gym" of "gym-nosuch"), or the task that is spelt alike."""
    family = name.partition("-")[0]
    if family in TASKS:
        return family
    return next(iter(get_close_matches(name, TASKS, n=1)), TASKS[0])
