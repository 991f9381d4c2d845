"""The structure of a long chain: its parts, approaches and checks, as an editor's replies say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from potstill.methods.rewriting.dlcot.prompts import PARTS

Correctness: TypeAlias = Literal["correct", "incorrect", "incomplete"]
_HEADING = re.compile(r"^#{1,3} {0,3}(\S.{0,80})$", re.MULTILINE)
_LABEL = re.compile(
    r"^\W{0,9}Solution (\d{1,4})\W{1,9}(Correct|Incorrect|Incomplete)\b.*\n"
    r"\W{0,9}Error\W{1,9}(yes|no)\b.*\n\W{0,9}Quote\W{0,9}?: *(.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_CLUSTER = re.compile(
    r"^\W{0,9}cluster {0,3}\d{1,4} {0,3}\[([^\[\]\n]*)\]", re.MULTILINE | re.IGNORECASE
)
_MEMBER = re.compile(r"\d{1,4}")


class Label(NamedTuple):
    """What is said of one approach: its answer, and the wrong part of it; "" where nothing is wrong."""

    correctness: Correctness
    wrong_part: str


@dataclass(frozen=True, slots=True)
class Structure:
    """A chain taken apart.

    Args:
        solutions: the approaches of its exploration, in order.
        checks: the single checks behind its first answer, in order.
        labels: one for each approach.
        clusters: numbers of approaches and checks that do the same, counted from 1; checks go on behind the approaches.
    """

    solutions: tuple[str, ...]
    checks: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    clusters: tuple[tuple[int, ...], ...] = field(default=())

    @property
    def members(self) -> tuple[str, ...]:
        """Approaches and checks together: number k is the one at k - 1."""
        return (*self.solutions, *self.checks)

    def completed_by(self, count: int) -> Structure:
        """The structure with the first checks moved into the last approach, which they complete."""
        last = "\n".join((self.solutions[-1], *self.checks[:count]))
        return Structure((*self.solutions[:-1], last), self.checks[count:])


def read_headed(text: str) -> list[tuple[str, str]]:
    """The texts behind the headings of a reply, each with its heading."""
    headings = list(_HEADING.finditer(text))
    sections: list[tuple[str, str]] = []
    starts = [heading.start() for heading in headings]
    for heading, stop in zip(headings, [*starts, len(text)][1:], strict=True):
        sections.append((heading[1].strip(), text[heading.end() : stop].strip()))
    return sections


def is_verbatim(sections: Sequence[str], text: str) -> bool:
    """Whether the sections are the text, white space apart."""
    return "".join("".join(sections).split()) == "".join(text.split())


def read_parts(reply: str, text: str) -> dict[str, str] | None:
    """The five parts of a chain, by name; None where they are not the chain, word for word."""
    sections = read_headed(reply)
    names = [name for name, _ in sections]
    if names != list(PARTS) or not is_verbatim([content for _, content in sections], text):
        return None
    return dict(sections)


def read_pieces(reply: str, text: str) -> tuple[str, ...] | None:
    """The pieces of a part; None where they are not the part, word for word."""
    pieces = tuple(content for _, content in read_headed(reply) if content)
    return pieces if pieces and is_verbatim(pieces, text) else None


def read_completion(reply: str, count: int) -> int | None:
    """How many checks complete the last approach: 0 where it is complete, or none do; None where it can't be read."""
    match = re.match(r"\W*(?:needs (\d{1,4})|(?:in)?complete)\b", reply, re.IGNORECASE)
    if match is None:
        return None
    needed = int(match[1] or 0)
    return needed if needed <= count else None


def read_labels(reply: str, count: int) -> tuple[Label, ...] | None:
    """The label of each approach; None where there is not one for each of them."""
    labels: list[Label] = []
    numbers: list[int] = []
    for number, correctness, has_error, quote in _LABEL.findall(reply):
        numbers.append(int(number))
        wrong_part = quote.strip(" \"'") if has_error.lower() == "yes" else ""
        if wrong_part == "-":  # a part that begins with a minus keeps it
            wrong_part = ""
        labels.append(Label(correctness.lower(), wrong_part))
    return tuple(labels) if numbers == list(range(1, count + 1)) else None


def read_clusters(reply: str, count: int) -> tuple[tuple[int, ...], ...] | None:
    """The clusters, each with its members in order; None where a member is in none of them, or in two."""
    clusters: list[tuple[int, ...]] = []
    for members in _CLUSTER.findall(reply):
        clusters.append(tuple(sorted(int(number) for number in _MEMBER.findall(members))))
    numbers = sorted(number for cluster in clusters for number in cluster)
    return tuple(clusters) if numbers == list(range(1, count + 1)) else None


def redundant_members(structure: Structure) -> list[int]:
    """All members of each cluster but its first, in the order of the chain."""
    marked: list[int] = []
    for cluster in structure.clusters:
        marked += cluster[1:]
    return sorted(marked)


def main_path(structure: Structure) -> int:
    """The number of the first correct approach; 0 where there is none."""
    for number, label in enumerate(structure.labels, 1):
        if label.correctness == "correct":
            return number
    return 0


def erroneous_texts(structure: Structure) -> list[str]:
    """What is taken out beside the redundant: wrong approaches off the main path, and wrong parts of the others.

    On the main path, which leads to the first correct approach, and in correct approaches behind it, only what was
    quoted as wrong goes, and only where it is a quotation.
    """
    last_needed = main_path(structure)
    texts: list[str] = []
    for number, (solution, label) in enumerate(
        zip(structure.solutions, structure.labels, strict=True), 1
    ):
        if not label.wrong_part:
            continue
        if number > last_needed and label.correctness != "correct":
            texts.append(solution)
        elif label.wrong_part in solution:
            texts.append(label.wrong_part)
    return texts
