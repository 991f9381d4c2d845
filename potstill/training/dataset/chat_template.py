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
        return _applied(
            self.tokenizer,
            _turns(prompt),
            add_generation_prompt=True,
            **CHAT_TEMPLATE_ARGUMENTS[self.told],
        )


def chat(tokenizer: Any, told: str = "auto") -> Chat:
    """Ask a tokenizer for its end-of-turn and control tokens; refuses one without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {_name(tokenizer)} has no chat template",
            expected="`chat_template` in tokenizer_config.json, or the file chat_template.jinja",
            fix="copy chat_template.jinja from the instruction-tuned sibling of the model into the checkpoint folder",
        )
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special -= {
        OPEN,
        CLOSE,
    }  # reasoning marks belong to a trace's text even where a tokenizer calls them special
    names = sorted((re.escape(name) for name in special if name), key=len, reverse=True)
    return Chat(tokenizer, _end(tokenizer, special), re.compile("|".join(names) or r"(?!)"), told)


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "the checkpoint")


def _applied(tokenizer: Any, turns: list[dict[str, str]], **told: bool) -> str:
    """Turns through the template; what the template refuses (many know no system turn) is an error that says so."""
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **told))
    except Exception as error:  # boundary: the template is a program that came with the checkpoint
        roles = ", ".join(turn["role"] for turn in turns)
        raise ModelError(
            f"the chat template of {_name(tokenizer)} refuses turns of {roles} ({str(error)[:200]})",
            expected="roles that the template knows, in an order that it knows",
            fix="change the rows' roles, or the checkpoint's chat_template.jinja",
        ) from error


def _end(tokenizer: Any, special: set[str]) -> int:
    """The first control token after an assistant's content; the end of the text where the template writes none."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": PROBE}]
    _, found, tail = _applied(tokenizer, turns).rpartition(PROBE)
    if not found:  # any token of the whole text would pass for the end of a turn
        raise ModelError(
            f"the chat template of {_name(tokenizer)} leaves out or changes what the assistant says",
            expected=f"a template that shows the text {PROBE!r} of an assistant's turn as it is",
            fix="correct the checkpoint's chat_template.jinja",
        )
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
