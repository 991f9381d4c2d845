"""One of several options, by its letter as usually worded or by its text: "The answer is (B).", `\\boxed{B}`, "B) 12".

`problem.answer` is the letter. Two letters ("A or B") can't be told. A lower-case letter counts only alone.
"""

from __future__ import annotations

import re
import string

from potstill.records import Problem, Verdict
from potstill.verifiers import extract
from potstill.verifiers.unicode import fold

VERSION = "choice@2"

_WRAP = re.compile(
    r"\\(?:text|textbf|mathbf|mathrm|mbox)\s?\{([^{}]*)\}|\\[()\[\]]|[$*`_\"“”‘’]|(?<![\w'])'|'(?![\w'])"
)
_NOUN = re.compile(
    r"^(?:(?:the|correct|right|best|final|option|choice|answer|letter|is)[\s:]+)+", re.IGNORECASE
)
_ALONE = re.compile(r"[(\[{]?\s?([A-Za-z])\s?[)\]}]?\s?[.:,]?")
_LETTER = re.compile(
    r"[(\[]\s?([A-Z])\s?[)\]]|(?<![\w'])([A-Z])(?=[).:,;\]]|\s*$|\s+(?:because|since|as|which|and|or|\(|"
    r"(?:is|are)\s+(?:the\s+)?(?:correct|right|best|answer)))"
)
_NOT = re.compile(r",?\s*\b(?:and |but )?(?:is )?not\s+(?:option\s+)?[(\[]?[A-Z][)\]]?(?![\w'])")
_CALLED = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s?[(\[]?([A-Z])[)\]]?\s+(?:is|must be)\s+(?:the\s+)?"
    r"(?:only\s+|best\s+)?(?:correct|right|answer|option|choice|one)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:option|choice)s?\s{1,3}[(\[]?([A-Z])(?![\w'])", re.IGNORECASE)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text names the gold option and no other."""
    letters = string.ascii_uppercase[: len(problem.choices)] or string.ascii_uppercase
    gold = gold_letter(problem)
    if gold is None:
        found = (
            "the problem has no gold answer"
            if problem.answer is None
            else f"no option {problem.answer[:60]!r}"
        )
        return Verdict("unjudged", None, found, VERSION)
    reasons: list[str] = []
    for found_at in extract.candidates(text):
        named = read(found_at.text, problem.choices)
        if len(named) != 1:
            reasons.append(
                f"names {' and '.join(named) if named else 'no option'} ({found_at.mark})"
            )
            continue
        letter = named[0]
        note = "" if letter in letters else f"; there are only {len(letters)} options"
        if letter == gold:
            return Verdict("right", letter, f"names {letter} ({found_at.mark})", VERSION)
        return Verdict(
            "wrong", letter, f"names {letter}, not {gold} ({found_at.mark}){note}", VERSION
        )
    return Verdict(
        "unparsed", None, reasons[0] if reasons else "nothing that could be an answer", VERSION
    )


def gold_letter(problem: Problem) -> str | None:
    """The gold option's letter; a gold that is an option's text becomes its letter."""
    gold = (problem.answer or "").strip()
    alone = _ALONE.fullmatch(gold)
    if alone and (
        not problem.choices or alone[1].upper() in string.ascii_uppercase[: len(problem.choices)]
    ):
        return alone[1].upper()
    same = _same_text(gold, problem.choices)
    return same[0] if len(same) == 1 else None


def read(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """The letters that a short text names, sorted: one is an answer, none or several is none."""
    line = fold(text.strip()[:2_000])
    for _ in range(2):  # \textbf{\text{B}}
        line = _WRAP.sub(lambda match: match[1] or "", line)
    line = _NOUN.sub("", line.strip()).strip()
    alone = _ALONE.fullmatch(line) or _CALLED.match(line)
    if alone:
        return (alone[1].upper(),)
    same = _same_text(line, choices)
    if same:
        return same
    line = _NOT.sub("", line)
    alone = _ALONE.fullmatch(line.strip())
    if alone:
        return (alone[1].upper(),)
    named = {a or b for a, b in _LETTER.findall(line)} | {
        letter.upper() for letter in _NAMED.findall(line)
    }
    return tuple(sorted(named))


def _same_text(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Letters of the options whose text this is, with or without its letter before it."""
    wanted = _bare(text)
    return tuple(
        letter
        for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
        if wanted and wanted in (_bare(choice), _bare(f"{letter}{choice}"))
    )


def _bare(text: str) -> str:
    """Letters, digits and signs that carry meaning, lower case: "B) $12." and "(B) 12" are the same."""
    return re.sub(r"[\s()\[\]{}$\\.,;:!?'\"]+", "", text).lower()
