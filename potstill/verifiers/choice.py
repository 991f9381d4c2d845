"""One of several options, by its letter as usually worded or by its text: "The answer is (B).", `\\boxed{B}`, "B) 12".

`problem.answer` is the letter. Two letters ("A or B") can't be told. A lower-case letter counts only alone.
"""

from __future__ import annotations

import re
import string

from potstill.records import Problem, Verdict
from potstill.verifiers import claims, extract
from potstill.verifiers.unicode import normalise_characters

VERSION = "choice@5"
_MAX_CHARACTERS = 2_000  # of an answer that is looked at

# Emphasis, quotation marks and LaTeX around an answer.
_WRAPPING = re.compile(
    r"\\(?:text|textbf|mathbf|mathrm|mbox)\s?\{([^{}]*)\}|\\[()\[\]]|[$*`_\"“”‘’]|(?<![\w'])'|'(?![\w'])"
)
# "The correct option is: " before the letter.
_INTRODUCTION = re.compile(
    r"^(?:(?:the|correct|right|best|final|option|choice|answer|letter|is)[\s:]+)+", re.IGNORECASE
)
_ONLY_LETTER = re.compile(r"[(\[{]?\s?([A-Za-z])\s?[)\]}]?\s?[.:,]?")
# "(B)", "B)", "B because", "B is the correct".
_LETTER = re.compile(
    r"[(\[]\s?([A-Z])\s?[)\]]|(?<![\w'])([A-Z])(?=[).:,;!\]]|\s*$|\s+(?:because|since|as|which|and|or|\(|"
    r"[-–—]\s|(?:is|are)\s+(?:the\s+)?(?:correct|right|best|answer)|(?:is|remains|is\s+left)[.!]?\s*$))"
)
# "It can't be A, C or D", "we eliminate (A), (C) and (D)".
_ONE_LETTER = r"(?-i:[(\[]\s?[A-Z]\s?[)\]]|[A-Z](?![\w']))"
_DENIED_LETTERS = claims.denied_values(
    _ONE_LETTER, more_denials=r"(?:eliminat|exclud|reject|discard|dismiss)(?:e|es|s|ed|ing)?"
)
# "(A) fails", "options A and C are wrong", "A) 10 is too small".
_REJECTED_LETTERS = claims.rejected_values(
    r"(?:(?:the\s+)?(?:options?|choices?|answers?)\s+)?"
    r"(?:(?-i:[(\[]\s?[A-Z]\s?[)\]]|(?<![\w'])[A-Z](?![\w'])[).:]?))"
    r"(?:\s(?!(?:is|are|was|were|can|could|so|since|because|but|hence|and|or|fails?|does|do)\b)[^,.;()]{1,40}?(?=\s))?"
)
_RULED_OUT = re.compile(
    r"\b(?:(?:eliminat|exclud|reject|discard|dismiss)(?:e|es|s|ed|ing)?|(?:all|any|everything|anything)\s+but)\b(?:(?![,;.](?:\s|$)|\b(?:but|so|leaving|hence)\b).)*",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"^(?:but|rather|so|hence|thus|therefore|and|it\s+is|it['’]s|must\s+be|is|[\s,])+|[\s,;.]+(?:and|but)?[\s,;.]*$",
    re.IGNORECASE,
)
# What is no name of an option but a formula: `E = mc^2`, `A \\cup B`.
_FORMULA = re.compile(r"[=^_<>+]|\\(?!(?:text|textbf|mathbf|mathrm|mbox)\b)[a-zA-Z]+")
# "So B is the only correct …" at the beginning of the answer.
_LETTER_IS_CORRECT = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s?[(\[]?([A-Z])[)\]]?\s+(?:is|must be)\s+(?:the\s+)?"
    r"(?:only\s+|best\s+)?(?:correct|right|answer|option|choice|one)\b",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since|as)\b", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are|was|were|be)\b|=", re.IGNORECASE)
_AFTER_IDEOGRAPH = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])(?=[A-Z(])")
_OPTION_LETTER = re.compile(r"\b(?:option|choice)s?\s{1,3}[(\[]?([A-Z])(?![\w'])", re.IGNORECASE)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text names the gold option and no other."""
    letter, reason = _read_text(problem, text)
    gold = gold_letter(problem)
    if gold is None:
        reason = "the problem has no gold answer"
        if problem.answer is not None:
            reason = f"no option {problem.answer[:60]!r}"
        return Verdict("unjudged", letter, reason, VERSION)
    if letter is None:
        return Verdict("unparsed", None, reason, VERSION)
    if letter == gold:
        return Verdict("right", letter, f"names {letter} ({reason})", VERSION)
    options = _option_letters(problem)
    reason = f"names {letter}, not {gold} ({reason})"
    if letter not in options:
        reason += f"; there are only {len(options)} options"
    return Verdict("wrong", letter, reason, VERSION)


def read(problem: Problem, text: str) -> str | None:
    """Return the letter of the one option that the text names."""
    return _read_text(problem, text)[0]


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers name one option, each by its letter or its text."""
    letters = [named_letters(answer, problem.choices) for answer in (first, second)]
    return (letters[0] == letters[1] and len(letters[0]) == 1) or first.strip() == second.strip()


def _read_text(problem: Problem, text: str) -> tuple[str | None, str]:
    """The letter that the text names and what marked it, or None and the reason why there is none."""
    candidates = extract.candidates(text)
    if len(candidates) == 1 and candidates[0].mark not in ("answer", "last line"):
        candidates = _weigh_mark(problem, candidates[0], text)
    reasons: list[str] = []
    for candidate in candidates:
        if candidate.mark == "boxed" and _is_formula(candidate.text, problem.choices):
            reasons.append(f"a formula, and no option ({candidate.mark})")
            continue
        named = named_letters(candidate.text, problem.choices)
        if len(named) == 1:
            return named[0], candidate.mark
        options = " and ".join(named) or "no option"
        reasons.append(f"names {options} ({candidate.mark})")
    reasons.append("nothing that could be an answer")
    return None, reasons[0]


def _weigh_mark(
    problem: Problem, marked: extract.Candidate, text: str
) -> tuple[extract.Candidate, ...]:
    """What to read, best first, where a box, tag or `####` stands in the reply.

    A mark that names an option by its letter stands alone. One that holds a result (`\\boxed{12}`) gives way to a
    letter in words: "Answer: D".
    """
    alone = _ONLY_LETTER.fullmatch(_without_wrapping(marked.text))
    if alone and alone[1].upper() in _option_letters(problem):
        return (marked,)
    others = extract.candidates_beside_mark(text)
    by_letter = [one for one in others if _names_by_letter(one.text, problem.choices)]
    return (*by_letter, marked, *others)


def _names_by_letter(text: str, choices: tuple[str, ...]) -> bool:
    """Whether a text names one option, and by its letter and not only by what the option says."""
    return len(named_letters(text, choices)) == 1 and len(named_letters(text, ())) == 1


def _is_formula(text: str, choices: tuple[str, ...]) -> bool:
    """Whether a text is a formula that is the text of no option."""
    return _FORMULA.search(text) is not None and not _letters_of_text(text, choices)


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"The answer is {problem.answer}."


def gold_letter(problem: Problem) -> str | None:
    """Return the gold option's letter, or None; a gold that is an option's text becomes its letter."""
    gold = (problem.answer or "").strip()
    match = _ONLY_LETTER.fullmatch(gold)
    if match and match[1].upper() in _option_letters(problem):
        return match[1].upper()
    letters = _letters_of_text(gold, problem.choices)
    return letters[0] if len(letters) == 1 else None


def named_letters(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the letters that a short text names, sorted: one is an answer, none or several is none.

    Letters that are denied or called wrong are not named: of "(A) fails. Therefore (B)." it is B.
    """
    whole = _without_wrapping(text)
    line = _INTRODUCTION.sub("", whole).strip()
    # Nothing but a letter, or a sentence that begins "B is the correct".
    match = _ONLY_LETTER.fullmatch(line) or _LETTER_IS_CORRECT.match(line)
    options = string.ascii_uppercase[: len(choices)] or string.ascii_uppercase
    if match and match[1].upper() in options:  # of the options x and y, "y" is no letter
        return (match[1].upper(),)
    # The text of an option.
    letters = _letters_of_text(line, choices) or _letters_of_text(whole, choices)
    if letters:
        return letters
    if match:
        return (match[1].upper(),)
    # Every letter that is marked as one, without those that are denied.
    for pattern in (_DENIED_LETTERS, _REJECTED_LETTERS, _RULED_OUT):
        line = pattern.sub(" ", line)
    line = claims.claimed_part(line)
    line = _INTRODUCTION.sub("", line.strip(" ,;.")).strip()
    line = _CONTRAST.sub("", line)
    if line == "I":  # what is left of "I don't know"
        return ()
    letters = _letters_of_text(line, choices)
    if letters:
        return letters
    match = _ONLY_LETTER.fullmatch(line)
    if match:
        return (match[1].upper(),)
    # What explains a letter may speak of others.
    for part in (_REASON.split(line)[0], line):
        named = {in_brackets or bare for in_brackets, bare in _LETTER.findall(part)}
        named |= {letter.upper() for letter in _OPTION_LETTER.findall(part)}
        if len(named) == 1:
            break
    return tuple(sorted(named)) or _letters_of_text(_COPULA.split(line)[-1], choices)


def _without_wrapping(text: str) -> str:
    """A short text without emphasis, quotation marks and LaTeX around its words."""
    line = normalise_characters(text.strip()[:_MAX_CHARACTERS])
    if not line.isascii():
        line = _AFTER_IDEOGRAPH.sub(" ", line).replace("。", ".")
    for _ in range(2):  # \\textbf{\\text{B}}
        line = _WRAPPING.sub(lambda match: match[1] or "", line)
    return line.strip()


def _option_letters(problem: Problem) -> str:
    """The letters of the options; all letters where the problem does not list its options."""
    return string.ascii_uppercase[: len(problem.choices)] or string.ascii_uppercase


def _letters_of_text(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Letters of the options whose text this is, with or without its letter before it."""
    wanted = _comparable(text)
    if not wanted:
        return ()
    letters: list[str] = []
    for letter, choice in zip(string.ascii_uppercase, choices, strict=False):
        if wanted in (_comparable(choice), _comparable(f"{letter}{choice}")):
            letters.append(letter)
    return tuple(letters)


def _comparable(text: str) -> str:
    """Letters, digits and signs that carry meaning, lower case: "B) $12." and "(B) 12" are the same."""
    return re.sub(r"[\s()\[\]{}$\\.,;:!?'\"]+", "", text).lower()
