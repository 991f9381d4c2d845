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
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


ALPHABET: Mapping[str, int] = _alphabet()


def kind_of(vocabulary: Collection[str]) -> Kind:
    """How a vocabulary writes bytes: "bytes" (byte-level BPE) or "marks" (SentencePiece)."""
    if any(_SPACE in piece or _BYTE.fullmatch(piece) for piece in vocabulary):
        return "marks"
    if any(
        piece in vocabulary for piece in "ĠĊâÃ"
    ):  # a space, a line feed, first bytes of longer characters
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
    ordered = sorted(
        vocabulary.items(),
        key=lambda entry: (kind == "marks" and bool(_BYTE.fullmatch(entry[0])), entry[1]),
    )
    return {
        at: piece.encode("utf-8", "replace") if piece in added else _spelled(piece, kind)
        for piece, at in ordered
        if piece not in special
    }


def _spelled(piece: str, kind: Kind) -> bytes:
    if kind == "bytes":
        plain = all(letter in ALPHABET for letter in piece)
        return (
            bytes(ALPHABET[letter] for letter in piece)
            if plain
            else piece.encode("utf-8", "replace")
        )
    single = _BYTE.fullmatch(piece)
    return (
        bytes([int(single[1], 16)])
        if single
        else piece.replace(_SPACE, " ").encode("utf-8", "replace")
    )


def cuts(pieces: Sequence[bytes], text: str) -> tuple[list[Cut], bool]:
    """Where each token begins and ends among the text's bytes, and whether a space that is not the text's came first.

    SentencePiece puts a space before a text; it has no bytes here. A tokenizer that changes the text (normalises
    characters, has no token for one) is refused: its tokens are not tokens of this text.
    """
    wanted, whole = text.encode("utf-8", "replace"), b"".join(pieces)
    lead = whole != wanted and whole == b" " + wanted
    if whole != wanted and not lead:
        at = next(
            (i for i, (a, b) in enumerate(zip(whole, wanted)) if a != b),
            min(len(whole), len(wanted)),
        )
        raise StageError(
            f"the tokens do not spell the text: from byte {at} they say {whole[at : at + 20]!r}",
            expected=repr(wanted[at : at + 20]),
            fix="leave this row out, or use a tokenizer that keeps every byte",
        )
    found, end = [], -1 if lead else 0
    for piece in pieces:
        begin, end = end, end + len(piece)
        found.append((max(begin, 0), max(end, 0)))
    return found, lead


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
    found: list[Group] = []
    i = j = first = other = begin = 0
    while i < len(student) and j < len(teacher):
        mine, theirs = student[i][1], teacher[j][1]
        low = min(mine, theirs)
        i, j = i + (mine == low), j + (theirs == low)
        if mine == theirs and low > begin:
            found.append(Group((first, i), (other, j)))
            first, other, begin = i, j, low
    return found


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
    (mine, lead), (theirs, led) = cuts(student, text), cuts(teacher, text)
    found = groups(mine, theirs)
    # "▁The" at the beginning stands for "The": as a token it is " The", which the other side would not say there.
    skipped = int(lead != led and bool(found))
    if all(ended):
        found.append(Group((len(mine), len(mine) + 1), (len(theirs), len(theirs) + 1)))
    return Alignment(tuple(found), skipped)


def columns(
    found: Alignment, student: Sequence[bool], teacher: Sequence[bool], *, start: int = 0
) -> tuple[list[int], list[int], int]:
    """The number of each counted token's group on both sides, -1 for none, and the next free number.

    Args:
        found: of the completion.
        student: for each token whether it is counted. A group of which not all is counted, on any side, gets no number:
            what remains of it covers other bytes than it should.
        teacher: the same.
        start: the first number: groups are numbered over a micro-batch.
    """
    sides: tuple[list[int], list[int]] = ([-1] * len(student), [-1] * len(teacher))
    for group in found.groups[found.skipped :]:
        if all(student[slice(*group.student)]) and all(teacher[slice(*group.teacher)]):
            for column, span in zip(sides, group):
                column[slice(*span)] = [start] * (span[1] - span[0])
            start += 1
    kept = [
        [number for number, counts in zip(c, counted) if counts]
        for c, counted in zip(sides, (student, teacher))
    ]
    return kept[0], kept[1], start


def matched(
    student: Mapping[int, bytes], teacher: Mapping[int, bytes], ends: Iterable[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """(student's, teacher's) ids of tokens that are the same bytes, by the student's id; one partner each.

    Where one side has two tokens of the same bytes the first in order counts (`token_bytes`). `ends` adds pairs that
    mean the same without being text, such as the two end tokens.
    """
    mine, theirs = _first(student), _first(teacher)
    pairs = dict(ends)
    taken = set(pairs.values())
    found = [(at, theirs[spelled]) for spelled, at in mine.items() if spelled and spelled in theirs]
    return sorted(
        [*pairs.items(), *((a, b) for a, b in found if a not in pairs and b not in taken)]
    )


def _first(side: Mapping[int, bytes]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for at, spelled in side.items():
        first.setdefault(spelled, at)
    return first
