"""Reads a server's answer: texts, how each ended, token counts. Nothing in it is taken for granted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.data.messages import (
    CLOSE_TAG,
    OPEN_TAG,
    MalformedMessageError,
    has_open_thought,
    read_message,
    strip_reasoning_tags,
)
from potstill.models.model import (
    MAX_CALL_COST,
    MAX_CALL_TOKENS,
    Completion,
    CompletionEnd,
    cut_at_stop,
)
from potstill.models.remote.errors import Failure
from potstill.models.remote.json_body import (
    as_object,
    error_message,
    has_lone_surrogates,
    parse_json_object,
    parse_json_text,
    replace_lone_surrogates,
    says_something,
)
from potstill.records import (
    FINISH_REASON_KEYS,
    NO_TOKENS,
    FinishReason,
    Tokens,
    read_finish_reason,
)

_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?")
END_OF_ANSWER = frozenset({"end_turn", "eos", "eos_token"})  # said of no stop string
LONG_PREFIX = 24  # characters that no answer begins with by chance
MAX_LOGPROB = 1e-3  # a rounding error above 0 is a log-probability, more is none


class Choice(NamedTuple):
    """One completion of an answer; `error` as in `Completion`, `may_retry` where the server broke it off."""

    text: str
    finish_reason: CompletionEnd = "stop"
    error: str = ""
    logprobs: tuple[float, ...] = ()
    may_retry: bool = False
    stop_string: str = ""


class Response(NamedTuple):
    """A whole answer: its choices in order, the tokens of all of them, the cost, and the server's name of the model.

    `ignored` are numbers that can't be right, as in `Completion`.
    """

    choices: tuple[Choice, ...]
    tokens: Tokens
    cost: float | None = None
    served: str = ""
    ignored: tuple[str, ...] = ()


class ResponseContext(NamedTuple):
    """What of the request is needed to read its answer.

    Args:
        prefix: the text that the answer goes on with.
        stop: strings that end it.
        think: how a thought that came apart is joined: "raw" or "lines".
        repeats_prefix: whether the server says the prefix again; None where nobody knows.
    """

    prefix: str = ""
    stop: tuple[str, ...] = ()
    think: str = "raw"
    repeats_prefix: bool | None = False


def read_response(data: bytes, context: ResponseContext) -> Response:
    """Read the body of a chat or of a plain completion; raises `Failure` where there is no answer in it.

    Choices that can't be read are left out where others can. An answer of which every choice was broken off by the
    server is a failure that may be tried again. Errors in the place of an answer are `answer_errors`' part.
    """
    value = _parse_answer(data)
    usage = value.get("usage")
    tokens = read_usage(usage)
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

    served = value.get("model")
    if not isinstance(served, str):
        served = ""
    return Response(
        choices=tuple(choices),
        tokens=tokens,
        cost=_read_cost(as_object(usage).get("cost")),
        served=replace_lone_surrogates(served)[:200],
        ignored=impossible_numbers(usage),
    )


def _parse_answer(data: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Broken UTF-8 is malformed: what stood there is lost, and a text has a hole."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        tokens = read_usage(parse_json_object(data).get("usage"))
        raise _malformed_failure("bytes that are no UTF-8", data, tokens) from None
    value = parse_json_text(text)
    if not isinstance(value, dict):
        raise _malformed_failure("no JSON object", data)
    return value


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
    """Token counts, whoever's names they have; 0 where a number is none, or one that can't be right."""
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
    """What an answer says that its call used and cost; raises `Failure` where it is no JSON object."""
    usage = as_object(_parse_answer(data).get("usage"))
    return read_usage(usage), _read_cost(usage.get("cost"))


def impossible_numbers(usage: Any) -> tuple[str, ...]:
    """The numbers of a usage that can't be right and are ignored: below 0, beyond any call, no numbers at all."""
    ignored = []
    for name in ("prompt_tokens", "completion_tokens"):
        value = as_object(usage).get(name)
        if value is not None and _read_number(value, MAX_CALL_TOKENS) is None:
            ignored.append(f"{name}={value!r:.40}")
    cost = as_object(usage).get("cost")
    if cost is not None and _read_cost(cost) is None:
        ignored.append(f"cost={cost!r:.40}")
    return tuple(ignored)


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
                ignored=response.ignored if place == 0 else (),
                stop_string=choice.stop_string,
            )
        )
    return completions


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
    stop_string = _choice_stop_string(choice, context)
    if finish_reason == "stop" and context.stop and stop_string != "":
        # It may have been one of the strings: an answer of which nobody knows that it is whole is not called finished.
        finish_reason = "stop_string"
    stop_string = stop_string or ""
    text = message.content
    if message.reasoning:
        # A thought without a reply that a limit or a stop string ended is no whole thought.
        is_open = finish_reason in ("length", "stop_string")
        text = join_server_reasoning(message.reasoning, text, context, is_truncated=is_open)
    text = _without_prefix(text, context)
    if has_lone_surrogates(text):
        raise MalformedMessageError("a text with half a character")

    # Endings that are no answer.
    error = next(filter(says_something, (choice.get("error"), entry.get("error"))), None)
    if error is not None:
        detail = f"server: the server broke the answer off: {error_message(error)}"
        return Choice(text, "", detail, may_retry=True)
    if finish_reason == "content_filter":
        return Choice(text, "", "filter: the server's content filter took the answer")
    if finish_reason == "tool_calls" or (not text and message.tool_calls):
        return Choice(text, "", "refused: the model called a tool instead of answering")
    start = _start_of_stops(text, finish_reason) if message.reasoning else 0
    answer, left_in_text = cut_at_stop(text[start:], context.stop)
    text = text[:start] + answer
    logprobs = _read_choice_logprobs(choice.get("logprobs"))
    if left_in_text:
        return Choice(text, "stop_string", logprobs=logprobs, stop_string=left_in_text)
    if finish_reason == "stop_string" and stop_string:
        return Choice(text, "stop_string", logprobs=logprobs, stop_string=stop_string)
    return _end_choice(text, finish_reason, finish_value, context, logprobs)


def _choice_stop_string(choice: Mapping[str, Any], context: ResponseContext) -> str | None:
    """The stop string that ended a choice; "" where none did, None where the server does not say.

    vLLM has `stop_reason` (a string, the id of a token, or null for the end of the answer), SGLang `matched_stop`,
    Anthropic `stop_sequence`. OpenAI's own servers say "stop" of both.
    """
    finish_reason = choice.get("finish_reason")
    if isinstance(finish_reason, Mapping):  # SGLang's own protocol
        choice = {"matched_stop": finish_reason.get("matched"), **choice}
    for key in ("stop_reason", "matched_stop", "stop_sequence"):
        value = choice.get(key)
        if isinstance(value, str) and value in context.stop:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return ""
    # A word that only the end of an answer has.
    words = {str(choice.get(key)).casefold() for key in FINISH_REASON_KEYS}
    if words & END_OF_ANSWER:
        return ""
    says_null = "stop_reason" in choice and choice["stop_reason"] is None
    return "" if says_null else None


def _start_of_stops(text: str, finish_reason: FinishReason) -> int:
    """From where on a stop string ends the text of a thought that came apart.

    In a thought behind which the server went on, to a reply or to the limit, it ended nothing.
    """
    closed = text.find(CLOSE_TAG)
    if closed >= 0:
        return closed
    return 0 if finish_reason in ("stop", "stop_string") else len(text)


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
    logprobs: tuple[float, ...],
) -> Choice:
    """Say how a text ended; an error where it did not end well."""
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
    if finish_reason in ("length", "stop_string"):
        return Choice(text, finish_reason, logprobs=logprobs)
    return Choice(text, "stop", logprobs=logprobs)


def _without_prefix(text: str, context: ResponseContext) -> str:
    """Only what is new, of a server that says the prefix again; decided by this answer and the options alone."""
    is_repeated = context.repeats_prefix
    if is_repeated is None:
        is_repeated = len(context.prefix) >= LONG_PREFIX
    return text.removeprefix(context.prefix) if is_repeated else text


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
    number = _read_number(cost, MAX_CALL_COST)
    return None if number is None else float(number)


def _read_count(value: Any) -> int:
    """A count that arrived as an int, a whole float or digits; 0 for anything else, and beyond what a call can use."""
    return int(_read_number(value, MAX_CALL_TOKENS) or 0)


def _read_number(value: Any, highest: int) -> float | None:
    """A number from 0 to `highest`, which some servers write as text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= highest else None


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
