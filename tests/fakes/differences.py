"""The table in docs/verifiers.md: real calls of math-verify and of ours on the same answers, and why they differ.

python tests/fakes/differences.py writes it anew.
"""

from __future__ import annotations

import logging
from pathlib import Path

from potstill.records import Problem
from potstill.verifiers.math import equality

DOC = Path(__file__).resolve().parents[2] / "docs" / "verifiers.md"
BEGIN, END = (
    "<!-- differences begin: written by tests/fakes/differences.py -->",
    "<!-- differences end -->",
)

ROWS: tuple[tuple[str, str, str], ...] = (
    (
        "18",
        "\\boxed{17}. No, wait: \\boxed{18}",
        "the last box counts; math-verify takes all boxes for one list",
    ),
    ("18", "####18", "GSM8K's mark"),
    ("18", "\\fbox{18}", "a box by its other name"),
    ("18", "<think>I get 18</think>", "a thought without a reply is no answer"),
    (
        "3",
        "There are 5 cats and 3 dogs.\nI do not know.",
        "nor does a number somewhere in the text",
    ),
    ("12", "A: 12\n\nQ: And what is 3 + 4?", "an answer's line, not the last number"),
    ("5", "The answer is 5 or 6.", "two answers are not one"),
    ("B", "The answer is (B).", "a letter in words"),
    ("18", "\\boxed{€18}", "currency signs are not compared"),
    (
        "1250000",
        "\\boxed{1\\,250\\,000}",
        "thousands set with spaces, apostrophes, underscores, two points",
    ),
    ("1250000", "\\boxed{1.25 \\text{ million}}", "a number in millions may be meant in full"),
    ("1250000", "\\boxed{1.25e6}", "scientific notation as programs write it"),
    ("3\\frac{1}{2}", "\\boxed{3 1/2}", "a mixed number in one line"),
    ("\\frac13", "\\boxed{0.\\overline{3}}", "repeating decimals are exact fractions"),
    (
        "\\frac13",
        "\\boxed{0.333...}",
        "so are those that end in dots, three equal digits before them",
    ),
    ("[0,1)", "\\boxed{[0,1[}", "brackets as ISO 80000-2 turns them"),
    (
        "(-\\infty,3]",
        "\\boxed{x \\le 3}",
        "an inequality of one letter is an interval where the gold answer is one",
    ),
    ("\\text{4:30 p.m.}", "\\boxed{16:30}", "times of day"),
    ("2-5", "\\boxed{2\\text{ to }5}", "ranges; alone, 2-5 is -3"),
    ("7-10", "\\boxed{2-5}", "the same"),
    ("\\emptyset", "\\boxed{\\text{no solution}}", "both say that there is none"),
    ("\\emptyset", "\\boxed{\\varnothing}", "two signs for one thing"),
    ("90^\\circ", "\\boxed{90°}", "typed characters: ° π √ ² ½ ≤ ∞ × − are what they stand for"),
    ("x^2+2x+1", "\\boxed{x²+2x+1}", "the same"),
    ("18", "\\boxed{１８}", "digits of full width and of other scripts"),
    ("18", "\\boxed{1\u200b8}", "characters that can't be seen don't count"),
    ("7", "\\boxed{\\text{The answer is } 7}", "words in the box"),
    ("x^2", "\\boxed{x**2}", "a power as programs write it"),
    (
        "5",
        "\\boxed{10^{10^{10}}}",
        "not evaluated: a number too large to write down is no answer, and never a hang",
    ),
    ("east", "\\boxed{seat}", "words are compared as words; to algebra they are products"),
    ("NE", "\\boxed{EN}", "so are strings of letters; `xy` and `yx` are one product"),
    ("10^{-20}", "\\boxed{10^{-21}}", "exact numbers that differ are different, however small"),
    ("\\{1,2\\}", "\\boxed{(1,2)}", "a set is no tuple"),
    ("101_2", "\\boxed{101_3}", "the base of a numeral counts"),
    ("1,2,\\ldots,10", "\\boxed{1,2,...,10}", "dots in a list, however they are written"),
    ("1,2,\\ldots,10", "\\boxed{1,2,10}", "and they stand for terms"),
    ("-1", "\\boxed{i^2}", "i is the imaginary unit"),
    ("\\frac12", "\\boxed{\\sin 30^\\circ}", "angles in degrees"),
    ("42", "\\boxed{\\text{forty-two}}", "numbers in words"),
    ("48", "The answer is not 48.", "what is denied is no answer"),
    ("48", "The answer is at least 48.", "nor is a bound"),
)


def theirs(gold: str, text: str, *, timeout_s: int = 5) -> str:
    """math-verify as its documentation calls it; what it can't finish it calls wrong, after its timeout."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    try:
        read = parse(text)
        return (
            "right"
            if verify(parse(f"\\boxed{{{gold}}}"), read, timeout_seconds=timeout_s)
            else "wrong"
            if read
            else "reads nothing"
        )
    except Exception as error:  # what a library raises on a hostile answer is what we want to show
        return type(error).__name__
    finally:
        logging.disable(logging.NOTSET)


def ours(gold: str, text: str) -> str:
    """Our verdict."""
    return equality.judge(Problem("p", "?", gold, "math"), text).status


def judged_rows(*, timeout_s: int = 5) -> list[tuple[str, ...]]:
    """Gold, answer, their verdict, ours, why."""
    judged = []
    for gold, text, why in ROWS:
        judged.append((gold, text, theirs(gold, text, timeout_s=timeout_s), ours(gold, text), why))
    return judged


def table(rows: list[tuple[str, ...]]) -> str:
    """The table as Markdown."""
    lines = ["| gold | answer | math-verify | Potstill | why |", "|---|---|---|---|---|"]
    for gold, text, their, our, why in rows:
        lines.append(f"| {_code(gold)} | {_code(text)} | {their} | {our} | {why} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    shown = text.replace("\u200b", "⟨U+200B⟩").replace("\n", "↵").replace("|", "\\|")
    return f"`{shown if len(shown) < 70 else shown[:30] + ' … ' + shown[-10:]}`"


def written(document: str) -> str:
    """What stands between the marks of a document."""
    return document.split(BEGIN)[1].split(END, maxsplit=1)[0].strip()


if __name__ == "__main__":
    before, _, rest = DOC.read_text("utf-8").partition(BEGIN)
    DOC.write_text(
        f"{before}{BEGIN}\n{table(judged_rows())}\n{END}{rest.partition(END)[2]}", "utf-8"
    )
