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

MAX_CONTINUATIONS = 3  # of one answer; what is still cut off then stays "length"
RAISE_FACTOR = 2  # the policy "raise" asks once more, with this times the limit
ASK_SHORTER = "Your last answer to this was cut off because it was too long. Answer again, in half as many words."


def check_policy(name: str) -> Policy:
    """The policy of this name, or an error with the names."""
    if name not in POLICIES:
        raise ConfigError(
            f"no policy for truncated answers is called {name!r}",
            available=POLICIES,
            wanted=name,
        )
    return name  # type: ignore[return-value]


def check_can_continue(policy: str, model: Model | None, description: str) -> None:
    """Refuse, before the first call, to continue the answers of a model that can't go on with a given text.

    Args:
        policy: of the role.
        model: that plays it; one without `continues` can.
        description: what to call the model in the error.
    """
    if policy == "continue" and not getattr(model, "continues", True):
        raise ConfigError(
            f"--truncated continue: {description} can't go on with a text that was cut off",
            expected="a model that continues a given text",
            available=[
                "--truncated raise",
                "--truncated shorter",
                "--truncated drop",
                "--truncated keep",
            ],
            fix="another policy; or, where its server does continue the assistant's turn, say how with ?prefill=…",
        )


def next_request(
    policy: Policy, request: Request, answer: Completion, truncated: Sequence[Completion]
) -> Request | None:
    """What to ask next after this answer, or None where it is the last.

    Args:
        policy: of the role.
        request: the one that was answered, itself perhaps a further one.
        answer: to it.
        truncated: the truncated answers that led to `request`.
    """
    if answer.finish_reason != "length" or answer.error:
        return None
    if policy == "continue" and len(truncated) < MAX_CONTINUATIONS and answer.text:
        return dataclasses.replace(request, prefix=request.prefix + answer.text)
    if policy == "raise" and not truncated:
        raised_limit = request.sampling.max_new_tokens * RAISE_FACTOR
        sampling = dataclasses.replace(request.sampling, max_new_tokens=raised_limit)
        return dataclasses.replace(request, sampling=sampling)
    if policy == "shorter" and not truncated:
        return dataclasses.replace(request, prompt=ask_shorter(request.prompt))
    return None


def final_answer(policy: Policy, truncated: Sequence[Completion], answer: Completion) -> Completion:
    """The answer that the caller sees: a cut one is marked "length", or is a failure where the policy is to drop it.

    A continued answer is its parts joined, their tokens and cost summed. An answer that was asked for anew has the cut
    one among its `tries`. Where the further call failed, the cut answer stays, with the failure among its `tries`.

    Args:
        policy: of the role.
        truncated: the truncated answers before the last one.
        answer: the last one.
    """
    if policy == "drop" and answer.finish_reason == "length" and not answer.error:
        return answer._replace(text="", finish_reason="", error=_cut_off_error(answer), logprobs=())
    if not truncated:
        return answer
    if answer.error:
        # The further call failed: what was cut off is still an answer, and was paid for.
        usable = _join_parts(truncated) if policy == "continue" else truncated[-1]
        return usable._replace(tries=(*usable.tries, _as_attempt(answer)))
    if policy == "continue":
        return _join_parts([*truncated, answer])
    # Asked anew: the cut answers count as what was paid on the way to this one.
    earlier_tries = [_as_attempt(part) for part in truncated]
    return answer._replace(tries=(*earlier_tries, *answer.tries))


def ask_shorter(prompt: Prompt) -> Prompt:
    """The prompt with the wish for a shorter answer in its last user turn; chat templates want turns to alternate."""
    if isinstance(prompt, str):
        return f"{prompt}\n\n{ASK_SHORTER}"
    user_turns = [place for place, message in enumerate(prompt) if message.role == "user"]
    if not user_turns:
        return (*prompt, Message("user", ASK_SHORTER))
    last = user_turns[-1]
    turn = prompt[last]._replace(content=f"{prompt[last].content}\n\n{ASK_SHORTER}")
    return (*prompt[:last], turn, *prompt[last + 1 :])


def _join_parts(parts: Sequence[Completion]) -> Completion:
    """One completion out of an answer and its continuations."""
    logprobs: list[float] = []
    tries: list[Attempt] = []
    for part in parts:
        logprobs += part.logprobs
        tries += part.tries
    costs = [part.cost for part in parts if part.cost is not None]
    # Each part was billed with the whole prompt before it, so prompt tokens are summed too.
    token_counts = zip(*(part.tokens for part in parts), strict=True)
    return parts[-1]._replace(
        text="".join(part.text for part in parts),
        tokens=Tokens(*map(sum, token_counts)),
        seconds=sum(part.seconds for part in parts),
        logprobs=tuple(logprobs),
        cost=sum(costs) if costs else None,
        tries=tuple(tries),
    )


def _as_attempt(answer: Completion) -> Attempt:
    return Attempt(
        error=answer.error or _cut_off_error(answer),
        tokens=answer.tokens,
        cost=answer.cost,
        seconds=answer.seconds,
        text=answer.text,
        billed=True,
    )


def _cut_off_error(answer: Completion) -> str:
    return f"length: cut off after {answer.tokens.completion} tokens"
