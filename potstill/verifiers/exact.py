"""The gold string itself, white space normalised: as the marked answer, as the last line, or as the whole text.

An unmarked text of several lines that does not hold the gold answer is unparsed: nothing says which part was meant.
"""

from __future__ import annotations

import re

from potstill.records import Problem, Verdict
from potstill.verifiers import extract

VERSION = "exact@1"


def judge(problem: Problem, text: str) -> Verdict:
    """Right where an answer read from the text is the gold string, character for character but for white space."""
    if problem.answer is None:
        return Verdict("unjudged", None, "the problem has no gold answer", VERSION)
    gold = squeeze(problem.answer)
    if not gold:
        return Verdict("unjudged", None, "the gold answer is empty", VERSION)
    shown = extract.split(text)[0][-extract.TAIL :].strip()
    for read in readings(text):
        if gold in (read, *trimmed(read)):
            return Verdict("right", gold[:200], "equal", VERSION)
    answer = given(text, shown, longest=2 * len(gold) + 40)
    if answer is None:
        return Verdict(
            "unparsed",
            None,
            "no marked answer" if shown else "nothing that could be an answer",
            VERSION,
        )
    return Verdict("wrong", answer[:200], f"{answer[:60]!r} is not {gold[:60]!r}", VERSION)


def readings(text: str) -> list[str]:
    """Every string that may be the answer, white space normalised: the marked ones, the last line, the whole text."""
    shown = extract.split(text)[0][-extract.TAIL :]
    found = extract.candidates(text)
    texts = [f.text for f in found] + [
        extract.sentence(f.text) for f in found if f.mark == "answer"
    ]
    if not found or found[0].mark in ("answer", "last line"):
        texts.append(shown)
    return [squeezed for squeezed in map(squeeze, texts) if squeezed]


def given(text: str, shown: str, *, longest: int) -> str | None:
    """The answer that was clearly given, though it is not the gold one: a marked one, or all of a short text."""
    found = extract.candidates(text)
    if found and found[0].mark != "last line":
        return squeeze(found[0].text)
    bare = squeeze(shown)
    return bare if bare and len(bare) <= longest and "\n" not in shown else None


def squeeze(text: str) -> str:
    """White space runs become one space."""
    return re.sub(r"\s+", " ", text).strip()


def trimmed(text: str) -> tuple[str, ...]:
    """The text without marks of emphasis or quotation around it, and without its full stop."""
    bare = text.strip('*`$" ')
    return bare, bare.removesuffix(".").strip("*`$\"' "), re.sub(r"^\\text\{(.*)\}$", r"\1", bare)
