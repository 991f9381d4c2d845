"""Whether a teacher's numbers mean the same tokens as the student's: checked before a distribution is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.errors import StageError
from potstill.models.local.prompt import PromptEncoder
from potstill.records import Message

PROBES = ("Add 3 and 4.", "Größe: 12 µm, naïve — 3 × 4\n\n\tx = 7 🙂")


def same_tokens(student: Path, teacher: Path) -> None:
    """Refuse a teacher of another tokenizer or chat template than the student's, saying what differs."""
    mine, theirs = PromptEncoder(student), PromptEncoder(teacher)
    differing = _vocabulary(mine.tokenizer.get_vocab(), theirs.tokenizer.get_vocab())
    if differing:
        _refuse(student, teacher, f"their vocabularies differ: {differing}")
    for probe in PROBES:
        if mine.encode_prompt(probe) != theirs.encode_prompt(probe):
            shown = (
                mine.render_prompt((Message("user", probe),)),
                theirs.render_prompt((Message("user", probe),)),
            )
            what = f"their chat templates differ: {shown[0][:80]!r} and {shown[1][:80]!r}"
            _refuse(
                student,
                teacher,
                what if shown[0] != shown[1] else f"they cut {probe!r} into other tokens",
            )


def _vocabulary(mine: dict[str, int], theirs: dict[str, int]) -> str:
    """The first token that one of them lacks or numbers otherwise; "" if none."""
    for token in sorted({*mine, *theirs}, key=lambda t: (mine.get(t, 1 << 60), t)):
        if mine.get(token) != theirs.get(token):
            return f"{token!r} is {mine.get(token, 'missing')} here and {theirs.get(token, 'missing')} there"
    return ""


def _refuse(student: Path, teacher: Path, what: str) -> Any:
    raise StageError(
        f"the teacher {teacher} can't be compared token by token with the student {student}: {what}",
        expected="the same tokenizer and chat template",
        fix="distil from its texts (objective sft), or across tokenizers (uld, gold)",
    )
