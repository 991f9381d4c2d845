"""Whether the values of an objective config are of the right kinds and in range, in words. No torch."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from potstill import objectives

_FLAGS = {
    "teacher": "--teacher SPEC",
    "reference": "--reference SPEC",
    "teacher_cache": "--teacher-cache DIR",
}


class FieldRule(NamedTuple):
    """The range of a field of `ObjectiveConfig`, and a value that works. Its kind is its annotation's."""

    name: str
    example: str
    minimum: float = -math.inf
    maximum: float = math.inf


FIELD_RULES = (
    FieldRule("teacher_model_kind", "base"),
    FieldRule("teacher_update_rate", "0.05", 0, 1),
    FieldRule("teacher_sync_steps", "1", 1),
    FieldRule("teacher_prompt_template", "'{solution} {prompt}'"),
    FieldRule("on_policy_fraction", "0.5", 0, 1),
    FieldRule("num_generations", "4", 1),
    FieldRule("reward", "verifier"),
    FieldRule("max_new_tokens", "256", 1),
    FieldRule("loss_reduction", "token"),
    FieldRule("rollout_temperature", "1", 0),
    FieldRule("rollout_sampling", "student"),
    FieldRule("rollout_server", "http://127.0.0.1:8747/v1"),
    FieldRule("rollout_backend", "potstill"),
    FieldRule("rollout_weights_dir", "/shared/weights"),
    FieldRule("rollout_sync_steps", "1", 1),
    FieldRule("rollout_importance_cap", "2", 0),
    FieldRule("max_rollout_drift", "0.05", 0),
    FieldRule("rollout_tool", "python"),
    FieldRule("max_tool_calls", "2", 1),
    FieldRule("max_observation_tokens", "128", 32),
    FieldRule("replay_buffer_size", "1000", 0),
    FieldRule("num_iterations", "2", 1),
    FieldRule("difficulty_pools", '{"hard": [0.25, 0.2], "normal": [0.75, 1], "easy": [1, 0.2]}'),
    FieldRule("recheck_steps", "20", 0),
    FieldRule("max_resample_times", "3", 0),
    FieldRule("mask_truncated_completions", "true"),
    FieldRule("schedule", '{"beta": [0, 1]}'),
    FieldRule("loss_top_k", "0", 0),
    FieldRule("teacher_by", "average"),
    FieldRule("eval_rows", "20", 0),
    FieldRule("eval_steps", "10", 0),
)


def is_of_type(kind: Any, value: Any) -> bool:
    """Whether a value is of an annotated type. A bool is no number, and a number that JSON lacks is none either."""
    origin, parts = get_origin(kind), get_args(kind)
    # A choice of types, or of words.
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(is_of_type(part, value) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if kind in (int, float):
        return _is_number(kind, value)

    # What holds other values, each of a type of its own.
    if origin is tuple:
        is_long_enough = isinstance(value, list | tuple) and len(value) == len(parts)
        return is_long_enough and all(map(is_of_type, parts, value))
    if origin and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return False
        return all(is_of_type(parts[1], item) for item in value.values())
    if origin and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            return False
        return all(is_of_type(parts[0], item) for item in value)

    if origin is Callable:
        return callable(value)
    return isinstance(value, origin or kind)


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, int)
    return isinstance(value, int | float) and math.isfinite(value)


def describe_type(kind: Any) -> str:
    """An annotated type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(part) for part in parts)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        return f"[{', '.join(describe_type(part) for part in parts)}]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if parts[1] is Any:
            return "names with values"
        return f"names, each with {describe_type(parts[1])}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"several of: {describe_type(parts[0])}"
    words = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a text",
        type(None): "nothing",
    }
    return words.get(kind, "a function")


def constant_mistakes(objective: str, constants: Mapping[str, Any]) -> list[str]:
    """What is wrong with the kinds of the constants that the objective knows."""
    defaults = objectives.constants(objective)
    return _type_mistakes(constants, objectives.constant_types(objective), defaults)


def option_mistakes(objective: str, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the names and kinds of an objective's options."""
    defaults = objectives.options(objective)
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        return [f"no option {', '.join(unknown)} (known: {', '.join(defaults) or 'none'})"]
    # An infinite option says "never" or "none", as in the papers.
    finite = {name: value for name, value in options.items() if value != math.inf}
    return _type_mistakes(finite, objectives.option_types(objective), defaults)


def _type_mistakes(
    values: Mapping[str, Any], kinds: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    mistakes = []
    for name, kind in kinds.items():
        if name in values and not is_of_type(kind, values[name]):
            mistakes.append(
                f"{name}={values[name]!r} is not {describe_type(kind)} ({name}={defaults[name]})"
            )
    return mistakes


def field_mistakes(config: Any) -> list[str]:
    """What is wrong with the kinds and ranges of an `ObjectiveConfig`'s fields."""
    kinds = get_type_hints(type(config))
    mistakes = []
    for name, example, minimum, maximum in FIELD_RULES:
        value = getattr(config, name)
        if not is_of_type(kinds[name], value):
            kind = describe_type(kinds[name])
            mistakes.append(f"{name}={value!r} is not {kind} ({name}={example})")
        elif isinstance(value, int | float) and not minimum <= value <= maximum:
            limits = _describe_range(minimum, maximum)
            mistakes.append(f"{name}={value!r} is out of range: {limits} ({name}={example})")
    return mistakes or _schedule_mistakes(config)


def describe_fix(fixes: Sequence[str]) -> str:
    """What to do, for whoever types a command and for whoever writes a method.

    Args:
        fixes: texts such as `teacher=`, `num_generations=4`; empty ones are left out.
    """
    keywords = ", ".join(dict.fromkeys(fix for fix in fixes if fix))
    if not keywords:
        return "--set KEY=VALUE for potstill train; KEY=VALUE on a method's stage, or in training.objective_config"

    def as_flag(match: re.Match[str]) -> str:
        return _FLAGS.get(match[1], f"--set {match[1]}={match[2]}")

    flags = re.sub(r"(\w+)=(\S*?)(?=,|\s|$)", as_flag, keywords)
    return f"{flags} for potstill train; {keywords} on a method's stage, or in training.objective_config"


def _describe_range(minimum: float, maximum: float) -> str:
    return f"from {minimum:g} to {maximum:g}" if maximum < math.inf else f"{minimum:g} or more"


def _schedule_mistakes(config: Any) -> list[str]:
    kinds = objectives.constant_types(config.objective)
    mistakes = []
    for name in config.schedule:
        if name in kinds and not is_of_type(kinds[name], 0.5):
            mistakes.append(f"schedule: {name} is not a number that can move")
    return mistakes
