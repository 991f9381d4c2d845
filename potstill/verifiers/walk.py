"""The built-in world's second judge: where a walker on a grid ends, by its answer and step by step.

A walk is "Ned is at (3, 5) and faces north. Then Ned turns left. Then Ned walks 2. Where is Ned now?". East adds to the
first number, north to the second. A chain is judged by its claims, in order:

- a turn "Left: west." must be the next event's, with the direction that the walker faces after it;
- a move "2 west: 3 - 2 = 1, at (1, 5)." must be the next event's: how far, which way (a step back goes the other way),
  the equation of the number that changes, the place after it;
- "left from north is west", "west takes from the first number" and an equation outside a move must be true;
- a sentence that begins with "Together:" joins the next two events, two moves the same way ("2 + 4 = 6") or two turns
  ("left and left is around"); the move or turn after it then counts for both;
- a claim whose next sentence begins with "Wait" is taken back, and says nothing;
- a sentence that begins with "Start again" goes back to the first event;
- the boxed place is the last step: right when every event has had its claim and the place is the final one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from potstill.records import Problem, Span, Verdict
from potstill.verifiers import thoughts

VERSION = "walk@1"

# Clockwise, so that a right turn goes on by one.
DIRECTIONS = ("north", "east", "south", "west")
# Direction -> the number that changes (0 is the first), and by which operation.
AXES: dict[str, tuple[int, str]] = {
    "north": (1, "+"),
    "east": (0, "+"),
    "south": (1, "-"),
    "west": (0, "-"),
}
QUARTERS = {"right": 1, "around": 2, "left": 3}  # a turn in quarters, clockwise
# Phrase in the question -> what the walker does.
PHRASES: dict[str, str] = {
    "walks {n}": "ahead",
    "goes {n} ahead": "ahead",
    "moves {n} on": "ahead",
    "steps back {n}": "back",
    "turns left": "left",
    "takes a left": "left",
    "turns right": "right",
    "takes a right": "right",
    "turns around": "around",
}

_DIRECTION = f"({'|'.join(DIRECTIONS)})"
_TURN = f"({'|'.join(QUARTERS)})"
_NUMBER = r"(-?\d{1,6})"
_PLACE = rf"\({_NUMBER}, ?{_NUMBER}\)"
_EVENT_PATTERNS = [(re.compile(p.replace("{n}", _NUMBER)), what) for p, what in PHRASES.items()]
_WALK = re.compile(
    rf"^\w+ is at {_PLACE} and faces {_DIRECTION}\.((?: Then \w+ [^.]+\.)*) Where is \w+ now\?$"
)
_EQUATION = rf"{_NUMBER} ([-+]) {_NUMBER} = {_NUMBER}"
_BOXED = re.compile(rf"\\boxed\{{\s*\(?\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)?\s*\}}")
_GOLD = re.compile(rf"\s*{_PLACE}\s*")
# What a text can claim, by name. An equation in a move belongs to the move, so moves come first.
_CLAIMS: dict[str, re.Pattern[str]] = {
    "again": re.compile(r"Start again"),
    "move": re.compile(rf"(?<![\d-]){_NUMBER} {_DIRECTION}: {_EQUATION}, at {_PLACE}"),
    "turn": re.compile(rf"\b{_TURN}: {_DIRECTION}\b", re.IGNORECASE),
    "fact": re.compile(rf"\b{_TURN} from {_DIRECTION} is {_DIRECTION}\b"),
    "axis": re.compile(rf"\b{_DIRECTION} (adds to|takes from) the (first|second) number\b"),
    "joined": re.compile(rf"\b{_TURN} and {_TURN} is {_TURN}\b"),
    "equation": re.compile(rf"(?<![\d-]){_EQUATION}(?!\d)"),
    "box": _BOXED,
}


class Event(NamedTuple):
    """One event: `ahead` or `back` by so many steps, or a turn (`left`, `right`, `around`) with 0 steps."""

    what: str
    steps: int = 0

    @property
    def is_turn(self) -> bool:
        """Whether the walker turns on the spot."""
        return self.what in QUARTERS


class Place(NamedTuple):
    """Where the walker is, and which way it faces."""

    x: int
    y: int
    facing: str

    def number(self, axis: int) -> int:
        """Return the first number (axis 0) or the second (1)."""
        return self.x if axis == 0 else self.y


class Walk(NamedTuple):
    """A parsed question: where the walker starts, and the events."""

    start: Place
    events: tuple[Event, ...]


class Step(NamedTuple):
    """An event carried out: the place before it, which way it goes, and the place after it."""

    event: Event
    before: Place
    direction: str
    after: Place


def parse_walk(question: str) -> Walk | None:
    """Return the walk that a question tells, or None if it isn't one."""
    match = _WALK.match(question.strip())
    if match is None:
        return None
    events: list[Event] = []
    for sentence in match[4].split("."):
        if not sentence.strip():
            continue
        event = _parse_event(sentence)
        if event is None:
            return None
        events.append(event)
    return Walk(Place(int(match[1]), int(match[2]), match[3]), tuple(events))


def _parse_event(sentence: str) -> Event | None:
    phrase = sentence.strip().removeprefix("Then ").split(" ", 1)[-1]  # without the name
    for pattern, what in _EVENT_PATTERNS:
        match = pattern.fullmatch(phrase)
        if match:
            return Event(what, int(match[1]) if match.lastindex else 0)
    return None


def turn_from(facing: str, turn: str) -> str:
    """Return the direction after a turn."""
    return DIRECTIONS[(DIRECTIONS.index(facing) + QUARTERS[turn]) % 4]


def take_step(place: Place, event: Event) -> Step:
    """Carry out one event."""
    if event.is_turn:
        direction = turn_from(place.facing, event.what)
        return Step(event, place, direction, place._replace(facing=direction))
    direction = place.facing
    if event.what == "back":
        direction = turn_from(direction, "around")
    axis, op = AXES[direction]
    change = event.steps if op == "+" else -event.steps
    after = place._replace(x=place.x + change) if axis == 0 else place._replace(y=place.y + change)
    return Step(event, place, direction, after)


def required_steps(walk: Walk) -> list[Step]:
    """Return each event carried out, in order."""
    place = walk.start
    steps: list[Step] = []
    for event in walk.events:
        step = take_step(place, event)
        steps.append(step)
        place = step.after
    return steps


def join_steps(steps: Sequence[Step]) -> Step | None:
    """Return the one step that stands for one or two of them; None where they can't go together, or there is none.

    Two moves the same way go together, and two turns that are a turn together.
    """
    if len(steps) < 2:
        return steps[0] if steps else None
    first, second = steps
    if first.event.is_turn and second.event.is_turn:
        turn = join_turns(first.event.what, second.event.what)
        return (
            None
            if turn is None
            else Step(Event(turn), first.before, second.direction, second.after)
        )
    if first.event.is_turn or second.event.is_turn or first.direction != second.direction:
        return None
    event = Event(first.event.what, first.event.steps + second.event.steps)
    return Step(event, first.before, first.direction, second.after)


def join_turns(first: str, second: str) -> str | None:
    """Return the turn that two turns are together; None where they cancel."""
    quarters = (QUARTERS[first] + QUARTERS[second]) % 4
    for turn, own_quarters in QUARTERS.items():
        if own_quarters == quarters:
            return turn
    return None


def judge(problem: Problem, text: str) -> Verdict:
    """Right when the last boxed place is the walk's final place; steps are judged apart, by `steps`."""
    answer = read(problem, text)
    if answer is None:
        return Verdict("unparsed", None, "no boxed place after the reasoning", VERSION)
    gold = _GOLD.fullmatch(problem.answer or "")
    if gold is None:
        return Verdict("unjudged", answer, "the problem has no place (x, y) as its answer", VERSION)
    if answer == write_place(int(gold[1]), int(gold[2])):
        return Verdict("right", answer, "", VERSION)
    return Verdict("wrong", answer, "another place", VERSION)


def write_place(x: int, y: int) -> str:
    """A place as questions, chains and answers write it."""
    return f"({x}, {y})"


def read(problem: Problem, text: str) -> str | None:
    """Return the last boxed place after the reasoning."""
    if not thoughts.reads_thoughts():
        text, _ = thoughts.split_reply(text)
    boxes = _BOXED.findall(text.rsplit("</think>", 1)[-1])
    return write_place(int(boxes[-1][0]), int(boxes[-1][1])) if boxes else None


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are one place."""
    return first.strip() == second.strip()


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"\\boxed{{{problem.answer}}}"


def steps(problem: Problem, text: str) -> tuple[Span, ...]:
    """Return a span of kind "step" for each claim that stands and for the boxed answer; score 1 if right, else 0.

    Empty where the question is not a walk or the text claims nothing.
    """
    walk = parse_walk(problem.question)
    if walk is None:
        return ()
    return tuple(span for span, _ in _follow_text(walk, text))


def first_wrong_event(walk: Walk, text: str) -> int | None:
    """Return the index of the event at which a text's first wrong claim stands; None where every claim is right."""
    for span, event_index in _follow_text(walk, text):
        if not span.score:
            return event_index
    return None


def _follow_text(walk: Walk, text: str) -> list[tuple[Span, int]]:
    """Judge the claims of a text in order; return their spans, each with how many events were done before it."""
    progress = _Progress(required_steps(walk))
    spans: list[tuple[Span, int]] = []
    for name, claim in _find_claims(text):
        if name == "again":
            # Every event is to be accounted for anew.
            progress = _Progress(progress.steps)
            continue
        if text[claim.end() : claim.end() + 20].lstrip(". \n").startswith("Wait"):
            continue
        event_index = progress.done
        is_right = progress.accept(name, claim, _sentence_start(text, claim.start()))
        span = Span(claim.start(), claim.end(), "step", 1.0, float(is_right))
        spans.append((span, event_index))
    return spans


def _find_claims(text: str) -> list[tuple[str, re.Match[str]]]:
    """Return the claims of a text with their names, in order, none within another."""
    matches: list[tuple[str, re.Match[str]]] = []
    for name, pattern in _CLAIMS.items():
        for match in pattern.finditer(text):
            matches.append((name, match))
    matches.sort(key=lambda named: (named[1].start(), -named[1].end()))
    claims: list[tuple[str, re.Match[str]]] = []
    end = 0
    for name, match in matches:
        if match.start() >= end:
            claims.append((name, match))
            end = match.end()
    return claims


class _Progress:
    """Where a chain stands in the walk."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.done = 0  # events that have had their claim
        self.joins_two_events = False  # whether the next turn or move counts for two events

    def accept(self, name: str, claim: re.Match[str], sentence_start: str) -> bool:
        """Whether a claim is right here; if it is the next event's (or the next two's together), go on."""
        if name == "box":
            return self._is_final_place(int(claim[1]), int(claim[2]))
        if name == "fact":
            return turn_from(claim[2], claim[1]) == claim[3]
        if name == "axis":
            return (axis_index(claim[3]), operation(claim[2])) == AXES[claim[1]]
        if sentence_start.startswith("Together:"):
            self.joins_two_events = self._joins_next(claim[0])
            return self.joins_two_events
        if name in ("move", "turn"):
            return self._advance(claim[0])
        if name == "joined":
            return join_turns(claim[1], claim[2]) == claim[3]
        return is_true(claim)

    def _advance(self, claim: str) -> bool:
        """Whether this move or turn is the next event's; if it is, go on."""
        events = 2 if self.joins_two_events else 1
        step = join_steps(self.steps[self.done : self.done + events])
        is_right = step is not None and claim.lower() == write_step(step).lower().rstrip(".")
        if is_right:
            self.done += events
            self.joins_two_events = False
        return is_right

    def _joins_next(self, claim: str) -> bool:
        joined = write_joined(self.steps[self.done : self.done + 2])
        return joined is not None and claim == joined.rstrip(".")

    def _is_final_place(self, x: int, y: int) -> bool:
        """Whether every event has had its claim and this is the final place."""
        if not self.steps or self.done < len(self.steps):
            return False
        return (x, y) == self.steps[-1].after[:2]


def write_step(step: Step) -> str:
    """A turn or move as chains write it."""
    if step.event.is_turn:
        return f"{step.event.what.capitalize()}: {step.direction}."
    axis, op = AXES[step.direction]
    equation = f"{step.before.number(axis)} {op} {step.event.steps} = {step.after.number(axis)}"
    place = write_place(step.after.x, step.after.y)
    return f"{step.event.steps} {step.direction}: {equation}, at {place}."


def write_joined(steps: Sequence[Step]) -> str | None:
    """What joins two events, behind "Together:"; None where they can't go together."""
    if len(steps) < 2:
        return None
    both = join_steps(steps)
    if both is None:
        return None
    first, second = steps
    if both.event.is_turn:
        return f"{first.event.what} and {second.event.what} is {both.event.what}."
    return f"{first.event.steps} + {second.event.steps} = {both.event.steps}."


def axis_index(word: str) -> int:
    """Which number of a place a text names."""
    return ("first", "second").index(word)


def operation(words: str) -> str:
    """The operation that a text names."""
    return "+" if words == "adds to" else "-"


def is_true(claim: re.Match[str]) -> bool:
    """Whether an equation is true."""
    left, right, result = int(claim[1]), int(claim[3]), int(claim[4])
    return (left + right if claim[2] == "+" else left - right) == result


def _sentence_start(text: str, position: int) -> str:
    """What stands in the sentence before a position."""
    return re.split(r"\. |\n", text[max(0, position - 200) : position])[-1].lstrip()
