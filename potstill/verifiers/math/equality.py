"""Mathematical equality by math-verify, in worker processes that are killed when they run too long.

What needs no algebra needs no worker: equal strings and integers are decided here. math-verify's own timeouts are off
in the workers (they only work in a main thread, and stop nothing in C code); the worker's clock is the limit. It treats
`25\\%` as 25 and as 0.25, ignores units, and compares decimals to six places; see its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Problem, Verdict
from potstill.verifiers import extract, number
from potstill.verifiers.math import normalise, too_large
from potstill.verifiers.unicode import fold
from potstill.verifiers.workers import pool

VERSION = "math@2"
LIMIT_S = 3.0  # seconds of computing time a comparison may take; the usual one takes 0.003
LONGEST = 1_000  # characters of an answer; longer ones are no answers, and may be attacks
LONGEST_GOLD = 300

_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_INTEGER = re.compile(r"[+-]?\d+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{3,}")
_FORMULA = re.compile(r"(?<!\\)\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_FUNCTIONS = re.compile(
    r"and|sin|cos|tan|cot|sec|csc|log|exp|sqrt|frac|cdot|arc(?:sin|cos|tan)|inf|infty|min|max|mod"
)
_DISPLAY = re.compile(r"\\[()\[\]]|(?<!\\)\$")
_SAID = re.compile(r"\\text\s?\{[^{}]{0,80}\b(?:is|are|equals)\s?:?\s*\}\s*")
_SPACE = re.compile(r"(?:\s|(?<!\\)[.,;:]|\\[,;:!. ]|~)+$")
_BARE_BOX = re.compile(r"\\boxed\s+(?=[^\s{])")


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the final answer equals the gold answer mathematically."""
    return judge_all([(problem, text)])[0]


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores; each pair of gold and answer is compared once."""
    read = [_read(problem, text) for problem, text in items]
    open_pairs = list(dict.fromkeys(pair for pair in read if not isinstance(pair, Verdict)))
    tasks = [_task(gold, answer) for gold, answer in open_pairs]
    replies = pool.ask("math", tasks, limit_s=LIMIT_S) if tasks else []
    judged = {pair: _verdict(pair, reply) for pair, reply in zip(open_pairs, replies, strict=True)}
    return [pair if isinstance(pair, Verdict) else judged[pair] for pair in read]


def _read(problem: Problem, text: str) -> Verdict | tuple[str, str]:
    """A verdict where no algebra is needed, else the gold answer and the text's answer."""
    if not (problem.answer or "").strip():
        return Verdict("unjudged", None, "the problem has no gold answer", VERSION)
    gold = tidy(problem.answer or "")
    if len(gold) > LONGEST_GOLD:
        return Verdict(
            "unjudged", None, f"a gold answer of {len(gold)} characters is no final answer", VERSION
        )
    reason = "nothing that could be an answer"
    for found in extract.candidates(text):
        if len(found.text) > LONGEST:
            return Verdict(
                "unparsed",
                None,
                f"an answer of {len(found.text)} characters ({found.mark})",
                VERSION,
            )
        answer = _answer(found, gold)
        if not answer:
            reason = f"no answer ({found.mark})"
            continue
        return _without_algebra(gold, answer) or (gold, answer)
    return Verdict("unparsed", None, reason, VERSION)


def _without_algebra(gold: str, answer: str) -> Verdict | None:
    """Integers and words are compared as strings; a number too large to write down is not evaluated."""
    if gold == answer or _flat(gold) == _flat(answer):
        return Verdict("right", answer, "equal as strings", VERSION)
    integers = _integer(gold), _integer(answer)
    if None not in integers:
        same = integers[0] == integers[1]
        return Verdict(
            "right" if same else "wrong",
            integers[1],
            "equal" if same else _unequal(gold, answer),
            VERSION,
        )
    by_form = normalise.same_time(gold, answer), normalise.same_range(gold, answer)
    if True in by_form or False in by_form:
        same = True in by_form
        return Verdict(
            "right" if same else "wrong",
            answer,
            "equal" if same else _unequal(gold, answer),
            VERSION,
        )
    if normalise.nothing(gold) and normalise.nothing(answer):
        return Verdict("right", answer, "both say that there is none", VERSION)
    numbers = normalise.exact(gold), normalise.exact(answer)
    if numbers[0] and numbers[1] and numbers[1].equals(numbers[0]):
        return Verdict("right", str(numbers[1])[:200], "equal numbers", VERSION)
    words = _words(gold), _words(answer)
    if words[0] and words[1]:  # to algebra, "red" and "der" are the same product
        same = words[0] == words[1]
        return Verdict(
            "right" if same else "wrong",
            answer,
            "equal" if same else _unequal(gold, answer),
            VERSION,
        )
    why = too_large.explodes(answer)
    return Verdict("unparsed", answer, why, VERSION) if why else None


def _verdict(pair: tuple[str, str], reply: tuple[str, str]) -> Verdict:
    gold, answer = pair
    outcome, result = reply
    if outcome != "done":
        return Verdict("unparsed", answer, f"the comparison {result}", VERSION)
    if result == "right":
        return Verdict("right", answer, "equal by math-verify", VERSION)
    if result == "wrong":
        return Verdict("wrong", answer, _unequal(gold, answer), VERSION)
    if result == "unjudged":
        return Verdict(
            "unjudged", answer, f"math-verify can't read the gold answer {gold[:60]!r}", VERSION
        )
    return Verdict("unparsed", answer, f"math-verify can't read {answer[:60]!r}", VERSION)


def tidy(answer: str) -> str:
    """One form for spellings that differ in typesetting alone."""
    text = _DISPLAY.sub("", fold(answer).strip())
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", _BARE_BOX.sub("", text))
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\!", "", text).replace("{,}", ",")
    text = text.removeprefix("**").removesuffix("**").replace("**", "^")
    text = re.sub(r"(?<=\d)\s?\.\.\.[. $]*$", r"\\ldots", text)
    text = _SPACE.sub("", re.sub(r"\s+", " ", _SAID.sub("", text)))
    text = re.sub(r"^(?:[ ,;:]|\.(?!\d))+", "", text)
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def _answer(found: extract.Found, gold: str) -> str:
    """The answer itself: a box is one, prose is searched for its one formula or number; "" where it has none."""
    boxed = found.mark not in ("answer", "last line")
    text = fold(found.text if boxed else extract.sentence(found.text))
    if (
        tidy(text).casefold() == gold.casefold()
        or (boxed and normalise.exact(tidy(text)))
        or not _prose(text)
        or (boxed and "=" in text)
    ):
        return tidy(text)
    formulas = [] if boxed else _FORMULA.findall(text)
    if len(formulas) == 1:
        return tidy("".join(formulas[0]))
    value = number.read(text)
    if not isinstance(value, str):
        return str(value).replace("%", "\\%")
    return tidy(text) if found.mark != "last line" else ""


def _prose(text: str) -> bool:
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", _TEXT.sub("", text))
    return any(not _FUNCTIONS.fullmatch(word.lower()) for word in words)


def _integer(text: str) -> str | None:
    """The integer as a string without sign plus, commas or leading zeros; None for anything else."""
    bare = text.removeprefix("\\$").strip()
    if not _INTEGER.fullmatch(bare):
        return None
    digits = bare.lstrip("+-").lstrip("0") or "0"
    return f"-{digits}" if bare.startswith("-") and digits != "0" else digits


def _flat(text: str) -> str:
    """Without text boxes and without white space that separates no digits: "4:30 \\text{ p.m.}" is "4:30p.m."."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", _TEXT.sub(r"\1", text)).rstrip(".")


def _words(text: str) -> str:
    """The words of an answer that is nothing else, in lower case; "" for a formula."""
    bare = _TEXT.sub(r"\1", text).strip()
    return (
        bare.casefold()
        if _WORDS.fullmatch(bare) or (bare.isalpha() and len(bare) > 1 and bare != text)
        else ""
    )


def _task(gold: str, answer: str) -> tuple[str, str]:
    """Both as math-verify reads them."""
    both = normalise.as_interval(gold, answer), normalise.as_interval(answer, gold)
    return f"\\boxed{{{normalise.algebra(both[0])}}}", f"\\boxed{{{normalise.algebra(both[1])}}}"


def _unequal(gold: str, answer: str) -> str:
    return f"{answer[:60]!r} is not {gold[:60]!r}"
