"""The thought template as text: read tolerantly, counted strictly, and written.

`<Step1>…<Key>…</Key>…</Step1> … <Generalized>…</Generalized> <Answer>…</Answer>`; a corrected step holds `<Cause>` and
`<Correction>`. As models write it the form varies: tags in lower case, `<Step 1:>`, closing tags that repeat the
opening one, none at all. The plain form is `Step 1: …`, `Key: …`, each at the beginning of a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from potstill.records import split_reasoning
from potstill.traces.reading import count_reading

INNER_PARTS = ("key", "evaluate", "cause", "correction")  # of a step
END_PARTS = ("generalized", "answer")

_NAMES = "step|key|evaluate|cause|correction|generali[sz]ed|answer"
_TAG = re.compile(
    rf"<[ \t]*(/?)[ \t]*({_NAMES})[ \t]*:?[ \t]*(\d{{0,6}})[ \t]*:?[ \t]*>", re.IGNORECASE
)
_WORD = re.compile(
    rf"^[ \t]*(?:\#{{1,6}}[ \t]*)?(?:\*\*)?()({_NAMES})[ \t]*(\d{{0,6}})[ \t]*(?:\*\*)?:(?:\*\*)?",
    re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\boxed\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_STRICT_TAG = re.compile(r"</?(?:Step\d+|Key|Evaluate|Cause|Correction|Generalized|Answer)>")
_STRICT_WORD = re.compile(r"(?:Step \d+|Key|Evaluate|Cause|Correction|Generalized|Answer):")


class Mark(NamedTuple):
    """A tag or word that begins or ends a part, and where it stands in the text."""

    name: str
    number: str
    closes: bool
    start: int
    stop: int


class Step(NamedTuple):
    """A step: what it says, what stands in its parts ("" where it has none), and where it stands in the text."""

    text: str
    key: str
    cause: str
    correction: str
    start: int
    content_start: int
    stop: int

    @property
    def is_faulted(self) -> bool:
        """Whether its writer finds a fault in it."""
        return bool(self.cause or self.correction)


class Solution(NamedTuple):
    """A solution in steps."""

    steps: tuple[Step, ...]
    generalized: str
    answer: str

    @property
    def first_fault(self) -> int:
        """The number of the first step that is faulted, from 1; 0 where none is."""
        for number, step in enumerate(self.steps, 1):
            if step.is_faulted:
                return number
        return 0


def read_solution(text: str) -> Solution | None:
    """Read a solution in the template; None where it has no step or no answer.

    Without a part for it, the last box of the reply is the answer. Steps are numbered by their order, whatever their
    tags say. What stands in a thought (`<think>`) is not looked at.
    """
    reply = split_reasoning(text)[1]
    offset = len(text) - len(reply)
    marks = _find_marks(reply)
    reader = _PartReader(reply, offset)
    for mark in marks:
        reader.read_to(mark)
    solution = reader.finish()
    is_strict = bool(solution.answer) and _is_strict(reply, marks)
    boxes = _BOX.findall(reply)
    if not solution.answer and boxes:
        solution = solution._replace(answer=boxes[-1])
    if not solution.steps or not solution.answer:
        count_reading("thought template", text, "unparsed")
        return None
    count_reading("thought template", text, "strict" if is_strict else "tolerant")
    return solution


def write_step_start(number: int, *, xml: bool, on_line: bool = False) -> str:
    """What begins a step; `on_line` is before a part, which in the plain form has a line of its own."""
    if xml:
        return f"<Step{number}>\n"
    return f"Step {number}:\n" if on_line else f"Step {number}: "


def write_correction(cause: str, correction: str, *, xml: bool) -> str:
    """Cause and correction of a step, as far as they are not empty."""
    lines: list[str] = []
    for name, content in (("Cause", cause), ("Correction", correction)):
        if content:
            lines.append(f"<{name}>{content}</{name}>\n" if xml else f"{name}: {content}\n")
    return "".join(lines)


def write_cause_start(*, xml: bool) -> str:
    """What begins the cause of an error."""
    return "<Cause>" if xml else "Cause:"


def cause_end(*, xml: bool) -> str:
    """What ends a cause: a stop string."""
    return "</Cause>" if xml else "\n"


def write_correction_start(*, xml: bool) -> str:
    """What stands between a cause and its correction."""
    return "</Cause>\n<Correction>" if xml else "\nCorrection:"


def _find_marks(reply: str) -> list[Mark]:
    """The tags of a reply; where no step has one, the words at the beginnings of its lines."""
    for pattern in (_TAG, _WORD):
        marks: list[Mark] = []
        for match in pattern.finditer(reply):
            slash, name, number = match.groups()
            name = name.lower().replace("generalised", "generalized")
            marks.append(Mark(name, number, bool(slash), match.start(), match.end()))
        if any(mark.name == "step" for mark in marks):
            return marks
    return []


class _PartReader:
    """Collects what stands between marks under the part that is open there."""

    def __init__(self, reply: str, offset: int) -> None:
        self._reply, self._offset = reply, offset
        self._position = 0
        self._open_part = ""  # "" is outside of all parts
        self._open_number = ""
        self._steps: list[dict[str, str]] = []
        self._places: list[list[int]] = []  # start, content_start and stop of each step
        self._ends: dict[str, str] = dict.fromkeys(END_PARTS, "")

    def read_to(self, mark: Mark) -> None:
        """Take the text up to a mark, then open or close its part."""
        self._collect(mark.start)
        self._position = mark.stop
        # A second opening tag of the part that is open closes it.
        repeats = mark.name == self._open_part and (
            mark.name != "step" or mark.number == self._open_number != ""
        )
        if mark.name == "step":
            self._close_step(mark.stop if mark.closes or repeats else mark.start)
            self._open_part = ""
            if not (mark.closes or repeats):
                self._open_step(mark)
        elif mark.closes or repeats:
            self._open_part = "step" if self._is_step_open() else ""
        elif mark.name in END_PARTS:
            self._close_step(mark.start)
            self._open_part = mark.name
        else:
            self._open_part = mark.name

    def finish(self) -> Solution:
        """The solution, once all marks were read."""
        self._collect(len(self._reply))
        self._close_step(len(self._reply))
        steps: list[Step] = []
        for parts, places in zip(self._steps, self._places, strict=True):
            start, content_start, stop = (place + self._offset for place in places)
            steps.append(
                Step(
                    text=parts["step"].strip(),
                    key=parts["key"].strip(),
                    cause=parts["cause"].strip(),
                    correction=parts["correction"].strip(),
                    start=start,
                    content_start=content_start,
                    stop=stop,
                )
            )
        return Solution(
            tuple(steps), self._ends["generalized"].strip(), self._ends["answer"].strip()
        )

    def _collect(self, stop: int) -> None:
        content = self._reply[self._position : stop]
        if self._open_part in END_PARTS:
            self._ends[self._open_part] += content
        elif (
            self._open_part and self._steps
        ):  # a part of a step that was closed too early is its own
            self._steps[-1][self._open_part] += content

    def _open_step(self, mark: Mark) -> None:
        self._open_part, self._open_number = "step", mark.number
        self._steps.append(dict.fromkeys(("step", *INNER_PARTS), ""))
        self._places.append([mark.start, mark.stop])

    def _is_step_open(self) -> bool:
        return bool(self._places) and len(self._places[-1]) == 2

    def _close_step(self, stop: int) -> None:
        if self._is_step_open():
            self._places[-1].append(stop)


def _is_strict(reply: str, marks: Sequence[Mark]) -> bool:
    """Whether every part is opened and closed as the prompt asks, the steps numbered from 1."""
    numbers = [mark.number for mark in marks if mark.name == "step" and not mark.closes]
    if numbers != [str(number) for number in range(1, len(numbers) + 1)]:
        return False
    spellings = [reply[mark.start : mark.stop] for mark in marks]
    if all(_STRICT_WORD.fullmatch(spelling) for spelling in spellings):
        return True  # the plain form has no closing marks
    if not all(_STRICT_TAG.fullmatch(spelling) for spelling in spellings):
        return False
    open_names: list[str] = []
    for mark in marks:
        name = mark.name + mark.number
        if mark.closes:
            if not open_names or open_names.pop() != name:
                return False
        elif len(open_names) != (mark.name in INNER_PARTS):
            return False  # a part of a step outside of one, or a step inside another
        else:
            open_names.append(name)
    return not open_names
