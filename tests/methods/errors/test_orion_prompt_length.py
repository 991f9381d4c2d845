"""What ORION's writer is shown where reference and attempts are longer than the room: what goes first, what stays."""

from __future__ import annotations

from scripted_world import number, prompts, run, student

from potstill.methods.errors.orion.prompt_length import CUT, LEAST, fitted, left_out, shown
from potstill.methods.errors.orion.settings import Settings
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Problem, Trace

REFERENCE = f"<think>\n{'a' * 2000}{'b' * 2000}\n</think>\nThe answer is \\boxed{{4}}."
END = "</think>\nThe answer is \\boxed{4}."


def test_what_fits_is_shown_as_it_is():
    assert fitted(REFERENCE, ["short", "x" * 500], Settings()) == (REFERENCE, ["short", "x" * 500])
    assert fitted("", [], Settings(room=0)) == ("", [])


def test_attempts_are_cut_first_and_keep_their_ends_the_short_ones_whole():
    room = len(REFERENCE) + 1300
    attempts = ["early " * 500 + "end one", "short", "other " * 200 + "end two"]
    text, told = fitted(REFERENCE, attempts, Settings(room=room))
    assert text == REFERENCE and told[1] == "short"
    assert [len(t) for t in told] == [648, 5, 647]
    assert all(whole.endswith(part) for whole, part in zip(attempts, told, strict=True))


def test_then_the_reference_loses_the_end_of_its_exploration_and_keeps_its_conclusion():
    text, told = fitted(REFERENCE, ["x" * 5000], Settings(room=1500))
    head, tail = text.split(CUT)
    assert tail == END and set(head.removeprefix("<think>\n")) == {"a"}
    assert len(told[0]) == LEAST and len(text) + LEAST == 1500


def test_a_reference_without_marks_keeps_its_beginning_and_its_end():
    plain = "first " * 500 + "last: 4."
    text, _ = fitted(plain, [], Settings(room=1000))
    assert text.startswith("first ") and text.endswith("last: 4.") and len(text) == 1000
    text, _ = fitted("one " * 500 + "\n\nSo it is 4.", [], Settings(room=100))
    assert text.endswith(f"{CUT}\n\nSo it is 4.") and len(text) == 100


def test_the_end_of_a_reference_can_be_hidden():
    assert fitted("0123456789", ["x"], Settings(hidden=0.2)) == ("01234567", ["x"])


def test_how_much_was_left_out_is_scored():
    problem = Problem("p", "q", "4")
    base = Trace(problem, "q", text=REFERENCE, operator="sample")
    wrong = Trace(problem, "q", text="x" * 5000, operator="sample")
    s = Settings(room=1500)
    assert left_out(s, [wrong], lambda t: t.problem.id, [base]) == [
        len(REFERENCE) + 5000 - 1500 + len(CUT)
    ]
    assert left_out(Settings(), [wrong], lambda t: t.problem.id, [base]) == [0]
    prompt = shown("{question}|{text}|{attempts}", s, base, [wrong])
    assert prompt == f"q|{fitted(REFERENCE, [wrong.text], s)[0]}|1. {'x' * LEAST}"


def test_a_run_shows_the_cut_prompt_and_keeps_whole_parents():
    asked = number("p1", "What is 2 + 2?", "4")
    attempt = "w" * 900 + " \\boxed{5}."
    made = student(
        [Rule((attempt,), prompt=asked.prompt), Rule(("So \\boxed{4}.",), pattern="Reference")]
    )
    roles = {"teacher": ScriptedModel([REFERENCE]), "student": made}
    ran = run("orion", [asked], roles, n=1, settings=Settings(least=1, room=1500))
    [row] = ran.rows
    text, [told] = fitted(REFERENCE, [attempt], Settings(room=1500))
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
    ran = run("orion", [asked], roles, n=1, settings=Settings(least=1))
    assert [t.text for t in ran.rows] == ["\\boxed{4}"] and ran.dropped("boxed") == [
        ("A: 4", "not boxed")
    ]
