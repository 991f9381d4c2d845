"""Write docs/papers.md: each paper of the list with what runs it, from docs/papers.csv and the methods' docstrings.

A method names its rows in its docstring (`Paper: 57, 106`), and its status is what the docstring admits: nobody types
either here. `make papers` runs this; tests/test_docs_papers.py says when it must be run again.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from potstill.data.atomic_write import write_text
from potstill.methods.listing import MethodListing, list_methods

DOCS = Path(__file__).parent
TABLE, PAGE = DOCS / "papers.csv", DOCS / "papers.md"
PLANNED = "not yet: planned"
HEAD = """\
# The papers

The list that Potstill was made for: the six papers of its review (R1 to R6), then 194 others. A paper that runs has its
command, and a status that its method's docstring admits (`potstill methods NAME` says what is different or missing):

| status | means |
|---|---|
| exact | no difference from the paper is known |
| departs | the differences are named |
| partial | parts of the paper are missing, and named |
| from the abstract | no more of the paper could be read: every step is inferred |
| not yet | planned, or what it wants first |

Most commands want models and problems besides: `potstill run NAME --problems FILE --teacher SPEC --student SPEC`, and
`potstill plan` with the same words says what it would cost. Written by `make papers`; don't edit it by hand, change the
method's docstring or `docs/papers.csv` ([adding a method](adding-a-method.md)).

"""


class Paper(NamedTuple):
    """A line of docs/papers.csv.

    Args:
        number: its row in the list.
        title: of the paper.
        family: of the methods that it belongs to; "" where it is no method.
        why_not_yet: what it wants, what else it is, or "" where it is planned.
    """

    number: str
    title: str
    family: str
    why_not_yet: str


def read_papers(path: Path = TABLE) -> list[Paper]:
    """Every line of the table."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Paper(**line) for line in csv.DictReader(file)]


def methods_by_paper(methods: dict[str, MethodListing]) -> dict[str, list[MethodListing]]:
    """The methods that say that they are a paper, by its number."""
    by_paper: dict[str, list[MethodListing]] = {}
    for method in methods.values():
        for number in method.text.papers:
            by_paper.setdefault(number, []).append(method)
    return by_paper


def paper_row(paper: Paper, methods: list[MethodListing]) -> str:
    """A paper's line of the page: number, title, family, commands, status."""
    title, family, status = paper.title, paper.family, PLANNED
    if paper.why_not_yet:
        is_wanted = not paper.why_not_yet.startswith(("out of scope", "survey", "a measurement"))
        status = f"not yet: {paper.why_not_yet}" if is_wanted else paper.why_not_yet
    if methods:
        family = methods[0].family
        status = ", ".join(dict.fromkeys(method.text.exactness for method in methods))
        if methods[0].text.arxiv:
            title = f"[{title}](https://arxiv.org/abs/{methods[0].text.arxiv})"
    commands = ", ".join(f"`potstill run {method.name}`" for method in methods)
    return f"| {paper.number} | {title} | {family} | {commands} | {status} |\n"


def make_page() -> str:
    """The whole page."""
    methods = list_methods()
    by_paper = methods_by_paper(methods)
    lines = [HEAD, "| no. | paper | family | runs by | status |\n|---|---|---|---|---|\n"]
    for paper in read_papers():
        lines.append(paper_row(paper, by_paper.get(paper.number, [])))
    lines.append("\n## Methods of other papers\n\n")
    lines.append("| runs by | family | what it is | status |\n|---|---|---|---|\n")
    for method in methods.values():
        if not method.text.papers:
            command = f"`potstill run {method.name}`"
            title, status = method.text.title, method.text.exactness
            lines.append(f"| {command} | {method.family} | {title} | {status} |\n")
    return "".join(lines)


if __name__ == "__main__":
    write_text(PAGE, make_page())
