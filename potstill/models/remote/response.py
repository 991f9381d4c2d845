"""Reads a server's answer: texts, how each ended, token counts. Nothing in it is taken for granted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from potstill.data.messages import (
    CLOSE_TAG,
    OPEN_TAG,
    MalformedMessageError,
    has_open_thought,
    read_message,
    strip_reasoning_tags,
)
from potstill.models.model import Completion
from potstill.models.remote.errors import Failure
from potstill.records import (
    FINISH_REASON_KEYS,
    NO_TOKENS,
    FinishReason,
    Tokens,
    read_finish_reason,
)

MAX_TOKEN_COUNT = 1 << 53  # a larger number is no count of tokens
MAX_LOGPROB = 1e-3  # a rounding error above 0 is a log-probability, more is none


class Choice(NamedTuple):
    """One completion of an answer; `error` as in `Completion`, `may_retry` where the server broke it off."""

    text: str
    finish_reason: Literal["stop", "length", ""] = "stop"
    error: str = ""
    logprobs: tuple[float, ...] = ()
    may_retry: bool = False


class Response(NamedTuple):
    """A whole answer: its choices in order, the tokens of all of them, the cost, and the server's name of the model."""

    choices: tuple[Choice, ...]
    tokens: Tokens
    cost: float | None = None
    served: str = ""


class ResponseContext(NamedTuple):
    """What of the request is needed to read its answer.

    Args:
        prefix: the text that the answer goes on with.
        stop: strings that end it.
        think: how a thought that came apart is joined: "raw" or "lines".
        repeats_prefix: whether the server says the prefix again.
    """

    prefix: str = ""
    stop: tuple[str, ...] = ()
    think: str = "raw"
    repeats_prefix: bool = False


def read_response(data: bytes, context: ResponseContext) -> Response:
    """Read the body of a chat or of a plain completion; raises `Failure` where there is no answer in it.

    Choices that can't be read are left out where others can. An answer of which every choice was broken off by the
    server is a failure that may be tried again.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        raise _malformed_failure("no JSON object", data)
    # Some servers answer 200 with an error in the body.
    tokens = read_usage(value.get("usage"))
    if isinstance(value.get("error"), dict | str) and not value.get("choices"):
        detail = f"an error in an answer: {error_message(value)}"
        raise Failure("server", detail, may_retry=True, billed=tokens != NO_TOKENS)

    entries = value.get("choices")
    if not isinstance(entries, list) or not entries:
        raise _malformed_failure("no choices", data, tokens)
    choices = []
    for entry in entries:
        try:
            choices.append(_read_choice(as_object(entry), context))
        except MalformedMessageError:
            continue  # the others may be fine; where none is, the answer is malformed
    if not choices:
        raise _malformed_failure("no choice with a text", data, tokens)
    if all(choice.may_retry for choice in choices):
        detail = choices[0].error.removeprefix("server: ")
        raise Failure(
            "server", detail, may_retry=True, billed=True, tokens=tokens, text=choices[0].text
        )

    cost = _read_cost(as_object(value.get("usage")).get("cost"))
    served = value.get("model")
    if not isinstance(served, str):
        served = ""
    return Response(tuple(choices), tokens, cost, replace_lone_surrogates(served)[:200])


def parse_json(data: bytes) -> Any:
    """JSON, or None; broken UTF-8 becomes U+FFFD."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def parse_json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    return as_object(parse_json(data))


def as_object(value: Any) -> dict[str, Any]:
    """A JSON value that should be an object; an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON value that should be a list; an empty one where it is something else."""
    return value if isinstance(value, list) else []


def replace_lone_surrogates(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which JSON can hold and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def join_server_reasoning(
    reasoning: str, reply: str, context: ResponseContext, *, is_truncated: bool
) -> str:
    """One text from a thought and a reply that came apart: `<think>thought</think>reply`, the tags never doubled.

    A prefix that ends inside its thought is not opened again; a thought that the limit cut stays open. With
    `think="lines"` the line breaks that the server took away are put back around the tags.
    """
    reasoning, reply = strip_reasoning_tags(reasoning, reply)
    # The tag that opens the thought, unless the prefix opened it.
    adds_line_breaks = context.think == "lines"
    starts_inside = has_open_thought(context.prefix)
    opening = OPEN_TAG
    if starts_inside:
        opening = ""
    elif adds_line_breaks:
        opening = f"{OPEN_TAG}\n"

    # A limit within the thought leaves it open.
    if is_truncated and not reply:
        if adds_line_breaks and not starts_inside:
            reasoning = reasoning.lstrip()
        return opening + reasoning
    if not adds_line_breaks:
        return f"{opening}{reasoning}{CLOSE_TAG}{reply}"
    reasoning = reasoning.rstrip() if starts_inside else reasoning.strip()
    text = f"{opening}{reasoning}\n{CLOSE_TAG}"
    if reply:
        text += f"\n{reply.lstrip()}"
    return text


def read_usage(value: Any) -> Tokens:
    """Token counts, whoever's names they have; 0 where a number is none."""
    value = as_object(value)
    prompt = _read_count(value.get("prompt_tokens"))
    completion = _read_count(value.get("completion_tokens"))
    cached = _read_inner_count(value, "prompt_tokens_details", "cached_tokens")
    cached = cached or _read_count(value.get("prompt_cache_hit_tokens"))
    reasoning = _read_inner_count(value, "completion_tokens_details", "reasoning_tokens")
    # Some servers count the thought apart from the rest of the completion.
    if reasoning and _read_count(value.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    return Tokens(prompt, completion, min(cached, prompt), min(reasoning, completion))


def read_spent(data: bytes) -> tuple[Tokens, float | None]:
    """What an answer says that its call used and cost."""
    usage = as_object(parse_json_object(data).get("usage"))
    return read_usage(usage), _read_cost(usage.get("cost"))


def to_completions(response: Response) -> list[Completion]:
    """One completion a choice; counts and cost are shared out so that their sum is what the server said."""
    text_lengths = [max(1, len(choice.text)) for choice in response.choices]
    completion_counts = _split_total(response.tokens.completion, text_lengths)
    reasoning_sizes = completion_counts if any(completion_counts) else text_lengths
    reasoning_counts = _split_total(response.tokens.reasoning, reasoning_sizes)

    completions = []
    for place, choice in enumerate(response.choices):
        tokens = Tokens(0, completion_counts[place], 0, reasoning_counts[place])
        cost = response.cost
        if place == 0:  # the prompt was read, and the call paid, once
            tokens = tokens._replace(prompt=response.tokens.prompt, cached=response.tokens.cached)
        elif cost is not None:
            cost = 0.0
        completions.append(
            Completion(
                choice.text,
                choice.finish_reason,
                tokens,
                choice.error,
                logprobs=choice.logprobs,
                cost=cost,
                served=response.served,
            )
        )
    return completions


def error_message(value: Any) -> str:
    """The message of an error body, whatever its shape."""
    if isinstance(value, Mapping):
        for name in ("error", "message", "detail", "msg", "error_msg"):
            if value.get(name):
                return error_message(value[name])
        return replace_lone_surrogates(json.dumps(value, default=str))[:300]
    if isinstance(value, list) and value:
        return error_message(value[0])
    return replace_lone_surrogates(str(value))[:500]


def read_logprobs(values: Any) -> tuple[float, ...] | None:
    """Log-probabilities, of which 0 is the largest; None where one of them is none."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    logprobs = []
    for value in values:
        if not isinstance(value, float | int) or isinstance(value, bool):
            return None
        if math.isnan(value) or value > MAX_LOGPROB:
            return None
        logprobs.append(min(0.0, max(float(value), -1e30)))
    return tuple(logprobs)


def _read_choice(choice: Mapping[str, Any], context: ResponseContext) -> Choice:
    """Read a choice of a chat (`message`) or of a plain completion (`text`)."""
    entry = choice.get("message", choice)
    if not isinstance(entry, dict) or (entry is choice and "text" not in choice):
        raise MalformedMessageError("a choice without a message")
    message = read_message(entry)
    if message.refusal:
        refusal = replace_lone_surrogates(message.refusal)[:300]
        return Choice(replace_lone_surrogates(message.content), "", f"refused: {refusal}")

    # Thought and reply become one text, without a prefix that the server says again.
    finish_reason, finish_value = _choice_finish_reason(choice)
    text = message.content
    if message.reasoning:
        is_truncated = finish_reason == "length"
        text = join_server_reasoning(message.reasoning, text, context, is_truncated=is_truncated)
    text = replace_lone_surrogates(_without_prefix(text, context))

    # Endings that are no answer.
    if finish_reason == "content_filter":
        return Choice(text, "", "filter: the server's content filter took the answer")
    if finish_reason == "tool_calls" or (not text and message.tool_calls):
        return Choice(text, "", "refused: the model called a tool instead of answering")
    return _end_choice(text, finish_reason, finish_value, context, choice.get("logprobs"))


def _choice_finish_reason(choice: Mapping[str, Any]) -> tuple[FinishReason, Any]:
    """How a choice ended, and the server's word for it; vLLM has a `stop_reason` beside its `finish_reason`."""
    for key in FINISH_REASON_KEYS:
        if choice.get(key) is not None:
            return read_finish_reason(choice[key], key=key), choice[key]
    return "unknown", None


def _end_choice(
    text: str,
    finish_reason: FinishReason,
    finish_value: Any,
    context: ResponseContext,
    logprobs: Any,
) -> Choice:
    """Cut a text at its first stop string, and say how it ended; an error where it did not end well."""
    # A stop string that the server left in the text ends it, whatever the server says.
    stop_positions = [text.find(stop) for stop in context.stop if stop and stop in text]
    if stop_positions:
        return Choice(text[: min(stop_positions)], "stop", "", _read_choice_logprobs(logprobs))
    shown_value = replace_lone_surrogates(str(finish_value))[:80]
    if finish_reason == "error":
        error = f"server: the server broke the answer off (finish_reason {shown_value!r})"
        return Choice(text, "", error, may_retry=True)
    if not text.strip() and finish_reason == "length":
        return Choice("", "", "empty: the limit was reached before any text (raise max_tokens)")
    if not text.strip() and not context.prefix:
        return Choice("", "", "empty: an answer without text")
    if finish_reason == "unknown":
        server_said = f"finish_reason {shown_value!r}"
        if finish_value is None:
            server_said = "no finish_reason"
        return Choice(text, "", f"unfinished: {server_said}, so the text may not be whole")
    if finish_reason == "length":
        return Choice(text, "length", "", _read_choice_logprobs(logprobs))
    return Choice(text, "stop", "", _read_choice_logprobs(logprobs))


def _without_prefix(text: str, context: ResponseContext) -> str:
    """Only what is new, of a server that says the prefix again."""
    if context.repeats_prefix and context.prefix:
        return text.removeprefix(context.prefix)
    return text


def _read_choice_logprobs(logprobs: Any) -> tuple[float, ...]:
    """Of a chat's `content` or a plain completion's `token_logprobs`; () where one of them is no number."""
    if not isinstance(logprobs, dict):
        return ()
    values: Any = logprobs.get("token_logprobs")
    entries = logprobs.get("content")
    if isinstance(entries, list) and entries:
        values = [entry.get("logprob") if isinstance(entry, Mapping) else None for entry in entries]
    return read_logprobs(values) or ()


def _read_cost(cost: Any) -> float | None:
    if not isinstance(cost, float | int) or isinstance(cost, bool) or not 0 <= cost < math.inf:
        return None
    return float(cost)


def _read_count(value: Any) -> int:
    """A count that arrived as an int or a whole float; 0 for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    return int(value) if 0 <= value < MAX_TOKEN_COUNT else 0


def _read_inner_count(usage: Mapping[str, Any], part: str, name: str) -> int:
    return _read_count(as_object(usage.get(part)).get(name))


def _split_total(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to sizes, whose sum is the total."""
    size_of_all = sum(sizes) or 1
    parts: list[int] = []
    size_so_far = total_so_far = 0
    for size in sizes:
        size_so_far += size
        next_total = total * size_so_far // size_of_all
        parts.append(next_total - total_so_far)
        total_so_far = next_total
    return parts


def _malformed_failure(what: str, data: bytes, tokens: Tokens = NO_TOKENS) -> Failure:
    beginning = data[:120].decode("utf-8", "replace")
    return Failure(
        "malformed", f"{what} in {beginning!r}", may_retry=True, billed=True, tokens=tokens
    )
