r"""The steps of a text: what a chain of reasoning says besides its answer. Here alone steps are counted.

A step is a sentence or a line that says something: it holds a word, or an equation. A sentence with several equations
is as many steps, so that "5 + 2 = 7, 7 - 3 = 4" counts as two lines would. No steps are

- a statement of the answer by itself: "So the answer is \boxed{8}.", "#### 8", a last "Ned has 8 shells.";
- what only announces a step: a heading, a label, "Then we add:";
- a sentence of the question, said again, and one that the text has said already;
- a check of what was done ("Check: 8 - 3 = 5."), what is taken back, and the taking back ("Wait, that is not right.");
- where a text calculates, words without a number ("Okay, let me be careful."): they accompany steps.

So a long chain with detours has as many steps as a brief one that goes the same way. **The words of checking, taking
back and giving a reason are English**; those that state an answer are known in Chinese and Japanese too. Equations,
boxes, sentence ends and repetitions are read in any language. In another language a check counts as a step, so a
reference with detours asks for more there: `ReferenceGate(min_step_share=…)` can be set lower.

The verifiers' steps (`verify`) are another thing: claims that can be judged, of few kinds of problems. These here can
be counted in any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Span, split_reasoning
from potstill.traces.word_overlap import split_words

# A sentence ends at its mark, with a blank behind it; in Chinese and Japanese without.
_UNIT_END = re.compile(r"(?<=[.!?])[\"')\]*]{0,3}\s+|(?<=[。！？])|\n+")
# "Step 3:", "3.", "(b)", "- ", "**Step 3.**", "## ", at the beginning of a unit.
_LABEL = re.compile(
    r"[\s>*_#•-]*(?:(?:step\s*)?\(?(?:\d{1,3}|[a-z])[.):]+(?=[\s*]|$)|step\s+\d{1,3}\b[:.]?)?[\s*_]*",
    re.IGNORECASE,
)
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's calculator
_LATEX = re.compile(r"\\(?:begin|end)\{[^{}]{0,40}\}|\\[A-Za-z]{1,20}")
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)|\\equiv\b|\\approx\b|≈|≡")
_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CHECK = re.compile(
    r"(?:let me |let us |let's |i |we |now |to )*(?:double[- ]?)?(?:check|verify|recheck)(?:ing|s)?\b",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(
    # "Wait, no" and "Actually, that" take back; "Wait times are 2 hours" and "Actually each has 2" go on.
    r"(?:wait(?=[^\w\s]|\s*$|\s(?:no|that|this|i|it|let)\b)|actually(?=[^\w\s]|\s(?:no|that|this)\b)"
    r"|hmm+|oops|no(?=, (?:wait|that|this)\b)"
    r"|(?:but )?(?:that|this) (?:is|was|seems) (?:not right|wrong|incorrect))\b",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,20}>")
_ANSWER_MARK = re.compile(
    r"\\boxed|\\fbox|####|<answer>|\banswers?\b[^.\n]{0,40}?(?:\bis\b|\bare\b|:|=)|^[\s*_]*answer\b|答案|答え",
    re.IGNORECASE,
)
# What stands behind one of these is a reason, and a sentence with a reason is a step though it states the answer.
_REASON = re.compile(r"\b(?:because|since|as|for|by|from|if|when|while|gives?|means?)\b", re.I)


def find_units(text: str) -> list[Span]:
    """Find the sentences and lines of a text that hold anything: spans without the white space between them."""
    units: list[Span] = []
    start = 0
    for match in _UNIT_END.finditer(text):
        units.append(Span(start, match.start(), "step"))
        start = match.end()
    units.append(Span(start, len(text), "step"))
    return [unit for unit in units if text[unit.start : unit.stop].strip()]


def find_reasoning_steps(text: str, *, question: str = "", answer: str | None = None) -> list[Span]:
    """Find the units of a text that are steps: spans of the kind "step", with the number of equations as their score.

    Args:
        text: a whole text, its thought included.
        question: of the problem; what it says is no step.
        answer: what the text answers, where that is known: its last sentence is no step where it only states this.

    Returns:
        One span a sentence or line that says something new; a score of 2 or more is that many steps.
    """
    text = _blank_drawings(text)
    question_words = " ".join(split_words(question))
    # What each unit says without its label, and whether the text calculates at all.
    units = find_units(text)
    contents = [_content(text[unit.start : unit.stop]) for unit in units]
    calculates = any(_EQUALS.search(content) for content in contents)
    earlier_keys: set[str] = set()
    steps: list[Span] = []
    for number, (unit, content) in enumerate(zip(units, contents, strict=True)):
        # A unit is taken back where the next one begins with "Wait" or the like.
        is_last = number == len(units) - 1
        is_taken_back = not is_last and _TAKES_BACK.match(contents[number + 1]) is not None
        if is_taken_back or _is_detour(content) or not _says_something(content, calculates):
            continue
        if _states_answer(content, answer, is_last=is_last):
            continue
        # The words alone miss signs, so that 5 + 3 and 5 - 3 would be one: equations are compared as they stand.
        equations = len(_EQUALS.findall(content))
        key = " ".join(content.split()) if equations else " ".join(split_words(content))
        is_from_question = not equations and f" {key} " in f" {question_words} "
        if key in earlier_keys or is_from_question:
            continue
        earlier_keys.add(key)
        steps.append(unit._replace(score=float(max(1, equations))))
    return steps


def count_steps(text: str, *, question: str = "", answer: str | None = None) -> int:
    """Count the steps of a text, equations of one sentence each; arguments as for `find_reasoning_steps`."""
    return sum_steps(find_reasoning_steps(text, question=question, answer=answer))


def sum_steps(steps: Sequence[Span]) -> int:
    """How many steps these spans of `find_reasoning_steps` are."""
    return sum(int(step.score or 1) for step in steps)


def count_words(text: str, steps: Sequence[Span]) -> int:
    """Count the words and numbers of a text's steps: a length that no tokenizer decides."""
    return sum(len(split_words(text[step.start : step.stop])) for step in steps)


def reference_part(text: str, *, question: str = "", answer: str | None = None) -> str:
    """The part of a reference that others are measured by: its reply where that has two steps, or else its thought.

    A long thought with a write-up behind it is a search: who writes the solution in other words need not repeat it.
    """
    thought, reply = split_reasoning(text)
    if not thought or count_steps(reply, question=question, answer=answer) > 1:
        return reply
    return thought


def without_last_line(text: str) -> str:
    """Return the text up to its last line that holds anything; a text of one line without its last sentence."""
    # Blank lines at the end hold nothing that could be hidden.
    body = text.rstrip()
    head, newline, _ = body.rpartition("\n")
    if newline:
        return head.rstrip()
    head, stop, _ = body.rpartition(". ")
    return head + stop.rstrip()


def _blank_drawings(text: str) -> str:
    """The text with blanks in the place of MATH's drawings, `[asy] … [/asy]`, so that no place in it moves."""
    parts: list[str] = []
    position = 0
    while (start := text.find("[asy]", position)) >= 0:
        stop = text.find("[/asy]", start)
        if stop < 0:
            break
        parts += [text[position:start], " " * (stop + len("[/asy]") - start)]
        position = stop + len("[/asy]")
    return "".join([*parts, text[position:]])


def _content(unit: str) -> str:
    """A unit without its label, tags and annotations."""
    content = _TAG.sub(" ", _ANNOTATION.sub("", unit)) if "<answer>" not in unit else unit
    label = _LABEL.match(content)
    return content[label.end() :] if label is not None else content


def _is_detour(content: str) -> bool:
    """Whether a unit checks what was done, or takes it back."""
    return _CHECK.match(content) is not None or _TAKES_BACK.match(content) is not None


def _says_something(content: str, calculates: bool) -> bool:
    """Whether it is more than a label, a heading or the frame of a formula; in a text that calculates, than words."""
    if _EQUALS.search(content):
        return True
    if calculates and not _NUMBER.search(content):
        return False
    is_announcement = content.rstrip(" *_").endswith((":", "："))
    plain = _LATEX.sub(" ", content)
    return not is_announcement and bool(_WORD.search(plain) or len(_NUMBER.findall(plain)) > 1)


def _states_answer(content: str, answer: str | None, *, is_last: bool) -> bool:
    """Whether a unit only states the answer: it calculates nothing, and gives no reason."""
    if _EQUALS.search(content) or _REASON.search(content):
        return False
    numbers = _NUMBER.findall(content)
    if _ANSWER_MARK.search(content):
        return len(set(numbers)) < 2
    # "Ned has 8 shells." at the end, where 8 is the answer.
    return is_last and answer is not None and set(numbers) == set(_NUMBER.findall(answer)) != set()
