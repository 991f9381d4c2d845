"""What a run may spend, as a recipe and the flag `--budget` write it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from potstill.budget.amounts import WHOLE_RUN, Limit, is_limit_name
from potstill.errors import ConfigError
from potstill.models.phase import PHASES

_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
MAX_NUMBER = 10.0**15  # of a limit: more is no limit
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
# `teacher=` may stand before; then `$5` or `5usd` or `2Mtok`.
_AMOUNT = re.compile(
    rf"(?:(?P<role>[\w/-]+)=)?"
    rf"(?:\$(?P<dollars>{_NUMBER})|(?P<number>{_NUMBER}) ?(?:usd|USD|(?P<size>[kMG]?)tok(?:ens?)?))"
)


@dataclass(frozen=True, slots=True)
class RunLimits(Limit):
    """The limits of a run, and beside them those of single roles (`teacher`), phases (`evaluation`), or ROLE/PHASE."""

    roles: Mapping[str, Limit] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_name())

    def by_name(self) -> dict[str, Limit]:
        """All limits; "" is that of the run."""
        limits = {WHOLE_RUN: Limit(self.tokens, self.money), **self.roles}
        return {name: limit for name, limit in limits.items() if limit}


UNLIMITED = RunLimits()


def parse_budget(texts: Sequence[str]) -> dict[str, float | int]:
    """`5usd`, `2Mtok`, `teacher=3usd` as recipe keys with values; of two on the same thing the last counts."""
    settings: dict[str, float | int] = {}
    for text in texts:
        match = _AMOUNT.fullmatch(text.strip())
        if not match:
            raise ConfigError(
                f"--budget {text}",
                expected="money or tokens, for the run, a role or a phase",
                fix="--budget 5usd, --budget 2Mtok, --budget teacher=3usd, --budget evaluation=1Mtok",
            )
        prefix = f"budget.roles.{match['role']}" if match["role"] else "budget"
        # No size, not even an empty one: the unit was money.
        if match["size"] is None:
            settings[f"{prefix}.money"] = min(
                float(match["dollars"] or match["number"]), MAX_NUMBER
            )
        else:
            settings[f"{prefix}.tokens"] = round(
                min(float(match["number"]), MAX_NUMBER) * _SIZES[match["size"]]
            )
    return settings


def parse_limits(texts: Sequence[str], roles: Sequence[str]) -> dict[str, Limit]:
    """`5usd`, `judge=2Mtok` as limits by name, "" for all together; where there is no recipe that knows the roles."""
    amounts: dict[str, dict[str, Any]] = {}
    for key, value in parse_budget(texts).items():
        prefix, _, unit = key.rpartition(".")
        role = prefix.removeprefix("budget").removeprefix(".roles.")
        if role and not is_limit_name(role, roles):
            raise ConfigError(
                f"unknown role in the budget {role!r}",
                expected="a role, a phase, or ROLE/PHASE",
                available=[*roles, *PHASES],
                wanted=role,
            )
        amounts.setdefault(role, {})[unit] = value
    return {role: Limit(**amount) for role, amount in amounts.items()}
