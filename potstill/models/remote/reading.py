"""How a server reads prompts: the token ids that its own tokenizer and chat template make, where it says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.models.remote.errors import Failure
from potstill.models.remote.http import HttpClient
from potstill.models.remote.json_body import as_list, parse_json_object
from potstill.models.remote.options import ServerOptions
from potstill.models.remote.request import encode_body, to_messages
from potstill.models.remote.token_scoring import server_root
from potstill.records import Prompt

NOT_THERE = (
    400,
    404,
    405,
    422,
    501,
)  # statuses of a server that has no such address, or not in this form


class ServedTokenizer(NamedTuple):
    """The tokenizer behind a server.

    vLLM: `POST /tokenize` with a prompt or messages. SGLang: the same with a prompt alone. llama.cpp: `POST
    /apply-template` for messages, then `POST /tokenize` with the text.
    """

    client: HttpClient
    model: str
    options: ServerOptions

    async def read_text(self, text: str) -> Sequence[int] | None:
        """The ids of a text; None where the server does not say them."""
        if self.options.score == "n_probs":
            body = {"content": text, "add_special": False, "parse_special": True}
        else:
            body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return _token_ids(await self._ask("/tokenize", body))

    async def read_prompt(self, prompt: Prompt) -> Sequence[int] | None:
        """The ids of a prompt in the server's chat template; None where it does not say them."""
        messages = to_messages(prompt)
        if self.options.score == "n_probs":
            rendered = (await self._ask("/apply-template", {"messages": messages})).get("prompt")
            return await self.read_text(rendered) if isinstance(rendered, str) else None
        if self.options.score == "input_top_logprobs":
            return None
        body = {"model": self.model, "messages": messages, "add_generation_prompt": True}
        return _token_ids(await self._ask("/tokenize", body))

    async def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The server's answer; an empty one where it has nothing of the kind."""
        try:
            answer = await self.client.post(
                server_root(self.options.base) + path, encode_body(body)
            )
        except Failure as failure:
            if failure.status in NOT_THERE:
                return {}
            raise
        return parse_json_object(answer)


def _token_ids(answer: dict[str, Any]) -> Sequence[int] | None:
    """The ids of an answer of `/tokenize`: a list of numbers, or of objects with ids (llama.cpp's `with_pieces`)."""
    token_ids = []
    for token in as_list(answer.get("tokens")):
        number = token.get("id") if isinstance(token, dict) else token
        if isinstance(number, bool) or not isinstance(number, int):
            return None
        token_ids.append(number)
    return token_ids or None
