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


def problems(spec: str, *, size: int | None, seed: int, kind: str | None) -> list[Problem]:
    """Problems of `TASK[?size=…&seed=…&setting=…]`; settings are the task's own.

    Args:
        size: how many items, where the spec does not say.
        seed: hashed with the task's name to the seed that the task gets; a `seed` in the spec goes before it.
    """
    task, _, query = spec.partition("?")
    settings: dict[str, Any] = {key: _literal(value) for key, value in parse_qsl(query)}
    settings["size"] = settings.get("size", size or SIZE)
    settings["seed"] = far_seed(task, settings.get("seed", seed))
    dataset = _make(task, settings)
    chosen = kind or ("gym" if _scored(dataset) else "exact")
    return [
        _problem(task, settings, index, dict(dataset[index]), chosen)
        for index in range(len(dataset))
    ]


def far_seed(task: str, seed: object) -> int:
    """A 31-bit seed hashed from the task and the run's seed (numpy takes no more than 32 bits)."""
    return int.from_bytes(hashlib.sha256(f"gym\n{task}\n{seed}".encode()).digest()[:4], "big") >> 1


def _make(task: str, settings: dict[str, Any]) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise InputError(
            f"gym:{task} needs the reasoning-gym package", fix="pip install 'potstill[data]'"
        ) from error
    if task not in DATASETS:
        raise InputError(
            f"reasoning-gym has no task {task!r}", available=sorted(DATASETS), wanted=task
        )
    try:
        return reasoning_gym.create_dataset(task, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        names = sorted(DATASETS[task][1].__dataclass_fields__)
        raise InputError(
            f"gym:{task} refuses its settings: {error}", available=names, fix=f"gym:{task}?size=100"
        ) from error


def _scored(dataset: Any) -> bool:
    """Whether the task brings a scorer of its own."""
    from reasoning_gym.dataset import ProceduralDataset

    return type(dataset).score_answer is not ProceduralDataset.score_answer


def _problem(
    task: str, settings: dict[str, Any], index: int, item: dict[str, Any], kind: str
) -> Problem:
    item_settings = {
        key: value for key, value in settings.items() if key != "size"
    }  # an item is the same in any size
    table = (
        canonical({"task": task, "settings": item_settings, "index": index})
        if kind == "gym"
        else None
    )
    question, answer = str(item["question"]).strip(), item["answer"]
    content = digest("item", [question, answer])[
        -6:
    ]  # some tasks make another item in each process: another id then
    return Problem(
        id=f"{task}-{settings['seed']}-{index}-{content}",
        question=question,
        answer=None if answer is None else str(answer),
        kind=kind,
        table=table,
        source=f"gym:{task}",
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
