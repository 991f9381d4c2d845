"""segment and edit."""

from __future__ import annotations

import re

import pytest
from fakes import sums
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.records import Author, Problem, Span, Trace, Verdict
from potstill.traces import edit, segment

AUTHOR = Author("m", "prompt-1", (), 0)
TRACE = Trace(
    Problem("p", "q"),
    "q",
    text="Wait, no. Wait, yes.",
    prefix_length=5,
    finish_reason="stop",
    author=AUTHOR,
)


@given(
    st.text(st.sampled_from("ab. \n\ud800😀")),
    st.sampled_from([r"\. ", r"(?<=\n)", "a|b", "", "^", "$"]),
)
def test_segmentation_is_lossless(text, pattern):
    [made] = segment(pattern, [Trace(Problem("p", "q"), "q", text=text)])
    assert "".join(made.units) == text and all(made.units)


@given(st.text(), st.lists(st.integers(0, 30)))
def test_segmentation_by_a_function_is_lossless(text, cuts):
    [made] = segment(
        lambda t: [c for c in cuts if c <= len(t)], [Trace(Problem("p", "q"), "q", text=text)]
    )
    assert "".join(made.units) == text


def test_units_begin_at_matches_and_replace_older_units():
    [made] = segment(
        re.compile("no|yes"), segment("Wait", [TRACE.annotate(spans=(Span(0, 1, "step"),))])
    )
    assert made.units == ("Wait, ", "no. Wait, ", "yes.") and made.id == TRACE.id
    assert [s.kind for s in made.spans] == ["unit"] * 3 + ["step"]
    assert segment("Wait", [TRACE])[0].units == ("Wait, no. ", "Wait, yes.")


def test_cuts_outside_the_text_are_refused():
    with pytest.raises(ConfigError, match="cuts at 99"):
        segment(lambda text: [99], [TRACE])


def nothing(trace):
    return ""


def head(trace):
    return trace.text[:9]


def tail(trace):
    return trace.text[11:]


def test_edit_makes_a_child_and_drops_what_was_said_of_the_text():
    judged = TRACE.annotate(
        verdict=Verdict("right"), scores={"x": 1.0}, spans=(Span(0, 2, "unit"),), weight=0.5
    )
    [made] = edit(head, [judged])
    assert (made.text, made.prefix_length, made.finish_reason, made.author) == (
        "Wait, no.",
        5,
        "cut",
        AUTHOR,
    )
    assert made.parents == (TRACE.id,) and made.line == TRACE.id and made.operator == "edit"
    assert (
        made.verdict.status == "unjudged"
        and not made.scores
        and not made.spans
        and made.weight == 1.0
    )


@pytest.mark.parametrize(
    ("fn", "prefix_length", "finish_reason"),
    [
        (head, 5, "cut"),
        (tail, 0, "stop"),
        (nothing, 0, ""),
        (lambda t: "Wai", 3, "cut"),
        (lambda t: "Wait. A", 4, "stop"),
    ],
)
def test_prefix_length_and_finish_reason_follow_from_the_text(fn, prefix_length, finish_reason):
    [made] = edit(fn, [TRACE])
    assert (made.prefix_length, made.finish_reason) == (prefix_length, finish_reason)


def test_edit_to_nothing_is_blank_again():
    [made] = edit(nothing, [TRACE])
    assert made.author is None and made.line == TRACE.id


def test_edit_returns_fields_lists_or_nothing(book):
    [a] = edit(
        lambda t: {"text": t.text + "!", "spans": (Span(0, 1, "mask", 0.0),), "weight": 2.0},
        [TRACE],
    )
    assert a.text.endswith("!") and a.spans[0].weight == 0 and a.weight == 2.0
    b, c = edit(lambda t: [t.text[:4], {"text": "x", "finish_reason": "length"}], [TRACE])
    assert (b.text, c.text, c.finish_reason) == ("Wait", "x", "length") and b.id != c.id
    assert (
        edit(lambda t: t.text, [TRACE]) == [TRACE] and edit(lambda t: t.text, [TRACE])[0] is TRACE
    )
    assert edit(drop, [TRACE]) == edit(empty, [TRACE]) == []
    assert [(d.operator, d.test, d.reason) for d in book.drops] == [
        ("edit", "drop", "drop returned nothing"),
        ("edit", "empty", "empty returned nothing"),
    ]


def drop(trace):
    return None


def empty(trace):
    return []


def test_edit_cannot_set_what_the_learner_sees():
    with pytest.raises(ConfigError, match="sets the field 'prompt'"):
        edit(lambda t: {"text": "x", "prompt": "y"}, [TRACE])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (3, "returned 3"),
        ({"text": None}, "sets the text None"),
        ({"text": "abc", "finish_reason": "done"}, "sets the finish reason 'done'"),
        ({"text": "abc", "prefix_length": 9}, "the stretch 0 to 9 of a text of 3"),
        ({"text": "abc", "spans": [(0, 1, "tool")]}, r"sets the span \(0, 1, 'tool'\)"),
        ({"text": "abc", "spans": [Span(1, 9, "tool")]}, "the stretch 1 to 9 of a text of 3"),
    ],
)
def test_edit_refuses_what_would_train_another_text(returned, message):
    with pytest.raises(ConfigError, match=message):
        edit(lambda trace: returned, [TRACE])


def splice(trace, heads):
    return [h.text + trace.text for h in heads]


def test_edit_with_context():
    a, b = (Trace(t.problem, t.prompt, text=f"body {t.problem.id}") for t in sums(2))
    heads = [Trace(a.problem, "q", text=f"head {i} ", saw_gold=i == 1) for i in range(2)]
    one, two = edit(splice, [a, b], context={"heads": heads})
    assert (one.text, two.text) == ("head 0 body p0", "head 1 body p0")
    assert one.parents == (a.id, heads[0].id, heads[1].id) and one.saw_gold
