"""Solutions in numbered steps, as the template writer, corrector and inspector read and write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from potstill.verifiers.story import Equation
from potstill.world.oracle.role import CannotAnswerError
from potstill.world.story import write_equation

_EQUATION = re.compile(r"(Check: )?(\d+) ([-+*/]) (\d+) = (\d+)")
_BOX = re.compile(r"\\boxed\{(\d+)\}")
_STEP = re.compile(r"<Step\d+>|^Step \d+: ?", re.MULTILINE)
_STEP_END = re.compile(r"</Step\d+>|<Generalized>|<Answer>|^Generalized:|^Answer:", re.MULTILINE)
_REFERENCE = re.compile(
    r"^Reference solution:\n(.*?)(?=\n\n(?:The student's solution|Solution to inspect|Correction to inspect"
    r"|Your last version):\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
_REVISION = re.compile(
    r"^Your last version:\n(.*)\n\nAn inspector finds faults in it\..*?\nFaults: (.*)\Z",
    re.MULTILINE | re.DOTALL,
)
_CORRECTION = re.compile(r"<Correction>|^Correction:", re.MULTILINE)
_NAMED_STEP = re.compile(r"[Ss]tep (\d+) is wrong")


class Reference(NamedTuple):
    """A solution that is believed: its equations and its answer."""

    equations: list[Equation]
    answer: str


class Block(NamedTuple):
    """A step as it stands in a text: its content, and the equations that it claims, checks left out."""

    content: str
    equations: list[Equation]


@dataclass(frozen=True, slots=True)
class Form:
    """What a prompt asks a solution to look like.

    Args:
        xml: tags, not words with a colon.
        key: hard steps are explained.
        generalized: it ends with what it teaches.
        flat: no steps at all.
        has_steps: numbered steps are asked for.
    """

    xml: bool
    key: bool
    generalized: bool
    flat: bool = False
    has_steps: bool = False

    def step(self, number: int, content: str) -> str:
        """A step."""
        if self.xml:
            return f"<Step{number}>\n{content}\n</Step{number}>\n"
        return f"Step {number}: {content}\n"

    def part(self, name: str, content: str) -> str:
        """A named part, on lines of its own."""
        if self.xml:
            return f"<{name}>\n{content}\n</{name}>"
        return f"{name}: {content}"


def asked_form(prompt: str) -> Form:
    """The form that a prompt describes: tags are described with an ellipsis, as no solution has it."""
    return Form(
        xml="<Step1>…</Step1>" in prompt,
        key="<Key>…</Key>" in prompt or "'Key:'" in prompt,
        generalized="<Generalized>…</Generalized>" in prompt or "'Generalized:'" in prompt,
        flat="one flowing solution" in prompt,
        has_steps="<Step1>…</Step1>" in prompt or "'Step 1:'" in prompt,
    )


def read_equations(text: str) -> list[Equation]:
    """The equations of a text in order, checks left out."""
    equations: list[Equation] = []
    for check, left, op, right, result in _EQUATION.findall(text):
        if not check:
            equations.append(Equation(int(left), op, int(right), int(result)))
    return equations


def read_reference(prompt: str) -> Reference | None:
    """The reference solution that a prompt shows; None where it shows none with an equation and an answer."""
    match = _REFERENCE.search(prompt)
    if match is None:
        return None
    equations, boxes = read_equations(match[1]), _BOX.findall(match[1])
    if not equations or not boxes:
        return None
    return Reference(equations, boxes[-1])


def need_reference(prompt: str) -> Reference:
    """The reference solution that a prompt shows.

    Raises:
        CannotAnswerError: it shows none that can be read.
    """
    reference = read_reference(prompt)
    if reference is None:
        raise CannotAnswerError(
            "the prompt shows no reference solution with equations and an answer"
        )
    return reference


def read_blocks(text: str) -> list[Block]:
    """The steps of a text; without numbered steps, each equation is one."""
    openings = list(_STEP.finditer(text))
    if not openings:
        return [Block(write_equation(one), [one]) for one in read_equations(text)]
    blocks: list[Block] = []
    for opening, following in zip(openings, [*openings[1:], None], strict=True):
        stop = len(text) if following is None else following.start()
        ending = _STEP_END.search(text, opening.end(), stop)
        content = text[opening.end() : ending.start() if ending else stop].strip()
        blocks.append(Block(content, read_equations(content)))
    return blocks


class BlockCheck(NamedTuple):
    """Whether a step goes on as it should.

    Args:
        is_right: whether all of its equations are those that come next.
        wrong: its first equation that is not; None where it has none at all.
        place: how many equations are accounted for behind it, or before its wrong one.
    """

    is_right: bool
    wrong: Equation | None
    place: int


def check_block(block: Block, right: Sequence[Equation], place: int) -> BlockCheck:
    """Compare a step with the equations that come next; behind all of them it may hold the answer."""
    if not block.equations:
        is_answer = place == len(right) and _BOX.search(block.content) is not None
        return BlockCheck(is_answer, None, place)
    for equation in block.equations:
        if place >= len(right) or equation != right[place]:
            return BlockCheck(False, equation, place)
        place += 1
    return BlockCheck(True, None, place)


def split_correction(block: Block) -> tuple[Block, Block | None]:
    """A step as it was attempted, and its correction where it has one."""
    match = _CORRECTION.search(block.content)
    if match is None:
        return block, None
    parts = (block.content[: match.start()], block.content[match.end() :])
    attempted, corrected = (Block(part.strip(), read_equations(part)) for part in parts)
    return attempted, corrected


def final_answer(text: str) -> str:
    """The last boxed number; "" without one."""
    boxes = _BOX.findall(text)
    return boxes[-1] if boxes else ""


def revise_draft(prompt: str, right_equations: Sequence[Equation], answer: str) -> str | None:
    """The last version that a prompt shows, with the step mended that the faults name; None without a last version.

    Faults that name no step leave it as it is, but for its answer.
    """
    match = _REVISION.search(prompt)
    if match is None:
        return None
    draft, faults = match.groups()
    named = _NAMED_STEP.search(faults)
    if named is None:
        return _BOX.sub(f"\\\\boxed{{{answer}}}", draft) if "final answer" in faults else draft
    blocks = read_blocks(draft)
    index = int(named[1]) - 1
    if index >= len(blocks) or not blocks[index].equations:
        return draft
    place = 0
    for block in blocks[:index]:
        check = check_block(split_correction(block)[0], right_equations, place)
        place = check.place + (not check.is_right)  # a wrong step stands for one too
    place = check_block(split_correction(blocks[index])[0], right_equations, place).place
    if place >= len(right_equations):
        return draft
    # Of a corrected step the correction is mended: it comes last.
    before, wrong, after = draft.partition(blocks[index].content)
    equation = write_equation(blocks[index].equations[-1])
    head, _, tail = wrong.rpartition(equation)
    return f"{before}{head}{write_equation(right_equations[place])}{tail}{after}"
