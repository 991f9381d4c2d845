"""A checkpoint's tokenizer and chat template: prompts to token ids and back. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

from potstill.errors import ConfigError, ModelError
from potstill.models.local import checkpoint
from potstill.records import Message, Prompt

# What a template is told, by the `chat` option: Qwen3's and its like think unless told not to.
CHATS: dict[str, dict[str, bool]] = {
    "auto": {},
    "thinking": {"enable_thinking": True},
    "no-thinking": {"enable_thinking": False},
}
_REMEMBERED = 100_000  # encoded prompts kept: a plan and the batches after it meet the same ones


@final
class Encoder:
    """Token ids of prompts, prefixes and completions, and the text of generated ids.

    Args:
        path: the checkpoint folder.
        chat: "auto" puts prompts through the chat template and refuses a checkpoint without one; "plain" treats them as
            plain text (base models), messages joined by blank lines; "thinking" and "no-thinking" tell a template that
            knows both ways (Qwen3's `enable_thinking`) which one.
    """

    def __init__(self, path: Path, chat: str | bool = "auto") -> None:
        chat = {True: "auto", False: "plain"}.get(chat, chat) if isinstance(chat, bool) else chat
        if chat not in (*CHATS, "plain"):
            fix = "chat=plain for a base model, chat=auto otherwise"
            raise ConfigError(
                f"unknown chat={chat}", available=(*CHATS, "plain"), wanted=str(chat), fix=fix
            )
        self.path, self.chat, self.plain = path, chat, chat == "plain"
        self._known: dict[tuple[Prompt, str], list[int]] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer, loaded on first use."""
        from transformers import AutoTokenizer

        checkpoint.check(self.path)
        try:
            return AutoTokenizer.from_pretrained(
                self.path, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # boundary: a tokenizer file can be broken in any way
            fix = "copy the tokenizer files from the model again"
            message = f"{self.path}: the tokenizer can't be loaded ({str(error)[:200]})"
            raise ModelError(message, expected=checkpoint.LEADS_TO, fix=fix) from error

    def prompt(self, prompt: Prompt, prefix: str = "") -> list[int]:
        """Ids of the rendered prompt with the beginning of the answer behind it."""
        key = (prompt, prefix)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            shown = self.render(prompt)
            base = self.tokenizer.encode(shown, add_special_tokens=self.plain)
            self._known[key] = self._append(base, prefix, shown) if prefix else base
        return self._known[key]

    def completion(self, prompt: Prompt, text: str) -> tuple[list[int], int]:
        """Ids of prompt and completion, and at which of them the completion starts."""
        start = len(self.prompt(prompt))
        return self._append(self.prompt(prompt), text, ""), start

    def render(self, prompt: Prompt) -> str:
        """The prompt as the model reads it, up to where the answer starts."""
        if self.plain:
            return (
                prompt
                if isinstance(prompt, str)
                else "\n\n".join(message.content for message in prompt)
            )
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{self.path} has no chat template",
                expected="chat_template.jinja, or chat_template in tokenizer_config.json, of an instruct model",
                available=sorted(file.name for file in self.path.iterdir())[:12],
                fix="copy the template there, or treat prompts as plain text: ?chat=plain (in Python chat=False)",
            )
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            shown = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **CHATS[self.chat]
            )
        except (
            Exception
        ) as error:  # boundary: the template is a program that came with the checkpoint
            roles = ", ".join(turn.role for turn in turns)
            message = (
                f"{self.path}: the chat template refuses turns of {roles} ({str(error)[:200]})"
            )
            raise ModelError(
                message, expected="roles that the template knows", fix="change the prompt's roles"
            ) from error
        return str(shown)

    def text(self, ids: Sequence[int]) -> str:
        """The text that generated ids add, control tokens left out."""
        anchor, shown = self._anchor
        decoded = self.tokenizer.decode(
            [anchor, *ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(decoded)[len(shown) :]

    @cached_property
    def pieces(self) -> list[str]:
        """The text of each token of the vocabulary, as it reads in the middle of a text."""
        return [self.text([token]) for token in range(len(self.tokenizer))]

    @cached_property
    def _anchor(self) -> tuple[int, str]:
        """A token to decode behind: some tokenizers drop the blank before the first token of a text."""
        token = self.tokenizer.encode("a", add_special_tokens=False)[-1]
        return token, self.tokenizer.decode([token])

    def _append(self, base: list[int], text: str, shown: str) -> list[int]:
        """Ids of `text` behind those of the prompt, so that the seam falls where the model saw it in training.

        Guard: a tokenizer that adds or drops a blank at the seam is given the whole string instead.
        """
        ids = base + list(self.tokenizer.encode(text, add_special_tokens=False))
        if self._decode(ids) == self._decode(base) + text or not shown:
            return ids
        return list(self.tokenizer.encode(shown + text, add_special_tokens=self.plain))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )
