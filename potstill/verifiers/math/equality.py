"""Mathematical equality by math-verify, in worker processes that are killed when they run too long.

What needs no algebra needs no worker: equal strings and integers are decided here. math-verify's own timeouts are off
in the workers (they only work in a main thread, and stop nothing in C code); the worker's clock is the limit. It treats
`25\\%` as 25 and as 0.25, ignores units, and compares decimals to six places; see its documentation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from potstill.records import Problem, Status, Verdict
from potstill.verifiers import claims, extract, number
from potstill.verifiers.math import forms, normalise, too_large
from potstill.verifiers.unicode import normalise_characters
from potstill.verifiers.workers import pool

VERSION = "math@4"
LIMIT_S = 3.0  # seconds of computing time a comparison may take; the usual one takes 0.003
MAX_CHARACTERS = 1_000  # of an answer; longer ones are no answers, and may be attacks
MAX_GOLD_CHARACTERS = 300

_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_GROUPED_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_INTEGER = re.compile(r"[+-]?\d+")
_TEXT_BOX = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]{3,}")
# "Tuesday" of "Tuesday, not Monday", but no adverb as in "certainly not".
_WORD_BEFORE_DENIAL = re.compile(
    r"(?!it\b|[a-z]+ly\b)[A-Za-z]{3,30}(?: [A-Za-z]{1,30}){0,3}\s*[,;(]?\s*(?:and)?\s*"
)
# "So it is", "but rather" before an answer.
_INTRODUCTORY_WORDS = re.compile(
    r"^[\s,;]*(?:(?:so|it|is|that|this|thus|hence|then|but|rather|instead|and|must|be|simply|exactly)\s+)+(?=[\d$\\(\[{+-])"
    r"|^[\s,;]*(?:it['’]s)\s+(?=[\d$\\(\[{+-])|^\s*(?:but|rather)\s+(?:it\s+is\s+|is\s+)?",
    re.IGNORECASE,
)
# A digit or formula, or words that come after "but".
_HAS_VALUE = re.compile(r"[\d$\\]|\bbut\s+(?:it\s+is\s+|is\s+)?[a-zA-Z]")
_FORMULA = re.compile(r"(?<!\\)\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_CONJUNCTION = re.compile(r"[\s,;]*(?:and|or)?[\s,;]*", re.IGNORECASE)
_FUNCTION_NAMES = re.compile(
    r"and|sin|cos|tan|cot|sec|csc|log|exp|sqrt|frac|cdot|arc(?:sin|cos|tan)|inf|infty|min|max|mod"
)
# Space below a row of a matrix: `\\[2pt]`.
_ROW_SPACING = re.compile(
    r"\\cr(?![a-zA-Z])|\\\\\*(?=[^)}]*\\end)|\\\\\s?\[\s?-?\d*\.?\d+\s?(?:pt|em|ex|mm|cm|in|mu|pc|px|\\baselineskip|\\jot)\s?\]"
)
_MATH_DELIMITERS = re.compile(r"\\[()\[\]]|(?<!\\)\$")
_INTRODUCTION = re.compile(r"\\text\s?\{[^{}]{0,80}\b(?:is|are|equals)\s?:?\s*\}\s*")
_TRAILING_SPACE = re.compile(r"(?:\s|。|(?<!\\)[.,;:]|\\[,;:!. ]|~)+$")
_BOX_WITHOUT_BRACES = re.compile(r"\\boxed\s+(?=[^\s{])")


# How answers are compared that algebra would misread; the first that knows the form of both decides.
FORMS = (
    forms.is_same_numeral,
    forms.is_same_sequence,
    forms.is_same_letter_string,
    forms.is_same_word_list,
)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the final answer equals the gold answer mathematically."""
    return judge_all([(problem, text)])[0]


def read(problem: Problem, text: str) -> str | None:
    """Return the text's final answer, its typesetting normalised."""
    reading = _final_answer(text, gold="")
    return None if isinstance(reading, Verdict) else reading


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are mathematically equal; which one is taken for the gold answer does not matter."""
    return equal_all([(problem, first, second)])[0]


def equal_all(items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
    """Compare many pairs at once, on all cores."""
    statuses: dict[tuple[str, str], str] = {}
    # math-verify does not treat both sides alike, so what is not equal one way is tried the other way too.
    for is_swapped in (False, True):
        pairs: list[tuple[str, str]] = []
        for _, first, second in items:
            pair = (normalise_layout(first), normalise_layout(second))
            if statuses.get(pair) != "right":
                pairs.append(pair[::-1] if is_swapped else pair)
        for (gold, answer), verdict in _compare_all(list(dict.fromkeys(pairs))).items():
            statuses[(answer, gold) if is_swapped else (gold, answer)] = verdict.status
    return [
        statuses[normalise_layout(first), normalise_layout(second)] == "right"
        for _, first, second in items
    ]


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"\\boxed{{{problem.answer}}}"


def judge_all(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge many at once, on all cores; each pair of gold and answer is compared once."""
    readings = [_read_answer(problem, text) for problem, text in items]
    pairs = list(dict.fromkeys(pair for pair in readings if not isinstance(pair, Verdict)))
    verdicts = _compare_all(pairs)
    return [reading if isinstance(reading, Verdict) else verdicts[reading] for reading in readings]


def _compare_all(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Verdict]:
    """The verdict on each pair of gold and answer; a worker is asked only where algebra is needed."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    algebraic: list[tuple[str, str]] = []
    for pair in pairs:
        verdict = _judge_without_algebra(*pair)
        if verdict is None:
            algebraic.append(pair)
        else:
            verdicts[pair] = verdict
    tasks = [_comparison_task(gold, answer) for gold, answer in algebraic]
    replies = pool.ask("math", tasks, limit_s=LIMIT_S) if tasks else []
    for pair, reply in zip(algebraic, replies, strict=True):
        verdicts[pair] = _verdict_of_reply(*pair, reply)
    return verdicts


def _read_answer(problem: Problem, text: str) -> Verdict | tuple[str, str]:
    """A verdict where there is no gold answer or no answer, else both."""
    gold = normalise_layout(problem.answer or "")
    reading = _final_answer(text, gold=gold)
    answer = None if isinstance(reading, Verdict) else reading
    if not gold:
        return Verdict("unjudged", answer, "the problem has no gold answer", VERSION)
    if len(gold) > MAX_GOLD_CHARACTERS:
        reason = f"a gold answer of {len(gold)} characters is no final answer"
        return Verdict("unjudged", answer, reason, VERSION)
    return reading if isinstance(reading, Verdict) else (gold, reading)


def _final_answer(text: str, *, gold: str) -> str | Verdict:
    """The answer that the first readable candidate gives, or an unparsed verdict; `gold` is "" without one."""
    reason = "nothing that could be an answer"
    for candidate in extract.candidates(text):
        if len(candidate.text) > MAX_CHARACTERS:
            reason = f"an answer of {len(candidate.text)} characters ({candidate.mark})"
            return Verdict("unparsed", None, reason, VERSION)
        answer = _answer_of_candidate(candidate, gold)
        if answer:
            return answer
        reason = f"no answer ({candidate.mark})"
    return Verdict("unparsed", None, reason, VERSION)


def _judge_without_algebra(gold: str, answer: str) -> Verdict | None:
    """Compare what is no formula (integers, times, ranges, words); None where algebra has to decide."""
    # Equal texts, whatever they mean.
    if gold == answer or _comparable_text(gold) == _comparable_text(answer):
        return Verdict("right", answer, "equal as strings", VERSION)

    # Integers of any length, without evaluating them.
    gold_integer, integer = _integer_digits(gold), _integer_digits(answer)
    if gold_integer is not None and integer is not None:
        if gold_integer == integer:
            return Verdict("right", integer, "equal", VERSION)
        return Verdict("wrong", integer, _inequality(gold, answer), VERSION)

    # Times of day and ranges, where both answers are one: to algebra 2-5 is -3.
    same_time = normalise.is_same_time(gold, answer)
    same_range = normalise.is_same_range(gold, answer)
    if same_time or same_range:
        return Verdict("right", answer, "equal", VERSION)
    if same_time is False or same_range is False:
        return Verdict("wrong", answer, _inequality(gold, answer), VERSION)
    if normalise.says_none(gold) and normalise.says_none(answer):
        return Verdict("right", answer, "both say that there is none", VERSION)

    # Numbers as people type them: with units of thousands, repeating decimals, mixed fractions, in words.
    gold_number, value = normalise.exact_number(gold), normalise.exact_number(answer)
    if gold_number and value:
        if value.equals(gold_number) or normalise.is_rounded(gold, gold_number, answer, value):
            return Verdict("right", str(value)[:200], "equal numbers", VERSION)
        if not normalise.has_scale(gold) and not normalise.has_scale(answer):
            return Verdict("wrong", str(value)[:200], _inequality(gold, answer), VERSION)

    # What algebra takes for something else.
    is_same = _compare_forms(gold, answer)
    if is_same is not None:
        status: Status = "right" if is_same else "wrong"
        reason = "equal" if is_same else _inequality(gold, answer)
        return Verdict(status, answer, reason, VERSION)

    # Algebra has to decide, unless it would never finish.
    reason = too_large.too_large_reason(answer)
    return Verdict("unparsed", answer, reason, VERSION) if reason else None


def _compare_forms(gold: str, answer: str) -> bool | None:
    """Compare answers of a form that algebra misreads; None where neither has one."""
    # To algebra `> 48` is 48, and "red" and "der" are the same product.
    for one, other in ((gold, answer), (answer, gold)):
        if normalise.begins_with_comparison(one) and not normalise.has_comparison(other):
            return False
    for compare in FORMS:
        is_same = compare(gold, answer)
        if is_same is not None:
            return is_same
    if forms.are_set_and_tuple(gold, answer):
        return False
    gold_words, words = _plain_words(gold), _plain_words(answer)
    if gold_words and words:
        return gold_words == words
    return None


def _verdict_of_reply(gold: str, answer: str, reply: pool.Reply) -> Verdict:
    outcome, result = reply
    if outcome != "done":
        return Verdict("unparsed", answer, f"the comparison {result}", VERSION)
    if result == "right":
        return Verdict("right", answer, "equal by math-verify", VERSION)
    if result == "wrong":
        return Verdict("wrong", answer, _inequality(gold, answer), VERSION)
    if result == "unjudged":
        reason = f"math-verify can't read the gold answer {gold[:60]!r}"
        return Verdict("unjudged", answer, reason, VERSION)
    return Verdict("unparsed", answer, f"math-verify can't read {answer[:60]!r}", VERSION)


def normalise_layout(answer: str) -> str:
    """Return one form for answers that differ in typesetting alone."""
    if _PLAIN_NUMBER.fullmatch(answer):
        return answer  # most answers are such, and have this form already
    # Delimiters, and commands that only change how a formula looks.
    answer = _ROW_SPACING.sub(r"\\\\ ", extract.undouble_backslashes(answer))
    text = _MATH_DELIMITERS.sub("", normalise_characters(answer).strip())
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", _BOX_WITHOUT_BRACES.sub("", text))
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\!", "", text).replace("{,}", ",")
    text = text.removeprefix("**").removesuffix("**").replace("**", "^")
    # Dots after digits stand for more digits; words, space and punctuation around the answer go.
    text = re.sub(r"^\s?\.\.\.(?=\s?,)", r"\\ldots", text)
    text = re.sub(r"(?<=[\d,])\s?\.\.\.[. $]*$", r"\\ldots", text)
    text = _TRAILING_SPACE.sub("", re.sub(r"\s+", " ", _INTRODUCTION.sub("", text)))
    text = re.sub(r"^(?:[ ,;:]|\.(?!\d))+", "", text)
    return text.replace(",", "") if _GROUPED_THOUSANDS.fullmatch(text) else text


def _answer_of_candidate(candidate: extract.Candidate, gold: str) -> str:
    """The answer itself: a box is one, prose is searched for its one formula or number; "" where it has none."""
    if candidate.mark not in ("answer", "last line"):
        return _answer_of_box(normalise_characters(candidate.text), gold)
    text = normalise_characters(candidate.text)
    for sentence in extract.sentences(text):
        sentence = _INTRODUCTORY_WORDS.sub("", sentence)
        answer = normalise_layout(sentence)
        if answer.casefold() == gold.casefold() or (answer and not _has_prose(sentence)):
            return answer
        # The first sentence that claims something gives the answer; of one that denies much remain only scraps.
        claimed = claims.claimed_part(sentence)
        is_marked = candidate.mark == "answer"
        is_scrap = claimed != sentence and not _HAS_VALUE.search(claimed)
        if is_scrap and is_marked and _WORD_BEFORE_DENIAL.fullmatch(claimed):
            return normalise_layout(claimed.strip(" ,;"))
        if claimed.strip(" .,;:!?*_") and not is_scrap:
            return _answer_of_prose(claimed, is_marked=is_marked)
    return ""


def _answer_of_box(text: str, gold: str) -> str:
    answer = normalise_layout(text)
    if answer.casefold() == gold.casefold():
        return answer
    # "At least 48" and "not 48" are no 48.
    words = _TEXT_BOX.sub(r" \1 ", text)
    is_said_of_number = words != text and re.search(r"\d", words)
    if is_said_of_number and (
        claims.claimed_part(words) != words or claims.has_bound(words, signs=False)
    ):
        return ""
    # "1.25 \\text{ million}" and "x = 5" are no prose, in spite of their words.
    if not _has_prose(text) or normalise.exact_number(answer) or "=" in text:
        return answer
    value = number.read_number(text)
    return answer if isinstance(value, str) else str(value).replace("%", "\\%")


def _answer_of_prose(text: str, *, is_marked: bool) -> str:
    """The one formula or number of a sentence; without one the sentence itself where it was marked as the answer."""
    if claims.has_bound(text, signs=False):
        return ""
    text = _INTRODUCTORY_WORDS.sub("", text)
    answer = normalise_layout(text)
    if not _has_prose(text):
        return answer
    formulas = _FORMULA.findall(text)
    if len(formulas) == 1 or _are_one_list(text):
        return normalise_layout(", ".join("".join(formula) for formula in formulas))
    value = number.read_number(text)
    if not isinstance(value, str):
        return str(value).replace("%", "\\%")
    return answer if is_marked else ""


def _are_one_list(text: str) -> bool:
    """Whether several formulas stand side by side: "$x=1$ and $x=-2$"."""
    matches = list(_FORMULA.finditer(text))
    pairs = itertools.pairwise(matches)
    between = [text[first.end() : second.start()] for first, second in pairs]
    return bool(between) and all(_CONJUNCTION.fullmatch(part) for part in between)


def _has_prose(text: str) -> bool:
    """Whether a text has words beside text boxes and names of functions."""
    words = re.findall(r"(?<![\\A-Za-z+*/^_=])[A-Za-z]{3,}", _TEXT_BOX.sub("", text))
    return any(not _FUNCTION_NAMES.fullmatch(word.lower()) for word in words)


def _integer_digits(text: str) -> str | None:
    """The integer as a string without sign plus, commas or leading zeros; None for anything else."""
    bare = text.removeprefix("\\$").strip()
    if not _INTEGER.fullmatch(bare):
        return None
    digits = bare.lstrip("+-").lstrip("0") or "0"
    return f"-{digits}" if bare.startswith("-") and digits != "0" else digits


def _comparable_text(text: str) -> str:
    """Without text boxes and without white space that separates no digits: "4:30 \\text{ p.m.}" is "4:30p.m."."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", _TEXT_BOX.sub(r"\1", text)).rstrip(".")


def _plain_words(text: str) -> str:
    """The words of an answer that is nothing else, in lower case; "" for a formula."""
    bare = _TEXT_BOX.sub(r"\1", text).strip()
    was_in_text_box = bare != text
    is_word = bare.isalpha() and len(bare) > 1 and was_in_text_box
    return bare.casefold() if is_word or _WORDS.fullmatch(bare) else ""


def _comparison_task(gold: str, answer: str) -> tuple[str, str]:
    """Both answers as math-verify reads them."""
    formulas: list[str] = []
    for formula, other in ((gold, answer), (answer, gold)):
        if normalise.says_radians(other):
            formula = normalise.in_radians(formula)
        formula = normalise.to_algebra(normalise.as_interval(formula, other))
        formulas.append(f"\\boxed{{{formula}}}")
    return formulas[0], formulas[1]


def _inequality(gold: str, answer: str) -> str:
    return f"{answer[:60]!r} is not {gold[:60]!r}"
