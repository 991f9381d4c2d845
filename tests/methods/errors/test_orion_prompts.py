"""ORION's table of prompts: each row shows what it says, in the order that its name says."""

from __future__ import annotations

import typing

import pytest
from scripted_world import number, prompts, run, student

from potstill.methods import METHODS
from potstill.methods.catalogue import method_entry
from potstill.methods.errors.orion.prompt_length import show_prompt, text_to_show
from potstill.methods.errors.orion.prompts import (
    PROMPT_VARIANTS,
    PROMPTS,
    WRONG_STEP_MARK,
    PromptName,
)
from potstill.methods.errors.orion.settings import Settings
from potstill.methods.prompt_variants import find_prompt_variants, methods_with_variants
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Span, Trace

ASKED = number("p1", "What is 2 + 2 + 2?", "6")
REFERENCE = Trace(
    ASKED.problem, ASKED.prompt, "2 + 2 = 4. 4 + 2 = 6. So \\boxed{6}.", operator="sample"
)
FIRST = Trace(
    ASKED.problem,
    ASKED.prompt,
    "2 + 2 = 5. 5 + 2 = 7. So \\boxed{7}.",
    operator="sample",
    spans=(Span(0, 9, "step", score=0.0), Span(11, 20, "step", score=1.0)),
)
SECOND = Trace(ASKED.problem, ASKED.prompt, "It is \\boxed{8}.", operator="sample")


def test_the_names_are_those_of_the_table_and_the_variants() -> None:
    assert typing.get_args(PromptName) == tuple(PROMPTS) == tuple(PROMPT_VARIANTS.variants)
    assert find_prompt_variants(method_entry("orion")) is PROMPT_VARIANTS
    assert "orion" in methods_with_variants() and set(methods_with_variants()) <= set(METHODS)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_shows_question_reference_and_attempts_in_its_order(name) -> None:
    form, settings = PROMPTS[name], Settings(prompt=name)
    attempts = [FIRST] if form.one_at_a_time else [FIRST, SECOND]
    shown = show_prompt(form.with_reference, settings, REFERENCE, attempts)
    attempt_start, reference_start = shown.index("2 + 2 = 5"), shown.index(REFERENCE.text)
    assert (attempt_start > reference_start) == (name == "paper")
    assert ASKED.question in shown and ("1. 2 + 2 = 5" in shown) == (not form.one_at_a_time)
    assert (WRONG_STEP_MARK in shown) == (form.wrong_step != "as-written")
    assert shown.endswith(ASKED.prompt) == name.startswith("solve-last")
    alone = show_prompt(form.reference_alone, settings, REFERENCE)
    assert REFERENCE.text in alone and "rong" not in alone and "attempt" not in alone
    without_reference = show_prompt(form.attempts_alone, settings, ASKED, attempts)
    assert "2 + 2 = 5" in without_reference and "eference" not in without_reference


def test_the_first_wrong_step_is_marked_or_the_last_thing_shown_where_one_is_known() -> None:
    marked = text_to_show(FIRST, Settings(prompt="errors-first-marked"))
    assert marked == "2 + 2 = 5 (this step is wrong). 5 + 2 = 7. So \\boxed{7}."
    assert text_to_show(FIRST, Settings(prompt="plain-cut")) == "2 + 2 = 5 (this step is wrong)"
    assert text_to_show(FIRST, Settings(prompt="plain")) == FIRST.text
    assert text_to_show(SECOND, Settings(prompt="plain-cut")) == SECOND.text


def test_one_attempt_at_a_time_is_another_one_for_the_next_draw() -> None:
    made = student(
        [
            Rule((FIRST.text, SECOND.text), prompt=ASKED.prompt),
            Rule(("no",), pattern="A wrong solution"),
        ]
    )
    settings = Settings(prompt="plain", min_new_tokens=1, resamples=2, on_fail="teacher")
    roles = {"teacher": ScriptedModel([REFERENCE.text]), "student": made}
    ran = run("orion", [ASKED], roles, n=2, settings=settings)
    shown = [FIRST.text in prompt for prompt in prompts(made)[2:]]
    assert sorted(shown[:2]) == [False, True] and shown[2] == shown[0]
    rewrites = [t for t in ran.book.traces.values() if t.operator == "rewrite"]
    assert all(len(trace.parents) == 2 for trace in rewrites), "reference and the attempt shown"
