"""A checkpoint's tokenizer and chat template: prompts to token ids and back. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ConfigError, ModelError
from potstill.models.local import checkpoint
from potstill.models.model import Completion
from potstill.records import Message, Prompt, Tokens

# Arguments of the chat template, by the `chat` option: Qwen3's and its like think unless told not to.
CHAT_TEMPLATE_ARGUMENTS: dict[str, dict[str, bool]] = {
    "auto": {},
    "thinking": {"enable_thinking": True},
    "no-thinking": {"enable_thinking": False},
}
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

    def encode_prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Ids of the rendered prompt with the beginning of the answer behind it."""
        key = (prompt, prefix)
        if key not in self._prompt_ids:
            if len(self._prompt_ids) >= CACHED_PROMPTS:
                self._prompt_ids.clear()
            rendered = self.render_prompt(prompt)
            ids = self.tokenizer.encode(rendered, add_special_tokens=self.is_plain)
            if prefix:
                ids = self._append_text(ids, prefix, rendered)
            self._prompt_ids[key] = ids
        return self._prompt_ids[key]

    def encode_completion(self, prompt: Prompt, text: str) -> tuple[list[int], int]:
        """Ids of prompt and completion, and at which of them the completion starts."""
        prompt_ids = self.encode_prompt(prompt)
        return self._append_text(prompt_ids, text, ""), len(prompt_ids)

    def render_prompt(self, prompt: Prompt) -> str:
        """The prompt as the model reads it, up to where the answer starts."""
        if self.is_plain:
            return join_turns(prompt)
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.path} has no chat template",
                expected="chat_template.jinja, or chat_template in tokenizer_config.json, of an instruct model",
                available=sorted(file.name for file in self.path.iterdir())[:12],
                fix="copy the template there, or treat prompts as plain text: ?chat=plain (in Python chat=False)",
            )
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        arguments = CHAT_TEMPLATE_ARGUMENTS[self.chat]
        try:
            rendered = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **arguments
            )
        except Exception as error:  # boundary: the template is a program from the checkpoint
            roles = ", ".join(turn.role for turn in turns)
            raise ModelError(
                f"{self.path}: the chat template refuses turns of {roles} ({str(error)[:200]})",
                expected="roles that the template knows",
                fix="change the prompt's roles",
            ) from error
        return str(rendered)

    def decode_text(self, ids: Sequence[int]) -> str:
        """The text that generated ids add, control tokens left out."""
        anchor, anchor_text = self._anchor
        decoded = self.tokenizer.decode(
            [anchor, *ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(decoded)[len(anchor_text) :]

    @cached_property
    def token_texts(self) -> list[str]:
        """The text of each token of the vocabulary, as it reads in the middle of a text."""
        return [self.decode_text([token]) for token in range(len(self.tokenizer))]

    @cached_property
    def _anchor(self) -> tuple[int, str]:
        """A token to decode behind: some tokenizers drop the blank before the first token of a text."""
        token = self.tokenizer.encode("a", add_special_tokens=False)[-1]
        return token, self.tokenizer.decode([token])

    def _append_text(self, prompt_ids: list[int], text: str, rendered: str) -> list[int]:
        """Ids of `text` behind those of the prompt, so that the seam falls where the model saw it in training.

        Guard: a tokenizer that adds or drops a blank at the seam is given the whole string instead.
        """
        ids = prompt_ids + list(self.tokenizer.encode(text, add_special_tokens=False))
        if not rendered or self._decode(ids) == self._decode(prompt_ids) + text:
            return ids
        return list(self.tokenizer.encode(rendered + text, add_special_tokens=self.is_plain))

    def _decode(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)


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
