"""What a run may spend, as a recipe and the flag `--budget` say it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from potstill.errors import ConfigError

_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_AMOUNT = re.compile(
    r"(?:([\w-]+)=)?(?:\$(\d+(?:\.\d*)?|\.\d+)|(\d+(?:\.\d*)?|\.\d+) ?(usd|USD|([kMG]?)tok(?:ens?)?))"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """At most so many tokens (prompt and completion together) and so much money (USD); 0 is no limit."""

    tokens: int = 0
    money: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would let nothing through by mistake."""
        if self.tokens < 0 or self.money < 0:
            raise ConfigError(
                f"tokens={self.tokens}, money={self.money}: limits are 0 (none) or more"
            )


@dataclass(frozen=True, slots=True)
class Spending(Limits):
    """The limits of a run, and beside them those of single roles; "evaluation" is the student when it is measured."""

    roles: Mapping[str, Limits] = field(default_factory=dict)

    def by_name(self) -> dict[str, Limits]:
        """All limits; "" is that of the run."""
        named = {"": Limits(self.tokens, self.money), **self.roles}
        return {name: limit for name, limit in named.items() if limit != Limits()}


UNLIMITED = Spending()


def settings(texts: Sequence[str]) -> dict[str, float | int]:
    """`5usd`, `2Mtok`, `teacher=3usd` as recipe keys with values; of two on the same thing the last counts."""
    found: dict[str, float | int] = {}
    for text in texts:
        match = _AMOUNT.fullmatch(text.strip())
        if not match:
            raise ConfigError(
                f"--budget {text}",
                expected="money or tokens, for the run or for one role",
                fix="--budget 5usd, --budget 2Mtok, --budget teacher=3usd",
            )
        role, dollars, number, _, size = match.groups()
        where = f"budget.roles.{role}" if role else "budget"
        if size is None:
            found[f"{where}.money"] = float(dollars or number)
        else:
            found[f"{where}.tokens"] = round(float(number) * _SIZES[size])
    return found


def limits(texts: Sequence[str], roles: Sequence[str]) -> dict[str, Limits]:
    """`5usd`, `judge=2Mtok` as limits by role, "" for all together; where there is no recipe that knows the roles."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings(texts).items():
        where, _, unit = key.rpartition(".")
        role = where.removeprefix("budget").removeprefix(".roles.")
        if role and role not in roles:
            raise ConfigError(f"unknown role in the budget {role!r}", available=roles, wanted=role)
        found.setdefault(role, {})[unit] = value
    return {role: Limits(**amounts) for role, amounts in found.items()}
