"""Texts that were written with a reference in view: how much of it they must show, and what of it can be hidden."""

from __future__ import annotations

import pytest
from fakes import Book

from potstill.errors import ConfigError
from potstill.records import Problem, Trace, Verdict, blank
from potstill.traces import ReferenceGate, Session, hide_ends, keep_reasoned, using
from potstill.traces.keys import checked, right, right_test, sound

PROBLEM = Problem("p", "How many?", "8", kind="number")
REFERENCE = "We start with 4. 4 + 1 = 5. 5 - 2 = 3. 3 * 2 = 6. 6 + 1 = 7. 7 + 1 = 8. The answer is \\boxed{8}."


def of(text: str, problem: Problem = PROBLEM, **fields) -> Trace:
    return Trace(
        problem,
        problem.question,
        text,
        finish_reason="stop",
        operator="rewrite",
        verdict=Verdict("right", "8"),
        **fields,
    )


def gated(texts: list[str], references=(REFERENCE,), **options) -> tuple[list[str], list[str]]:
    """The texts that pass, and the reasons of the others."""
    book = Book()
    with using(Session(book)):
        given = None if references is None else [of(text) for text in references]
        problem = options.pop("problem", PROBLEM)
        passing = keep_reasoned([of(text, problem) for text in texts], given, **options)
    return [trace.text for trace in passing], [drop.reason for drop in book.drops]


def test_a_text_needs_half_of_the_references_steps_and_a_third_of_its_words():
    enough = "Four and one is 5. 5 - 2 = 3. So 3 * 2 + 2 = 8. It adds up. \\boxed{8}"
    few = "4 + 1 - 2 = 3. 3 * 2 + 2 = 8. \\boxed{8}"
    short = "Oh. Ah. So. Go. Do. \\boxed{8}"
    passing, reasons = gated([enough, few, short, "So the answer is \\boxed{8}."])
    assert passing == [enough]
    assert reasons == [
        "too few steps: 2 where the reference has 6",
        "too short: 5 words where the reference has 19",
        "too few steps: 0 where the reference has 6",
    ]


def test_shares_of_zero_ask_for_nothing_and_without_a_reference_everything_passes():
    stepless = "So \\boxed{8}."
    assert gated([stepless], gate=ReferenceGate(0, 0))[0] == [stepless]
    assert gated([stepless], references=())[0] == [stepless]
    assert gated([stepless], references=["It is \\boxed{8}."])[0] == [stepless]


def test_of_several_references_the_shortest_counts_and_none_is_the_problems_solution():
    one_step = "4 + 4 = 8. \\boxed{8}"
    assert gated([one_step], references=[REFERENCE, "5 + 3 = 8. \\boxed{8}"])[0] == [one_step]
    solved = Problem("p", "How many?", "8", kind="number", solution=REFERENCE)
    assert gated([one_step], references=None, problem=solved)[1] == [
        "too few steps: 1 where the reference has 6"
    ]


@pytest.mark.parametrize(
    ("hide_end", "shown", "hidden"),
    [
        ("nothing", REFERENCE, None),
        (
            "answer",
            REFERENCE.replace("= 8. The answer is \\boxed{8}.", "= [hidden]."),
            "8. The answer is \\boxed{8}.",
        ),
        (
            "last-line",
            REFERENCE.removesuffix(" The answer is \\boxed{8}."),
            "The answer is \\boxed{8}.",
        ),
        (
            "last-steps",
            "We start with 4. 4 + 1 = 5. 5 - 2 = 3. 3 * 2 = 6.",
            "6 + 1 = 7. 7 + 1 = 8. The answer is \\boxed{8}.",
        ),
    ],
)
def test_the_end_that_is_hidden_is_known(hide_end, shown, hidden):
    [reference] = hide_ends([of(REFERENCE)], ReferenceGate(hide_end=hide_end))
    assert (reference.text, reference.scores.get("hidden")) == (shown, hidden)
    assert not reference.saw_gold


def test_hiding_leaves_the_first_step_and_its_mark_is_not_to_be_copied():
    [reference] = hide_ends([of("4 + 4 = 8. \\boxed{8}")], ReferenceGate(hide_end="last-steps"))
    assert reference.text == "4 + 4 = [hidden]."
    copied = REFERENCE.replace("= 8", "= [hidden]")
    assert gated([copied]) == ([], ["copies the mark of what was hidden"])


def test_a_gate_refuses_what_is_no_share():
    with pytest.raises(ConfigError, match="min_step_share=2"):
        ReferenceGate(min_step_share=2)
    with pytest.raises(ConfigError, match="hidden_steps=0"):
        ReferenceGate(hidden_steps=0)


def test_steps_are_checked_where_the_problems_verifiers_judge_them():
    story, number = blank(Problem("s", "q", kind="story")), blank(PROBLEM)
    assert right_test([story], None) is sound and right_test([number], None) is right
    assert right_test([story, number], None) is checked
    assert right_test([number], True) is sound and right_test([story], False) is right
    assert checked(of("x")) and not checked(of("x", story.problem))
