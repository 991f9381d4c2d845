"""Where the program stands in an answer: the last fenced block that defines the entry point, or the text itself.

Only the text after the reasoning counts. Whether a text compiles is not tried here: parsing can crash an interpreter,
so the sandbox does it. What comes back are variants, best first; the first that compiles is the program.
"""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from potstill.verifiers import extract

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3", "py3", "pycon", "")
_LINE = re.compile(
    r"(?:def|class|async def)\s+\w+.*:|(?:import|from)\s+[\w.]+|@\w+|return\b|yield\b|raise\b|print\s*\(|pass$"
    r"|(?:for|while|if|with)\b.*:|try:|[A-Za-z_][\w.\[\], ]*\s*(?:[-+*/%|&^]|//|\*\*)?=(?!=)"
)
_STOPS = re.compile(r"^(?=\S)(?!def |class |import |from |@|async |[#)\]}'\"])", re.MULTILINE)
_DEMONSTRATION = re.compile(
    r"^(?:if __name__\b|print\(|assert\b|# (?:Test|Example))", re.MULTILINE | re.IGNORECASE
)


class Program(NamedTuple):
    """The program as the answer has it, and what to try to compile: each variant is a list of parts."""

    text: str
    variants: list[list[str]]


def read(text: str, *, prefix: str = "", entry: str = "") -> Program | None:
    """The program of an answer, or None where it has none.

    Args:
        prefix: what a completion continues; it is run first, so that its imports and helpers are there.
        entry: the function or class that the program must define; where it does not, it is a continuation.
    """
    shown = extract.split_reply(text)[0][-extract.TAIL :].replace("\r\n", "\n")
    blocks = _blocks(shown)
    found = _choose(blocks, entry)
    if found is None:
        tagged = (
            [f.text for f in extract.candidates(shown) if f.mark == "tag"] if not blocks else []
        )
        found = tagged[0] if tagged and _like_code(tagged[0]) else shown
        if not _like_code(found):
            return None
    found = found.strip("\n")
    if not found.strip():
        return None
    return Program(found, _variants(found, prefix, entry, fenced=bool(blocks)))


def defines(code: str, entry: str) -> bool:
    """Whether a line of the code binds the name at its top."""
    name = re.escape(entry)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*=|(?:from|import)\b.*\b{name}\b)"
    return bool(re.search(pattern, textwrap.dedent(code), re.MULTILINE))


def _blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block; one that is cut off runs to the end."""
    found: list[tuple[str, str]] = []
    opened: tuple[str, str, int] | None = None
    for mark in _FENCE.finditer(text):
        fence, language = mark[1], mark[2].lower()
        if opened is None:
            opened = (fence, language, mark.end())
        elif mark[1].startswith(opened[0]) and not language:
            found.append((opened[1], text[opened[2] : mark.start()]))
            opened = None
    if opened:
        found.append((opened[1], text[opened[2] :]))
    return found


def _choose(blocks: list[tuple[str, str]], entry: str) -> str | None:
    """The last block that defines the entry point, else the last of Python."""
    mine = [content for language, content in blocks if language in _PYTHON and content.strip()]
    defining = [content for content in mine if entry and defines(content, entry)]
    named = [
        content for language, content in blocks if language in _PYTHON[:-1] and content.strip()
    ]
    return next((found[-1] for found in (defining, named, mine) if found), None)


def _like_code(text: str) -> bool:
    return any(_LINE.match(line.strip()) for line in text.splitlines())


def _variants(code: str, prefix: str, entry: str, *, fenced: bool) -> list[list[str]]:
    plain = textwrap.dedent(code)
    if not prefix or not entry or defines(code, entry):
        before = [f"{prefix}\n    pass\n"] if prefix else []
        texts = [plain] if fenced else [plain, *_from_first_line(plain)]
        return [[*before, text] for text in texts] + ([[text] for text in texts] if prefix else [])
    indented = textwrap.indent(plain, "    ")
    bodies = [code, indented, *(_cut(body) for body in (code, indented))]
    return [
        [f"{prefix}{'' if prefix.endswith(chr(10)) else chr(10)}{body}\n"]
        for body in dict.fromkeys(bodies)
    ]


def _from_first_line(text: str) -> list[str]:
    """Prose around bare code: from the first line that begins a definition or an import, to the last that could be."""
    lines = text.split("\n")
    starts = [
        i for i, line in enumerate(lines) if re.match(r"(?:def|class|import|from|@)\b|@", line)
    ]
    if not starts:
        return []
    rest = lines[starts[0] :]
    code = [i for i, line in enumerate(rest) if line[:1].isspace() or _LINE.match(line)]
    return ["\n".join(rest), "\n".join(rest[: code[-1] + 1])]


def _cut(body: str) -> str:
    """A continuation up to where something else begins."""
    stop = _DEMONSTRATION.search(body) or _STOPS.search(body)
    return body[: stop.start()] if stop and stop.start() else body
