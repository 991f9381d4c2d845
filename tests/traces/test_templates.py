"""Templates: one pass, hostile values, names; and what shows gold."""

from __future__ import annotations

import pytest
from fakes import sum_problem, sums
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError, InputError
from potstill.records import Message, Problem, Trace, Verdict, blank
from potstill.traces import problem
from potstill.traces.prompts import fill_template, numbered_list, render_prompts

PROBLEM = Problem(
    "p", "What?", "42", solution="6 * 7", tests=("t1", "t2"), choices=("x", "y"), table="a|b"
)
TRACE = Trace(PROBLEM, "Learn: What?", text="so far")
# A question is shown with what it is asked about.
WHOLE = 'What?\n\nA. x\nB. y\n\nCREATE TABLE "t" ("a|b" TEXT);'


def one(template, trace=TRACE, **context):
    [shown] = render_prompts(template, [trace], context, problem)
    return shown


@pytest.mark.parametrize(
    ("template", "prompt", "gold"),
    [
        ("Q {question}", f"Q {WHOLE}", False),
        ("{question} {choices} {table}", "What? A. x\nB. y a|b", False),
        ("{prompt} {question}", "Learn: What? What?", False),
        ("{text}|{prompt}|{table}", "so far|Learn: What?|a|b", False),
        ("{choices}", "A. x\nB. y", False),
        ("{answer}", "42", True),
        ("{solution}", "6 * 7", True),
        ("{tests}", "t1\nt2", True),
        ("\\boxed{{}} {{question}}", "\\boxed{} {question}", False),
        ("\\frac{1}{\\sqrt{2}}", "\\frac{1}{\\sqrt{2}}", False),
        ('{{"q": "{question}", "a": {{}}}}', f'{{"q": "{WHOLE}", "a": {{}}}}', False),
        ("{{answer}}", "{answer}", False),
    ],
)
def test_fields_and_escapes(template, prompt, gold):
    assert one(template) == (prompt, gold, ())


def test_choices_that_the_question_holds_are_not_shown_twice():
    question = "Which?\nA. x\nB. y"
    assert (
        one("{question}", Trace(Problem("p", question, "A", choices=("x", "y")), "q")).prompt
        == question
    )


def test_values_are_never_expanded_again():
    hostile = Trace(Problem("p", "{answer} {{text}}", "42"), "q", text="{solution} }} {{")
    assert (
        one("{question}|{text}|{{x}}", hostile).prompt == "{answer} {{text}}|{solution} }} {{|{x}"
    )
    assert not one("{question} {text}", hostile).saw_gold


@given(st.text())
def test_any_value_arrives_as_it_is(value):
    assert fill_template("<{text}>", {"text": value}) == f"<{value}>"


def test_unknown_names_list_what_there_is():
    with pytest.raises(ConfigError) as caught:
        render_prompts("{attempt}", [], {"attempts": []}, problem)
    assert "unknown name {attempt}" in str(caught.value)
    assert caught.value.nearest == ("attempts",)
    assert set(caught.value.available) >= {
        "question",
        "answer",
        "solution",
        "tests",
        "choices",
        "text",
        "attempts",
    }
    with pytest.raises(ConfigError, match="is a field of the trace"):
        render_prompts("{text}", [], {"text": []}, problem)


def test_context_without_a_prompt_is_refused():
    with pytest.raises(ConfigError, match="without a prompt that shows it"):
        render_prompts(None, [TRACE], {"attempts": []}, problem)


def test_a_gold_field_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match=r"shows \{answer\}, but problem 'p' has none"):
        one("{answer}", blank(Problem("p", "q")))


def test_messages_are_filled_turn_by_turn():
    shown = one((Message("system", "Be {{brief}}."), Message("user", "{question}")))
    assert shown.prompt == (Message("system", "Be {brief}."), Message("user", WHOLE))


def test_context_is_a_numbered_list_by_key_without_errored_ones():
    a, b = sums(2)
    attempts = [Trace(a.problem, "q", text=f"try {i}") for i in range(2)] + [
        Trace(b.problem, "q", text="other")
    ]
    attempts.insert(1, Trace(a.problem, "q", error="timed out"))
    first, second = render_prompts(
        "{attempts}!", [a, b], {"attempts": attempts, "unused": attempts}, problem
    )
    assert first.prompt == "1. try 0\n2. try 1!" and second.prompt == "1. other!"
    assert first.sources == (attempts[0], attempts[2]), "only what is shown is a source"
    assert numbered_list([]) == ""


def shows(trace, **context):
    return trace.question


def peeks(trace, **context):
    return (("user", f"{trace.problem.answer}"),)


def peeks_beside(trace, attempts):
    return "".join(a.problem.solution for a in attempts)


def reads_reason(trace):
    return trace.verdict.reason


def reads_status(trace):
    return trace.verdict.status + str(trace.answer) + trace.problem.question


@pytest.mark.parametrize(
    ("fn", "gold"),
    [
        (shows, False),
        (peeks, True),
        (peeks_beside, True),
        (reads_reason, True),
        (reads_status, False),
    ],
)
def test_a_function_is_watched(fn, gold):
    trace = TRACE.annotate(verdict=Verdict("wrong", "41", "41 is not 42"))
    context = {"attempts": [TRACE]} if fn in (shows, peeks, peeks_beside) else {}
    shown = one(fn, trace, **context)
    assert shown.saw_gold is gold
    assert shown.sources == ((TRACE,) if context else ())


def test_a_function_returns_text_or_messages():
    assert one(peeks).prompt == (Message("user", "42"),)
    with pytest.raises(ConfigError, match="returned int"):
        one(lambda trace: 3)


def test_a_sum_problem_is_what_the_other_tests_think():
    assert (
        sum_problem("p", [3, 5]).answer == "8" and sum_problem("p", [3, 5]).question == "Add 3, 5."
    )
