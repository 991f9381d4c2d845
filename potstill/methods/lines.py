"""Papers that are one training: each a line of its family's `one_training.py`, and a method like any file.

A line says by which objective a student learns whose texts, with which constants, and where each of them was read. The
docstring that the catalogue reads is written of it here, its function is made in `one_training`; nothing else tells a
line from a file. This module and the tables import neither operators nor torch, so that methods are listed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError

TABLE_FILE = "one_training"  # of a family, without its ending
PAPER_ARM = "paper"

# Whose texts the rows are: the teacher's, sampled and verified; the problems' own solutions; or the student's, which it
# writes in the training.
Texts: TypeAlias = Literal["teacher", "solutions", "student"]
# What the loss asks of the teacher: nothing, its distribution of the next token, or log-probabilities of given tokens.
TeacherUse: TypeAlias = Literal["", "distribution", "likelihood"]
TEACHER_USES: Mapping[TeacherUse, str] = {
    "distribution": "its next-token distribution is learnt",
    "likelihood": "says how likely the student's tokens are",
}


class Constant(NamedTuple):
    """A keyword of the stage: a constant or option of the objective, or a keyword of its loop.

    Args:
        name: of the keyword, and so of the method's value.
        value: its default.
        meaning: in a few words.
        source: where the value was read, or "inferred".
    """

    name: str
    value: Any
    meaning: str
    source: str


class Arm(NamedTuple):
    """A control of the paper: what it shows, and what it changes.

    Args:
        name: as it is given with `--set arm=NAME`.
        shows: what it tells apart.
        constants: set over the line's.
        objective: another one, which takes `constants` alone; "" is the line's.
        texts: other rows; "" are the line's.
        asks_teacher: False where this objective takes no teacher.
    """

    name: str
    shows: str
    constants: Mapping[str, Any] = {}
    objective: str = ""
    texts: Texts | Literal[""] = ""
    asks_teacher: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A paper that is an objective with constants.

    Args:
        name: of the method.
        title: what it is, in words, without its authors.
        authors: as the title names them.
        arxiv: number of the paper.
        paper: its row of docs/papers.md.
        cite: `First Author, Second Author: Title (2023).`
        objective: by which the student learns.
        texts: whose texts it learns.
        teacher: what the loss asks of the teacher.
        constants: those of the paper; what is left out has the objective's default.
        learns_from: what the student's rows are.
        arms: its controls, beside the paper itself.
        compared_with: the methods that are its control, where it has no arm.
        departure: where the line differs from the paper, and what is inferred.
        partial: what of the paper is not there.
        abstract_only: whether no more than the abstract was read.
    """

    name: str
    title: str
    authors: str
    arxiv: str
    paper: int
    cite: str
    objective: str
    texts: Texts
    teacher: TeacherUse = ""
    constants: tuple[Constant, ...] = ()
    learns_from: str
    arms: tuple[Arm, ...] = ()
    compared_with: str = ""
    departure: str = ""
    partial: str = ""
    abstract_only: bool = False

    @property
    def learns_given_texts(self) -> bool:
        """Whether some arm learns texts that stand there before the training."""
        return self.texts != "student" or any(arm.texts not in ("", "student") for arm in self.arms)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that it must have."""
        has_teacher = self.teacher or self.learns_given_texts
        return ("teacher", "student") if has_teacher else ("student",)

    def arm(self, name: str) -> Arm:
        """An arm by its name; the paper's changes nothing.

        Raises:
            ConfigError: it has no arm of this name.
        """
        arms = {PAPER_ARM: Arm(PAPER_ARM, "")} | {arm.name: arm for arm in self.arms}
        if name not in arms:
            raise ConfigError(f"{self.name} has no arm {name!r}", available=list(arms), wanted=name)
        return arms[name]

    @property
    def docstring(self) -> str:
        """What the docstring of a method's file would say."""
        sections = [
            f"{self.title} ({self.authors}, arXiv:{self.arxiv}).",
            "",
            f"Learns from: {self.learns_from}",
            f"Needs: {self._needs()}",
            f"Controls: {self._controls()}",
        ]
        if self.departure:
            sections.append(f"Departure: {self.departure}")
        if self.partial:
            sections.append(f"Partial: {self.partial}")
        note = " (from the abstract)" if self.abstract_only else ""
        sections += [f"Paper: {self.paper}{note}", f"Cite: {self.cite}", "", "Args:"]
        for name, help_text in self.value_help().items():
            sections.append(f"    {name}: {help_text}")
        return "\n".join(sections)

    def value_help(self) -> dict[str, str]:
        """What each of its values says, in the order of the signature."""
        help_texts: dict[str, str] = {}
        if self.arms:
            help_texts["arm"] = "the paper, or one of its controls."
        if self.learns_given_texts:
            help_texts |= {
                "texts": "whose texts are learnt: the teacher's right ones, or the problems' own solutions.",
                "n": "texts sampled from the teacher a problem.",
                "steps": "also demand that every step is right; left open, where the problems' verifier judges steps.",
                "temperature": "of the teacher's texts.",
                "max_new_tokens": "longest text, of the teacher and of the student.",
            }
        for constant in self.constants:
            help_texts[constant.name] = f"{constant.meaning} ({constant.source})."
        return help_texts

    def _needs(self) -> str:
        uses = []
        if self.learns_given_texts:
            uses.append("writes")
        if self.teacher:
            uses.append(TEACHER_USES[self.teacher])
        student = "is trained"
        if self.texts == "student":
            student = "writes and is trained"
        if not uses:
            return f"student ({student})."
        return f"teacher ({'; '.join(uses)}), student ({student})."

    def _controls(self) -> str:
        if not self.arms:
            return f"none; it is compared with {self.compared_with}."
        named = [f"{arm.name} ({arm.shows})" for arm in self.arms]
        return f"arm={', '.join(named)}."


def read_lines(module: str) -> tuple[Line, ...]:
    """The lines of a table, by the dotted name of its module."""
    lines: tuple[Line, ...] = import_module(module).LINES
    return lines
