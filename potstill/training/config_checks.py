"""Whether the values of an objective config are of the right kinds and in range, in words. No torch."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from potstill import objectives
from potstill.errors import ConfigError
from potstill.objectives.internalise import Internalise

_FLAGS = {
    "teacher": "--teacher SPEC",
    "reference": "--reference SPEC",
    "teacher_cache": "--teacher-cache DIR",
}


class Wanted(NamedTuple):
    """A keyword of the loop: from where to where it may be, and one that works. Its kind is its annotation's."""

    keyword: str
    example: str
    least: float = -math.inf
    most: float = math.inf


# Of fields of `ObjectiveConfig`.
WANTED = (
    Wanted("on_policy_fraction", "0.5", 0, 1),
    Wanted("num_generations", "4", 1),
    Wanted("reward", "verifier"),
    Wanted("rollout_temperature", "1", 0),
    Wanted("max_new_tokens", "256", 1),
    Wanted("loss_reduction", "token"),
    Wanted("rollout_sampling", "student"),
    Wanted("replay_buffer_size", "1000", 0),
    Wanted("num_iterations", "2", 1),
    Wanted("mask_truncated_completions", "true"),
    Wanted("schedule", '{"beta": [0, 1]}'),
    Wanted("implicit_cot", '{"per_epoch": 8}'),
    Wanted("eval_rows", "20", 0),
    Wanted("eval_steps", "10", 0),
    Wanted("layers", "2", 0),
    Wanted("projector_lr", "0.01", math.ulp(0)),
)


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of an annotated kind. Numbers are finite, and true is none."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(part, value) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        long = isinstance(value, list | tuple) and len(value) == len(parts)
        return long and all(map(fits, parts, value))
    if kind is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(parts[1], item) for item in value.values())
    if origin and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(parts[0], item) for item in value)
    return callable(value) if origin is Callable else isinstance(value, origin or kind)


def named(kind: Any) -> str:
    """An annotated kind in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(named(part) for part in parts)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        return f"[{', '.join(named(part) for part in parts)}]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "names, each with " + named(parts[1]) if parts[1] is not Any else "names with values"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return "several of: " + named(parts[0])
    words = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a text",
        type(None): "nothing",
    }
    return words.get(kind, "a function")


def constants(objective: str, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the constants that the objective knows."""
    kinds, usual = objectives.kinds(objective), objectives.constants(objective)
    return [
        f"{name}={given[name]!r} is not {named(kind)} ({name}={usual[name]})"
        for name, kind in kinds.items()
        if name in given and not fits(kind, given[name])
    ]


def fields(config: Any, keywords: Mapping[str, str]) -> list[str]:
    """What is wrong with the fields of a config; they are called as the keywords of the loop are."""
    kinds, called = (
        get_type_hints(type(config)),
        {field: keyword for keyword, field in keywords.items()},
    )
    wrong = []
    for field, example, least, most in WANTED:
        value, name = getattr(config, field), called[field]
        if not fits(kinds[field], value):
            wrong.append(f"{name}={value!r} is not {named(kinds[field])} ({name}={example})")
        elif isinstance(value, int | float) and not least <= value <= most:
            wrong.append(
                f"{name}={value!r} is out of range: {_between(least, most)} ({name}={example})"
            )
    return wrong or _schedule(config) + _internalise(config.implicit_cot)


def remedy(words: Sequence[str]) -> str:
    """What mends it, for whoever writes a method and for whoever types: words like `teacher=`, `num_iterations=2`."""
    joined = ", ".join(dict.fromkeys(word for word in words if word))
    if not joined:
        return "--set KEY=VALUE for potstill train; KEY=VALUE on a method's stage, or in training.objective_config"
    typed = re.sub(
        r"(\w+)=(\S*?)(?=,|\s|$)", lambda m: _FLAGS.get(m[1], f"--set {m[1]}={m[2]}"), joined
    )
    return (
        f"{typed} for potstill train; {joined} on a method's stage, or in training.objective_config"
    )


def _between(least: float, most: float) -> str:
    if most < math.inf:
        return f"from {least:g} to {most:g}"
    return f"{least:g} or more" if least == int(least) else "above 0"


def _schedule(config: Any) -> list[str]:
    kinds = objectives.kinds(config.objective)
    still = [name for name in config.schedule if name in kinds and not fits(kinds[name], 0.5)]
    return [f"schedule: {name} is not a number that can move" for name in still]


def _internalise(given: Mapping[str, Any]) -> list[str]:
    kinds = get_type_hints(Internalise)
    unknown = sorted(set(given) - set(kinds))
    if unknown:
        return [f"implicit_cot has no {', '.join(unknown)} (known: {', '.join(kinds)})"]
    wrong = [
        f"implicit_cot: {name}={value!r} is not {named(kinds[name])}"
        for name, value in given.items()
        if not fits(kinds[name], value) and not (name == "smoothing" and value == math.inf)
    ]
    if given and not wrong:
        try:
            Internalise(**{"steps_per_epoch": 1, **given})
        except ConfigError as error:
            return [f"implicit_cot: {error.found} ({error.expected or ', '.join(error.available)})"]
    return wrong
