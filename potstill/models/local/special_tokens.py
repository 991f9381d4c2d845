"""A tokenizer's special tokens by what they do: end an answer, build turns, or say something."""

from __future__ import annotations

import re
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.models.local import checkpoint
from potstill.models.local.chat_template import find_turn_ends, template_tokens

OPEN, CLOSE = "<think>", "</think>"
# Special tokens that are part of what a model says: marks of thought, of tools, of the answer.
MEANING = re.compile(
    r"think|thought|reason|reflect|tool|function|python|answer|solution|scratchpad|observation",
    re.IGNORECASE,
)
TAG = re.compile(r"[<\[](/?)([\w-]+)[>\]]")
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """A tokenizer's special tokens.

    Args:
        turn_ends: ids by which the chat template closes an assistant's turn, the one that is learnt first; none where
            it writes none, or there is no template.
        end_ids: ids that end an answer: the template's, the generation config's and the tokenizer's.
        control: the tokens that are no part of any text: they begin or end turns, or fill up. The others, like <think>
            and <tool_call>, are.
        control_ids: their ids.
    """

    turn_ends: tuple[int, ...]
    end_ids: tuple[int, ...]
    control: frozenset[str]
    control_ids: frozenset[int]


def read_special_tokens(tokenizer: Any) -> SpecialTokens:
    """Find them; the generation config lies in the folder that the tokenizer was loaded from."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            special.add(str(token))
    special -= {OPEN, CLOSE, ""}  # of a trace's text even where a tokenizer names them

    declared = {tokenizer.eos_token_id, *_declared_end_ids(tokenizer)} - {None}
    named = {str(getattr(tokenizer, name, None) or "") for name in NAMES}
    named.update(str(tokenizer.convert_ids_to_tokens(token)) for token in declared)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    of_template = template_tokens(tokenizer, special) if has_template else set()
    control = set()
    for text in special:
        if text in named or not _has_meaning(text, special, of_template):
            control.add(text)

    turn_ends: tuple[int, ...] = ()
    if has_template:
        # A template that shows no assistant's turn as it is can still be asked; training refuses it.
        with suppress(ModelError):
            turn_ends = find_turn_ends(tokenizer, control)
    declared.update(turn_ends)
    control_ids = {int(tokenizer.convert_tokens_to_ids(text)) for text in control}
    return SpecialTokens(
        turn_ends=turn_ends,
        end_ids=tuple(sorted(declared)),
        control=frozenset(control),
        control_ids=frozenset(control_ids | declared),
    )


def _declared_end_ids(tokenizer: Any) -> tuple[int, ...]:
    folder = Path(str(getattr(tokenizer, "name_or_path", "") or ""))
    if not (folder / "config.json").is_file():
        return ()
    return checkpoint.read_end_ids(folder)


def _has_meaning(text: str, special: Set[str], of_template: Set[str]) -> bool:
    """Whether a special token says something: by its name, or as one of a pair of tags that no turn is built of."""
    if MEANING.search(text):
        return True
    tag = TAG.fullmatch(text)
    if tag is None or text in of_template:
        return False
    slash, name = tag.groups()
    other = text.replace("/", "", 1) if slash else text.replace(name, "/" + name, 1)
    return other in special and other not in of_template
