"""derive and gold_by_vote: new problems, what their learner sees, what is dropped and why, and what votes decide."""

from __future__ import annotations

import pytest
from fakes import Book

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.records import Message, Problem, Trace, Verdict, blank
from potstill.traces import Session, derive, gold_by_vote, using


@pytest.fixture(autouse=True)
def judge() -> None:
    """The real verifiers, in the place of this folder's stand-in."""


APPLES = Problem(
    "p1", "How many apples are 2 and 2?", "4", "number", source="a.jsonl", metadata={"level": 3}
)
PEARS, NUTS = "How many pears are 3 and 3?", "How many nuts are 5 and 5?"
POSED = blank(APPLES, "Solve: How many apples are 2 and 2?")


def written(text: str, of: Trace = POSED, **fields: str) -> Trace:
    """What a writer made of a problem."""
    fields = {"finish_reason": "stop", "operator": "rewrite", **fields}
    return Trace(of.problem, of.prompt, text, parents=(of.id,), root="trace-attempt", **fields)


def question(trace: Trace) -> str | None:
    return trace.text.removeprefix("New: ") if trace.text.startswith("New: ") else None


def test_a_new_problem_of_a_trace():
    source = written("New: How many pears are 3 and 3?")
    [posed] = derive(question, [source])
    new = posed.problem
    assert posed.prompt == "Solve: How many pears are 3 and 3?" and posed.text == ""
    assert (new.question, new.answer, new.kind) == ("How many pears are 3 and 3?", None, "number")
    assert (new.source, new.metadata) == ("a.jsonl", {"derived_from": "p1"})
    assert new.parents == posed.parents == (source.id,) and posed.operator == "derive"
    # Its attempts are attempts of their own, and not that of its writer.
    assert posed.root == "" and new.id.startswith("problem-")
    assert derive(question, [source])[0].id == posed.id


def test_what_is_no_new_problem_is_dropped_with_the_reason(book: Book):
    traces = [
        written("New: how many apples are 2 and 2"),
        written("New: How many pears are 3 and 3?"),
        written("New: How many **pears** are 3 and 3 ?"),
        written("I would rather not."),
        written("New:  "),
        written("New: How many plums", finish_reason="length"),
        Trace(APPLES, "q", operator="sample", error="timed out"),
    ]
    new, failed = derive(question, traces)
    assert new.question == "How many pears are 3 and 3?" and failed.error == "timed out"
    assert [drop.reason for drop in book.drops] == [
        "the question of problem 'p1'",
        "the same question as another new problem",
        "question returned no question",
        "the question is empty",
        "the text broke off: length",
    ]
    assert book.steps[-1] == ("derive", "question", 7, 2)


def test_a_reason_of_its_own(book: Book):
    assert derive(lambda trace: (None, "two numbers at least"), [written("New: x")]) == []
    assert book.drops[0].reason == "two numbers at least"


def test_an_evaluation_problem_is_never_a_new_problem(book: Book):
    traces = [
        written(f"New: {PEARS}"),
        written(f"New: {NUTS}"),
    ]
    held_out = [Problem("test-1", PEARS, "6")]
    assert [t.question for t in derive(question, traces, held_out=held_out)] == [NUTS]
    assert book.drops[0].reason == "same question as evaluation problem 'test-1'"
    session = Session(
        book, overlap_reason=lambda trace: "held out" if "nuts" in trace.question else ""
    )
    with using(session):
        assert [t.question for t in derive(question, traces)] == [PEARS]
    assert book.drops[-1].reason == "held out"


def test_a_conversation_and_options_show_the_new_question():
    old = Problem("p1", "Which is a fruit?", "A", "choice", choices=("pear", "stone"))
    prompt = (
        Message("system", "Be brief."),
        Message("user", f"{old.question}\n\n{old.lettered_choices}"),
    )
    source = written("x", of=blank(old, prompt))
    [posed] = derive(
        lambda trace: {"question": "Which is a metal?", "choices": ["tin", "wool"]}, [source]
    )
    assert posed.prompt[1].content == "Which is a metal?\n\nA. tin\nB. wool"
    assert posed.prompt[0] == prompt[0] and posed.problem.choices == ("tin", "wool")
    twice = blank(APPLES, f"{APPLES.question} Again: {APPLES.question}")
    [repeated] = derive(question, [written("New: Why?", of=twice)])
    assert repeated.prompt == "Why? Again: Why?"
    [templated] = derive(question, [written("New: Why?")], prompt="Say it: {question}")
    assert templated.prompt == "Say it: Why?"


def test_a_prompt_without_the_question_needs_a_template():
    with pytest.raises(ConfigError, match="does not show its question") as caught:
        derive(question, [written("New: Why?", of=blank(APPLES, "Solve it."))])
    assert "prompt=" in caught.value.fix


def test_a_rephrasing_keeps_the_gold_answer_and_others_fields_are_refused():
    [kept] = derive(question, [written("New: Add 2 and 2.")], keep_gold=True)
    assert kept.problem.answer == "4"
    with pytest.raises(ConfigError, match="'rating' of a new problem"):
        derive(lambda trace: {"question": "q", "rating": 3}, [written("x")])
    fields = {"question": "q", "answer": "7", "metadata": {"level": 1}}
    [given] = derive(lambda trace: fields, [written("x")])
    assert (given.problem.answer, given.problem.metadata["level"]) == ("7", 1)


def answers(posed: Trace, *texts: str) -> list[Trace]:
    return [
        Trace(posed.problem, posed.prompt, text, parents=(posed.id,), operator="sample")
        for text in texts
    ]


@pytest.fixture
def posed() -> Trace:
    return derive(question, [written("New: How many pears are 3 and 3?")])[0]


def test_the_answer_on_which_most_agree_is_the_gold_answer(posed: Trace):
    voters = answers(posed, "It is \\boxed{6}.", "It is \\boxed{7}.", "So \\boxed{6.0}.")
    [elected] = gold_by_vote([posed], voters)
    new = elected.problem
    assert (new.answer, new.id, elected.prompt) == ("6", posed.problem.id, posed.prompt)
    assert new.metadata == {"derived_from": "p1", "gold_votes": 2, "gold_voters": 3}
    assert new.parents == (*posed.problem.parents, voters[0].id, voters[2].id)
    assert elected.parents == (posed.id, voters[0].id, voters[2].id)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((), "nobody voted: no answer could be read"),
        (("hm", "well"), "nobody voted: no answer could be read"),
        (("\\boxed{6}", "\\boxed{7}", "\\boxed{8}"), "too few agree: 1 of 3 votes for one answer"),
        (
            ("\\boxed{6}", "\\boxed{7}", "\\boxed{6}", "\\boxed{7}"),
            "the vote is tied: 2 votes each",
        ),
    ],
    ids=["nobody", "unread", "disagreement", "tie"],
)
def test_a_vote_that_decides_nothing_drops_the_problem(
    posed: Trace, book: Book, texts: tuple[str, ...], reason: str
):
    assert gold_by_vote([posed], answers(posed, *texts)) == []
    assert [drop.reason for drop in book.drops] == [reason]


def test_a_gold_answer_that_fails_its_verifier_is_none(posed: Trace, book: Book, monkeypatch):
    monkeypatch.setattr(
        verifiers, "check_gold", lambda problems: [(problems[0], Verdict("unjudged"))]
    )
    assert gold_by_vote([posed], answers(posed, "\\boxed{6}", "\\boxed{6}")) == []
    assert book.drops[-1].reason == "its elected answer fails its verifier: '6' is unjudged"


def test_nobody_votes_over_a_gold_answer(posed: Trace):
    with pytest.raises(ConfigError, match="has a gold answer"):
        gold_by_vote([POSED], [])
    failed = Trace(APPLES, "q", operator="derive", error="timed out")
    assert gold_by_vote([failed], []) == [failed]


@pytest.mark.parametrize(
    "written",
    [
        3,
        ["one", "two"],
        ("a question", "a reason"),
        (None,),
        {"question": PEARS, "metadata": None},
        {"question": PEARS, "metadata": {"topics": ["a", "b"]}},
        {"question": PEARS, "answer": 6},
        {"question": PEARS, "choices": "abc"},
    ],
)
def test_what_is_no_new_question_is_refused_with_the_name_of_its_writer(written):
    def write(trace):
        return written

    with pytest.raises(ConfigError, match=r"write (returned|set)"):
        derive(write, [blank(APPLES)])


def test_a_reason_may_be_empty():
    session = Session()
    with using(session):
        assert derive(lambda trace: (None, ""), [blank(APPLES)]) == []
