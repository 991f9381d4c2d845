"""Where the program stands in an answer: the last fenced block that defines what is asked for, or the text itself.

A usage or an example of input and output that follows the program is not it.

Only the text after the reasoning counts. Whether a text compiles is not tried here: parsing can crash an interpreter,
so the sandbox does it. What comes back are variants, best first; the first that compiles is the program.
"""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from potstill.verifiers import extract, thoughts

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3", "py3", "pycon")
# The beginning of a line that can only be code.
_CODE_LINE = re.compile(
    r"(?:def|class|async def)\s+\w+.*:|(?:import|from)\s+[\w.]+|@\w+|return\b|yield\b|raise\b|print\s*\(|pass$"
    r"|(?:for|while|if|with)\b.*:|try:|[A-Za-z_][\w.\[\], ]*\s*(?:[-+*/%|&^]|//|\*\*)?=(?!=)"
)
# As MBPP's few-shot prompts mark a program; a completion may hold the end alone.
_MARKED_PROGRAM = re.compile(
    r"^[ \t]*\[BEGIN\](.*?)(?:^[ \t]*\[DONE\]|\Z)", re.MULTILINE | re.DOTALL
)
_MARKED_END = re.compile(r"^[ \t]*\[DONE\]", re.MULTILINE)
_READING = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*0\b|\bfileinput\b")
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


class Wanted(NamedTuple):
    """What is known of the program that a problem asks for."""

    prefix: str = ""
    """What a completion continues; it is run first, so that its imports and helpers are there."""
    entry: str = ""
    """The function or class that the program must define; where it does not, it is a continuation."""
    names: frozenset[str] = frozenset()
    """What the tests call: one of these at least is the program's."""
    reads_input: bool = False
    """Whether it reads standard input."""


ANY_PROGRAM = Wanted()


def extract_program(text: str, wanted: Wanted = ANY_PROGRAM) -> Program | None:
    """Return the program of an answer, or None where it has none."""
    reply = thoughts.split_reply(text)[0][-extract.TAIL :].replace("\r\n", "\n")
    reply = _between_marks(reply)
    # A fenced block of Python, else an `<answer>` tag with code, else the whole reply where it has code.
    blocks = _fenced_blocks(reply)
    code = _choose_block(blocks, wanted)
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
    return Program(code, _variants(code, wanted.prefix, wanted.entry, is_fenced=bool(blocks)))


def _between_marks(reply: str) -> str:
    """What stands between [BEGIN] and [DONE], or before a [DONE] alone; else the reply."""
    marked = _MARKED_PROGRAM.search(reply)
    if marked:
        return marked[1]
    end = _MARKED_END.search(reply)
    return reply[: end.start()] if end else reply


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


def _choose_block(blocks: list[_Block], wanted: Wanted) -> str | None:
    """The last block that is what is asked for, else the last of Python, else the last without a language."""
    possible: list[_Block] = []
    # A block in another language, or of comments alone, is not looked at.
    for block in blocks:
        if block.language in (*_PYTHON, "") and block.code.strip():
            possible.append(block)
    possible = [block for block in possible if _has_code_line(block.code)] or possible

    # The last block that defines the entry, or most of what the tests call.
    names = {wanted.entry} if wanted.entry else wanted.names
    defined_counts = [sum(defines_name(block.code, name) for name in names) for block in possible]
    most = max(defined_counts, default=0)
    if most:
        last = len(possible) - 1 - defined_counts[::-1].index(most)
        return possible[last].code
    if wanted.reads_input:
        reading = [block.code for block in possible if _READING.search(block.code)]
        if reading:
            return reading[-1]
    in_python = [block for block in possible if block.language]
    for group in (in_python, possible):
        if group:
            return group[-1].code
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
        variants = [[close_prefix(prefix), text] for text in texts] + variants
    return variants


def close_prefix(prefix: str) -> str:
    """A prefix that ends inside a function, as a whole program."""
    return f"{prefix.rstrip()}\n{_body_indent(prefix)}pass\n"


def _body_indent(prefix: str) -> str:
    """The white space that the body of the function begins with which a prefix ends in."""
    last_line = prefix.rstrip().rpartition("\n")[2]
    indent = last_line[: len(last_line) - len(last_line.lstrip())]
    if last_line.endswith(":"):
        indent += "    "
    return indent or "    "


def _continuations(code: str, dedented: str, prefix: str) -> list[list[str]]:
    """The code as the body of the function that the prefix begins: as it is, indented, and cut where it ends."""
    indented = textwrap.indent(dedented, _body_indent(prefix))
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
