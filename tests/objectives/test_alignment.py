"""Byte groups of two tokenizers: the golden case, real tokenizers, any unicode text, what is refused."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_made import TEXTS, byte_level, marks

from potstill.errors import ConfigError, StageError
from potstill.objectives.alignment import (
    Alignment,
    Group,
    align,
    columns,
    cuts,
    groups,
    kind_of,
    matched,
    token_bytes,
)


@cache
def sides():
    """Three tokenizers that cut differently, each with the bytes of its tokens."""
    made = {"small": byte_level(290), "large": byte_level(420, TEXTS[2:4] * 3), "marks": marks()}
    return {name: (t, token_bytes(t.get_vocab(), special=("<unk>",))) for name, t in made.items()}


def spelled(name, text):
    tokenizer, of = sides()[name]
    return [of[i] for i in tokenizer.encode(text, add_special_tokens=False).ids]


def test_golden_groups():
    """Case gold_byte_alignment."""
    found = groups([(0, 3), (3, 5), (5, 6)], [(0, 3), (3, 6)])
    assert [list(range(*g.student)) for g in found] == [[0], [1, 2]]
    assert [list(range(*g.teacher)) for g in found] == [[0], [1]]


def test_trl_groups_agree(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    gold = pytest.importorskip(
        "trl.experimental.gold.gold_trainer", reason="needs the extra potstill[dev]"
    )
    for text in TEXTS[:4]:
        mine, theirs = (cuts(spelled(name, text), text)[0] for name in ("small", "large"))
        found = groups(mine, theirs)
        wanted = gold.ULDLoss._align_by_byte_offsets(mine, theirs)
        assert [list(range(*g.student)) for g in found] == wanted[0]
        assert [list(range(*g.teacher)) for g in found] == wanted[1]


PAIRS = [("small", "large"), ("large", "small"), ("small", "marks"), ("marks", "large")]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=40)
    | st.lists(st.sampled_from([*TEXTS[:4], " ", "\n", "é", "🙂", "答"])).map("".join)
)
def test_groups_cover_every_byte_once_on_both_sides(pair, text):
    if "marks" in pair and "▁" in text:
        with pytest.raises(
            StageError, match="do not spell the text"
        ):  # SentencePiece says a space for it
            align(*(spelled(name, text) for name in pair), text)
        return
    pieces = [spelled(name, text) for name in pair]
    found = align(*pieces, text)
    data = text.encode()
    for side, mine in enumerate(pieces):
        offsets, lead = cuts(mine, text)
        spans = [group[side] for group in found.groups]
        assert all(
            a[1] == b[0] for a, b in pairwise(spans)
        )  # no token twice, none left out between
        assert (spans[0][0], spans[-1][1]) == (0, len(mine)) if data else not spans
        parts = [b"".join(data[slice(*offsets[i])] for i in range(*span)) for span in spans]
        assert b"".join(parts) == data
        assert all(parts)
        assert lead == (pair[side] == "marks" and bool(data) and not text.startswith(" "))
    both = [
        [b"".join(p[slice(*g[side])]) for g in found.groups[found.skipped :]]
        for side, p in enumerate(pieces)
    ]
    assert both[0] == both[1]  # the same bytes on both sides
    inner = [{end for _, end in cuts(p, text)[0]} for p in pieces]
    assert len(found.groups) == len(
        (inner[0] & inner[1]) - {0}
    )  # as many as there are common cuts: none is too long


def test_characters_are_cut_inside_and_groups_still_meet():
    text = TEXTS[0] + TEXTS[2]  # one tokenizer knows the first half better, the other the second
    offsets = cuts(spelled("small", text), text)[0]
    starts = {len(text[:i].encode()) for i in range(len(text) + 1)}
    assert any(end not in starts for _, end in offsets), (
        "no character is cut: the test says nothing"
    )
    found = align(spelled("small", text), spelled("large", text), text).groups
    assert any(g.student[1] - g.student[0] > 1 for g in found)
    assert any(g.teacher[1] - g.teacher[0] > 1 for g in found)


def test_a_space_that_the_text_does_not_have():
    """ "▁The" covers the three bytes of "The", and as a first token is nothing that the other side could say."""
    offsets, lead = cuts([b" The", b" end"], "The end")
    assert (offsets, lead) == ([(0, 3), (3, 7)], True)
    found = align([b" The", b" end"], [b"The", b" ", b"end"], "The end")
    assert found == Alignment((Group((0, 1), (0, 1)), Group((1, 2), (1, 3))), 1)
    assert columns(found, [True] * 2, [True] * 3) == ([-1, 0], [-1, 0, 0], 1)
    assert align([b" The"], [b" The"], "The").skipped == 0  # both begin so
    alone = align([b" ", b"The"], [b"The"], "The")  # the mark is a token of its own, of no bytes
    assert alone == Alignment((Group((0, 2), (0, 1)),), 1)
    assert align([b" ", b"The"], [b" ", b"Th", b"e"], "The").groups == (Group((0, 2), (0, 3)),)


def test_ends_are_a_group_where_both_have_one():
    found = align([b"ab"], [b"a", b"b"], "ab", ended=(True, True))
    assert found.groups == (Group((0, 1), (0, 2)), Group((1, 2), (2, 3)))
    assert len(align([b"ab"], [b"a", b"b"], "ab", ended=(True, False)).groups) == 1
    assert align([], [], "", ended=(True, True)).groups == (Group((0, 1), (0, 1)),)


def test_a_group_that_is_not_wholly_counted_has_no_number():
    found = align([b"a", b"b", b"c"], [b"ab", b"c"], "abc")
    assert columns(found, [True, True, True], [True, True], start=5) == ([5, 5, 6], [5, 6], 7)
    assert columns(found, [False, True, True], [True, True], start=5) == ([-1, 5], [-1, 5], 6)
    assert columns(found, [True, True, True], [True, False], start=5) == ([5, 5, -1], [5], 6)


def test_what_does_not_spell_the_text_is_refused():
    with pytest.raises(StageError, match="from byte 1 they say b'x'"):
        cuts([b"a", b"x"], "ab")
    with pytest.raises(StageError, match="do not spell"):
        cuts([b"a"], "ab")
    with pytest.raises(StageError, match="2 bytes"):
        groups([(0, 2)], [(0, 3)])
    with pytest.raises(ConfigError, match="spelled out in bytes"):
        kind_of({"##ing": 0, "the": 1})


def test_kinds():
    assert {name: kind_of(t.get_vocab()) for name, (t, _) in sides().items()} == {
        "small": "bytes",
        "large": "bytes",
        "marks": "marks",
    }


def test_every_token_decodes_to_its_bytes():
    """A second opinion: the tokenizer's own decoder, where the bytes are characters."""
    for name, (tokenizer, of) in sides().items():
        for at, data in of.items():
            text = data.decode("utf-8", "replace")
            if "\ufffd" not in text and name != "marks":
                assert tokenizer.decode([at], skip_special_tokens=False) == text


def test_vocabularies_are_matched_by_bytes():
    """ "Ġthe" of one kind is "▁the" of the other; a byte to fall back on comes after the piece."""
    mine, theirs = (
        {"Ġthe": 0, "A": 1, "é": 2, "<end>": 3},
        {"<0x41>": 0, "▁the": 1, "A": 2, "<0xE9>": 3, "</s>": 4},
    )
    student = token_bytes(mine, kind="bytes", special=("<end>",))
    teacher = token_bytes(theirs, special=("</s>",))
    assert student == {0: b" the", 1: b"A", 2: b"\xe9"}
    assert matched(student, teacher, [(3, 4)]) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    real = matched(sides()["small"][1], sides()["marks"][1])
    assert len(real) > 200
    assert all(sides()["small"][1][a] == sides()["marks"][1][b] for a, b in real)
    assert len({b for _, b in real}) == len(real)


def test_added_tokens_are_written_as_they_are():
    assert token_bytes({"Ġa": 0, "Ġ": 1}, kind="bytes", added=("Ġ",)) == {0: b" a", 1: "Ġ".encode()}
    assert token_bytes({"<|im end|>": 0}, kind="bytes") == {0: b"<|im end|>"}
