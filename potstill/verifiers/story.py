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
from potstill.verifiers import thoughts

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


def _event_pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(phrase.replace("{n}", r"(\d+)").replace("{friend}", r"\w+"))


_EVENT_PATTERNS = [(_event_pattern(p), op, factor) for p, (op, factor) in PHRASES.items()]
_STORY = re.compile(
    r"^\w+ has (\d+) \w+\.((?: Then \w+ [^.]+\.)*) How many \w+ does \w+ have now\?$"
)
_INTEGER = r"(-?\d{1,18})"
_EQUATION = re.compile(rf"(?<!\d)(?<!\d\.){_INTEGER} ([-+*/]) {_INTEGER} = {_INTEGER}(?!\.?\d)")
_BOXED = re.compile(r"\\boxed\{\s*(-?\d{1,9})\s*\}")
_GOLD = re.compile(r"\s*-?\d{1,9}\s*")
_CLAIM = re.compile(r"Start again|" + _EQUATION.pattern + "|" + _BOXED.pattern)


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


def parse_story(question: str) -> Story | None:
    """Return the story that a question tells, or None if it isn't one."""
    match = _STORY.match(question.strip())
    if match is None:
        return None
    events: list[Event] = []
    for sentence in match[2].split("."):
        if not sentence.strip():
            continue
        event = _parse_event(sentence)
        if event is None:
            return None
        events.append(event)
    return Story(int(match[1]), tuple(events))


def _parse_event(sentence: str) -> Event | None:
    phrase = sentence.strip().removeprefix("Then ").split(" ", 1)[-1]  # without the name
    for pattern, op, factor in _EVENT_PATTERNS:
        match = pattern.fullmatch(phrase)
        if match:
            return Event(op, factor if factor is not None else int(match[1]))
    return None


def apply_event(total: int, event: Event) -> int:
    """Return the total after an event."""
    op, operand = event
    if op == "+":
        return total + operand
    if op == "-":
        return total - operand
    if op == "*":
        return total * operand
    return total // operand


def required_equations(story: Story) -> list[Equation]:
    """Return the equation of each event, in order."""
    total = story.start
    equations: list[Equation] = []
    for event in story.events:
        result = apply_event(total, event)
        equations.append(Equation(total, event.op, event.operand, result))
        total = result
    return equations


def judge(problem: Problem, text: str) -> Verdict:
    """Right when the last boxed number is the story's final total; steps are judged apart, by `steps`."""
    answer = read(problem, text)
    if answer is None:
        return Verdict("unparsed", None, "no boxed number after the reasoning", VERSION)
    if problem.answer is None or not _GOLD.fullmatch(problem.answer):
        reason = "the problem has no whole number as its answer"
        return Verdict("unjudged", answer, reason, VERSION)
    if int(answer) == int(problem.answer):
        return Verdict("right", answer, "", VERSION)
    return Verdict("wrong", answer, "another total", VERSION)


def read(problem: Problem, text: str) -> str | None:
    """Return the last boxed number after the reasoning."""
    if not thoughts.reads_thoughts():
        text, _ = thoughts.split_reply(text)
    boxes = _BOXED.findall(text.rsplit("</think>", 1)[-1])
    return str(int(boxes[-1])) if boxes else None


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are one total."""
    return first.strip() == second.strip()


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"\\boxed{{{problem.answer}}}"


def steps(problem: Problem, text: str) -> tuple[Span, ...]:
    """Return a span of kind "step" for each equation that stands and for the boxed answer; score 1 if right, else 0.

    Empty where the question is not a story or the text claims nothing.
    """
    story = parse_story(problem.question)
    if story is None:
        return ()
    spans, _ = _follow_text(story, text)
    return tuple(spans)


def count_done_events(story: Story, text: str) -> int:
    """Return how many of the story's events a text has accounted for, up to its end."""
    _, progress = _follow_text(story, text)
    return progress.done


def needed_equations(story: Story, text: str) -> list[Equation]:
    """Return the equations that a text still needs, from its end on.

    The next two are one equation where the text has added their numbers up already.
    """
    _, progress = _follow_text(story, text)
    remaining = progress.equations[progress.done :]
    together = join_equations(remaining[:2]) if progress.adds_two_events else None
    return [together, *remaining[2:]] if together else remaining


def _follow_text(story: Story, text: str) -> tuple[list[Span], _Progress]:
    """Judge the claims of a text in order; return their spans and where the text stands at its end."""
    progress = _Progress(required_equations(story))
    spans: list[Span] = []
    for claim in _CLAIM.finditer(text):
        if claim[0] == "Start again":
            # Every event is to be accounted for anew.
            progress = _Progress(progress.equations)
            continue
        if _is_taken_back(text, claim.end()):
            continue
        if claim[0].startswith("\\boxed"):
            is_right = progress.is_final_total(int(claim[5]))
        else:
            equation = Equation(int(claim[1]), claim[2], int(claim[3]), int(claim[4]))
            is_right = progress.accept(equation, _sentence_start(text, claim.start()))
        spans.append(Span(claim.start(), claim.end(), "step", 1.0, float(is_right)))
    return spans, progress


class _Progress:
    """Where a chain stands in the story."""

    def __init__(self, equations: list[Equation]) -> None:
        self.equations = equations
        self.done = 0  # events that have had their equation
        self.adds_two_events = False  # whether the next equation counts for two events

    def is_final_total(self, answer: int) -> bool:
        """Whether every event has had its equation and this is the final total."""
        if not self.equations or self.done < len(self.equations):
            return False
        return answer == self.equations[-1].result

    def accept(self, claim: Equation, sentence_start: str) -> bool:
        """Whether this equation is right here; if it is the next event's (or the next two's together), go on."""
        if sentence_start.startswith("Check:"):
            return is_true(claim)
        if sentence_start.startswith("Together:"):
            self.adds_two_events = claim == sum_of_two(self.equations[self.done : self.done + 2])
            return self.adds_two_events
        events = 2 if self.adds_two_events else 1
        is_right = claim == join_equations(self.equations[self.done : self.done + events])
        if is_right:
            self.done += events
            self.adds_two_events = False
        return is_right


def sum_of_two(pair: list[Equation]) -> Equation | None:
    """Return `a + b = c` over the numbers of two gains or two losses in a row; None where they can't go together."""
    if len(pair) < 2 or pair[0].op != pair[1].op or pair[0].op not in "+-":
        return None
    return Equation(pair[0].right, "+", pair[1].right, pair[0].right + pair[1].right)


def join_equations(equations: list[Equation]) -> Equation | None:
    """Return the one equation that takes the first event's total to the last one's; None at the end of the story."""
    if len(equations) < 2:
        return equations[0] if equations else None
    first, second = equations
    together = sum_of_two(equations)
    if together is None:
        return None
    return Equation(first.left, first.op, together.result, second.result)


def is_true(claim: Equation) -> bool:
    """Whether an equation is true (division must leave no rest)."""
    if claim.op == "/":
        return claim.right != 0 and claim.left == claim.right * claim.result
    return apply_event(claim.left, Event(claim.op, claim.right)) == claim.result


def _sentence_start(text: str, position: int) -> str:
    """What stands in the sentence before a position."""
    return re.split(r"\. |\n", text[max(0, position - 200) : position])[-1].lstrip()


def _is_taken_back(text: str, end: int) -> bool:
    """Whether the sentence after a claim begins with "Wait"."""
    return text[end : end + 20].lstrip(". \n").startswith("Wait")
