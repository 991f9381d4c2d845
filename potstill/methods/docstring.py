"""What a method's docstring says, read as text: sections such as `Learns from:`, the help of its arguments, its paper.

A section begins a line with its name and a colon, and goes on in indented lines. It stands in the docstring of the
function, or in that of its file where the function's would grow too long.
"""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

LEARNS_FROM, NEEDS, CONTROLS = "Learns from", "Needs", "Controls"
DEPARTURE, PARTIAL, PAPER, CITE = "Departure", "Partial", "Paper", "Cite"
BEGIN_WITH = "Begin with"
SECTIONS = (LEARNS_FROM, NEEDS, CONTROLS, DEPARTURE, PARTIAL, PAPER, CITE, BEGIN_WITH)

# exact: the code claims no difference from the paper; departs: it names some; partial: parts of the paper are missing;
# from the abstract: no more of the paper was read, and every step is inferred.
Exactness: TypeAlias = Literal["exact", "departs", "partial", "from the abstract"]
FROM_THE_ABSTRACT: Exactness = "from the abstract"

# `Needs: …` with the indented lines behind it.
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)})s?: (.*(?:\n +\S.*)*)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
# Rows of the index of papers: numbers, or R1 to R6 for those of the review.
_PAPER_NUMBER = re.compile(r"\bR?\d+\b")
# NAME, [NAME] or NAME=VALUE, perhaps with a meaning in brackets, up to the next comma or the end.
_ITEM = re.compile(r"(\[?[\w.-]*\w\]?(?:=[\w.-]*\w)?)(?: \(([^()]*)\))?(?:,? and |, |\.?$)")
# `First Author, Second Author: Title: with a colon (2024).`
_CITATION = re.compile(r"^([^:]+): (.+) \((\d{4})\)\.?$")


class Item(NamedTuple):
    """An item of `Needs:` or `Controls:`: a role, or NAME=VALUE, and what it does or shows."""

    name: str
    meaning: str


class Citation(NamedTuple):
    """A paper, from `Cite: First Author, Second Author: Title (2024).`"""

    authors: tuple[str, ...]
    title: str
    year: str


@dataclass(frozen=True, slots=True)
class MethodText:
    """A method's docstring, with that of its file.

    Args:
        doc: of the function.
        module_doc: of its file.
    """

    doc: str
    module_doc: str = ""

    @property
    def title(self) -> str:
        """The docstring's first line."""
        return self.doc.split("\n", 1)[0]

    @property
    def arxiv(self) -> str:
        """The paper's number at arXiv, "" where none is named."""
        paper = _ARXIV.search(self.doc) or _ARXIV.search(self.module_doc)
        return paper[1] if paper is not None else ""

    @property
    def exactness(self) -> Exactness:
        """What the docstring claims: departures and missing parts are named or there are none."""
        if FROM_THE_ABSTRACT in self.section(PAPER):
            return FROM_THE_ABSTRACT
        if self.section(PARTIAL):
            return "partial"
        return "departs" if self.section(DEPARTURE) else "exact"

    @property
    def citation(self) -> Citation | None:
        """The paper, where the docstring cites it in full."""
        match = _CITATION.match(self.section(CITE))
        if match is None:
            return None
        authors, title, year = match.groups()
        return Citation(tuple(authors.split(", ")), title, year)

    @property
    def papers(self) -> tuple[str, ...]:
        """The rows of docs/papers.md that the method is, from `Paper: 57, 106`; () where it stands in none."""
        return tuple(_PAPER_NUMBER.findall(self.section(PAPER)))

    def section(self, name: str) -> str:
        """A section's text in one line; "" where there is none."""
        return read_section(self.doc, name) or read_section(self.module_doc, name)

    @property
    def needs(self) -> list[Item]:
        """The roles of `Needs: teacher (writes), [sampler] (writes in its place).`; `[…]` may be left out."""
        return self.items(NEEDS)

    @property
    def controls(self) -> list[Item]:
        """The arms of `Controls: arm=none (no errors are shown), shuffled (others'), settings.sign=same.`

        A value without a name is one of the name before it; a name with a dot stands for all values of that setting.
        """
        controls: list[Item] = []
        name = ""
        for item in self.items(CONTROLS):
            if "=" in item.name or "." in item.name:
                name = item.name.partition("=")[0]
                controls.append(item)
            elif name:
                controls.append(Item(f"{name}={item.name}", item.meaning))
        return controls

    def items(self, name: str) -> list[Item]:
        """The items of a section, between commas; each may have its meaning in brackets."""
        items: list[Item] = []
        for match in _ITEM.finditer(self.section(name)):
            items.append(Item(match[1], match[2] or ""))
        return items


def read_section(doc: str, name: str) -> str:
    """A section of one docstring, in one line."""
    for match in _SECTION.finditer(doc):
        if match[1] == name:
            return " ".join(match[2].split())
    return ""


def parse_args_section(documented: Any) -> dict[str, str]:
    """Argument -> help, from the Args section of a docstring."""
    # Python 3.13 takes the indentation away itself.
    doc = inspect.cleandoc(documented.__doc__ or "")
    _, _, section = doc.partition("Args:\n")
    help_texts: dict[str, str] = {}
    for match in _ARGUMENT.finditer(section):
        name, text = match.groups()
        help_texts[name] = " ".join(text.split())
    return help_texts


def literal_options(hint: Any) -> tuple[Any, ...]:
    """The options of a `Literal`, () of any other annotation."""
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def bibtex(name: str, text: MethodText) -> str:
    """The paper as a BibTeX entry; "" where it is not cited in full."""
    citation = text.citation
    if citation is None:
        return ""
    fields = {
        "title": citation.title,
        "author": " and ".join(citation.authors),
        "year": citation.year,
    }
    if text.arxiv:
        fields |= {"eprint": text.arxiv, "archivePrefix": "arXiv"}
    lines = [f"  {key} = {{{value}}}," for key, value in fields.items()]
    return "\n".join([f"@misc{{{name}{citation.year},", *lines, "}"])
