"""`ray:` in front of a model's spec: how many replicas write for it on a Ray cluster, and what each of them needs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potstill.config import Mistakes, Setting, convert_settings, merge_layers, parse_query
from potstill.config import unknown_name as unknown_name_message

KIND = "ray"
PREFIX = f"{KIND}:"
OPTIONS = (
    Setting("replicas", int, 1),
    Setting("gpus", float | None, None),
    Setting("threads", int, 0),
)
OPTION_NAMES = tuple(setting.name for setting in OPTIONS)
EXAMPLE = "ray:transformers:PATH?replicas=4&gpus=1"
# How like an option's name another one must be to be taken for a slip.
LIKENESS = 0.75


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """How many replicas a model has, and what each of them needs.

    Args:
        replicas: at most so many; those that the cluster has room for write.
        gpus: of each; a fraction shares a GPU, 0 computes on CPUs.
        threads: CPU threads of each, which Ray sets aside for it; 0 is as many as this process would compute with.
    """

    replicas: int = 1
    gpus: float = 0.0
    threads: int = 0


def is_ray_spec(spec: str) -> bool:
    """Whether a spec names replicas on a cluster."""
    return spec.startswith(PREFIX)


def inner_spec(spec: str) -> str:
    """The spec of the model itself, without `ray:` and its options; any other spec as it is."""
    if not is_ray_spec(spec):
        return spec
    place, _, query = spec.removeprefix(PREFIX).partition("?")
    options = []
    for option in query.split("&"):
        if option and option.partition("=")[0] not in OPTION_NAMES:
            options.append(option)
    return f"{place}?{'&'.join(options)}" if options else place


def read_replica_settings(spec: str, inner_options: Sequence[Setting] | None) -> ReplicaSettings:
    """The settings of the replicas in a spec.

    Args:
        spec: one that begins with `ray:`.
        inner_options: what the model itself can be told; None where that is not known here.

    Raises:
        ConfigError: lists every mistake in the options.
    """
    inner_kind, _, place = spec.removeprefix(PREFIX).partition(":")
    options = parse_query(place.partition("?")[2])
    mistakes = Mistakes()
    settings = list(OPTIONS)
    for name in options:
        if name not in OPTION_NAMES and inner_options is None:
            # Perhaps the model's own, which it will check; but not where it looks like one of these.
            if difflib.get_close_matches(name, OPTION_NAMES, n=1, cutoff=LIKENESS):
                mistakes.add(name, unknown_name_message("option", name, OPTION_NAMES))
            settings.append(Setting(name, str))
    for setting in inner_options or ():
        if setting.name not in OPTION_NAMES:
            settings.append(setting)
    keyed = merge_layers(settings, [("", options)], mistakes, what="option")
    values = convert_settings(settings, keyed, mistakes)

    if values.get("replicas", 1) < 1:
        mistakes.add("replicas", f"{values['replicas']} is below 1")
    for name in ("gpus", "threads"):
        if (values.get(name) or 0) < 0:
            mistakes.add(name, f"{values[name]} is below 0")
    gpus = values.get("gpus")
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        mistakes.add("gpus", f"{gpus:g} is neither a share of one GPU nor a whole number of them")
    mistakes.raise_if_any(spec, fix=f"write {EXAMPLE}")
    return ReplicaSettings(
        replicas=values.get("replicas", 1),
        gpus=gpus if gpus is not None else _default_gpus(inner_kind, values),
        threads=values.get("threads", 0),
    )


def _default_gpus(inner_kind: str, values: dict[str, Any]) -> float:
    """As many as vLLM spreads the weights over; none of a model that computes on CPUs too."""
    return float(values.get("tensor_parallel", 1)) if inner_kind == "vllm" else 0.0
