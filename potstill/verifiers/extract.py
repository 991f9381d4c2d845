"""Where the final answer stands in a text: after a mark, or on the last line. Text is hostile: searches are linear.

Only the text after the last `</think>` counts at first; the reasoning before it (or a `<think>` that never closes) is
searched for *marked* answers alone, because its last line is wherever the author happened to stop.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Characters searched, from the end: an answer stands late, and a text of 10 MB must cost no more than this.
TAIL = 200_000


class Candidate(NamedTuple):
    """The text of an answer and what marked it: "boxed", "####", "tag", "answer" or "last line"."""

    text: str
    mark: str


class _Box(NamedTuple):
    """A closed `\\boxed{…}` with its place in the text."""

    start: int
    stop: int
    content: str


# Terminal escapes hold digits that are nobody's answer.
_TERMINAL_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?)"
)
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####([^\n]*)")
_HASHED_NUMBER = re.compile(
    r"[-+−]?\s{0,2}[$€£]?\s{0,2}[-+−]?\.?\d[\d,]*(?:[./]\d+)?\s?%?(?:[ \t][a-z]{1,20}){0,3}[ \t]*\.?"
)
# "The answer is", "the final answer would be", and a line that begins with "A:".
_ANSWER_PHRASE = re.compile(
    r"(?:^[ \t>*_]{0,8}A[ \t]{0,3}:"
    r"|\banswers?\b(?:[ \t]{1,3}[a-z']{1,20}){0,8}?[ \t*_]{0,6}(?::|=|\bis\b|\bare\b|\bwould be\b|\bequals\b)"
    r")[ \t*_:]{0,8}",
    re.IGNORECASE | re.MULTILINE,
)
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")  # searched only where no box was closed
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_BETWEEN_BOXES = re.compile(
    r"[\s$,;.()\[\]\\]*(?:(?:and|or|und|\\text\{\s*(?:and|or)\s*\}|\\quad|[a-zA-Z]\s*=)[\s$,;()\[\]\\]*)*"
)


def split_reply(text: str) -> tuple[str, str]:
    """Split a text into the reply after the last `</think>` and the reasoning before it.

    An unclosed `<think>` is all reasoning, and what stands before it is the reply.
    """
    reasoning, closed, reply = text.rpartition("</think>")
    if closed:
        return reply, reasoning
    before, opened, reasoning = text.rpartition("<think>")
    return (before, reasoning) if opened else (text, "")


def candidates(text: str) -> tuple[Candidate, ...]:
    """Return where to read the answer, best first; a verifier takes the first that it can read.

    A box, tag or `####` after the reasoning stands alone. Else "the answer is", the last line, a mark in the reasoning.
    """
    reply, reasoning = (_TERMINAL_ESCAPE.sub("", part[-TAIL:]) for part in split_reply(text))
    marked = marked_answer(reply)
    if marked and marked.mark != "answer":
        return (marked,)
    possible = (marked, _last_line(reply), marked_answer(reasoning))
    return tuple(candidate for candidate in possible if candidate)


def marked_answer(text: str) -> Candidate | None:
    """Return the last answer with a mark: a box, `<answer>` or `####`, or else "the answer is" or a line's "A:"."""
    # Of the strong marks the one that stands last; boxes that belong together are one answer.
    strong = [*_tagged_answer(text), *_hashed_answer(text)]
    boxes = [box for box in _closed_boxes(text) if box.content.strip()]
    if boxes:
        strong.append((boxes[-1].start, Candidate(_join_boxes(text, boxes), "boxed")))
    if strong:
        _, last = max(strong)
        return last
    return _answer_after_phrase(text)


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop that is followed by a space or the end."""
    stop = _SENTENCE_END.search(text)
    return text[: stop.start()] if stop else text


def _last_line(text: str) -> Candidate | None:
    """The last line that holds anything, unless its box was cut off: `\\boxed{18` may have been to be 180."""
    line = text.rstrip().rsplit("\n", 1)[-1].strip()
    if not line or _OPEN_BOX.search(line):
        return None
    return Candidate(line, "last line")


def _closed_boxes(text: str) -> list[_Box]:
    """Every closed box that is not inside another, in one pass."""
    boxes: list[_Box] = []
    # For each open brace, where its box and the box's content begin; None for a brace that opens no box.
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_OR_BRACE.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token != "}":
            # A box, or an escaped character that is passed over.
            if token.endswith("{") and len(token) > 2:
                open_braces.append((match.start(), match.end()))
        elif open_braces and (opened := open_braces.pop()):
            start, content_start = opened
            # Boxes inside this one are part of it.
            while boxes and boxes[-1].start > start:
                boxes.pop()
            boxes.append(_Box(start, match.end(), text[content_start : match.start()]))
    return boxes


def _tagged_answer(text: str) -> list[tuple[int, Candidate]]:
    """The last `<answer>…</answer>` with its place; empty where there is none."""
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(stop, 0))
    content = text[start + len("<answer>") : stop].strip()
    if start < 0 or not content:
        return []
    return [(start, Candidate(content, "tag"))]


def _hashed_answer(text: str) -> list[tuple[int, Candidate]]:
    """The last `#### 18` with its place; empty where there is none.

    "#### Step 2: add" is a heading, so hashes count before a bare number, or at the very end.
    """
    end = len(text.rstrip())
    last: list[tuple[int, Candidate]] = []
    for match in _HASHES.finditer(text):
        content = match.group(1).strip()
        if content and (match.end() >= end or _HASHED_NUMBER.fullmatch(content[:200])):
            last = [(match.start(), Candidate(content, "####"))]
    return last


def _answer_after_phrase(text: str) -> Candidate | None:
    """The last answer that words announce, as in "the answer is 18"."""
    last = None
    for match in _ANSWER_PHRASE.finditer(text):
        answer = text[match.end() : _line_end(text, match.end())].strip()
        if not answer:  # "Final answer:" with the answer on the next line
            answer = text[match.end() : match.end() + 2_000].strip().split("\n", 1)[0]
        is_denied = answer.lower().startswith("not ")
        if answer.strip("*_:. ") and not is_denied and not _OPEN_BOX.search(answer):
            last = Candidate(answer, "answer")
    return last


def _join_boxes(text: str, boxes: list[_Box]) -> str:
    """Boxes joined by "and", "or" or a comma are one answer: `\\boxed{3} or \\boxed{5}` must not pass for 5."""
    contents = [boxes[-1].content]
    for index in range(len(boxes) - 2, -1, -1):
        between = text[boxes[index].stop : boxes[index + 1].start]
        if len(between) > 40 or not between.strip("$ \n.") or not _BETWEEN_BOXES.fullmatch(between):
            break
        contents.insert(0, boxes[index].content)
    return ", ".join(contents)


def _line_end(text: str, start: int) -> int:
    stop = text.find("\n", start)
    return len(text) if stop < 0 else stop
