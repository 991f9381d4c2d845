"""Problems of a reasoning-gym task, made on the spot.

reasoning-gym seeds item i with seed + i, so neighbouring seeds share all items but one; ours are hashed from
(task, seed), far apart. Where several answers are right, the kind is "gym" and its own scorer judges; else "exact".
"""

from __future__ import annotations

import ast
import hashlib
from typing import Any
from urllib.parse import parse_qsl

from potstill.errors import InputError
from potstill.records import Problem, canonical, digest

SIZE = 500  # items made where neither size nor limit says how many


def make_problems(spec: str, *, size: int | None, seed: int, kind: str | None) -> list[Problem]:
    """Problems of `TASK[?size=…&seed=…&setting=…]`; settings are the task's own.

    Args:
        spec: the task and its settings.
        size: how many items, where the spec does not say.
        seed: hashed with the task's name to the seed that the task gets; a `seed` in the spec goes before it.
        kind: the verifier; that of the task where it is not given.
    """
    task, _, query = spec.partition("?")
    settings: dict[str, Any] = {}
    for name, text in parse_qsl(query):
        settings[name] = _parse_literal(text)
    settings["size"] = _whole_size(task, settings.get("size", size or SIZE))
    settings["seed"] = hash_seed(task, settings.get("seed", seed))
    dataset = _create_dataset(task, settings)
    if kind is None:
        kind = "gym" if _has_own_scorer(dataset) else "exact"
    problems = []
    for index in range(len(dataset)):
        problems.append(_make_problem(task, settings, index, dict(dataset[index]), kind))
    return problems


def hash_seed(task: str, seed: object) -> int:
    """A 31-bit seed hashed from the task and the run's seed (numpy takes no more than 32 bits)."""
    hashed = hashlib.sha256(f"gym\n{task}\n{seed}".encode()).digest()
    return int.from_bytes(hashed[:4], "big") >> 1


def _create_dataset(task: str, settings: dict[str, Any]) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise InputError(
            f"gym:{task} needs the reasoning-gym package", fix="pip install 'potstill[data]'"
        ) from error
    if task not in DATASETS:
        raise InputError(
            f"reasoning-gym has no task {task!r}",
            available=sorted(DATASETS),
            wanted=task,
            fix="gym:chain_sum?size=100",
        )
    try:
        return reasoning_gym.create_dataset(task, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        _, config_class = DATASETS[task]
        raise InputError(
            f"gym:{task} refuses its settings: {error}",
            available=sorted(config_class.__dataclass_fields__),
            fix=f"gym:{task}?size=100",
        ) from error


def _whole_size(task: str, size: object) -> int:
    """A size as it may be; reasoning-gym would only say that a text can't be compared with a number."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    raise InputError(
        f"gym:{task} has the size {size!r}",
        expected="a whole number above 0",
        fix=f"gym:{task}?size=100",
    )


def _has_own_scorer(dataset: Any) -> bool:
    from reasoning_gym.dataset import ProceduralDataset

    return type(dataset).score_answer is not ProceduralDataset.score_answer


def _make_problem(
    task: str, settings: dict[str, Any], index: int, item: dict[str, Any], kind: str
) -> Problem:
    table = None
    if kind == "gym":
        # What the scorer needs to make the item again, which is the same in a dataset of any size.
        item_settings = {name: value for name, value in settings.items() if name != "size"}
        table = canonical({"task": task, "settings": item_settings, "index": index})
    question, answer = str(item["question"]).strip(), item["answer"]
    # Some tasks make another item in each process: it then has another id.
    content_hash = digest("item", [question, answer])[-6:]
    return Problem(
        id=f"{task}-{settings['seed']}-{index}-{content_hash}",
        question=question,
        answer=None if answer is None else str(answer),
        kind=kind,
        table=table,
        source=f"gym:{task}",
    )


def _parse_literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
