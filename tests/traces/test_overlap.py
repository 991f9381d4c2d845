"""decontaminate drops with a reason; check_overlap blocks and names the problems."""

from __future__ import annotations

import pytest

from potstill.errors import StageError
from potstill.records import Problem, Trace, blank
from potstill.traces import check_overlap, decontaminate

LONG = "A farmer has 12 cows and buys 7 more cows on Monday, then sells 5 of them to his neighbour for 30 coins each."
HELD_OUT = [Problem("e1", LONG), Problem("e2", "What is 3+4?")]


def question(text: str, name: str = "t") -> Trace:
    return blank(Problem(name, text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LONG, "same question as evaluation problem 'e1'"),
        (LONG.upper().replace(",", " ,") + " ", "same question as evaluation problem 'e1'"),
        ("what is 3 + 4", "same question as evaluation problem 'e2'"),
        ("what is 3-4?", ""),
        (
            "Recall: " + LONG[2:80] + " ...",
            "shares 13 words with evaluation problem 'e1': farmer has 12 cows",
        ),
        (LONG.replace("7", "8").replace("sells", "gives").replace("30", "31"), ""),
        ("", ""),
    ],
)
def test_reasons(text, reason, book):
    kept = decontaminate(HELD_OUT, [question(text)])
    assert [d.reason.startswith(reason) for d in book.drops] == ([True] if reason else [])
    assert len(kept) == (0 if reason else 1)
    if reason:
        assert (book.drops[0].operator, book.drops[0].test) == ("decontaminate", "n=13")


def test_only_equal_questions_with_n_0():
    near = question("Recall: " + LONG)
    assert decontaminate(HELD_OUT, [near]) == [] and decontaminate(HELD_OUT, [near], n=0) == [near]
    assert decontaminate(HELD_OUT, [question(LONG)], n=0) == []
    assert decontaminate(HELD_OUT, [question("farmer has 12 cows")], n=3) == []


def test_the_learners_prompt_counts_too():
    posed = Trace(
        Problem("t", "Something else"), f"Few-shot: {LONG}\nSomething else", operator="pose"
    )
    whole = Trace(Problem("t", "Something else"), "What is 3+4?", operator="pose")
    assert decontaminate(HELD_OUT, [posed, whole]) == []


def test_errored_traces_pass():
    failed = Trace(HELD_OUT[0], LONG, error="timed out")
    assert decontaminate(HELD_OUT, [failed]) == [failed]
    check_overlap(HELD_OUT, [failed])


def test_the_check_blocks_and_names_the_problems():
    check_overlap(HELD_OUT, [question("What is 5+4?")])
    rows = [question(LONG, f"t{i:02}") for i in range(12)] + [question("fine", "fine")]
    with pytest.raises(StageError) as caught:
        check_overlap(HELD_OUT, rows * 2)
    said = str(caught.value)
    assert (
        "12 training problems overlap the evaluation set: t00 (same question as evaluation problem 'e1')"
        in said
    )
    assert (
        "t09" in said
        and "t10" not in said
        and "and 2 more" in said
        and "decontaminate" in caught.value.fix
    )
