"""Amounts of tokens and money, the limits on them, and how both are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, isfinite
from typing import NamedTuple

from potstill.errors import ConfigError
from potstill.models.model import Request
from potstill.models.phase import PHASES, split_account

WHOLE_RUN = ""  # the name of the limit on all roles together

# A chat template may add tokens around each message, and some once around the whole prompt.
TEMPLATE_TOKENS_PER_MESSAGE = 16
TEMPLATE_TOKENS_PER_PROMPT = 128

# Money is counted in whole picodollars: sums of floats would drift, and then depend on the order of the calls.
PICODOLLARS = 10**12
MAX_MONEY = 10.0**12  # USD; whatever anybody says, sums of more are no money


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many tokens (prompt and completion together) and so much money (USD); 0 is no limit."""

    tokens: int = 0
    money: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would let nothing through by mistake."""
        if not self.tokens >= 0 or not self.money >= 0 or not isfinite(self.money):
            raise ConfigError(
                f"tokens={self.tokens}, money={self.money}: limits are 0 (none) or more"
            )

    def __bool__(self) -> bool:
        return bool(self.tokens or self.money)


NO_LIMIT = Limit()


class Intent(NamedTuple):
    """A call that was sent and has not come back: the most that it, with its tries so far, can have used."""

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
    picodollars: int = 0

    @property
    def money(self) -> float:
        """In USD."""
        return self.picodollars / PICODOLLARS

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(self.tokens + other.tokens, self.picodollars + other.picodollars)

    def minus(self, other: Amount) -> Amount:
        """Without the other, never below nothing."""
        return Amount(
            tokens=max(0, self.tokens - other.tokens),
            picodollars=max(0, self.picodollars - other.picodollars),
        )


NOTHING = Amount()


def limit_names(account: str) -> tuple[str, ...]:
    """The limits that the calls of an account count against, the narrowest first.

    Of `student/evaluation`: the student's while it is measured, the student's in all phases, that of all measurements,
    that of the whole run.
    """
    role, phase = split_account(account)
    # As a dict: without a role two of them are the run itself, which counts once.
    return tuple(dict.fromkeys((f"{role}/{phase}" if role else WHOLE_RUN, role, phase, WHOLE_RUN)))


def is_limit_name(name: str, roles: Iterable[str]) -> bool:
    """Whether this names a limit where these roles are played: a role, a phase, or ROLE/PHASE."""
    role, _ = split_account(name)
    return name in PHASES or role in set(roles)


def to_picodollars(money: float) -> int:
    """Money in USD as whole picodollars, from nothing to `MAX_MONEY`."""
    return round(max(0.0, min(money, MAX_MONEY)) * PICODOLLARS)


def sum_amounts(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    total = NOTHING
    for amount in amounts:
        total = total.plus(amount)
    return total


def prompt_token_bound(request: Request) -> int:
    """More tokens than any tokenizer makes of a prompt: its UTF-8 bytes, and what a chat template adds."""
    if isinstance(request.prompt, str):
        texts = [request.prompt]
    else:
        texts = [message.content for message in request.prompt]
    texts.append(request.prefix)
    # A token is at least a byte, in every tokenizer that is known.
    byte_count = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return byte_count + TEMPLATE_TOKENS_PER_MESSAGE * len(texts) + TEMPLATE_TOKENS_PER_PROMPT


def format_amount(amount: Amount, limit: Limit = NO_LIMIT) -> str:
    """An amount as people read it; with a limit only what it limits."""
    if limit:
        parts = []
        if limit.tokens:
            parts.append(f"{amount.tokens:,} of {limit.tokens:,} tokens")
        if limit.money:
            parts.append(f"{amount.money:,.6g} of {limit.money:,.6g} USD")
        return ", ".join(parts)
    if amount.picodollars:
        return f"{amount.tokens:,} tokens, {amount.money:,.6g} USD"
    return f"{amount.tokens:,} tokens"


def suggest_limit(name: str, limit: Limit, needed: Amount) -> str:
    """Twice the limit that the next calls would exceed, or more where that is not enough, as `--budget` reads it."""
    # The limit in tokens where it is the one that stopped the call, or the only one.
    if limit.tokens and (needed.tokens > limit.tokens or not limit.money):
        size = f"{max(2 * limit.tokens, needed.tokens)}tok"
    else:
        whole_cents = ceil(needed.money * 100) / 100
        size = f"{max(2 * limit.money, whole_cents):.10g}usd"
    if name == WHOLE_RUN:
        return size
    return f"{name}={size}"
