"""What is learnt of a chain that several calls, people and tools wrote, and the operator that decides otherwise."""

from __future__ import annotations

import re

import pytest
from fakes import sums
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.trace_json import from_json, to_json
from potstill.errors import ConfigError
from potstill.models.scripted import ScriptedModel
from potstill.records import (
    Author,
    Problem,
    Span,
    Stage,
    Trace,
    blank,
    learns_end,
    learnt_stretches,
    trained_content,
)
from potstill.traces import edit, learn, pair, rewrite, sample
from potstill.traces.learning import change_of, changes_of

QUESTION = blank(Problem("p", "Name colours.", "red"))


class Model:
    id = "student-1"


def learnt(trace: Trace) -> list[str]:
    return [trace.text[start:stop] for start, stop in learnt_stretches(trace)]


def writer(*answers: str, name: str = "") -> ScriptedModel:
    """A model whose k-th call of a chain gets the k-th answer, behind what stands there."""

    def answer(request):
        return {"text": answers[request.prefix.count(".")]}

    return ScriptedModel(answer, name=name)


def test_all_pieces_of_a_chain_are_learnt_and_have_their_authors():
    one, two = writer("red", "green", "blue", name="one"), writer("", "grey", name="two")
    chain = sample(one, [QUESTION])
    chain = edit(lambda trace: trace.text + ". ", chain)
    chain = sample(two, chain)
    [grown] = sample(one, edit(lambda trace: trace.text + ". ", chain))
    assert grown.text == "red. grey. blue" and learnt(grown) == ["red. grey. blue"]
    authors = [(grown.text[s.start : s.stop], s.author) for s in grown.spans]
    assert authors == [("red. ", one.id), ("grey. ", two.id)] and grown.author.model == one.id
    assert from_json(to_json(grown)) == grown


def test_text_that_was_only_shown_is_not_learnt():
    model = writer("red", "green")
    [begun] = sample(model, [QUESTION], prefix="Well, ")
    [more] = sample(model, [begun], prefix=". Also ")
    assert more.text == "Well, red. Also green" and learnt(more) == ["red", "green"]
    from_solution = edit(lambda trace: "They are", [QUESTION])
    [made] = sample(model, from_solution)
    assert learnt(made) == ["red"], "nobody in this run wrote the beginning"


def test_a_beginning_that_was_cut_from_a_chain_is_learnt():
    chain = sample(writer("red, green", name="teacher"), [QUESTION])
    [cut] = edit(lambda trace: trace.text[:5], chain)
    [made] = sample(writer("blue"), [cut])
    assert made.text == "red, blue" and learnt(made) == ["red, blue"]


def observe(trace: Trace) -> dict[str, object]:
    """The observation of an agent: text that a tool wrote, behind what the model wrote."""
    text = trace.text + ". <42>"
    return {"text": text, "spans": (Span(len(trace.text), len(text), "tool"),)}


def test_a_tool_loop_learns_every_call_and_no_observation():
    model = writer("look up a", "look up b", "it is 42")
    chain = [QUESTION]
    for _ in range(2):
        chain = edit(observe, sample(model, chain))
    assert learnt(chain[0]) == ["look up a", "look up b"] and not learns_end(chain[0])
    [done] = sample(model, chain)
    assert done.text == "look up a. <42>look up b. <42>it is 42"
    assert learnt(done) == ["look up a", "look up b", "it is 42"] and learns_end(done)


def test_an_edit_keeps_who_wrote_what_as_far_as_the_text_is_as_it_was():
    [chain] = sample(writer("", "", "blue"), edit(observe, [QUESTION.annotate()]), prefix=". ")
    assert learnt(chain) == ["blue"]
    [longer] = edit(lambda trace: trace.text + "!", [chain])
    assert learnt(longer) == ["blue!"] and longer.prefix_length == chain.prefix_length
    [behind] = edit(lambda trace: trace.text.removeprefix(". <4"), [chain])
    assert behind.text == "2>. blue" and learnt(behind) == ["blue"]
    [other] = edit(lambda trace: "All new.", [chain])
    assert learnt(other) == ["All new."] and not other.spans


AGENT = Trace(
    QUESTION.problem,
    "q",
    text="Given. Call. [seen 4] So 4.",
    prefix_length=7,
    finish_reason="stop",
    author=Author("m", "", (), 0),
    spans=(Span(13, 21, "tool"), Span(7, 12, "unit")),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Given. Call. [seen 4] So 4. Done.", ["Call. ", " So 4. Done."]),  # gone on with
        ("Given. Call. [seen 4", ["Call. "]),  # cut off in the observation
        ("Given. Ca", ["Ca"]),
        ("ll. [seen 4] So 4.", ["ll. ", " So 4."]),  # its beginning cut off
        ("seen 4] So 4.", [" So 4."]),
        ("Told. Call. [seen 4] So 4.", ["Call. ", " So 4."]),  # changed in the prefix
        ("Given. Tool call. [seen 4] So 4.", ["Tool call. ", " So 4."]),  # before the observation
        ("Given. Call. [seen 4 and 5] So 4.", ["Call. ", " So 4."]),  # in it
        ("Given. Call. [nothing] So 4.", ["Call. ", " So 4."]),
        ("Given. Call. [seen 4] Thus 4.", ["Call. ", " Thus 4."]),  # behind it
        ("Given. So 4.", ["So 4."]),  # without call and observation
        ("Another text", ["Another text"]),
        ("", []),
    ],
)
def test_what_an_edit_leaves_as_it_was_keeps_who_wrote_it(text, expected):
    [edited] = edit(lambda trace: text, [AGENT])
    assert learnt(edited) == expected and not edited.units


def test_an_edit_in_many_places_moves_who_wrote_what_with_the_text():
    model = writer("red", "look up b", "blue")
    chain = edit(lambda trace: trace.text + ". ", sample(model, [QUESTION]))
    [done] = sample(model, edit(observe, sample(model, chain)))
    assert done.text == "red. look up b. <42>blue"
    assert learnt(done) == ["red. look up b", "blue"]
    [lines] = edit(lambda trace: trace.text.replace(" ", "\n"), [done])
    assert learnt(lines) == ["red.\nlook\nup\nb", "blue"]
    [more] = sample(writer("", "", "", "!"), edit(lambda trace: trace.text + ".", [lines]))
    assert learnt(more) == ["red.\nlook\nup\nb", "blue.!"]


def test_an_observation_stays_one_when_it_is_edited_with_the_text_around_it():
    [called] = edit(observe, sample(writer("say 4. 5"), [QUESTION]))
    [edited] = edit(lambda trace: re.sub(r"(\d+)", r" \1 ", trace.text), [called])
    assert edited.text == "say  4 .  5 . < 42 >" and learnt(edited) == ["say  4 .  5 "]


@given(st.text("ab. ", max_size=12), st.text("ab. ", max_size=12))
def test_the_changes_of_an_edit_make_the_new_text(old, new):
    text = old
    for change in changes_of(old, new):
        assert len(text) == change.old_length
        behind = text[change.old_length - change.tail :]
        length = change.new_length - change.head - change.tail
        start = len(new) - change.tail - length
        text = text[: change.head] + new[start : start + length] + behind
    assert text == new


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12), st.data())
def test_an_edit_keeps_the_text_of_every_stretch_that_it_leaves_alone(old, new, data):
    start = data.draw(st.integers(0, len(old)))
    stop = data.draw(st.integers(start, len(old)))
    change = change_of(old, new)
    assert old[: change.head] == new[: change.head]
    assert change.head + change.tail <= min(len(old), len(new))
    first, last = change.stretch(start, stop)
    if first < last:
        assert first >= 0 and last <= len(new)
    if start < stop <= change.head:
        assert (first, last) == (start, stop)
    if start >= len(old) - change.tail and start < stop and start > change.head:
        assert new[first:last] == old[start:stop]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("all", ["Well, red. green"]),
        ("new", ["green"]),
        (lambda trace: [(6, 9)], ["red"]),
        (lambda trace: [(11, 16), (0, 5)], ["Well,", "green"]),
        (lambda trace: [], []),
    ],
)
def test_learn_decides_otherwise(what, expected):
    model = writer("red", "green", "blue")
    [begun] = sample(model, [QUESTION], prefix="Well, ")
    grown = sample(model, edit(lambda trace: trace.text + ". ", [begun]))
    [decided] = learn(what, grown)
    assert learnt(decided) == expected and decided.id == grown[0].id
    assert learnt(learn("new", [decided])[0]) == ["green"], "a later decision replaces an earlier"
    [more] = sample(model, edit(lambda trace: trace.text + ". ", [decided]))
    assert learnt(more)[-1].endswith("blue"), "what is written later is learnt"


def test_learn_refuses_what_it_does_not_know():
    with pytest.raises(ConfigError, match="does not know 'none'"):
        learn("none", [QUESTION])
    with pytest.raises(ConfigError, match="the stretch 0 to 9"):
        learn(lambda trace: [(0, 9)], [QUESTION])


def test_an_end_is_learnt_only_behind_learnt_text():
    text = Trace(
        QUESTION.problem, "q", text="red", finish_reason="stop", author=Author("m", "", (), 0)
    )
    assert learns_end(text) and not learns_end(text.annotate(finish_reason="stop_string"))
    assert not learns_end(text.annotate(spans=(Span(1, 3, "tool"),)))
    assert not learns_end(learn(lambda trace: [(0, 2)], [text])[0])


def test_what_is_learnt_makes_another_student_and_who_wrote_it_does_not():
    text = Trace(QUESTION.problem, "q", text="red, green", prefix_length=5)
    written = text.annotate(spans=(Span(0, 5, "written", author="m"),))
    whole = Trace(QUESTION.problem, "q", text="red, green")
    assert trained_content(written) == trained_content(whole) != trained_content(text)
    stages = [Stage(Model(), [trace], "sft").id for trace in (text, written, whole)]
    assert stages[0] != stages[1] == stages[2]


def test_a_rewrite_is_learnt_whole_and_a_pair_learns_no_shared_beginning():
    [problem] = sums(1)
    model = writer("one", "two", "three")
    begun = edit(lambda trace: trace.text + ". ", sample(model, [problem]))
    good, bad = sample(model, begun)[0], sample(writer("one", "bad"), begun)[0]
    [pairing] = pair([good], [bad])
    masked = Span(0, 5, "masked", 0.0)
    assert masked in pairing.spans and masked in pairing.rejected.spans
    [rewritten] = rewrite(model, [good], prompt="Again: {text}")
    assert learnt(rewritten) == [rewritten.text]
