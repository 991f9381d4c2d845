"""What training needs to know of a tokenizer's chat template, found out by using it. No torch in here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potstill.errors import ModelError
from potstill.models.local.chat_template import (
    checkpoint_name,
    find_answer_blank,
    find_turn_ends,
    render_prompt,
)
from potstill.models.local.special_tokens import CLOSE, OPEN
from potstill.models.local.text_codec import TextCodec
from potstill.records import Prompt, digest

__all__ = ["CLOSE", "OPEN", "ChatTemplate", "read_chat_template"]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer with the facts of its chat template that tokenizing needs.

    Args:
        end_token_id: the token that closes an assistant's turn, which is learnt.
        end_ids: all tokens that end what a model writes, as when it is sampled.
        control_tokens: matches the tokenizer's control tokens; text that holds one would forge a turn.
        codec: makes tokens of completions, and text of tokens.
        mode: what the template is asked for: "auto" nothing, "thinking" or "no-thinking" Qwen3's `enable_thinking`.
        answer_blank: white space that the template writes between the prompt and an answer.
    """

    tokenizer: Any
    end_token_id: int
    end_ids: tuple[int, ...]
    control_tokens: re.Pattern[str]
    codec: TextCodec
    mode: str = "auto"
    answer_blank: str = ""

    def render_prompt(self, prompt: Prompt) -> str:
        """What the learner sees before its completion; the template's generation prompt may open `<think>`."""
        return render_prompt(self.tokenizer, prompt, self.mode)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """The tokens of the rendered prompt."""
        return list(self.tokenizer.encode(self.render_prompt(prompt), add_special_tokens=False))

    @property
    def rendered_digest(self) -> str:
        """What the template makes of a prompt, as a digest: rows of another rendering are other rows."""
        return digest("template", self.render_prompt("Add 3 and 4.") + self.answer_blank)

    def without_end(self, ids: Sequence[int]) -> list[int]:
        """A completion's tokens without the one that ended it, if one did."""
        return list(ids[:-1] if self.has_end(ids) else ids)

    def has_end(self, ids: Sequence[int]) -> bool:
        """Whether a completion's tokens end with one that ends what a model writes."""
        return len(ids) > 0 and ids[-1] in self.end_ids


def read_chat_template(tokenizer: Any, mode: str = "auto") -> ChatTemplate:
    """Find a tokenizer's end-of-turn and control tokens; refuse one without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {checkpoint_name(tokenizer)} has no chat template",
            expected="`chat_template` in tokenizer_config.json, or the file chat_template.jinja",
            fix="copy chat_template.jinja from the instruction-tuned sibling of the model into the checkpoint folder",
        )
    codec = TextCodec(tokenizer)
    special_tokens = codec.special_tokens
    turn_ends = find_turn_ends(tokenizer, special_tokens.control)
    end_token_id = turn_ends[0] if turn_ends else tokenizer.eos_token_id
    if end_token_id is None:
        raise ModelError(
            "neither the chat template nor the tokenizer says how a turn ends",
            expected="a control token after the assistant's content, or an eos_token",
            fix="set eos_token in tokenizer_config.json",
        )
    longest_first = sorted(special_tokens.control, key=len, reverse=True)
    pattern = "|".join(re.escape(token) for token in longest_first)
    matches_nothing = r"(?!)"
    return ChatTemplate(
        tokenizer,
        int(end_token_id),
        special_tokens.end_ids,
        re.compile(pattern or matches_nothing),
        codec,
        mode,
        find_answer_blank(tokenizer, mode),
    )
