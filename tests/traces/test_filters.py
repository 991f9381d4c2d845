"""Tests of a text that methods share, chance that no order changes, scorers by key, shares of a report."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import pytest

from potstill.records import Problem, Tokens, Trace, blank
from potstill.traces import (
    Session,
    chance,
    chance_fraction,
    constant,
    has_answer,
    has_box,
    has_length,
    is_finished,
    is_shorter,
    keep,
    look_up,
    mentions_none,
    of_each,
    read_score,
    read_word,
    repeats_little,
    report_shares,
    score,
    share_of,
    using,
    verify,
    words,
)
from potstill.traces.filters import repeated_share
from potstill.traces.session import Share

ASKED = blank(Problem("p", "How many Attempts?", "1"))


def text(content: str, **fields) -> Trace:
    return dataclasses.replace(
        ASKED, text=content, operator="sample", finish_reason="stop", **fields
    )


def test_each_filter_says_why(book):
    failed = Trace(ASKED.problem, "q", error="down", operator="sample")
    cut = dataclasses.replace(text("so"), finish_reason="length")
    leaking = partial(mentions_none, re.compile("the reference|attempts?", re.IGNORECASE))
    assert keep(is_finished, [text("a"), cut, failed]) == [text("a")]
    assert keep(has_box, [text("\\boxed{1}"), text("1")]) == [text("\\boxed{1}")]
    assert keep(leaking, [text("6 attempts"), text("as the Reference says")]) == [
        text("6 attempts")
    ]
    assert [drop.reason for drop in book.drops] == [
        "not finished",
        "error: down",  # of a failed generation always, whatever the test says
        "no box for its answer",
        "mentions 'the Reference'",
    ]


def test_both_ends_of_the_length_filter():
    passing = [has_length(3, 5, text("x", tokens=Tokens(0, n)))[0] for n in (2, 3, 5, 6)]
    assert passing == [False, True, True, False]


def test_repetition_by_hand():
    assert repeated_share("abc", 32) == 0.0  # a string is as good as a list of words
    assert repeated_share("ababab", 2) == pytest.approx(1 - 2 / 5)
    loop = text("again and " * 40)
    assert repeats_little(0.2, loop) == (False, "repeats more than 20% of its 32-word stretches")
    assert repeats_little(1.0, loop)[0] and words(text(" a \n b")) == words(text("a b"))


def test_chance_depends_on_its_parts_alone():
    assert chance(0, "p") == chance(0, "p") != chance(1, "p")
    assert (
        0 <= chance_fraction("p") < 1 and chance_fraction("p") == int(chance("p")[:16], 16) / 2**64
    )


def test_scorers_by_key_by_function_and_alike():
    [scored] = score("words", of_each(lambda trace: len(trace.text.split())), [text("one two")])
    [scored] = score("round", constant(3), score("level", look_up({"p": "hard"}), [scored]))
    [scored] = score("none", look_up({}), [scored])
    assert scored.scores == {"words": 2.0, "level": "hard", "round": 3.0, "none": None}


def test_shares_of_nothing_are_left_out():
    sections = []
    shares = [
        share_of("boxed", has_box, [text("\\boxed{1}"), text("1")]),
        share_of("of none", has_box, []),
    ]
    with using(Session(sections=sections.append)):
        report_shares("Title", shares, hint="How to read it.")
    [section] = sections
    assert (section.title, section.shares) == ("Title", (Share("boxed", 1, 2),))


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("It is incorrect.", "incorrect"),  # and no "correct" in it
        ("**Correct**", "correct"),
        ("not sure", "not sure"),
        ("correct, or incorrect?", None),
        ("<think>correct</think>", None),
        ("hm", None),
    ],
)
def test_a_word_is_read_whole_or_not_at_all(reply, word):
    assert read_word(reply, ["correct", "incorrect", "not sure"], reader="verdict") == word


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Clear.\nScore: 4", 4.0),
        ("**Score: 4/5**", 4.0),
        ("3", 3.0),
        ("Score: 6", None),
        ("4 of the steps", None),
        ("Score: 4\nor so", None),
        ("", None),
    ],
)
def test_a_score_stands_in_the_last_line_and_on_its_scale(reply, value):
    assert read_score(reply, 1, 5, reader="review") == value


def test_an_answer_counts_whether_it_was_judged_or_not(book):
    said, silent = text("The answer is 1"), text("Hm.")
    assert keep(has_answer, [said, silent, *verify([said])]) == [said, *verify([said])]
    assert [drop.reason for drop in book.drops] == ["no answer can be read"]


def test_a_text_that_is_no_shorter_than_what_it_was_made_from_is_told_with_both_lengths():
    original = dataclasses.replace(ASKED, text="one two three")
    texts = {original.line: original.text}
    for text, is_kept in (("one two", True), ("one two four", False)):
        made = dataclasses.replace(original, text=text, root=original.line)
        passed, reason = is_shorter(texts, made)
        assert passed == is_kept and "where there were 3" in reason
