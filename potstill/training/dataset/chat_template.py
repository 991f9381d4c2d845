"""What a tokenizer's chat template does around a completion, found out by using it. No torch in here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from potstill.errors import ModelError
from potstill.models.local.prompt import CHAT_TEMPLATE_ARGUMENTS
from potstill.records import Message, Prompt

OPEN, CLOSE = "<think>", "</think>"
PROBE = "Probe27"  # a content that no template changes


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer with the facts of its chat template that tokenizing needs.

    Args:
        end_token_id: the token that closes an assistant's turn.
        control_tokens: matches the tokenizer's control tokens; text that holds one would forge a turn.
        mode: what the template is asked for: "auto" nothing, "thinking" or "no-thinking" Qwen3's `enable_thinking`.
    """

    tokenizer: Any
    end_token_id: int
    control_tokens: re.Pattern[str]
    mode: str = "auto"

    def render_prompt(self, prompt: Prompt) -> str:
        """What the learner sees before its completion; the template's generation prompt may open `<think>`."""
        if isinstance(prompt, str):
            prompt = (Message("user", prompt),)
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        arguments = CHAT_TEMPLATE_ARGUMENTS[self.mode]
        return _apply_template(self.tokenizer, turns, add_generation_prompt=True, **arguments)


def read_chat_template(tokenizer: Any, mode: str = "auto") -> ChatTemplate:
    """Find a tokenizer's end-of-turn and control tokens; refuse one without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {_checkpoint_name(tokenizer)} has no chat template",
            expected="`chat_template` in tokenizer_config.json, or the file chat_template.jinja",
            fix="copy chat_template.jinja from the instruction-tuned sibling of the model into the checkpoint folder",
        )
    control_tokens = {str(token) for token in tokenizer.all_special_tokens}
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            control_tokens.add(str(token))
    # Reasoning marks belong to a trace's text even where a tokenizer calls them special.
    control_tokens -= {OPEN, CLOSE, ""}
    longest_first = sorted(control_tokens, key=len, reverse=True)
    pattern = "|".join(re.escape(token) for token in longest_first)
    matches_nothing = r"(?!)"
    return ChatTemplate(
        tokenizer,
        _find_end_token(tokenizer, control_tokens),
        re.compile(pattern or matches_nothing),
        mode,
    )


def _find_end_token(tokenizer: Any, control_tokens: set[str]) -> int:
    """The first control token after an assistant's content; the end of the text where the template writes none."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": PROBE}]
    _, found, tail = _apply_template(tokenizer, turns).rpartition(PROBE)
    if not found:  # any token of the whole text would pass for the end of a turn
        raise ModelError(
            f"the chat template of {_checkpoint_name(tokenizer)} leaves out or changes what the assistant says",
            expected=f"a template that shows the text {PROBE!r} of an assistant's turn as it is",
            fix="correct the checkpoint's chat_template.jinja",
        )
    for token_id in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if tokenizer.convert_ids_to_tokens(token_id) in control_tokens:
            return int(token_id)
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "neither the chat template nor the tokenizer says how a turn ends",
            expected="a control token after the assistant's content, or an eos_token",
            fix="set eos_token in tokenizer_config.json",
        )
    return int(tokenizer.eos_token_id)


def _apply_template(tokenizer: Any, turns: list[dict[str, str]], **arguments: bool) -> str:
    """Turns through the template; what the template refuses (many know no system turn) is an error that says so."""
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **arguments))
    except Exception as error:  # boundary: the template is a program that came with the checkpoint
        roles = ", ".join(turn["role"] for turn in turns)
        raise ModelError(
            f"the chat template of {_checkpoint_name(tokenizer)} refuses turns of {roles} ({str(error)[:200]})",
            expected="roles that the template knows, in an order that it knows",
            fix="change the rows' roles, or the checkpoint's chat_template.jinja",
        ) from error


def _checkpoint_name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "the checkpoint")
