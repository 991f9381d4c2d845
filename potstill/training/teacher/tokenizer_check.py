"""Whether a teacher's numbers mean the same tokens as the student's: checked before a distribution is compared."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from potstill.errors import StageError
from potstill.models.local.prompt import PromptEncoder
from potstill.objectives import TABLE
from potstill.records import Message

PROBES = ("Add 3 and 4.", "Größe: 12 µm, naïve — 3 × 4\n\n\tx = 7 🙂")


def check_same_tokens(student: Path, teacher: Path) -> None:
    """Refuse a teacher of another tokenizer or chat template than the student's, saying what differs."""
    student_encoder, teacher_encoder = PromptEncoder(student), PromptEncoder(teacher)
    difference = _vocabulary_difference(
        student_encoder.tokenizer.get_vocab(), teacher_encoder.tokenizer.get_vocab()
    )
    if difference:
        _refuse(student, teacher, f"their vocabularies differ: {difference}")
    for probe in PROBES:
        if student_encoder.encode_prompt(probe) == teacher_encoder.encode_prompt(probe):
            continue
        turns = (Message("user", probe),)
        texts = student_encoder.render_prompt(turns), teacher_encoder.render_prompt(turns)
        if texts[0] == texts[1]:
            _refuse(student, teacher, f"they cut {probe!r} into other tokens")
        _refuse(
            student,
            teacher,
            f"their chat templates differ: {texts[0][:80]!r} and {texts[1][:80]!r}",
        )


def _vocabulary_difference(student: dict[str, int], teacher: dict[str, int]) -> str:
    """The first token that one of them lacks or numbers otherwise; "" if none."""
    unknown_last = 1 << 60
    for token in sorted({*student, *teacher}, key=lambda t: (student.get(t, unknown_last), t)):
        if student.get(token) != teacher.get(token):
            return (
                f"{token!r} is {student.get(token, 'missing')} in the student's "
                f"and {teacher.get(token, 'missing')} in the teacher's"
            )
    return ""


def _refuse(student: Path, teacher: Path, difference: str) -> NoReturn:
    across_tokenizers = [name for name, entry in TABLE.items() if "aligned" in entry.needs]
    raise StageError(
        f"the teacher {teacher} can't be compared token by token with the student {student}: {difference}",
        expected="the same tokenizer and chat template",
        fix=f"distil from its texts (objective sft), or across tokenizers ({', '.join(across_tokenizers)})",
    )
