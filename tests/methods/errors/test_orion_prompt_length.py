"""What ORION's writer is shown where reference and attempts are longer than the room: what goes first, what stays."""

from __future__ import annotations

from scripted_world import number, prompts, run, student

from potstill.methods.errors.orion.prompt_length import (
    CUT,
    MIN_ATTEMPT_CHARS,
    fit_texts,
    left_out,
    show_prompt,
)
from potstill.methods.errors.orion.settings import Settings
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, Trace
from potstill.traces import ReferenceGate

REFERENCE = f"<think>\n{'a' * 2000}{'b' * 2000}\n</think>\nThe answer is \\boxed{{4}}."
END = "</think>\nThe answer is \\boxed{4}."


def test_what_fits_is_shown_as_it_is():
    assert fit_texts(REFERENCE, ["short", "x" * 500], Settings()) == (
        REFERENCE,
        ["short", "x" * 500],
    )
    assert fit_texts("", [], Settings(max_prompt_chars=0)) == ("", [])


def test_attempts_are_cut_first_and_keep_their_ends_the_short_ones_whole():
    room = len(REFERENCE) + 1300
    attempts = ["early " * 500 + "end one", "short", "other " * 200 + "end two"]
    text, told = fit_texts(REFERENCE, attempts, Settings(max_prompt_chars=room))
    assert text == REFERENCE and told[1] == "short"
    assert [len(t) for t in told] == [648, 5, 647]
    assert all(whole.endswith(part) for whole, part in zip(attempts, told, strict=True))


def test_then_the_reference_loses_the_end_of_its_exploration_and_keeps_its_conclusion():
    text, told = fit_texts(REFERENCE, ["x" * 5000], Settings(max_prompt_chars=1500))
    head, tail = text.split(CUT)
    assert tail == END and set(head.removeprefix("<think>\n")) == {"a"}
    assert len(told[0]) == MIN_ATTEMPT_CHARS and len(text) + MIN_ATTEMPT_CHARS == 1500


def test_a_reference_without_marks_keeps_its_beginning_and_its_end():
    plain = "first " * 500 + "last: 4."
    text, _ = fit_texts(plain, [], Settings(max_prompt_chars=1000))
    assert text.startswith("first ") and text.endswith("last: 4.") and len(text) == 1000
    text, _ = fit_texts("one " * 500 + "\n\nSo it is 4.", [], Settings(max_prompt_chars=100))
    assert text.endswith(f"{CUT}\n\nSo it is 4.") and len(text) == 100


def test_the_end_of_a_reference_can_be_hidden():
    assert fit_texts("0123456789", ["x"], Settings(hidden_share=0.2)) == ("01234567", ["x"])


def test_how_much_was_left_out_is_scored():
    problem = Problem("p", "q", "4")
    base = Trace(problem, "q", text=REFERENCE, operator="sample")
    wrong = Trace(problem, "q", text="x" * 5000, operator="sample")
    s = Settings(max_prompt_chars=1500, prompt="paper")
    assert left_out(s, [wrong], lambda t: t.problem.id, [base]) == [
        len(REFERENCE) + 5000 - 1500 + len(CUT)
    ]
    assert left_out(Settings(), [wrong], lambda t: t.problem.id, [base]) == [0]
    prompt = show_prompt("{question}|{text}|{attempts}", s, base, [wrong])
    assert prompt == f"q|{fit_texts(REFERENCE, [wrong.text], s)[0]}|1. {'x' * MIN_ATTEMPT_CHARS}"


def test_a_run_shows_the_cut_prompt_and_keeps_whole_parents():
    asked = number("p1", "What is 2 + 2?", "4")
    attempt = "w" * 900 + " \\boxed{5}."
    made = student(
        [Rule((attempt,), prompt=asked.prompt), Rule(("So \\boxed{4}.",), pattern="Reference")]
    )
    roles = {"teacher": ScriptedModel([REFERENCE]), "student": made}
    settings = Settings(min_new_tokens=1, max_prompt_chars=1500, prompt="paper")
    ran = run("orion", [asked], roles, n=1, settings=settings, gate=ReferenceGate(0, 0))
    [row] = ran.rows
    text, [told] = fit_texts(REFERENCE, [attempt], Settings(max_prompt_chars=1500))
    assert f"\nReference solution:\n{text}\n\nWrong attempts:\n1. {told}" in prompts(made)[1]
    parents = [ran.book.traces[key] for key in row.parents]
    assert [p.text for p in parents] == [REFERENCE, attempt]
    assert (
        parents[0].scores["left_out"] == len(REFERENCE) + len(attempt) - 1500 + len(CUT)
        and not row.saw_gold
    )


def test_a_right_answer_without_its_box_is_no_row():
    asked = number("p1", "What is 2 + 2?", "4")
    made = student(
        [
            Rule(("It is \\boxed{5}.",), prompt=asked.prompt),
            Rule(("A: 4", "\\boxed{4}"), pattern="Reference"),
        ]
    )
    roles = {"teacher": ScriptedModel(["So \\boxed{4}."]), "student": made}
    ran = run("orion", [asked], roles, n=1, settings=Settings(min_new_tokens=1, prompt="paper"))
    assert [t.text for t in ran.rows] == ["\\boxed{4}"] and ran.dropped("has_box") == [
        ("A: 4", "no box for its answer")
    ]
