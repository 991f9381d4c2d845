"""Amounts of tokens and money, the limits on them, and how both are said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import NamedTuple

from potstill.errors import ConfigError
from potstill.models.model import Request

RUN = ""  # the name of the limit that holds for all roles together
PER_MESSAGE, PER_PROMPT = (
    16,
    128,
)  # tokens that a chat template may add: around each message, and once
_COIN = 10**12  # money is counted in whole picodollars, so that no sum drifts


class Limit(NamedTuple):
    """At most so many tokens and so much money (USD); 0 is no limit."""

    tokens: int = 0
    money: float = 0.0


class Intent(NamedTuple):
    """A call that left and has not come back: the most that it, with its tries so far, can have used."""

    key: str
    role: str
    arm: str
    model: str
    tokens: int
    cost: float


class Spent(NamedTuple):
    """Prompt and completion tokens together, and money."""

    tokens: int = 0
    cost: float = 0.0


class Amount(NamedTuple):
    """Tokens, and money in picodollars."""

    tokens: int = 0
    coins: int = 0

    @property
    def money(self) -> float:
        """In USD."""
        return self.coins / _COIN

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.tokens + other.tokens, self.coins + other.coins)

    def less(self, other: Amount) -> Amount:
        """Without the other, never below nothing."""
        return Amount(max(0, self.tokens - other.tokens), max(0, self.coins - other.coins))


NOTHING = Amount()


def bound(request: Request) -> int:
    """More tokens than any tokenizer makes of a prompt: its UTF-8 bytes, and what a chat template adds."""
    messages = (
        [request.prompt]
        if isinstance(request.prompt, str)
        else [message.content for message in request.prompt]
    )
    texts = [*messages, request.prefix]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size + PER_MESSAGE * len(texts) + PER_PROMPT


def told(amount: Amount, limit: Limit | None = None) -> str:
    """An amount as people read it; with a limit only what it limits."""
    if limit is None:
        money = f", {amount.money:,.6g} USD" if amount.coins else ""
        return f"{amount.tokens:,} tokens{money}"
    parts = [f"{amount.tokens:,} of {limit.tokens:,} tokens"] if limit.tokens else []
    parts += [f"{amount.money:,.6g} of {limit.money:,.6g} USD"] if limit.money else []
    return ", ".join(parts)


def larger(name: str, limit: Limit, needed: Amount) -> str:
    """Twice the limit that the next calls would exceed, or more where that is not enough, as `--budget` reads it."""
    if limit.tokens and (needed.tokens > limit.tokens or not limit.money):
        size = f"{max(2 * limit.tokens, needed.tokens)}tok"
    else:
        size = f"{max(2 * limit.money, ceil(needed.money * 100) / 100):.10g}usd"
    return f"{name}={size}" if name else size


def check(limits: Mapping[str, Limit], roles: Iterable[str]) -> None:
    """Refuse limits below 0 and limits on roles that nothing plays."""
    known = [*roles, "evaluation"]
    for name, limit in limits.items():
        if limit.tokens < 0 or limit.money < 0:
            raise ConfigError(
                f"budget {name or 'of the run'}: below 0", expected="tokens and money of 0 or more"
            )
        if name and name not in known:
            raise ConfigError(
                f"budget: no role {name!r}",
                available=known,
                wanted=name,
                fix="--budget teacher=5usd",
            )


def total(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    found = NOTHING
    for amount in amounts:
        found = found.plus(amount)
    return found


def in_coins(money: float) -> int:
    """Money as whole picodollars."""
    return round(money * _COIN)
