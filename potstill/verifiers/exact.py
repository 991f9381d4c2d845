"""The gold string itself, white space normalised: as the marked answer, as the last line, or as the whole text.

An unmarked text of several lines that does not hold the gold answer is unparsed: nothing says which part was meant.
"""

from __future__ import annotations

import re

from potstill.records import Problem, Verdict
from potstill.verifiers import claims, extract, thoughts

VERSION = "exact@3"
# Where a sentence about the answer begins; "St. Gallen" is one answer.
_NEXT_SENTENCE = re.compile(
    r"(?<=[.!?])\s+(?=(?:I|I['’]m|This|That|The|Let|Hope|Note|Please|We|It|Here|My|If|So|No|Explanation)\b)"
)
_CONJUNCTION = re.compile(
    r"^[\s,;]*(?:but|rather)\s+|[\s,;]+(?:(?:and|but)[\s,;]*)?[.!]?$", re.IGNORECASE
)
MAX_CHARACTERS = 200  # of an unmarked reply that is an answer as a whole


def judge(problem: Problem, text: str) -> Verdict:
    """Right where an answer read from the text is the gold string, character for character but for white space."""
    if problem.answer is None:
        return Verdict("unjudged", read(problem, text), "the problem has no gold answer", VERSION)
    gold = normalise_space(problem.answer)
    if not gold:
        return Verdict("unjudged", None, "the gold answer is empty", VERSION)
    for reading in answer_readings(text):
        if gold in (reading, *strip_marks(reading)):
            return Verdict("right", gold[:200], "equal", VERSION)
    answer = clear_answer(text, max_characters=2 * len(gold) + 40)
    if answer is None:
        has_reply = bool(reply_tail(text))
        reason = "no marked answer" if has_reply else "nothing that could be an answer"
        return Verdict("unparsed", None, reason, VERSION)
    return Verdict("wrong", answer[:200], f"{answer[:60]!r} is not {gold[:60]!r}", VERSION)


def read(problem: Problem, text: str) -> str | None:
    """Return the answer that is clearly given: a marked one, or all of a short reply; without marks and full stop."""
    answer = clear_answer(text, max_characters=MAX_CHARACTERS)
    if answer is None:
        return None
    return strip_marks(answer)[1] or answer


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are one string, white space and emphasis aside."""
    readings = []
    for answer in (first, second):
        normalised = normalise_space(answer)
        readings.append({normalised, *strip_marks(normalised)} - {""})
    return bool(readings[0] & readings[1])


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"<answer>{problem.answer}</answer>"


def answer_readings(text: str) -> list[str]:
    """Return every string that may be the answer, white space normalised.

    These are the marked answers, the last line, and the whole reply where nothing strong is marked.
    """
    candidates = extract.candidates(text)
    texts = [candidate.text for candidate in candidates]
    for candidate in candidates:
        if candidate.mark == "answer":
            texts += [extract.first_sentence(candidate.text), _announced_string(candidate.text)]
    if not candidates or candidates[0].mark in ("answer", "last line"):
        texts.append(thoughts.split_reply(text)[0][-extract.TAIL :])
    normalised = [normalise_space(reading) for reading in texts]
    return [reading for reading in normalised if reading]


def clear_answer(text: str, *, max_characters: int) -> str | None:
    """Return the answer that was clearly given, if it is not the gold one: a marked one, or all of a short reply."""
    candidates = extract.candidates(text)
    if candidates and candidates[0].mark == "answer":
        return normalise_space(_announced_string(candidates[0].text))
    if candidates and candidates[0].mark != "last line":
        return normalise_space(candidates[0].text)
    reply = reply_tail(text)
    answer = normalise_space(reply)
    if answer and len(answer) <= max_characters and "\n" not in reply:
        return answer
    return None


def _announced_string(text: str) -> str:
    """What words announce, without another sentence behind it and without what is denied ("blue, not red")."""
    text = _NEXT_SENTENCE.split(text, maxsplit=1)[0]
    claimed = _CONJUNCTION.sub("", claims.claimed_part(text)).strip(" ,;")
    return claimed if claimed.strip(".") else text


def reply_tail(text: str) -> str:
    """Return the end of what stands after the reasoning."""
    return thoughts.split_reply(text)[0][-extract.TAIL :].strip()


def normalise_space(text: str) -> str:
    """Replace runs of white space by one space."""
    return re.sub(r"\s+", " ", text).strip()


def strip_marks(text: str) -> tuple[str, ...]:
    """Return the text without emphasis or quotation marks; the same without its full stop; the same out of `\\text`."""
    bare = text.strip('*`$" ')
    without_stop = bare.removesuffix(".").strip("*`$\"' ")
    return bare, without_stop, re.sub(r"^\\text\{(.*)\}$", r"\1", bare)
