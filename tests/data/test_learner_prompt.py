"""The template of prompts is found again, and is one that makes the same prompts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potstill.data.learner_prompt import common_template, is_template, list_templates
from potstill.records import Message, Problem, Trace, blank
from potstill.runs.sources import default_prompt, pose_all

SUMS = [Problem(f"p{n}", f"How much is {n}+{n}?", str(2 * n), "number") for n in range(1, 9)]
CHOICES = [
    Problem(f"c{n}", f"Which is {n}?", "A", "choice", choices=(f"{n}", f"{n + 1}"))
    for n in range(4)
]


def row(prompt: str) -> Trace:
    """A row of a file: what it calls the question is its whole prompt."""
    return blank(Problem(f"id {prompt}", prompt))


def test_default_prompts_are_found_again() -> None:
    for problems in (SUMS, CHOICES):
        assert list_templates(pose_all(problems)) == [default_prompt(problems[0].kind)]


@given(st.text("ab {}\n\\"), st.text("ab {}\n\\"))
def test_what_is_found_makes_the_same_prompts(before: str, after: str) -> None:
    traces = [blank(problem, f"{before}{problem.question}{after}") for problem in SUMS]
    [template] = list_templates(traces)
    assert pose_all(SUMS, template) == traces


def test_rows_of_a_file_have_the_paragraphs_in_common() -> None:
    rows = [row(f"Think.\n\n{n}+{n}?\n\nBox it: \\boxed{{}}.") for n in range(5)]
    assert list_templates(rows) == ["Think.\n\n{question}\n\nBox it: \\boxed{{}}."]
    assert list_templates([row("1+1?"), row("1+2?")]) == ["{question}"]
    assert list_templates([row("1+1?\n\nBox it.")]) == ["{question}"]
    assert common_template({"a\n\nb", "a\n\nb\n\nc"}) == "a\n\n{question}"


def test_turns_stand_behind_their_roles_and_make_no_template() -> None:
    problem = SUMS[0]
    prompt = (Message("system", "Be short."), Message("user", problem.question))
    [listed] = list_templates([blank(problem, prompt)])
    assert listed == "[system] Be short.\n[user] {question}"
    assert not is_template(listed) and is_template("{question}")


def test_of_many_prompts_only_some_are_listed() -> None:
    traces = [blank(problem, f"{problem.id}: {problem.question}") for problem in SUMS]
    assert len(list_templates(traces)) == 6 and list_templates(traces)[-1] == "(and 3 more prompts)"
