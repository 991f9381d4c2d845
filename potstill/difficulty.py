"""Pools of problems by how often a student solves them: for what is trained on, and for rows that are collected."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Pools: TypeAlias = Mapping[str, tuple[float, float]]
"""By name the highest pass rate of a pool and its weight; the weight 0 drops it."""

DIFFICULTY_POOLS: Pools = MappingProxyType(
    {"hard": (0.25, 0.2), "normal": (0.75, 1.0), "easy": (1.0, 0.2)}
)
"""The pools that prime-rl has where nothing else is said (its `difficulty_pool` sampler)."""


def pool_of(pass_rate: float, pools: Pools) -> str:
    """The pool of a pass rate: the first, from below, whose threshold it does not exceed; else the last."""
    by_threshold = sorted(pools, key=lambda name: pools[name][0])
    for name in by_threshold:
        if pass_rate <= pools[name][0]:
            return name
    return by_threshold[-1]


def weight_of(pass_rate: float, pools: Pools) -> float:
    """The weight of the pool of a pass rate; 1 where there are no pools."""
    return pools[pool_of(pass_rate, pools)][1] if pools else 1.0


def mistake_in_pools(pools: Pools) -> str:
    """What is wrong with pools, in words; "" where nothing is."""
    thresholds = [threshold for threshold, _ in pools.values()]
    weights = [weight for _, weight in pools.values()]
    if len(set(thresholds)) < len(thresholds):
        return "two difficulty pools have one threshold"
    if min(weights) < 0:
        return "the weight of a difficulty pool is negative"
    if max(weights) == 0:
        return "every difficulty pool has the weight 0"
    return ""
