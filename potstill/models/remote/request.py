"""What is sent: the body of a request, made from a prompt, a prefix and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from potstill.errors import ModelError
from potstill.models.local.prompt import PromptEncoder
from potstill.models.model import Request, Sampling
from potstill.models.remote.options import Options
from potstill.records import Message, Prompt

_encode = json.JSONEncoder(separators=(",", ":")).encode
ALTERNATIVES = "transformers:PATH of the same model's checkpoint"


class Call(NamedTuple):
    """Where a request goes and as what: a path below the base URL, or a whole URL."""

    path: str
    body: dict[str, Any]
    chat: bool


class Bodies:
    """Makes the bodies for one server; learns which name of the limit it takes."""

    def __init__(self, model: str, options: Options, encoder: PromptEncoder | None) -> None:
        """`encoder` renders chat templates here, where the weights are known."""
        self.model, self.options, self.encoder = model, options, encoder
        self.limit = options.preset.limit
        self._settings = lru_cache(maxsize=256)(self._make_settings)

    def call(self, request: Request, n: int, seed: int) -> Call:
        """The call that draws `n` completions of a request."""
        chat = self.options.mode == "chat"
        how = self.prefill(request) if request.prefix and chat else ""
        body = {"model": self.model, **self._settings(request.sampling, chat and how != "template")}
        body[self.limit if chat else "max_tokens"] = self._room(request)
        body[self.options.preset.seed] = seed % (1 << self.options.preset.seed_bits)
        if n > 1:
            body["n"] = n
        if not chat or how == "template":
            body["prompt"] = self.shown(
                request.prompt, rendered=chat or self.options.mode == "template"
            )
            body["prompt"] += request.prefix
            if how:
                body["max_tokens"] = body.pop(self.limit)
            return Call("/completions", body, False)
        turns = body["messages"] = messages(request.prompt)
        path = "/chat/completions"
        if how:
            turns.append({"role": "assistant", "content": request.prefix})
        if how == "continue":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if how == "prefix":
            turns[-1]["prefix"] = True
            path = (
                f"{self.options.preset.beta or self.options.base}{path}"
                if not self.options.url
                else path
            )
        return Call(path, body, True)

    @property
    def continues(self) -> bool:
        """Whether a given text can be gone on with there."""
        how = (
            self.options.prefill if self.options.prefill != "auto" else self.options.preset.prefill
        )
        return (
            self.options.mode != "chat"
            or self.encoder is not None
            or how not in ("none", "template")
        )

    def prefill(self, request: Request) -> str:
        """How a prefix is given to this server, or an error that names the alternatives."""
        how = (
            self.options.prefill if self.options.prefill != "auto" else self.options.preset.prefill
        )
        if how == "template" and self.encoder is None:
            how = "none"
        if how == "none" and self.encoder is not None:
            return "template"
        if how == "none":
            raise ModelError(
                f"{self.model} at {self.options.base} can't go on with a given text {request.prefix[:40]!r} in a chat",
                expected="a server that continues the assistant's turn",
                available=(
                    "prefill=continue (vLLM)",
                    "prefill=prefix (DeepSeek)",
                    "prefill=last",
                    "mode=text",
                ),
                fix=f"say how with ?prefill=…, give ?weights=PATH of the same model, or take {ALTERNATIVES}",
            )
        return how

    def shown(self, prompt: Prompt, *, rendered: bool) -> str:
        """The prompt of a plain completion: rendered with the chat template, or as it is."""
        if rendered and self.encoder is not None:
            return self.encoder.render_prompt(prompt)
        return (
            prompt
            if isinstance(prompt, str)
            else "\n\n".join(message.content for message in prompt)
        )

    def length(self, request: Request) -> int:
        """Tokens of prompt and prefix, where the tokenizer is known; 0 elsewhere."""
        return (
            len(self.encoder.encode_prompt(request.prompt, request.prefix)) if self.encoder else 0
        )

    def _room(self, request: Request) -> int:
        wanted, context = request.sampling.max_tokens, self.options.context
        return min(wanted, max(1, context - self.length(request))) if context else wanted

    def _make_settings(self, sampling: Sampling, chat: bool) -> dict[str, Any]:
        """Everything of a body that the prompt has no part in."""
        if sampling.ban_first:
            raise ModelError(
                f"{self.model} at {self.options.base} can't ban how a completion begins (ban_first)",
                fix=f"leave ban_first out, or take {ALTERNATIVES}",
            )
        preset, body = self.options.preset, dict[str, Any]()
        if (
            self.options.at != "openai" or sampling.temperature != 1
        ):  # its reasoning models refuse any temperature
            body["temperature"] = sampling.temperature
        if preset.explicit or sampling.top_p != 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.logprobs:
            body["logprobs"] = True if chat else 1
        return body | self._beyond(sampling) | dict(self.options.extra)

    def _beyond(self, sampling: Sampling) -> dict[str, Any]:
        """Settings that OpenAI's own protocol does not have."""
        preset, names = self.options.preset, dict(self.options.preset.names)
        if "generation_config" in names.values():
            drawn = sampling.temperature > 0
            config = {"do_sample": drawn, "repetition_penalty": sampling.repetition_penalty}
            return {
                "generation_config": json.dumps(
                    config | ({"top_k": sampling.top_k} if drawn else {})
                )
            }
        body: dict[str, Any] = {}
        for name, default in (("top_k", 0), ("repetition_penalty", 1.0)):
            value = getattr(sampling, name)
            if value == default and not (preset.explicit and name in names):
                continue
            if name not in names:
                raise ModelError(
                    f"{self.options.at} does not know the setting {name}={value}",
                    available=("temperature", "top_p", "max_tokens", "stop"),
                    fix=f"leave {name} out, or take {ALTERNATIVES}",
                )
            body[names[name]] = (
                -1 if name == "top_k" and not value and self.options.at != "llamacpp" else value
            )
        return body


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as the turns of a chat."""
    turns: Sequence[Message] = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def encoded(body: dict[str, Any]) -> bytes:
    """The body as it is sent."""
    return _encode(body).encode("ascii")
