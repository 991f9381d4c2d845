"""An answer that stands only inside a thought is none, whichever marks the thought has; an option says otherwise."""

from __future__ import annotations

import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers.thoughts import THOUGHT_MARKS, reading_thoughts

NUMBER = Problem("p", "2 + 2?", "4", "number")
# A problem of each kind that reads answers, and the same right answer as a model would give it.
KINDS = (
    (NUMBER, "\\boxed{4}"),
    (NUMBER, "The answer is 4."),
    (Problem("p", "2 + 2?", "4", "math"), "\\boxed{4}"),
    (Problem("p", "?", "B", "choice", choices=("3", "4")), "The answer is B."),
    (Problem("p", "?", "red blue", "exact"), "<answer>red blue</answer>"),
    (Problem("p", "?", "red.*", "regex"), "<answer>red blue</answer>"),
    (
        Problem("p", "Ned has 6 pens. How many pens does Ned have now?", "6", "story"),
        "\\boxed{6}",
    ),
    (Problem("p", "?", "SELECT 1", "table", table="CREATE TABLE t (a)"), "```sql\nSELECT 1\n```"),
)


def status(problem: Problem, text: str) -> str:
    [verdict] = verifiers.judge([(problem, text)])
    return verdict.status


@pytest.mark.parametrize(("problem", "answer"), KINDS, ids=lambda item: getattr(item, "kind", ""))
def test_a_thought_without_a_reply_is_unparsed_by_every_kind(problem: Problem, answer: str) -> None:
    assert status(problem, f"<think>hm</think>\n\n{answer}") == "right"
    for text in (
        f"<think>{answer}</think>",
        f"<think>{answer}</think>\n \n",
        f"<think>{answer}",
        f"<think>{answer}, or is it? Let me",
        f"{answer}</think>",
        f"<think>hm</think><think>{answer}",
    ):
        assert status(problem, text) == "unparsed", text
        assert verifiers.read([(problem, text)]) == [None]


@pytest.mark.parametrize(("opening", "closing"), THOUGHT_MARKS)
def test_thoughts_by_other_marks(opening: str, closing: str) -> None:
    assert status(NUMBER, f"{opening}\\boxed{{4}}{closing}") == "unparsed"
    assert status(NUMBER, f"{opening}\\boxed{{4}}, I think") == "unparsed"
    assert status(NUMBER, f"{opening}\\boxed{{3}}{closing}So \\boxed{{4}}.") == "right"
    assert status(NUMBER, f"\\boxed{{4}}\n{opening}was that right?") == "right"


def test_a_reply_without_an_answer_is_not_helped_by_the_thought() -> None:
    assert status(NUMBER, "<think>\\boxed{4}</think>I hope this helps!") == "unparsed"
    assert status(NUMBER, "<think>\\boxed{4}</think>It is \\boxed{5}.") == "wrong"


def test_an_option_lets_answers_in_thoughts_count() -> None:
    text = "<think>\\boxed{4}, let me check"
    with reading_thoughts():
        [verdict] = verifiers.judge([(NUMBER, text)])
        assert (verdict.status, verdict.answer) == ("right", "4")
        assert verdict.verifier == verifiers.version("number")
        assert verifiers.read([(NUMBER, text)]) == ["4"]
        # Only marked ones: the last line of a thought is wherever the author stopped.
        assert status(NUMBER, "<think>first 3, then\n4") == "unparsed"
        other_version = verifiers.version("number")
    assert verifiers.version("number") != other_version
    assert status(NUMBER, text) == "unparsed"


def test_a_form_that_has_a_thought_in_it_is_judged_as_a_whole() -> None:
    form = Problem("p", "?", "<think>…</think>", "format")
    assert status(form, "<think>all of it</think>") == "right"


def test_a_problem_without_a_gold_answer_stays_unjudged() -> None:
    assert status(Problem("p", "?", None, "number"), "<think>\\boxed{4}</think>") == "unjudged"
