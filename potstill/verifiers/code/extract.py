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
_PYTHON = ("python", "py", "python3", "py3", "pycon")
# The beginning of a line that can only be code.
_CODE_LINE = re.compile(
    r"(?:def|class|async def)\s+\w+.*:|(?:import|from)\s+[\w.]+|@\w+|return\b|yield\b|raise\b|print\s*\(|pass$"
    r"|(?:for|while|if|with)\b.*:|try:|[A-Za-z_][\w.\[\], ]*\s*(?:[-+*/%|&^]|//|\*\*)?=(?!=)"
)
_DEFINITION_LINE = re.compile(r"(?:def|class|import|from|@)\b|@")
# Where a continuation ends: at a line that is not indented and defines nothing, or at a demonstration.
_UNINDENTED_LINE = re.compile(
    r"^(?=\S)(?!def |class |import |from |@|async |[#)\]}'\"])", re.MULTILINE
)
_DEMONSTRATION = re.compile(
    r"^(?:if __name__\b|print\(|assert\b|# (?:Test|Example))", re.MULTILINE | re.IGNORECASE
)


class Program(NamedTuple):
    """The program as the answer has it, and what to try to compile: each variant is a list of parts."""

    text: str
    variants: list[list[str]]


class _Block(NamedTuple):
    """A fenced block."""

    language: str
    code: str


def extract_program(text: str, *, prefix: str = "", entry: str = "") -> Program | None:
    """Return the program of an answer, or None where it has none.

    Args:
        text: the answer.
        prefix: what a completion continues; it is run first, so that its imports and helpers are there.
        entry: the function or class that the program must define; where it does not, it is a continuation.
    """
    reply = extract.split_reply(text)[0][-extract.TAIL :].replace("\r\n", "\n")
    # A fenced block of Python, else an `<answer>` tag with code, else the whole reply where it has code.
    blocks = _fenced_blocks(reply)
    code = _choose_block(blocks, entry)
    if code is None:
        code = reply
        if not blocks:
            tagged = [c.text for c in extract.candidates(reply) if c.mark == "tag"]
            if tagged and _has_code_line(tagged[0]):
                code = tagged[0]
        if not _has_code_line(code):
            return None
    code = code.strip("\n")
    if not code.strip():
        return None
    return Program(code, _variants(code, prefix, entry, is_fenced=bool(blocks)))


def defines_name(code: str, name: str) -> bool:
    """Whether a line of the code binds the name at its top."""
    name = re.escape(name)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*=|(?:from|import)\b.*\b{name}\b)"
    return bool(re.search(pattern, textwrap.dedent(code), re.MULTILINE))


def _fenced_blocks(text: str) -> list[_Block]:
    """Every fenced block; one that is cut off runs to the end."""
    blocks: list[_Block] = []
    open_fence, language, start = "", "", 0
    for mark in _FENCE.finditer(text):
        if not open_fence:
            open_fence, language, start = mark[1], mark[2].lower(), mark.end()
        elif mark[1].startswith(open_fence) and not mark[2]:
            blocks.append(_Block(language, text[start : mark.start()]))
            open_fence = ""
    if open_fence:
        blocks.append(_Block(language, text[start:]))
    return blocks


def _choose_block(blocks: list[_Block], entry: str) -> str | None:
    """The last block that defines the entry point, else the last of Python, else the last without a language."""
    defining: list[str] = []
    in_python: list[str] = []
    possible: list[str] = []
    # A block in another language is not looked at.
    for block in blocks:
        if block.language not in (*_PYTHON, "") or not block.code.strip():
            continue
        possible.append(block.code)
        if block.language:
            in_python.append(block.code)
        if entry and defines_name(block.code, entry):
            defining.append(block.code)
    for codes in (defining, in_python, possible):
        if codes:
            return codes[-1]
    return None


def _has_code_line(text: str) -> bool:
    return any(_CODE_LINE.match(line.strip()) for line in text.splitlines())


def _variants(code: str, prefix: str, entry: str, *, is_fenced: bool) -> list[list[str]]:
    """What to try to compile, best first."""
    dedented = textwrap.dedent(code)
    if prefix and entry and not defines_name(code, entry):
        return _continuations(code, dedented, prefix)
    texts = [dedented]
    if not is_fenced:
        texts += _without_prose(dedented)
    variants = [[text] for text in texts]
    if prefix:
        # First with the prefix, whose imports and helpers the program may need, then alone.
        variants = [[f"{prefix}\n    pass\n", text] for text in texts] + variants
    return variants


def _continuations(code: str, dedented: str, prefix: str) -> list[list[str]]:
    """The code as the body of the function that the prefix begins: as it is, indented, and cut where it ends."""
    indented = textwrap.indent(dedented, "    ")
    bodies = (code, indented, _cut_continuation(code), _cut_continuation(indented))
    line_break = "" if prefix.endswith("\n") else "\n"
    return [[f"{prefix}{line_break}{body}\n"] for body in dict.fromkeys(bodies)]


def _without_prose(text: str) -> list[str]:
    """Bare code in prose: from the first line that begins a definition or an import, to the last that could be."""
    lines = text.split("\n")
    first = None
    for index, line in enumerate(lines):
        if _DEFINITION_LINE.match(line):
            first = index
            break
    if first is None:
        return []
    lines = lines[first:]
    last = 0
    for index, line in enumerate(lines):
        if line[:1].isspace() or _CODE_LINE.match(line):
            last = index
    return ["\n".join(lines), "\n".join(lines[: last + 1])]


def _cut_continuation(body: str) -> str:
    """A continuation up to where something else begins."""
    end = _DEMONSTRATION.search(body) or _UNINDENTED_LINE.search(body)
    return body[: end.start()] if end and end.start() else body
