"""Whether a teacher's numbers mean the same tokens as the student's: checked before a distribution is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from potstill.errors import StageError
from potstill.models.local.prompt import PromptEncoder
from potstill.models.model import Request, Sampling
from potstill.models.token_scoring import ReadsTokens
from potstill.objectives import TABLE
from potstill.records import Message
from potstill.training.dataset.chat_template import ChatTemplate

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


def check_served_tokens(student: Path, chat: ChatTemplate, teacher: Any) -> None:
    """Refuse a server of another tokenizer or chat template than the student's, as far as it says what it reads.

    The server is asked how it cuts a rendered prompt into tokens, and how it renders one itself. Where it says only the
    first, one token is written behind each probe, and its count of the prompt's tokens must be ours. Files of the
    server's model (`weights=`) are compared as a local teacher's are.

    Args:
        student: its checkpoint.
        chat: its tokenizer and template.
        teacher: the server's model, which may be behind a store.
    """
    server = getattr(teacher, "inner", teacher)
    weights = getattr(server, "weights", None)
    if weights is not None:
        check_same_tokens(student, weights)
    is_text_known = False
    if isinstance(server, ReadsTokens):
        # The template as it is without being told to think or not: the server is not told either.
        plain_chat = replace(chat, mode="auto")
        for probe in PROBES:
            is_text_known = _check_served_probe(plain_chat, teacher, server, probe)
    if not is_text_known and weights is None:
        raise StageError(
            f"the teacher's server {server.id} does not say how it cuts a text into tokens",
            expected="POST /tokenize, as vLLM, SGLang and llama.cpp have it; or its model's own files",
            fix="?weights=PATH of a checkpoint with its tokenizer and chat template",
        )


def _check_served_probe(chat: ChatTemplate, teacher: Any, server: ReadsTokens, probe: str) -> bool:
    """Compare one prompt; False where the server does not say how it reads a text."""
    expected = chat.encode_prompt(probe)
    text_ids = server.read_text(chat.render_prompt(probe))
    if text_ids is None:
        return False
    if list(text_ids) != expected:
        _refuse_server(f"it cuts {probe!r} into other tokens", expected, text_ids)
    prompt_ids = server.read_prompt(probe)
    if prompt_ids is not None:
        if list(prompt_ids) != expected:
            _refuse_server(
                f"its chat template makes another prompt of {probe!r}", expected, prompt_ids
            )
        return True
    sampling = Sampling(temperature=0.0, max_new_tokens=1)
    [answer] = teacher.write([Request(probe, sampling=sampling)])
    if answer.error or answer.tokens.prompt != len(expected):
        found = answer.error or f"{answer.tokens.prompt} tokens"
        _refuse_server(f"its chat template makes {found} of {probe!r}", expected, [])
    return True


def _refuse_server(difference: str, expected: Sequence[int], found: Sequence[int]) -> NoReturn:
    shown = f" ({list(found[:12])} …)" if found else ""
    raise StageError(
        f"the teacher's server can't be compared token by token with the student: {difference}{shown}",
        expected=f"the student's {len(expected)} tokens {list(expected[:12])} …: the same tokenizer and chat template",
        fix="serve a model of the student's family, or distil from its texts (objective sft)",
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
