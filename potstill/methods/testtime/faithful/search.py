"""The search of faithful reasoning: steps are selected, inferred, valued and halted, and the best texts go on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from potstill.methods.testtime.faithful import format as form
from potstill.models.model import Model, Scored
from potstill.models.scoring import Passage
from potstill.records import Trace
from potstill.traces import ask, best, edit, nll, problem, read_yes_no, sample, score
from potstill.traces.keys import group_traces


class Parts(NamedTuple):
    """The four parts; in the paper each is a fine-tuned copy of one model.

    Args:
        selection: chooses statements by their labels.
        inference: says what follows from them, and sees nothing else.
        halter: says whether the last inference is enough, and then what the answer is.
        value: says how likely a step is right; without it there is no search.
    """

    selection: Model
    inference: Model
    halter: Model
    value: Scored | None


@dataclass(frozen=True, slots=True)
class Search:
    """How far and how wide is searched; the paper gives no numbers.

    Args:
        candidates: steps that are tried behind each text.
        beams: texts that go on.
        max_steps: a text of so many steps without an answer is unknown.
        temperature: of selections; all else is greedy.
    """

    candidates: int = 4
    beams: int = 2
    max_steps: int = 10
    temperature: float = 0.7


class Lineage:
    """Which answer each text is for, what its last step is worth, and whether it has an answer."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._answers: dict[str, Hashable] = {}
        self._values: dict[str, float] = {}
        self._halted: set[str] = set()

    def begin(self, trace: Trace, answer: Hashable) -> None:
        """A text is for this answer."""
        self._answers[trace.id] = answer

    def carry(self, traces: Sequence[Trace]) -> list[Trace]:
        """What was made of a text is for the same answer, and its last step is worth the same."""
        for trace in traces:
            if trace.id not in self._answers:
                source = trace.parents[0]
                self._answers[trace.id] = self._answers[source]
                self._values[trace.id] = self._values.get(source, 0.0)
        return list(traces)

    def set_value(self, trace: Trace, value: float) -> None:
        """The last step of a text is worth so much."""
        self._values[trace.id] = value

    def halt(self, traces: Sequence[Trace]) -> None:
        """These texts have an answer."""
        self._halted.update(trace.id for trace in traces)

    def is_running(self, trace: Trace) -> bool:
        """Whether a text goes on."""
        return not trace.error and trace.id not in self._halted

    def answer(self, trace: Trace) -> Hashable:
        """Key: which answer a text is for."""
        return self._answers[trace.id]

    def value(self, trace: Trace) -> float:
        """Key: what its last step is worth."""
        return self._values.get(trace.id, 0.0)

    def outcome(self, trace: Trace) -> tuple[bool, float]:
        """Key: texts with an answer before those without, then by value."""
        return trace.id in self._halted, self.value(trace)


def solve_by_search(
    parts: Parts, search: Search, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Write n texts for each problem, a step at a time, and return the best text of each."""
    lineage = Lineage()
    width = search.candidates if parts.value is not None else 1
    beams = search.beams if parts.value is not None else 1
    selecting = {**sampling, "temperature": search.temperature}

    # The candidates of each answer's first step.
    selections = sample(
        parts.selection, problems, prompt=form.show_selection, n=n * width, **selecting
    )
    last_of: dict[Hashable, Trace] = {}
    for family in group_traces(selections, problem).values():
        for place, trace in enumerate(family):
            lineage.begin(trace, (trace.problem.id, place // width))
            last_of.setdefault(lineage.answer(trace), trace)
    texts = take_step(parts, lineage, selections, sampling)

    # Step by step: the best texts of each answer go on until all have halted.
    for _ in range(search.max_steps - 1):
        texts = best(lineage.value, texts, by=lineage.answer, k=beams)
        last_of |= {lineage.answer(trace): trace for trace in reversed(texts)}
        running = [trace for trace in texts if lineage.is_running(trace)]
        if not running:
            break
        waiting = [trace for trace in texts if not lineage.is_running(trace)]
        selections = lineage.carry(
            sample(parts.selection, running, prompt=form.show_selection, n=width, **selecting)
        )
        texts = [*waiting, *take_step(parts, lineage, selections, sampling)]

    # An answer whose texts have none, or led nowhere, is unknown.
    last_of |= {
        lineage.answer(trace): trace for trace in best(lineage.outcome, texts, by=lineage.answer)
    }
    ends: list[Trace] = []
    for trace in last_of.values():
        ends += edit(form.say_unknown, [trace]) if lineage.is_running(trace) else [trace]
    return ends


def take_step(
    parts: Parts, lineage: Lineage, selections: Sequence[Trace], sampling: Mapping[str, Any]
) -> list[Trace]:
    """Infer what follows from each selection, value the step, and answer where the halter can."""
    greedy = {**sampling, "temperature": 0.0}
    chosen = lineage.carry(edit(form.close_selection, selections))
    inferred = sample(parts.inference, chosen, prompt=form.show_inference, **greedy)
    stepped = lineage.carry(edit(form.close_inference, lineage.carry(inferred)))
    failed = [trace for trace in stepped if trace.error]
    steps = [trace for trace in stepped if not trace.error]

    # How likely each step is right.
    if parts.value is not None:
        for trace in score("value", nll(parts.value, of=correct_passage), steps):
            value = trace.scores["value"]
            lineage.set_value(trace, -value if isinstance(value, float) else float("-inf"))

    # The halter answers from the last inference where that is enough.
    asked = score("knows", ask(parts.halter, form.show_halt, read_known, **greedy), steps)
    known = [trace for trace in asked if trace.scores.get("knows") == 1.0]
    known_ids = {trace.id for trace in known}
    answers = sample(parts.halter, known, prompt=form.show_answer, **greedy)
    answered = lineage.carry(edit(form.close_answer, lineage.carry(answers)))
    lineage.halt(answered)
    return [*answered, *(trace for trace in steps if trace.id not in known_ids), *failed]


def correct_passage(trace: Trace) -> Passage:
    """What the value of a text's last step is the likelihood of."""
    return Passage(form.show_value(trace), form.CORRECT)


def read_known(reply: str) -> float | None:
    """1 where the halter knows the answer, 0 where it does not, None where it says neither."""
    known = read_yes_no(reply)
    return None if known is None else float(known)
