"""What to do with an answer that was cut off at the token limit: the policy of a role, as further requests.

Every further request has a key of its own and goes through the store like any other, so a killed run finds it again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from potstill.errors import ConfigError
from potstill.models.model import Attempt, Completion, Model, Request
from potstill.records import Message, Prompt, Tokens

Policy: TypeAlias = Literal["keep", "drop", "continue", "raise", "shorter"]
POLICIES: tuple[str, ...] = get_args(Policy)

CONTINUED = (
    3  # times that a truncated answer is gone on with; what is still cut off then stays "length"
)
RAISED = 2  # times the limit, once
SHORTER = "Your last answer to this was cut off because it was too long. Answer again, in half as many words."


def check(policy: str) -> Policy:
    """The policy of this name, or an error with the names."""
    if policy not in POLICIES:
        raise ConfigError(
            f"no policy for truncated answers is called {policy!r}",
            available=POLICIES,
            wanted=policy,
        )
    return policy  # type: ignore[return-value]


def able(policy: str, model: Model | None, who: str) -> None:
    """Refuse, before the first call, to continue the answers of a model that can't go on with a given text."""
    if policy == "continue" and not getattr(model, "continues", True):
        raise ConfigError(
            f"--truncated continue: {who} can't go on with a text that was cut off",
            expected="a model that continues a given text",
            available=(
                "--truncated raise",
                "--truncated shorter",
                "--truncated drop",
                "--truncated keep",
            ),
            fix="another policy; or, where its server does continue the assistant's turn, say how with ?prefill=…",
        )


def follow(
    policy: Policy, asked: Request, done: Completion, before: Sequence[Completion]
) -> Request | None:
    """What to ask next after this answer, or None where it is the last.

    Args:
        policy: of the role.
        asked: the request that `done` answers, itself perhaps a further one.
        done: its answer.
        before: the truncated answers that led to `asked`.
    """
    if done.finish != "length" or done.error:
        return None
    if policy == "continue" and len(before) < CONTINUED and done.text:
        return dataclasses.replace(asked, prefix=asked.prefix + done.text)
    if policy == "raise" and not before:
        limit = asked.sampling.max_tokens * RAISED
        return dataclasses.replace(
            asked, sampling=dataclasses.replace(asked.sampling, max_tokens=limit)
        )
    if policy == "shorter" and not before:
        return dataclasses.replace(asked, prompt=shorter(asked.prompt))
    return None


def settled(policy: Policy, before: Sequence[Completion], last: Completion) -> Completion:
    """The answer that the caller sees: a cut one is marked "length", or is a failure where the policy is to drop it.

    A continued answer is its parts joined, their tokens and cost summed. An answer that was asked for anew has the cut
    one among its `tries`. Where the further call failed, the cut answer stands, with the failure among its `tries`.
    """
    if policy == "drop" and last.finish == "length" and not last.error:
        error = f"length: cut off after {last.tokens.completion} tokens"
        return last._replace(text="", finish="", error=error, logprobs=())
    if not before:
        return last
    if last.error:
        stands = _joined(before) if policy == "continue" else before[-1]
        return stands._replace(tries=(*stands.tries, _tried(last)))
    if policy == "continue":
        return _joined((*before, last))
    return last._replace(tries=(*map(_tried, before), *last.tries))


def shorter(prompt: Prompt) -> Prompt:
    """The prompt with the wish for a shorter answer in its last user turn; chat templates want turns to alternate."""
    if isinstance(prompt, str):
        return f"{prompt}\n\n{SHORTER}"
    last = max((i for i, message in enumerate(prompt) if message.role == "user"), default=-1)
    if last < 0:
        return (*prompt, Message("user", SHORTER))
    turn = prompt[last]._replace(content=f"{prompt[last].content}\n\n{SHORTER}")
    return (*prompt[:last], turn, *prompt[last + 1 :])


def _joined(parts: Sequence[Completion]) -> Completion:
    costs = [part.cost for part in parts if part.cost is not None]
    return parts[-1]._replace(
        text="".join(part.text for part in parts),
        tokens=Tokens(*map(sum, zip(*(part.tokens for part in parts), strict=True))),
        seconds=sum(part.seconds for part in parts),
        logprobs=tuple(value for part in parts for value in part.logprobs),
        cost=sum(costs) if costs else None,
        tries=tuple(attempt for part in parts for attempt in part.tries),
    )


def _tried(part: Completion) -> Attempt:
    error = part.error or f"length: cut off after {part.tokens.completion} tokens"
    return Attempt(error, part.tokens, part.cost, part.seconds, part.text, billed=True)
