"""Prompts to token ids, and ids to the texts of tokens: everything that a server needs a tokenizer for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

from potstill.models.local.chat_template import apply_template
from potstill.models.local.prompt import PromptEncoder
from potstill.models.local.text_codec import without_surrogates
from potstill.serving.api_error import ApiError
from potstill.serving.call import ChatPrompt, PromptInput, TextPrompt

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a part of a character decodes to


class EncodedPrompt(NamedTuple):
    """Token ids of a prompt, and which of them from the left the tokenizer put before the text."""

    ids: list[int]
    added_count: int = 0


@final
class PromptTokens:
    """A tokenizer as a server uses it; not thread-safe.

    Args:
        encoder: of the served checkpoint.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self.encoder = encoder
        self._token_texts: dict[int, str] = {}

    def encode(self, prompt: PromptInput) -> EncodedPrompt:
        """The token ids of a prompt."""
        if isinstance(prompt, ChatPrompt):
            return EncodedPrompt(self._encode_chat(prompt))
        if isinstance(prompt, TextPrompt):
            return self._encode_text(prompt)
        return EncodedPrompt(list(prompt))

    def _encode_text(self, prompt: TextPrompt) -> EncodedPrompt:
        bare_ids = self.encoder.tokenizer.encode(prompt.text, add_special_tokens=False)
        if not prompt.add_special_tokens:
            return EncodedPrompt(list(bare_ids))
        ids = self.encoder.codec.encode_document(prompt.text)
        return EncodedPrompt(ids, max(0, len(ids) - len(bare_ids)))

    def _encode_chat(self, prompt: ChatPrompt) -> list[int]:
        encoder = self.encoder
        if prompt.add_generation_prompt or encoder.is_plain:
            return encoder.encode_prompt(prompt.messages, prompt.prefix)
        if not encoder.tokenizer.chat_template:
            raise ApiError("the model has no chat template", param="messages")
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
        rendered = without_surrogates(apply_template(encoder.tokenizer, turns))
        return list(encoder.tokenizer.encode(rendered, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens as they are written."""
        return self.encoder.codec.decode(ids)

    def token_text(self, token: int) -> str:
        """The text of one token; a part of a character is U+FFFD."""
        if token not in self._token_texts:
            self._token_texts[token] = self.decode([token])
        return self._token_texts[token]

    def text_offsets(self, ids: Sequence[int], added_count: int = 0) -> list[int]:
        """At which character of the text each token begins; `added_count` tokens stand before it."""
        stream = TextStream(self.decode)
        offsets = [0] * added_count
        length = 0
        for token in ids[added_count:]:
            offsets.append(length)
            length += len(stream.push([token]))
        return offsets


@final
class TextStream:
    """The text of a completion while its tokens come: each part is certain, and no part of a stop string.

    Args:
        decode: token ids to text.
        stops: strings that end the text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, stops
        self._ids: list[int] = []
        # Tokens before `_window` are decoded for good; those up to `_read` have been, and stand before what comes.
        self._window = self._read = 0
        self._pending = ""  # text that may be the beginning of a stop string
        self.sent = ""

    def push(self, ids: Sequence[int]) -> str:
        """The text that is certain now."""
        self._ids.extend(ids)
        before = self._decode(self._ids[self._window : self._read])
        text = self._decode(self._ids[self._window :])
        # A character that is cut in the middle waits for its other tokens.
        if text.endswith(UNFINISHED) or len(text) <= len(before):
            return ""
        self._window, self._read = self._read, len(self._ids)
        self._pending += text[len(before) :]
        return self._release(len(self._pending) - self._held_back())

    def finish(self, whole_text: str) -> str:
        """What is missing of the whole text.

        Raises:
            ApiError: it does not go on where the parts that were sent have ended.
        """
        if not whole_text.startswith(self.sent):
            raise ApiError("the parts of the text do not join to the whole of it", status=500)
        return whole_text[len(self.sent) :]

    def _release(self, count: int) -> str:
        part, self._pending = self._pending[:count], self._pending[count:]
        self.sent += part
        return part

    def _held_back(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop), len(self._pending)), longest, -1):
                if self._pending.endswith(stop[:length]):
                    longest = length
                    break
        return longest
