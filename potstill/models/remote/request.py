"""What is sent: the body of a request, made from a prompt, a prefix and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from potstill.errors import ModelError
from potstill.models.local.prompt import PromptEncoder, join_turns
from potstill.models.model import Request, Sampling
from potstill.models.remote.options import ServerOptions
from potstill.records import Message, Prompt

ALTERNATIVE_MODEL = "transformers:PATH of the same model's checkpoint"
_encode_json = json.JSONEncoder(separators=(",", ":")).encode


class ApiCall(NamedTuple):
    """Where a request goes and as what: a path below the base URL, or a whole URL."""

    path: str
    body: dict[str, Any]
    is_chat: bool


class RequestBuilder:
    """Makes the bodies for one server; learns which name of the limit it takes."""

    def __init__(self, model: str, options: ServerOptions, encoder: PromptEncoder | None) -> None:
        """`encoder` renders chat templates here, where the weights are known."""
        self.model, self.options, self.encoder = model, options, encoder
        self.limit_name = options.preset.limit
        self._sampling_fields = lru_cache(maxsize=256)(self._make_sampling_fields)

    def build(self, request: Request, n: int, seed: int) -> ApiCall:
        """The call that asks for `n` completions of a request."""
        # A chat becomes a plain completion where its prefix can be continued in no other way.
        is_chat_model = self.options.mode == "chat"
        prefill = self.prefill_mode(request) if request.prefix and is_chat_model else ""
        is_chat = is_chat_model and prefill != "template"
        body = {"model": self.model, **self._sampling_fields(request.sampling, is_chat)}
        body[self.limit_name if is_chat else "max_tokens"] = self._max_new_tokens(request)
        preset = self.options.preset
        body[preset.seed] = seed % (1 << preset.seed_bits)
        if n > 1:
            body["n"] = n

        # A plain completion goes on behind prompt and prefix.
        if not is_chat:
            is_rendered = is_chat_model or self.options.mode == "template"
            prompt = self.render_prompt(request.prompt, request.prefix, is_rendered=is_rendered)
            body["prompt"] = prompt + request.prefix
            return ApiCall("/completions", body, is_chat=False)

        # A chat goes on with its last assistant turn, which the server is told in its own way.
        body["messages"] = to_messages(request.prompt)
        path = "/chat/completions"
        if prefill:
            body["messages"].append({"role": "assistant", "content": request.prefix})
        if prefill == "continue":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if prefill == "prefix":
            body["messages"][-1]["prefix"] = True
            if not self.options.url:
                path = f"{preset.beta or self.options.base}{path}"
        return ApiCall(path, body, is_chat=True)

    @property
    def continues(self) -> bool:
        """Whether a given text can be gone on with there."""
        if self.options.mode != "chat" or self.encoder is not None:
            return True
        return self._wanted_prefill not in ("none", "template")

    @property
    def _wanted_prefill(self) -> str:
        if self.options.prefill != "auto":
            return self.options.prefill
        return self.options.preset.prefill

    def prefill_mode(self, request: Request) -> str:
        """How a prefix is given to this server, or an error that names the alternatives."""
        prefill = self._wanted_prefill
        if prefill not in ("none", "template"):
            return prefill
        if self.encoder is not None:
            return "template"
        raise ModelError(
            f"{self.model} at {self.options.base} can't go on with a given text {request.prefix[:40]!r} in a chat",
            expected="a server that continues the assistant's turn",
            available=(
                "prefill=continue (vLLM)",
                "prefill=prefix (DeepSeek)",
                "prefill=last",
                "mode=text",
            ),
            fix=f"say how with ?prefill=…, give ?weights=PATH of the same model, or take {ALTERNATIVE_MODEL}",
        )

    def render_prompt(self, prompt: Prompt, answer: str = "", *, is_rendered: bool) -> str:
        """The prompt of a plain completion: rendered with the chat template for an answer so begun, or as it is."""
        if is_rendered and self.encoder is not None:
            return self.encoder.render_prompt(prompt, answer)
        return join_turns(prompt)

    def count_prompt_tokens(self, request: Request) -> int:
        """Tokens of prompt and prefix, where the tokenizer is known; 0 elsewhere."""
        if self.encoder is None:
            return 0
        return len(self.encoder.encode_prompt(request.prompt, request.prefix))

    def _max_new_tokens(self, request: Request) -> int:
        limit, context = request.sampling.max_new_tokens, self.options.context
        if not context:
            return limit
        return min(limit, max(1, context - self.count_prompt_tokens(request)))

    def _make_sampling_fields(self, sampling: Sampling, is_chat: bool) -> dict[str, Any]:
        """Everything of a body that the prompt has no part in."""
        if sampling.ban_first:
            raise ModelError(
                f"{self.model} at {self.options.base} can't ban how a completion begins (ban_first)",
                fix=f"leave ban_first out, or take {ALTERNATIVE_MODEL}",
            )
        fields: dict[str, Any] = {}
        # OpenAI's reasoning models refuse any temperature.
        if self.options.at != "openai" or sampling.temperature != 1:
            fields["temperature"] = sampling.temperature
        if self.options.preset.explicit or sampling.top_p != 1:
            fields["top_p"] = sampling.top_p
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if sampling.logprobs:
            fields["logprobs"] = True if is_chat else 1
        fields |= dict(self.options.preset.neutral)
        return fields | self._fields_beyond_protocol(sampling) | dict(self.options.extra)

    def _fields_beyond_protocol(self, sampling: Sampling) -> dict[str, Any]:
        """Settings that OpenAI's own protocol does not have, by the server's names."""
        preset, names = self.options.preset, dict(self.options.preset.names)
        if "generation_config" in names.values():
            return {"generation_config": json.dumps(_generation_config(sampling))}
        fields: dict[str, Any] = {}
        for name, default in (("top_k", 0), ("repetition_penalty", 1.0)):
            value = getattr(sampling, name)
            if value == default and not (preset.explicit and name in names):
                continue
            if name not in names:
                raise ModelError(
                    f"{self.options.at} does not know the setting {name}={value}",
                    available=("temperature", "top_p", "max_tokens", "stop"),
                    fix=f"set {name} to {default:g} in the method's sampling, or take {ALTERNATIVE_MODEL}",
                )
            # "All tokens" is 0 here and for llama.cpp, -1 for the others.
            if name == "top_k" and value == 0 and self.options.at != "llamacpp":
                value = -1
            fields[names[name]] = value
        return fields


def to_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as the turns of a chat."""
    turns: Sequence[Message] = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def encode_body(body: dict[str, Any]) -> bytes:
    """The body as it is sent."""
    return _encode_json(body).encode("ascii")


def _generation_config(sampling: Sampling) -> dict[str, Any]:
    """What `transformers serve` takes for settings beyond the protocol."""
    does_sample = sampling.temperature > 0
    config = {"do_sample": does_sample, "repetition_penalty": sampling.repetition_penalty}
    if does_sample:
        config["top_k"] = sampling.top_k
    return config
