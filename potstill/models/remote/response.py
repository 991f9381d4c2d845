"""What came back, read with distrust: texts, how each ended, token counts. Nothing in it is taken for granted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from potstill.models.model import Completion
from potstill.models.remote.errors import Failure
from potstill.records import NO_TOKENS, Tokens

OPEN, CLOSE = "<think>", "</think>"
APART = ("reasoning_content", "reasoning")  # fields in which servers return reasoning
LENGTHS = ("length", "max_tokens", "model_length", "max_output_tokens")
TOOLS = ("tool_calls", "function_call", "tool_use")
FILTERS = ("content_filter", "safety", "recitation", "sensitive")
_MOST = 1 << 53  # tokens: larger numbers are no counts


class Choice(NamedTuple):
    """One completion of an answer; `error` as in `Completion`."""

    text: str
    finish: Literal["stop", "length", ""] = "stop"
    error: str = ""
    logprobs: tuple[float, ...] = ()


class Answer(NamedTuple):
    """A whole answer: its choices in order, what it used in all, what it cost and who gave it."""

    choices: tuple[Choice, ...]
    tokens: Tokens
    cost: float | None = None
    served: str = ""


class Asked(NamedTuple):
    """What of the request is needed to read its answer."""

    prefix: str = ""
    stops: tuple[str, ...] = ()
    think: str = "raw"
    repeats: bool = False


def read(data: bytes, asked: Asked) -> Answer:
    """The answer in a body, of a chat or of a plain completion; a `Failure` where there is none."""
    value = loads(data)
    if not isinstance(value, dict):
        raise _malformed("no JSON object", data)
    tokens = usage(value.get("usage"))
    if isinstance(value.get("error"), dict | str) and not value.get("choices"):
        raise Failure(
            "server",
            f"an error in an answer: {said(value)}",
            retry=True,
            billed=tokens != NO_TOKENS,
        )
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _malformed("no choices", data, tokens)
    read = [_choice(choice, asked) for choice in choices if isinstance(choice, dict)]
    read = [choice for choice in read if not choice.error.startswith("malformed")] or read
    if not read or read[0].error.startswith("malformed"):
        raise _malformed("no choice with a text", data, tokens)
    served = value.get("model")
    return Answer(
        tuple(read),
        tokens,
        _cost(value.get("usage")),
        clean(served)[:200] if isinstance(served, str) else "",
    )


def loads(data: bytes) -> Any:
    """JSON, or None; broken UTF-8 becomes U+FFFD."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def clean(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def joined(reasoning: str, reply: str, asked: Asked, *, cut: bool) -> str:
    """One text from reasoning and answer that came apart: `<think>…</think>…`.

    A prefix that stands within its thought is not opened again; a thought that the limit cut stays open.
    """
    lines, inside = asked.think == "lines", within(asked.prefix)
    head = "" if inside else f"{OPEN}\n" if lines else OPEN
    if cut and not reply:
        return head + (reasoning.lstrip() if lines and not inside else reasoning)
    if lines:
        thought = reasoning.rstrip() if inside else reasoning.strip()
        return f"{head}{thought}\n{CLOSE}" + (f"\n{reply.lstrip()}" if reply else "")
    return f"{head}{reasoning}{CLOSE}{reply}"


def within(prefix: str) -> bool:
    """Whether a text ends inside its thought."""
    return prefix.rfind(OPEN) > prefix.rfind(CLOSE)


def usage(value: Any) -> Tokens:
    """Token counts, whoever's names they have; 0 where a number is none."""
    if not isinstance(value, dict):
        return NO_TOKENS
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    cached = _within(value, "prompt_tokens_details", "cached_tokens") or _count(
        value.get("prompt_cache_hit_tokens")
    )
    reasoning = _within(value, "completion_tokens_details", "reasoning_tokens")
    if reasoning and _count(value.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning  # some servers count the thought apart from the rest
    return Tokens(prompt, completion, min(cached, prompt), min(reasoning, completion))


def shared(answer: Answer) -> list[Completion]:
    """One completion a choice; counts and cost are shared so that their sum is what the server said."""
    sizes = [max(1, len(choice.text)) for choice in answer.choices]
    written = _split(answer.tokens.completion, sizes)
    thought = _split(answer.tokens.reasoning, written if any(written) else sizes)
    made = []
    for place, choice in enumerate(answer.choices):
        first = place == 0  # the prompt was read once
        prompt, cached = (answer.tokens.prompt, answer.tokens.cached) if first else (0, 0)
        made.append(
            Completion(
                choice.text,
                choice.finish,
                Tokens(prompt, written[place], cached, thought[place]),
                choice.error,
                logprobs=choice.logprobs,
                cost=answer.cost if first or answer.cost is None else 0.0,
                served=answer.served,
            )
        )
    return made


def said(value: Any) -> str:
    """The message of an error body, whatever its shape."""
    if isinstance(value, Mapping):
        for name in ("error", "message", "detail", "msg", "error_msg"):
            if value.get(name):
                return said(value[name])
        return clean(json.dumps(value, default=str))[:300]
    if isinstance(value, list) and value:
        return said(value[0])
    return clean(str(value))[:500]


def _choice(choice: Mapping[str, Any], asked: Asked) -> Choice:
    message = choice.get("message", choice)
    if not isinstance(message, dict) or (message is choice and "text" not in choice):
        return Choice("", "", "malformed: a choice without a message")
    content, finish = message.get("content", choice.get("text")), choice.get("finish_reason")
    text = _text(content)
    thought = next((_text(message.get(name)) for name in APART if message.get(name)), "")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        return Choice(text or "", "", f"refused: {clean(refusal)[:300]}")
    if text is None or thought is None:
        return Choice("", "", f"malformed: a {type(content).__name__} for a text")
    cut = finish in LENGTHS
    text = joined(thought, text, asked, cut=cut) if thought else text
    text = clean(_continued(text, asked))
    if finish in FILTERS:
        return Choice(text, "", "filter: the server's content filter took the answer")
    if finish in TOOLS or (not text and message.get("tool_calls")):
        return Choice(text, "", "refused: the model called a tool instead of answering")
    return _ended(text, cut, asked, choice.get("logprobs"))


def _ended(text: str, cut: bool, asked: Asked, logs: Any) -> Choice:
    stops = [at for stop in asked.stops if stop and (at := text.find(stop)) >= 0]
    if stops:
        text, cut = text[: min(stops)], False
    if not text.strip() and cut:
        return Choice("", "", "empty: the limit was reached before any text (raise max_tokens)")
    if not text.strip() and not asked.prefix and not stops:
        return Choice("", "", "empty: an answer without text")
    return Choice(text, "length" if cut else "stop", "", _logprobs(logs))


def _continued(text: str, asked: Asked) -> str:
    """Only what is new, of a server that says the prefix again."""
    return (
        text[len(asked.prefix) :]
        if asked.prefix and asked.repeats and text.startswith(asked.prefix)
        else text
    )


def _text(content: Any) -> str | None:
    """A text: a string, the parts of a list of parts, "" for null; None for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        parts = [
            part.get("text")
            for part in content
            if part.get("type", "text") in ("text", "output_text")
        ]
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
    return None


def _logprobs(logs: Any) -> tuple[float, ...]:
    """Of a chat's `content` or a plain completion's `token_logprobs`; () where one of them is no number."""
    if not isinstance(logs, dict):
        return ()
    entries = logs.get("content")
    values: Any = (
        [e.get("logprob") if isinstance(e, Mapping) else None for e in entries] if entries else []
    )
    return numbers(values or logs.get("token_logprobs")) or ()


def numbers(values: Any) -> tuple[float, ...] | None:
    """Log-probabilities, of which 0 is the largest; None where one of them is none."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    fine = all(
        isinstance(v, float | int) and not isinstance(v, bool) and not math.isnan(v) and v <= 1e-3
        for v in values
    )
    return tuple(min(0.0, max(float(v), -1e30)) for v in values) if fine else None


def _cost(value: Any) -> float | None:
    cost = value.get("cost") if isinstance(value, dict) else None
    fine = isinstance(cost, float | int) and not isinstance(cost, bool) and 0 <= cost < math.inf
    return float(cost) if fine and cost is not None else None


def _count(value: Any) -> int:
    """A count that arrived as an int or a whole float."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
    return int(value) if fine else 0


def _within(value: Mapping[str, Any], part: str, name: str) -> int:
    inner = value.get(part)
    return _count(inner.get(name)) if isinstance(inner, dict) else 0


def _split(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to sizes, whose sum is the total."""
    whole, given, parts = sum(sizes) or 1, 0, []
    reached = 0
    for size in sizes:
        reached += size
        upto = total * reached // whole
        parts.append(upto - given)
        given = upto
    return parts


def _malformed(what: str, data: bytes, tokens: Tokens = NO_TOKENS) -> Failure:
    shown = data[:120].decode("utf-8", "replace")
    return Failure("malformed", f"{what} in {shown!r}", retry=True, billed=True, tokens=tokens)
