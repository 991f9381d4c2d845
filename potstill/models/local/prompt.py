"""A checkpoint's tokenizer and chat template: prompts to token ids and back. Needs no torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ConfigError, ModelError
from potstill.models.local import checkpoint
from potstill.models.local.chat_template import (
    CHAT_TEMPLATE_ARGUMENTS,
    find_answer_blank,
    render_prompt,
)
from potstill.models.local.text_codec import (
    TextCodec,
    begin_answer,
    opens_thought,
    without_open_thought,
    without_surrogates,
)
from potstill.models.model import Completion
from potstill.models.scoring import Passage
from potstill.records import Prompt, Tokens

CACHED_PROMPTS = 100_000  # encoded prompts: a plan and the batches after it meet the same ones


@final
class PromptEncoder:
    """Token ids of prompts, prefixes and completions, and the text of generated ids.

    Args:
        path: the checkpoint folder.
        chat: "auto" puts prompts through the chat template and refuses a checkpoint without one; "plain" treats them as
            plain text (base models), messages joined by blank lines; "thinking" and "no-thinking" tell a template that
            knows both ways (Qwen3's `enable_thinking`) which one.
    """

    def __init__(self, path: Path, chat: str | bool = "auto") -> None:
        if isinstance(chat, bool):
            chat = "auto" if chat else "plain"
        available = (*CHAT_TEMPLATE_ARGUMENTS, "plain")
        if chat not in available:
            fix = "chat=plain for a base model, chat=auto otherwise"
            raise ConfigError(f"unknown chat={chat}", available=available, wanted=chat, fix=fix)
        self.path, self.chat, self.is_plain = path, chat, chat == "plain"
        self._prompt_ids: dict[tuple[Prompt, str], list[int]] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer, loaded on first use."""
        return checkpoint.load_tokenizer(self.path)

    @cached_property
    def codec(self) -> TextCodec:
        """Completions to tokens and back."""
        return TextCodec(self.tokenizer)

    def encode_prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Ids of the rendered prompt with the beginning of the answer behind it."""
        key = (prompt, prefix)
        if key not in self._prompt_ids:
            if len(self._prompt_ids) >= CACHED_PROMPTS:
                self._prompt_ids.clear()
            bare_ids = self._encode_before(prompt, prefix)
            prefix_ids = self.codec.encode(begin_answer(prefix, self.answer_blank))
            self._prompt_ids[key] = bare_ids + prefix_ids
        return self._prompt_ids[key]

    def _encode_before(self, prompt: Prompt, answer: str) -> list[int]:
        """Ids of the rendered prompt, up to where this answer starts."""
        rendered = self.render_prompt(prompt, answer)
        if self.is_plain:
            return self.codec.encode_document(rendered)
        return list(self.tokenizer.encode(without_surrogates(rendered), add_special_tokens=False))

    def encode_completion(self, prompt: Prompt, text: str) -> tuple[list[int], int]:
        """Ids of prompt and completion, and at which of them the completion starts.

        No completion where the tokenizer does not give its text back: its tokens would be those of another text.
        """
        return self.encode_passage(Passage(prompt, text))

    def encode_passage(self, passage: Passage) -> tuple[list[int], int]:
        """Ids of prompt, prefix and text, and at which of them the text starts.

        Prefix and text are cut into tokens as one, as they are where the model reads or learns them; the text starts at
        the first token that holds a character of it. Without a text that its tokens give back there are no ids behind
        the prompt's.
        """
        answer = passage.prefix + passage.text
        if opens_thought(answer):
            prompt_ids = self._encode_before(passage.prompt, answer)
        else:
            prompt_ids = self.encode_prompt(passage.prompt)  # encoded once for all of its texts
        whole_text = begin_answer(answer, self.answer_blank)
        if not passage.prefix:
            ids, start = self.codec.encode(whole_text), 0
        else:
            ids, offsets = self.codec.encode_with_offsets(whole_text)
            # Offsets are where a token ends in the whole text; behind the last token of the prefix the text begins.
            stops = [stop for _, stop in offsets]
            start = bisect_right(stops, len(whole_text) - len(passage.text))
        if not self.codec.restores(whole_text, ids):
            return prompt_ids, len(prompt_ids)
        return prompt_ids + ids, len(prompt_ids) + start

    def render_prompt(self, prompt: Prompt, answer: str = "") -> str:
        """The prompt as the model reads it, up to where the answer starts; `<think>` comes once where both have it."""
        if self.is_plain:
            return join_turns(prompt)
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.path} has no chat template",
                expected="chat_template.jinja, or chat_template in tokenizer_config.json, of an instruct model",
                available=sorted(file.name for file in self.path.iterdir())[:12],
                fix="copy the template there, or treat prompts as plain text: ?chat=plain (in Python chat=False)",
            )
        return without_open_thought(render_prompt(self.tokenizer, prompt, self.chat), answer)

    def decode_text(self, ids: Sequence[int]) -> str:
        """The text that generated ids add, tokens that end an answer or build turns left out."""
        return self.codec.decode_answer(ids)

    @cached_property
    def answer_blank(self) -> str:
        """The white space that the chat template writes before an answer."""
        return "" if self.is_plain else find_answer_blank(self.tokenizer, self.chat)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the template's, the generation config's and the tokenizer's."""
        return self.codec.special_tokens.end_ids

    @cached_property
    def token_texts(self) -> list[str]:
        """The text of each token of the vocabulary, as it reads in the middle of a text."""
        return [self.decode_text([token]) for token in range(len(self.tokenizer))]


def join_turns(prompt: Prompt) -> str:
    """A prompt as plain text: itself, or the contents of its turns with a blank line between."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message.content for message in prompt)


def prompt_length_error(prompt_tokens: int, context: int) -> Completion:
    """The completion of a prompt that is empty or fills the context."""
    detail = "an empty prompt"
    if prompt_tokens:
        detail = f"a prompt of {prompt_tokens} tokens leaves no room in {context} positions"
    return Completion("", "", Tokens(prompt_tokens), error=f"context: {detail}")
