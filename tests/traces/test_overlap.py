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


SHORT = "How many days have 7 weeks?"
FORMULA = "Let $x$ be real with $x^2 \\le \\frac{9}{4}$ and $2x \\cdot 3 = -9$. What is x − 1?"
BEGINNING = "Read the text attentively and more than once, since nothing in it is there without reason, and say: "
TUTOR = "You are a helpful expert in mathematics who likes to explain."
ENDING = "Write nothing else than this, and nothing at all that anybody could call an explanation or a remark."


@pytest.mark.parametrize(
    ("evaluation", "training"),
    [
        (SHORT, f"Q12: {SHORT}"),
        (SHORT, f"(3) {SHORT}"),
        (SHORT, f"### Problem 4\n\n{SHORT}"),
        (SHORT, f"[2 points] {SHORT}"),
        (SHORT, f"{SHORT} Show your work and put the final answer in a box."),
        (SHORT, f"You are a patient tutor. Answer the following question: {SHORT}\nAnswer:"),
        (SHORT, f"Q4) {SHORT}"),
        (SHORT, f"12 {SHORT}"),
        (SHORT, f"(Olympiad 1998) {SHORT}"),
        (SHORT, f"<|im_start|>user\n{SHORT}<|im_end|>"),
        (SHORT, f"[INST] {SHORT} [/INST]"),
        (SHORT, f"{SHORT} Round your answer to 2 decimal places."),
        (
            SHORT,
            f"Below is an instruction. Write a response.\n\n### Instruction:\n{SHORT}\n\n### Response:",
        ),
        ("What is 4·1,250 ÷ √9 − x²?", "What is $4 \\cdot 1250 \\div \\sqrt{9} - x^2$?"),
        ("What is $\\frac{3}{8}$ of 16?", "What is 3/8 of 16?"),
        (SHORT, f"Some words of which nobody has a list. {SHORT}\nAnd some more."),
        (f"{SHORT} Please reason step by step.", SHORT),
        (f"Question 7. {SHORT}", SHORT),
        (SHORT, "How *many* __days__ have `7` <b>weeks</b>?"),
        (SHORT, "How many\u00a0days ha\u00adve 7 wee\u200dks\ufeff?"),
        (SHORT, "How many days have ７ weeks&nbsp;?"),
        (FORMULA, FORMULA.replace("$x$", "\\(x\\)").replace("\\frac{9}{4}", "\\dfrac94")),
        (FORMULA, FORMULA.replace("$", "").replace("\\le", "\\leq").replace("\\cdot", "×")),
        (FORMULA, FORMULA.replace("$", "$$").replace("−", "-").replace("\\le", "≤")),
        (FORMULA, FORMULA.replace("\\", "\\\\")),
    ],
)
def test_layout_and_boilerplate_hide_no_copy(evaluation, training):
    assert decontaminate([Problem("e", evaluation)], [question(training)]) == []


@pytest.mark.parametrize(
    ("evaluation", "training"),
    [
        (SHORT, "How many days have 8 weeks?"),
        (SHORT, "How many days have 7 weeks and 2 days?"),
        ("What is 3*4?", "What is 3+4?"),
        ("What is 3*4?", "What is 34?"),
        ("What is 1.5 of 20?", "What is 15 of 20?"),
        ("Compute $x_1$ for $x^2=4$.", "Compute $x_2$ for $x^2=4$."),
        ("Find \\frac{11}{2} of 4 pies.", "Find \\frac{1}{12} of 4 pies."),
        (f"{BEGINNING}{SHORT}", f"{BEGINNING}What is the square of 12?"),
        (
            "Round 7.25 and add 3 to it. Give your answer as an integer from 0 to 999, without any unit.",
            "Square 7.25 and halve it. Give your answer as an integer from 0 to 999, without any unit.",
        ),
        (f"{TUTOR} {SHORT}", f"{TUTOR} What is the square of 12?"),
        (f"{SHORT} {ENDING}", f"Square 12. {ENDING}"),
    ],
)
def test_other_questions_are_none(evaluation, training):
    rows = [question(training)]
    assert decontaminate([Problem("e", evaluation)], rows) == rows


def choice(name: str, text: str, *options: str) -> Problem:
    return Problem(name, text, "A", "choice", choices=options)


def test_options_belong_to_the_question():
    which = "Which of these numbers is the largest prime that divides the product of the first ten integers?"
    held_out = [choice("e", which, "2", "3", "5", "7")]
    same = [
        blank(choice("t1", which, "7", "5", "(3)", "2")),
        blank(choice("t2", which, "2", "3", "5", "7", "9", "11")),
    ]
    other = [blank(choice("t3", which, "13", "17", "19", "23"))]
    assert decontaminate(held_out, same) == []
    assert decontaminate(held_out, other) == other
    assert decontaminate(held_out, [question(which)]) == [], (
        "no options: the same question, asked openly"
    )


def test_what_most_evaluation_questions_share_is_a_template():
    frame = "In a class of clever pupils who all like numbers somebody says that there are {} of them; who is right?"
    held_out = [
        Problem(f"e{n}", frame.format(word))
        for n, word in enumerate(("two", "five", "nine", "six"))
    ]
    assert decontaminate(held_out, [question(frame.format("ten"))]) != []
    assert decontaminate(held_out, [question(frame.format("six"))]) == []


@pytest.mark.parametrize(
    ("held_out", "text"),
    [
        ("What is 17 * 23?", "what is 17 x 23 ?"),
        ("小李有5个梨,又买了3个,一共有几个?", "题目：小李有５个梨，又买了３个，一共有几个？"),
        ("Wie viele Beine haben 12 Hunde?", "Aufgabe 3: Wie viele Beine haben 12 Hunde?"),
    ],
)
def test_copies_in_another_typography_or_language_are_seen(held_out, text):
    with pytest.raises(StageError):
        check_overlap([Problem("e", held_out)], [question(text)])


def test_options_that_stand_in_the_text_count_as_options():
    asked = "In the old town hall there is one very tall clock tower that always shows which of these times?"
    held_out = [Problem("e", asked, "A", "choice", choices=("noon", "dawn", "dusk"))]
    check_overlap(held_out, [question(f"{asked}\n(A) ten\n(B) two\n(C) four")])
    with pytest.raises(StageError):
        check_overlap(held_out, [question(f"{asked}\nA. dawn\nB. noon\nC. dusk")])
