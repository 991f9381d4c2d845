"""The built-in world's exact judge: the running total of a story, by its answer and step by step.

A story is "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?". A
chain is judged by its equations `a op b = c`, in order:

- an equation must be that of the next event (its total so far, operation, operand, new total);
- unless its sentence begins with "Check:", where any true equation will do;
- a sentence that begins with "Together:" adds up the numbers of the next two events, both gains or both losses; the
  equation after it then counts for both;
- an equation or box whose next sentence begins with "Wait" is taken back, and says nothing;
- a sentence that begins with "Start again" goes back to the first event;
- the boxed answer is the last step: right when every event has had its equation and the number is the final total.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from potstill.records import Problem, Span, Verdict

VERSION = "story@1"

# Phrase in the question -> operation; the operand is the number in the phrase, or the factor given here.
PHRASES: dict[str, tuple[str, int | None]] = {
    "finds {n} more": ("+", None),
    "buys {n}": ("+", None),
    "gets {n} from {friend}": ("+", None),
    "sells {n}": ("-", None),
    "loses {n}": ("-", None),
    "gives {n} to {friend}": ("-", None),
    "doubles the pile": ("*", 2),
    "triples the pile": ("*", 3),
    "gives away half": ("/", 2),
}
_EVENTS = [
    (re.compile(p.replace("{n}", r"(\d+)").replace("{friend}", r"\w+")), op, factor)
    for p, (op, factor) in PHRASES.items()
]
_STORY = re.compile(
    r"^\w+ has (\d+) \w+\.((?: Then \w+ [^.]+\.)*) How many \w+ does \w+ have now\?$"
)
_INTEGER = r"(-?\d{1,18})"
_EQUATION = re.compile(rf"(?<!\d)(?<!\d\.){_INTEGER} ([-+*/]) {_INTEGER} = {_INTEGER}(?!\.?\d)")
_BOXED = re.compile(r"\\boxed\{\s*(-?\d{1,9})\s*\}")
_NUMBER = re.compile(r"\s*-?\d{1,9}\s*")
_MARK = re.compile(r"Start again|" + _EQUATION.pattern + "|" + _BOXED.pattern)


class Event(NamedTuple):
    """One event: what is done to the running total."""

    op: str
    operand: int


class Story(NamedTuple):
    """A parsed question: the first count and the events."""

    start: int
    events: tuple[Event, ...]


class Equation(NamedTuple):
    """`left op right = result`, as written or as required."""

    left: int
    op: str
    right: int
    result: int


def parse(question: str) -> Story | None:
    """The story told by a question, or None if it isn't one."""
    match = _STORY.match(question.strip())
    if match is None:
        return None
    events = [_event(phrase) for phrase in match[2].split(".") if phrase.strip()]
    return Story(int(match[1]), tuple(e for e in events if e)) if all(events) else None


def _event(phrase: str) -> Event | None:
    words = phrase.strip().removeprefix("Then ").split(" ", 1)[-1]
    for pattern, op, factor in _EVENTS:
        match = pattern.fullmatch(words)
        if match:
            return Event(op, factor if factor is not None else int(match[1]))
    return None


def apply(total: int, event: Event) -> int:
    """The total after an event."""
    op, n = event
    return total // n if op == "/" else {"+": total + n, "-": total - n, "*": total * n}[op]


def required(story: Story) -> list[Equation]:
    """The equation of each event, in order."""
    total, line = story.start, []
    for event in story.events:
        after = apply(total, event)
        line.append(Equation(total, event.op, event.operand, after))
        total = after
    return line


def judge(problem: Problem, text: str) -> Verdict:
    """Right when the last boxed number is the story's final total; steps are judged apart, by `steps`."""
    boxes = _BOXED.findall(text.rsplit("</think>", 1)[-1])
    if not boxes:
        return Verdict("unparsed", None, "no boxed number after the reasoning", VERSION)
    if problem.answer is None or not _NUMBER.fullmatch(problem.answer):
        return Verdict(
            "unjudged", boxes[-1], "the problem has no whole number as its answer", VERSION
        )
    right = int(boxes[-1]) == int(problem.answer)
    return Verdict(
        "right" if right else "wrong",
        str(int(boxes[-1])),
        "" if right else "another total",
        VERSION,
    )


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"\\boxed{{{problem.answer}}}"


def steps(problem: Problem, text: str) -> tuple[Span, ...]:
    """A span of kind "step" for each equation that stands and for the boxed answer; score 1 if right, else 0.

    Empty where the question is not a story or the text claims nothing.
    """
    story = parse(problem.question)
    return tuple(_walked(story, text)[0]) if story else ()


def events_done(story: Story, text: str) -> int:
    """How many of the story's events a text has accounted for, up to its end."""
    return _walked(story, text)[1].at


def still_needed(story: Story, text: str) -> list[Equation]:
    """The equations that a text still needs, from its end; the next two as one where it has added them up already."""
    walk = _walked(story, text)[1]
    first = joined(walk.line[walk.at : walk.at + 2]) if walk.together else None
    return [first, *walk.line[walk.at + 2 :]] if first else walk.line[walk.at :]


def _walked(story: Story, text: str) -> tuple[list[Span], _Walk]:
    walk, spans = _Walk(required(story)), []
    for mark in _MARK.finditer(text):
        if mark[0] == "Start again":
            walk = _Walk(walk.line)
        elif _taken_back(text, mark.end()):
            continue
        elif mark[0].startswith("\\boxed"):
            spans.append(_step(mark, walk.arrived(int(mark[5]))))
        else:
            claim = Equation(int(mark[1]), mark[2], int(mark[3]), int(mark[4]))
            spans.append(_step(mark, walk.accepts(claim, _sentence_head(text, mark.start()))))
    return spans, walk


def _step(mark: re.Match[str], good: bool) -> Span:
    return Span(mark.start(), mark.end(), "step", 1.0, float(good))


class _Walk:
    """Where a chain stands in the story: the equations required, how many are done, whether two go together next."""

    def __init__(self, line: list[Equation]) -> None:
        self.line, self.at, self.together = line, 0, False

    def arrived(self, answer: int) -> bool:
        """Whether every event has had its equation and this is the final total."""
        return bool(self.line) and self.at == len(self.line) and answer == self.line[-1].result

    def accepts(self, claim: Equation, head: str) -> bool:
        """Whether this equation is right here; if it is the next event's (or the next two's together), go on."""
        if head.startswith("Check:"):
            return holds(claim)
        if head.startswith("Together:"):
            self.together = claim == sum_of_two(self.line[self.at : self.at + 2])
            return self.together
        events = 2 if self.together else 1
        good = claim == joined(self.line[self.at : self.at + events])
        self.at += events * good
        self.together = self.together and not good
        return good


def sum_of_two(pair: list[Equation]) -> Equation | None:
    """`a + b = c` over the numbers of two gains or two losses in a row; None where they can't go together."""
    if len(pair) < 2 or pair[0].op != pair[1].op or pair[0].op not in "+-":
        return None
    return Equation(pair[0].right, "+", pair[1].right, pair[0].right + pair[1].right)


def joined(line: list[Equation]) -> Equation | None:
    """The one equation that takes the first event's total to the last one's; None at the end of the story."""
    if len(line) < 2:
        return line[0] if line else None
    together = sum_of_two(line)
    return together and Equation(line[0].left, line[0].op, together.result, line[1].result)


def holds(claim: Equation) -> bool:
    """Whether an equation is true (division must leave no rest)."""
    if claim.op == "/":
        return claim.right != 0 and claim.left == claim.right * claim.result
    return apply(claim.left, Event(claim.op, claim.right)) == claim.result


def _sentence_head(text: str, at: int) -> str:
    """What stands in the sentence before `at`."""
    return re.split(r"\. |\n", text[max(0, at - 200) : at])[-1].lstrip()


def _taken_back(text: str, end: int) -> bool:
    return text[end : end + 20].lstrip(". \n").startswith("Wait")
