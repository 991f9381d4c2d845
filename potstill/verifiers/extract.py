"""Where the final answer stands in a text: after a mark, or on the last line. Text is hostile: searches are linear.

Only the text after the last `</think>` counts at first; the reasoning before it (or a `<think>` that never closes) is
searched for *marked* answers alone, because its last line is wherever the author happened to stop.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TAIL = 200_000  # characters searched, from the end: an answer stands late, and a 10 MB text must cost no more than this


class Found(NamedTuple):
    """A candidate: the text of the answer and what marked it ("boxed", "####", "tag", "answer", "last line")."""

    text: str
    mark: str


# Terminal escapes hold digits that are nobody's answer.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?)")
_BRACE = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####([^\n]*)")
_HASHED = re.compile(
    r"[-+−]?\s{0,2}[$€£]?\s{0,2}[-+−]?\.?\d[\d,]*(?:[./]\d+)?\s?%?(?:[ \t][a-z]{1,20}){0,3}[ \t]*\.?"
)
_WEAK = re.compile(
    r"(?:^[ \t>*_]{0,8}A[ \t]{0,3}:"
    r"|\banswers?\b(?:[ \t]{1,3}[a-z']{1,20}){0,8}?[ \t*_]{0,6}(?::|=|\bis\b|\bare\b|\bwould be\b|\bequals\b)"
    r")[ \t*_:]{0,8}",
    re.IGNORECASE | re.MULTILINE,
)
_CUT_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")  # searched only where no box was closed
_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_JOINED = re.compile(
    r"[\s$,;.()\[\]\\]*(?:(?:and|or|und|\\text\{\s*(?:and|or)\s*\}|\\quad|[a-zA-Z]\s*=)[\s$,;()\[\]\\]*)*"
)


def split(text: str) -> tuple[str, str]:
    """What is shown after the last `</think>`, and the reasoning before it; an unclosed `<think>` is all reasoning."""
    head, closed, shown = text.rpartition("</think>")
    if closed:
        return shown, head
    before, opened, thought = text.rpartition("<think>")
    return (before, thought) if opened else (text, "")


def candidates(text: str) -> tuple[Found, ...]:
    """Where to read the answer, best first; a verifier takes the first that it can read.

    A box, tag or `####` after the reasoning stands alone. Else "the answer is", the last line, a mark in the reasoning.
    """
    shown, thought = (_ESCAPE.sub("", part[-TAIL:]) for part in split(text))
    found = marked(shown)
    if found and found.mark != "answer":
        return (found,)
    return tuple(f for f in (found, last_line(shown), marked(thought)) if f)


def marked(text: str) -> Found | None:
    """The last answer with a mark: boxed, `<answer>` and `####` come before "the answer is" and a line's "A:"."""
    boxes = [box for box in _boxes(text) if box[2].strip()]
    strong = [(boxes[-1][0], Found(_together(text, boxes), "boxed"))] if boxes else []
    strong += [*_tag(text), *_hashed(text)]
    return max(strong)[1] if strong else _weak(text)


def last_line(text: str) -> Found | None:
    """The last line that holds anything, unless its box was cut off: `\\boxed{18` may have been to be 180."""
    lines = text.rstrip().rsplit("\n", 1)
    line = lines[-1].strip()
    return Found(line, "last line") if line and not _CUT_BOX.search(line) else None


def sentence(text: str) -> str:
    """Up to the first full stop that is followed by a space or the end."""
    stop = _SENTENCE.search(text)
    return text[: stop.start()] if stop else text


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, stop and content of every closed box that is not inside another, in one pass."""
    found: list[tuple[int, int, str]] = []
    open_at: list[
        tuple[int, int] | None
    ] = []  # start and content start of a box, None for another brace
    for match in _BRACE.finditer(text):
        token = match.group()
        if token == "{":
            open_at.append(None)
        elif token != "}":
            if token.endswith("{") and len(token) > 2:
                open_at.append((match.start(), match.end()))
        elif open_at and (box := open_at.pop()):
            while found and found[-1][0] > box[0]:
                found.pop()
            found.append((box[0], match.end(), text[box[1] : match.start()]))
    return found


def _tag(text: str) -> list[tuple[int, Found]]:
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(stop, 0))
    content = text[start + len("<answer>") : stop].strip()
    return [(start, Found(content, "tag"))] if start >= 0 and content else []


def _hashed(text: str) -> list[tuple[int, Found]]:
    """`#### 18`; "#### Step 2: add" is a heading, so hashes count before a bare number, or at the very end."""
    end = len(text.rstrip())
    found: list[tuple[int, Found]] = []
    for match in _HASHES.finditer(text):
        content = match.group(1).strip()
        if content and (match.end() >= end or _HASHED.fullmatch(content[:200])):
            found = [(match.start(), Found(content, "####"))]
    return found


def _weak(text: str) -> Found | None:
    found = None
    for match in _WEAK.finditer(text):
        rest = text[match.end() : _line_end(text, match.end())].strip()
        if not rest:  # "Final answer:" with the answer on the next line
            rest = text[match.end() : match.end() + 2_000].strip().split("\n", 1)[0]
        if (
            rest.strip("*_:. ")
            and not rest.lower().startswith("not ")
            and not _CUT_BOX.search(rest)
        ):
            found = Found(rest, "answer")
    return found


def _together(text: str, spans: list[tuple[int, int, str]]) -> str:
    """Boxes joined by "and", "or" or a comma are one answer: `\\boxed{3} or \\boxed{5}` must not pass for 5."""
    parts = [spans[-1][2]]
    for (_, stop, content), (start, _, _) in zip(
        reversed(spans[:-1]), reversed(spans[1:]), strict=True
    ):
        between = text[stop:start]
        if len(between) > 40 or not between.strip("$ \n.") or not _JOINED.fullmatch(between):
            break
        parts.insert(0, content)
    return ", ".join(parts)


def _line_end(text: str, start: int) -> int:
    stop = text.find("\n", start)
    return len(text) if stop < 0 else stop
