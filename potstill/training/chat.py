"""What a tokenizer's chat template does around a completion, found out by using it. No torch in here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from potstill.errors import ModelError
from potstill.models.encoding import CHATS
from potstill.records import Message, Prompt

OPEN, CLOSE = "<think>", "</think>"
PROBE = "Probe27"  # a content that no template changes


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer with the facts of its template that rendering needs.

    Args:
        end: token id that closes an assistant's turn.
        control: the tokenizer's control tokens; text that holds one would forge a turn.
        told: what the template is told: "auto" nothing, "thinking" or "no-thinking" Qwen3's `enable_thinking`.
    """

    tokenizer: Any
    end: int
    control: re.Pattern[str]
    told: str = "auto"

    def prompt(self, prompt: Prompt) -> str:
        """What the learner sees before its completion; the template's generation prompt may open `<think>`."""
        text = self.tokenizer.apply_chat_template(
            _turns(prompt), tokenize=False, add_generation_prompt=True, **CHATS[self.told]
        )
        return str(text)


def chat(tokenizer: Any, told: str = "auto") -> Chat:
    """Ask a tokenizer for its end-of-turn and control tokens; refuses one without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "the starting checkpoint's tokenizer has no chat template",
            expected="`chat_template` in tokenizer_config.json, or the file chat_template.jinja",
            fix="copy chat_template.jinja from the instruction-tuned sibling of the model into the checkpoint folder",
        )
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special -= {OPEN, CLOSE}  # reasoning marks belong to a trace's text even where a tokenizer calls them special
    names = sorted((re.escape(name) for name in special if name), key=len, reverse=True)
    return Chat(tokenizer, _end(tokenizer, special), re.compile("|".join(names) or r"(?!)"), told)


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _end(tokenizer: Any, special: set[str]) -> int:
    """The first control token after an assistant's content; the end of the text where the template writes none."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": PROBE}]
    tail = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(PROBE)[2]
    for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if tokenizer.convert_ids_to_tokens(token) in special:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "neither the chat template nor the tokenizer says how a turn ends",
            expected="a control token after the assistant's content, or an eos_token",
            fix="set eos_token in tokenizer_config.json",
        )
    return int(tokenizer.eos_token_id)
