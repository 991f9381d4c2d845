"""What a client asks: the body of a completion or of a chat, checked whole before anything is written."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from potstill.models.model import Sampling
from potstill.records import Message
from potstill.serving.api_error import ApiError
from potstill.serving.fields import Fields, check_text

DEFAULT_MAX_TOKENS = (
    16  # of a plain completion, as OpenAI and vLLM have it; a chat may fill the context
)
MIN_TEMPERATURE = 1e-3  # above 0: below it, logits divided by it leave the number format
MAX_TEMPERATURE = 100.0
MIN_TOP_P = 1e-6
MAX_PENALTY = 100.0
MAX_COUNT = (1 << 31) - 1
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 256
MAX_SEED = (1 << 63) - 1
RANDOM_SEED_BITS = 53  # what a number of JSON holds exactly everywhere

# Fields that name a caller or a call; they change no answer.
LABELS = ("user", "metadata", "request_id", "session_id", "safety_identifier", "prompt_cache_key")
# Fields that we have nothing for, with the values at which they change nothing.
NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "length_penalty": (1,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "bad_words": ([],),
    "response_format": ({"type": "text"},),
    "priority": (0,),
    "store": (False,),
}
COMPLETION_NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {**NEUTRAL_VALUES, "suffix": ("",)}
CHAT_NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL_VALUES,
    "echo": (False,),
    "add_special_tokens": (False,),
    "chat_template_kwargs": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
}
COMMON_FIELDS = (
    *("model", "n", "seed", "stream", "stream_options", "temperature", "top_p", "top_k"),
    *("repetition_penalty", "max_tokens", "max_completion_tokens", "stop", "stop_token_ids"),
    *("ignore_eos", "logprobs", "prompt_logprobs", "prompt_logprobs_base64", "return_token_ids"),
    *("return_tokens_as_token_ids",),
)
COMPLETION_FIELDS = ("prompt", "echo", "add_special_tokens", *COMMON_FIELDS)
CHAT_FIELDS = (
    *("messages", "top_logprobs", "add_generation_prompt", "continue_final_message"),
    *COMMON_FIELDS,
)


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A plain text; `add_special_tokens` puts the tokenizer's own tokens before it."""

    text: str
    add_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Turns, and what the assistant has already said behind them.

    Args:
        messages: without the last turn where it is continued.
        prefix: the beginning of the answer.
        add_generation_prompt: whether the template opens the assistant's turn; always so where an answer is continued.
    """

    messages: tuple[Message, ...]
    prefix: str = ""
    add_generation_prompt: bool = True


TokenPrompt: TypeAlias = tuple[int, ...]
PromptInput: TypeAlias = TextPrompt | TokenPrompt | ChatPrompt


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may ask for.

    Args:
        max_logprobs: most probable tokens a place.
        max_rows: completions.
        vocabulary: token ids of the model.
    """

    max_logprobs: int
    max_rows: int
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """One call, as it was asked.

    Args:
        is_chat: whether it came to /v1/chat/completions.
        model: the name that the client gave; "" where it gave none.
        prompts: each of them gets `n` completions.
        n: completions a prompt.
        seed: of the first completion of each prompt; that of the next one is larger by one.
        sampling: temperature, top_p, top_k and repetition_penalty.
        max_new_tokens: None for as many as the context holds; 0 where the prompt is only scored.
        stop: strings that end a completion.
        stop_token_ids: further tokens that end one.
        ignore_eos: whether it goes on behind the model's own end.
        top_logprobs: most probable tokens beside each new one; None for no log-probabilities.
        prompt_logprobs: the same of the prompt.
        packs_prompt_logprobs: whether these are returned as arrays in base64 (`prompt_logprobs_base64`).
        echo: whether the prompt is repeated before the completion.
        stream: whether the answer comes in parts.
        include_usage: whether the last part of a stream counts the tokens.
        return_token_ids: whether the ids of prompt and completion are returned.
        tokens_as_ids: whether tokens are named `token_id:ID`.
    """

    is_chat: bool
    model: str
    prompts: Sequence[PromptInput]
    n: int
    seed: int
    sampling: Sampling
    max_new_tokens: int | None
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    ignore_eos: bool
    top_logprobs: int | None
    prompt_logprobs: int | None
    packs_prompt_logprobs: bool
    echo: bool
    stream: bool
    include_usage: bool
    return_token_ids: bool
    tokens_as_ids: bool

    @property
    def scored_prompt_tokens(self) -> int | None:
        """Most probable tokens that are needed beside each of the prompt's; None where it is not scored."""
        wanted = [self.prompt_logprobs, self.top_logprobs if self.echo else None]
        counts = [count for count in wanted if count is not None]
        return max(counts, default=None)


def read_call(body: Mapping[str, Any], limits: CallLimits, *, is_chat: bool) -> CompletionCall:
    """The call that a body asks for.

    Raises:
        ApiError: a field is wrong, unknown, or has a value that would have no effect here.
    """
    fields = Fields(body)
    for name in LABELS:
        fields.value(name)
    fields.refuse_unsupported(CHAT_NEUTRAL_VALUES if is_chat else COMPLETION_NEUTRAL_VALUES)
    prompts: Sequence[PromptInput]
    if is_chat:
        prompts = [_read_chat_prompt(fields)]
    else:
        prompts = _read_prompts(fields, limits)
    echo = fields.flag("echo")
    top_logprobs = _read_top_logprobs(fields, limits, is_chat=is_chat)
    prompt_logprobs = _read_logprobs_count(fields, "prompt_logprobs", limits)
    stream, include_usage = _read_stream(fields)
    if stream and (echo or prompt_logprobs is not None):
        raise ApiError("echo and prompt_logprobs have no stream; leave stream out", param="stream")
    scores_prompt = echo or prompt_logprobs is not None
    max_new_tokens = _read_max_tokens(fields, lowest=0 if scores_prompt else 1, is_chat=is_chat)
    seed = fields.integer("seed", None, -MAX_SEED, MAX_SEED)
    call = CompletionCall(
        is_chat=is_chat,
        model=fields.text("model"),
        prompts=prompts,
        n=fields.integer("n", 1, 1, limits.max_rows) or 1,
        seed=secrets.randbits(RANDOM_SEED_BITS) if seed is None else seed,
        sampling=_read_sampling(fields),
        max_new_tokens=max_new_tokens,
        stop=_read_stops(fields),
        stop_token_ids=fields.integers("stop_token_ids", limits.vocabulary - 1),
        ignore_eos=fields.flag("ignore_eos"),
        top_logprobs=top_logprobs,
        prompt_logprobs=prompt_logprobs,
        packs_prompt_logprobs=fields.flag("prompt_logprobs_base64"),
        echo=echo,
        stream=stream,
        include_usage=include_usage,
        return_token_ids=fields.flag("return_token_ids"),
        tokens_as_ids=fields.flag("return_tokens_as_token_ids"),
    )
    fields.refuse_unknown(CHAT_FIELDS if is_chat else COMPLETION_FIELDS)
    if len(call.prompts) * call.n > limits.max_rows:
        raise ApiError(
            f"{len(call.prompts)} prompts with n={call.n} are more than {limits.max_rows} completions; "
            "ask in several calls",
            param="n",
        )
    return call


def _read_sampling(fields: Fields) -> Sampling:
    temperature = fields.number("temperature", 1.0, 0, MAX_TEMPERATURE)
    if 0 < temperature < MIN_TEMPERATURE:
        raise ApiError(
            f"temperature is {temperature}; it must be 0 (greedy) or at least {MIN_TEMPERATURE}",
            param="temperature",
        )
    top_k = fields.integer("top_k", 0, -1, MAX_COUNT) or 0
    return Sampling(
        temperature=temperature,
        top_p=fields.number("top_p", 1.0, MIN_TOP_P, 1.0),
        top_k=max(0, top_k),
        repetition_penalty=fields.number("repetition_penalty", 1.0, 1 / MAX_PENALTY, MAX_PENALTY),
    )


def _read_max_tokens(fields: Fields, *, lowest: int, is_chat: bool) -> int | None:
    """The limit of new tokens, by either of its names; None for the context's."""
    limit = fields.integer("max_tokens", None, lowest, MAX_COUNT)
    newer_limit = fields.integer("max_completion_tokens", None, lowest, MAX_COUNT)
    if limit is not None and newer_limit is not None and limit != newer_limit:
        raise ApiError(
            "max_tokens and max_completion_tokens differ; give one of them", param="max_tokens"
        )
    if limit is None:
        limit = newer_limit
    if limit is None and not is_chat:
        limit = DEFAULT_MAX_TOKENS
    return limit


def _read_stops(fields: Fields) -> tuple[str, ...]:
    stops = fields.texts("stop", MAX_STOPS)
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        raise ApiError(
            f"a stop string has more than {MAX_STOP_CHARACTERS} characters", param="stop"
        )
    return stops


def _read_top_logprobs(fields: Fields, limits: CallLimits, *, is_chat: bool) -> int | None:
    if not is_chat:
        return _read_logprobs_count(fields, "logprobs", limits)
    wants_logprobs = fields.flag("logprobs")
    top_logprobs = _read_logprobs_count(fields, "top_logprobs", limits)
    if top_logprobs and not wants_logprobs:
        raise ApiError("top_logprobs needs logprobs=true", param="top_logprobs")
    return (top_logprobs or 0) if wants_logprobs else None


def _read_logprobs_count(fields: Fields, name: str, limits: CallLimits) -> int | None:
    """How many of the most probable tokens are wanted a place; too many are refused in vLLM's words."""
    count = fields.integer(name, None, 0, MAX_COUNT)
    if count is not None and count > limits.max_logprobs:
        raise ApiError(
            f"Requested {name} of {count}, which is greater than max allowed: {limits.max_logprobs} (--max-logprobs)",
            param=name,
        )
    return count


def _read_stream(fields: Fields) -> tuple[bool, bool]:
    """Whether the answer is streamed, and whether the stream ends with the usage."""
    stream = fields.flag("stream")
    options = fields.value("stream_options")
    if options is None:
        return stream, False
    if not stream or not isinstance(options, dict):
        raise ApiError("stream_options is an object beside stream=true", param="stream_options")
    option_fields = Fields(options)
    include_usage = option_fields.flag("include_usage")
    option_fields.refuse_unsupported({"continuous_usage_stats": (False,)})
    option_fields.refuse_unknown(("include_usage",))
    return stream, include_usage


def _read_prompts(fields: Fields, limits: CallLimits) -> list[PromptInput]:
    """A text, texts, token ids, or lists of token ids."""
    add_special_tokens = fields.flag("add_special_tokens", True)
    value = fields.value("prompt")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ApiError(
            "prompt must be a text, a list of texts, a list of token ids, or a list of such lists",
            param="prompt",
        )
    if type(value[0]) is int:
        value = [value]
    if len(value) > limits.max_rows:
        raise ApiError(f"more than {limits.max_rows} prompts; ask in several calls", param="prompt")
    prompts: list[PromptInput] = []
    for prompt in value:
        if isinstance(prompt, str):
            prompts.append(TextPrompt(check_text("prompt", prompt), add_special_tokens))
        else:
            prompts.append(Fields({"prompt": prompt}).integers("prompt", limits.vocabulary - 1))
    return prompts


def _read_chat_prompt(fields: Fields) -> ChatPrompt:
    """The turns of a chat."""
    messages = read_messages(fields.value("messages"))
    continues = fields.flag("continue_final_message")
    add_generation_prompt = fields.flag("add_generation_prompt", not continues)
    if not continues:
        return ChatPrompt(messages, add_generation_prompt=add_generation_prompt)
    if add_generation_prompt:
        raise ApiError(
            "continue_final_message needs add_generation_prompt=false",
            param="continue_final_message",
        )
    if messages[-1].role != "assistant":
        raise ApiError(
            "continue_final_message needs a last turn of the assistant", param="messages"
        )
    return ChatPrompt(messages[:-1], prefix=messages[-1].content)


def read_messages(value: Any) -> tuple[Message, ...]:
    """Turns of text; content may be a list of parts of text, as OpenAI has it."""
    if not isinstance(value, list) or not value:
        raise ApiError("messages must be a list of turns, at least one", param="messages")
    messages = []
    for turn in value:
        if not isinstance(turn, dict):
            raise ApiError("a turn must be an object with role and content", param="messages")
        turn_fields = Fields(turn)
        role, content = turn_fields.text("role"), turn_fields.value("content", "")
        turn_fields.refuse_unsupported({"tool_calls": ([],), "refusal": ("",), "type": ("text",)})
        turn_fields.refuse_unknown(("role", "content"))
        if not role:
            raise ApiError("a turn has no role", param="messages")
        if isinstance(content, list):
            content = "".join(_read_content_part(part) for part in content)
        messages.append(Message(role, check_text("content", content)))
    return tuple(messages)


def _read_content_part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise ApiError("content may have parts of type text alone", param="messages")
    return check_text("content", part.get("text"))
