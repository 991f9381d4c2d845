"""Gold answers: the final answer in what a file calls the answer, as the verifiers find answers in a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.data.columns import cell_text
from potstill.errors import InputError
from potstill.records import canonical
from potstill.verifiers import extract

# Kinds whose gold is taken as it stands: a text, a pattern, a form, rows or a reference that a judge reads.
WHOLE_KINDS = ("exact", "regex", "format", "table", "code", "judge", "gym")

_FINAL_LINE = re.compile(r"(?:####|^[ \t]*A:)[ \t]*([^\n]+?)[ \t]*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(?:\\?[$€£])?[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?%?")


class Gold(NamedTuple):
    """A gold answer, and the text that it ended; "" where the answer is the whole text."""

    answer: str
    solution: str = ""


def read_gold(value: Any, kind: str = "") -> Gold:
    r"""The final answer of a gold cell: behind `####` or `A:`, in the last `\boxed{}`, after "the answer is".

    Args:
        value: a text, a number, a list, or an object with `ground_truth`, as verl's reward_model is.
        kind: the verifier, where it is known.

    Raises:
        InputError: another object, of which nobody can say what the answer is.
    """
    if isinstance(value, Mapping):
        if "ground_truth" not in value and kind not in WHOLE_KINDS:
            raise InputError(
                f"the gold answer is an object: {canonical(value)[:80]}",
                expected="a text, a number, or an object with ground_truth",
                fix="name another column: --map answer=COLUMN, or gold=COLUMN beside completions",
            )
        value = value.get("ground_truth", canonical(value))
    text = cell_text(value).strip()
    marks = list(_FINAL_LINE.finditer(text))
    if marks and marks[-1].end() == len(text):
        return Gold(marks[-1][1], text)
    boxed = _last_box(text)
    if boxed:
        return Gold(boxed, text)
    if kind in WHOLE_KINDS or not text:
        return Gold(text)
    # Prose: only its last line says the final answer.
    candidate = extract.marked_answer(text.splitlines()[-1])
    if candidate is None:
        return Gold(text)
    answer = extract.first_sentence(candidate.text).strip().strip("*_").removesuffix(".").strip()
    return Gold(answer, text) if answer else Gold(text)


def is_number(gold: str) -> bool:
    """Whether a gold answer is one number, with currency, percent and thousands' commas."""
    return bool(_NUMBER.fullmatch(gold)) and any(character.isdigit() for character in gold)


def _last_box(text: str) -> str:
    r"""What stands in the last `\boxed{}` of a text, braces matched; "" without one."""
    opening = text.rfind("\\boxed{")
    if opening < 0:
        return ""
    start = opening + len("\\boxed{")
    depth = 1
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
        if depth == 0:
            return text[start:position]
    return ""
