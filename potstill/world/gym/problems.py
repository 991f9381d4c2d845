"""Problems of the families, in splits that share no problem: `world:gym?split=test`, `world:gym-products?…`.

The split of a problem follows from a hash of the equations that it requires, so a question in other words, or made
with another seed, stays in its split. The warm-up's problems are the split `warm-up`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from urllib.parse import urlencode

from potstill.data import gym
from potstill.errors import ConfigError, InputError
from potstill.records import Problem, canonical, digest
from potstill.verifiers.equations.families import FAMILIES, solve_question
from potstill.verifiers.equations.solution import Solution
from potstill.world.gym.styles import write_plain

# The families that the warmed-up student solves in 25 to 50 % of cases; docs/models.md has the measurements.
STUDENT_FAMILIES = ("chain_sum", "products", "leg_counting")
MIXTURE = "gym"
PREFIX = "gym-"
TASKS = (MIXTURE, *(PREFIX + task.replace("_", "-") for task in FAMILIES))

# Shares of all problems of a family, in percent; they add up to 100.
SPLITS = {"warm-up": 20, "train": 45, "dev": 15, "test": 20}
BATCH = 512  # items made at a time
MAX_BATCHES = 40


def make_problems(
    task: str, *, size: int, seed: int = 0, split: str = "train", families: Sequence[str] = ()
) -> list[Problem]:
    """Distinct problems of a split; the mixture takes its families in turn.

    Args:
        task: "gym" for the mixture, or "gym-FAMILY".
        size: how many.
        seed: of reasoning-gym; another seed draws other problems of the same split.
        split: one of `SPLITS`.
        families: of the mixture (`STUDENT_FAMILIES`).

    Raises:
        ConfigError: there is no such split.
        InputError: the split has fewer problems.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"world:{task} has no split {split!r}",
            available=tuple(SPLITS),
            wanted=split,
            fix=f"world:{task}?split=test",
        )
    names = list(families or STUDENT_FAMILIES)
    if task != MIXTURE:
        names = [task.removeprefix(PREFIX).replace("-", "_")]
    lists: list[list[Problem]] = []
    for index, name in enumerate(names):
        share = size // len(names) + (index < size % len(names))
        lists.append(_problems_of_family(name, size=share, seed=seed, split=split))
    mixed: list[Problem] = []
    for position in range(max(map(len, lists))):
        mixed += [problems[position] for problems in lists if position < len(problems)]
    return mixed


def split_of(solution: Solution) -> str:
    """The split of a question, by a hash of the equations that it requires, whatever its family."""
    equations = [list(step.equation) for step in solution.steps]
    hashed = hashlib.sha256(canonical(equations).encode()).digest()
    place = int.from_bytes(hashed[:4], "big") % 100
    for split, share in SPLITS.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares add up to 100")


def _problems_of_family(task: str, *, size: int, seed: int, split: str) -> list[Problem]:
    """The first `size` problems of a split that reasoning-gym draws, each set of equations once."""
    settings = urlencode(FAMILIES[task].settings)
    problems: dict[str, Problem] = {}
    for batch in range(MAX_BATCHES):
        count_before = len(problems)
        spec = f"{task}?{settings}&seed={seed}-{batch}"
        for item in gym.make_problems(spec, size=BATCH, seed=seed, kind="number"):
            solution = solve_question(item.question)
            if solution is None or split_of(solution) != split:
                continue
            key = digest("chain", [task, [list(step.equation) for step in solution.steps]])
            problems.setdefault(key, _make_problem(task, item, solution, key))
            if len(problems) >= size:
                return list(problems.values())[:size]
        if len(problems) == count_before:
            break  # as good as exhausted
    name = f"world:{PREFIX}{task.replace('_', '-')}"
    raise InputError(
        f"{name} has {len(problems)} distinct problems in the split {split!r}, not {size}",
        fix=f"ask for fewer: ?size={len(problems)}",
    )


def _make_problem(task: str, item: Problem, solution: Solution, key: str) -> Problem:
    if item.answer != str(solution.answer):
        raise AssertionError(
            f"{task}: {item.question!r} has the answer {item.answer}, not {solution.answer}"
        )
    return Problem(
        id=f"{PREFIX}{task}-{key[-12:]}",
        question=item.question,
        answer=item.answer,
        kind="number",
        solution=write_plain(solution, Random(key)),
        source=f"gym:{task}",
        metadata={"family": task, "steps": len(solution.steps)},
    )
