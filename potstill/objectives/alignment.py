"""Which tokens of two tokenizers cover the same bytes of a text. No tensors.

Characters will not do: byte-level tokens end inside characters. Offsets are those of the text's UTF-8 bytes, found by
spelling each token out, so both byte-level BPE ("Ġ" for a space) and SentencePiece ("▁", `<0xE2>`) have them. Where
both tokenizers have a cut a group ends; a group is the shortest run of tokens on both sides over the same bytes. At the
first token of a group both models have read the same text, so only there are their next-token distributions comparable.

The text is a completion's: prompt, template and end token are no part of it. The end is a group of its own where both
sides have one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError, StageError

Cut: TypeAlias = tuple[int, int]
Kind: TypeAlias = Literal["bytes", "marks"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class Group(NamedTuple):
    """Tokens over the same bytes, each side as (first, one past the last)."""

    student: Cut
    teacher: Cut


class Alignment(NamedTuple):
    """All groups of a completion, in order; the first `skipped` of them begin differently and can't be compared."""

    groups: tuple[Group, ...]
    skipped: int = 0


def _alphabet() -> dict[str, int]:
    """The letters with which byte-level BPE writes bytes (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    for number, byte in enumerate(others):
        letters[chr(256 + number)] = byte
    return letters


ALPHABET: Mapping[str, int] = _alphabet()


def kind_of(vocabulary: Collection[str]) -> Kind:
    """How a vocabulary writes bytes: "bytes" (byte-level BPE) or "marks" (SentencePiece)."""
    if any(_SPACE in piece or _BYTE.fullmatch(piece) for piece in vocabulary):
        return "marks"
    # A space, a line feed, first bytes of longer characters.
    if any(piece in vocabulary for piece in "ĠĊâÃ"):
        return "bytes"
    raise ConfigError(
        "this tokenizer's tokens can't be spelled out in bytes",
        expected="byte-level BPE or SentencePiece",
        fix="distil from the teacher's texts (objective sft)",
    )


def token_bytes(
    vocabulary: Mapping[str, int],
    *,
    kind: Kind | None = None,
    added: Collection[str] = (),
    special: Collection[str] = (),
) -> dict[int, bytes]:
    """The bytes of each token id; single bytes that SentencePiece falls back on come last.

    Args:
        vocabulary: token to id.
        kind: how it writes bytes; found out if not told.
        added: tokens that are written as they are.
        special: tokens that are no text at all (end of turn, padding): they have no bytes here.
    """
    kind = kind or kind_of(vocabulary)

    def fallback_last(entry: tuple[str, int]) -> tuple[bool, int]:
        piece, token = entry
        return kind == "marks" and bool(_BYTE.fullmatch(piece)), token

    spelled = {}
    for piece, token in sorted(vocabulary.items(), key=fallback_last):
        if piece in special:
            continue
        if piece in added:
            spelled[token] = piece.encode("utf-8", "replace")
        else:
            spelled[token] = _spell(piece, kind)
    return spelled


def _spell(piece: str, kind: Kind) -> bytes:
    """The bytes of one token."""
    if kind == "bytes" and all(letter in ALPHABET for letter in piece):
        return bytes(ALPHABET[letter] for letter in piece)
    if kind == "bytes":
        return piece.encode("utf-8", "replace")
    single_byte = _BYTE.fullmatch(piece)
    if single_byte:
        return bytes([int(single_byte[1], 16)])
    return piece.replace(_SPACE, " ").encode("utf-8", "replace")


def cuts(pieces: Sequence[bytes], text: str) -> tuple[list[Cut], bool]:
    """Where each token begins and ends among the text's bytes, and whether a space that is not the text's came first.

    SentencePiece puts a space before a text; it has no bytes here. A tokenizer that changes the text (normalises
    characters, has no token for one) is refused: its tokens are not tokens of this text.
    """
    expected, spelled = text.encode("utf-8", "replace"), b"".join(pieces)
    has_lead = spelled != expected and spelled == b" " + expected
    if spelled != expected and not has_lead:
        at = _first_difference(spelled, expected)
        raise StageError(
            f"the tokens do not spell the text: from byte {at} they say {spelled[at : at + 20]!r}",
            expected=repr(expected[at : at + 20]),
            fix="leave this row out, or use a tokenizer that keeps every byte",
        )
    offsets = []
    end = -1 if has_lead else 0
    for piece in pieces:
        begin, end = end, end + len(piece)
        offsets.append((max(begin, 0), max(end, 0)))
    return offsets, has_lead


def _first_difference(left: bytes, right: bytes) -> int:
    for at, (a, b) in enumerate(zip(left, right)):
        if a != b:
            return at
    return min(len(left), len(right))


def groups(student: Sequence[Cut], teacher: Sequence[Cut]) -> list[Group]:
    """The groups of two cuttings of the same bytes, in one pass.

    A token of no bytes belongs to the group that begins where it stands; after the last group it is in none.
    """
    ends = [side[-1][1] if side else 0 for side in (student, teacher)]
    if ends[0] != ends[1]:
        raise StageError(
            f"one side's tokens cover {ends[0]} bytes and the other's {ends[1]}",
            expected="one text",
        )
    groups_so_far: list[Group] = []
    # The tokens at hand, and where the group that is open began: on each side, and in bytes.
    at_student = at_teacher = first_student = first_teacher = begin = 0
    while at_student < len(student) and at_teacher < len(teacher):
        student_end, teacher_end = student[at_student][1], teacher[at_teacher][1]
        end = min(student_end, teacher_end)
        at_student += student_end == end
        at_teacher += teacher_end == end
        if student_end == teacher_end and end > begin:
            groups_so_far.append(Group((first_student, at_student), (first_teacher, at_teacher)))
            first_student, first_teacher, begin = at_student, at_teacher, end
    return groups_so_far


def align(
    student: Sequence[bytes],
    teacher: Sequence[bytes],
    text: str,
    *,
    ended: tuple[bool, bool] = (False, False),
) -> Alignment:
    """Two tokenisations of one completion, as groups.

    Args:
        student: the bytes of each of its tokens, the end token left out.
        teacher: the same of the teacher's.
        text: what both spell.
        ended: whether an end token follows, on each side; where both have one it is a group.
    """
    student_cuts, student_lead = cuts(student, text)
    teacher_cuts, teacher_lead = cuts(teacher, text)
    aligned = groups(student_cuts, teacher_cuts)
    # "▁The" at the beginning stands for "The": as a token it is " The", which the other side would not say there.
    skipped = int(student_lead != teacher_lead and bool(aligned))
    if all(ended):
        student_end = len(student_cuts), len(student_cuts) + 1
        teacher_end = len(teacher_cuts), len(teacher_cuts) + 1
        aligned.append(Group(student_end, teacher_end))
    return Alignment(tuple(aligned), skipped)


def columns(
    alignment: Alignment, student: Sequence[bool], teacher: Sequence[bool], *, start: int = 0
) -> tuple[list[int], list[int], int]:
    """The number of each counted token's group on both sides, -1 for none, and the next free number.

    Args:
        alignment: of the completion.
        student: for each token whether it is counted. A group of which not all is counted, on any side, gets no number:
            what remains of it covers other bytes than it should.
        teacher: the same.
        start: the first number: groups are numbered over a micro-batch.
    """
    # The group of each token, counted or not; a group counts where all its tokens do, on both sides.
    group_of_student = [-1] * len(student)
    group_of_teacher = [-1] * len(teacher)
    for group in alignment.groups[alignment.skipped :]:
        student_span, teacher_span = range(*group.student), range(*group.teacher)
        is_counted = all(student[at] for at in student_span)
        if not is_counted or not all(teacher[at] for at in teacher_span):
            continue
        for at in student_span:
            group_of_student[at] = start
        for at in teacher_span:
            group_of_teacher[at] = start
        start += 1

    # Of counted tokens alone, as the columns of a batch have them.
    student_numbers = [number for number, counts in zip(group_of_student, student) if counts]
    teacher_numbers = [number for number, counts in zip(group_of_teacher, teacher) if counts]
    return student_numbers, teacher_numbers, start


def matched(
    student: Mapping[int, bytes], teacher: Mapping[int, bytes], ends: Iterable[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """(student's, teacher's) ids of tokens that are the same bytes, by the student's id; one partner each.

    Where one side has two tokens of the same bytes the first in order counts (`token_bytes`). `ends` adds pairs that
    mean the same without being text, such as the two end tokens.
    """
    student_ids, teacher_ids = _first_id_by_bytes(student), _first_id_by_bytes(teacher)
    end_pairs = dict(ends)
    taken = set(end_pairs.values())
    pairs = list(end_pairs.items())
    for spelled, student_id in student_ids.items():
        teacher_id = teacher_ids.get(spelled)
        if not spelled or teacher_id is None:
            continue
        if student_id not in end_pairs and teacher_id not in taken:
            pairs.append((student_id, teacher_id))
    return sorted(pairs)


def _first_id_by_bytes(side: Mapping[int, bytes]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for token, spelled in side.items():
        first.setdefault(spelled, token)
    return first
