"""A small world for the core's tests: sums, a model that slips at random, a cache, a ledger, a trainer.

"Add 3, 5, 9." is solved as "3 + 5 = 8. Then 8 + 9 = 17. The answer is 17." A model slips at each step with probability
1 - skill and carries the slip on. Everything is a function of the request, so equal requests get equal completions.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from pathlib import Path

from potstill.models.model import Completion, Request
from potstill.models.scoring import to_passages
from potstill.records import Problem, Span, Tokens, Trace, Verdict, blank, digest

QUESTION = re.compile(r"Add ([\d, ]+)\.")
EQUATION = re.compile(r"(\d+) \+ (\d+) = (\d+)\.")
ANSWER = re.compile(r"The answer is (\d+)")


def sums(n: int, terms: int = 4, seed: int = 0) -> list[Trace]:
    """Blank traces of n different addition problems."""
    rng = random.Random(seed)
    lists = [[rng.randint(2, 60) for _ in range(terms)] for _ in range(n)]
    return [blank(sum_problem(f"p{i}", numbers)) for i, numbers in enumerate(lists)]


def sum_problem(name: str, numbers: list[int]) -> Problem:
    question = f"Add {', '.join(map(str, numbers))}."
    return Problem(name, question, str(sum(numbers)), kind="sum", solution=f"It is {sum(numbers)}.")


def numbers_of(text: str) -> list[int]:
    return [int(x) for x in QUESTION.findall(text)[-1].split(",")]


class Fake:
    """Solves sums with a set skill; fails a share of its generations; counts what it is asked."""

    def __init__(self, name: str, skill: float = 0.6, failing: float = 0.0) -> None:
        self.id, self.skill, self.failing = name, skill, failing
        self.requests: list[Request] = []
        self.weights = Path(name)

    def write(self, requests):
        self.requests += requests
        return [self._one(request) for request in requests]

    def likelihood(self, passages):
        return [
            [-1.0 - (len(word) + i) % 3 for i, word in enumerate(passage.text.split())]
            for passage in to_passages(passages)
        ]

    def _one(self, request: Request) -> Completion:
        rng = random.Random(request.random_seed(self.id))
        if rng.random() < self.failing:
            return Completion("", "", error="timed out")
        prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
        text = self._text(prompt, request.prefix, rng)
        return Completion(text, "stop", Tokens(len(prompt.split()), len(text.split())))

    def _text(self, prompt: str, prefix: str, rng: random.Random) -> str:
        if "Make a similar problem" in prompt:
            return (
                ""
                if rng.random() < 0.1
                else f"Add {', '.join(str(rng.randint(2, 60)) for _ in range(3))}."
            )
        held = (prompt.rsplit("So far:", maxsplit=1)[-1] if "So far:" in prompt else "") + prefix
        if "Are all steps right?" in prompt:
            judgement = steps_of(numbers_of(prompt), held)
            return (
                rng.choice(["hm", "well"])
                if rng.random() < 0.1
                else "yes"
                if all(judgement)
                else "no"
            )
        if "One next step" in prompt:
            return (
                self._solve(numbers_of(prompt), held, rng).removeprefix(" Then ").split(" Then ")[0]
            )
        return self._solve(numbers_of(prompt), held, rng)

    def _solve(self, numbers: list[int], held: str, rng: random.Random) -> str:
        done = EQUATION.findall(held)
        total = int(done[-1][2]) if done else numbers[0]
        told = []
        for i, number in enumerate(numbers[1 + len(done) :]):
            slip = 0 if rng.random() < self.skill else rng.randint(1, 9)
            then = " Then " if (done or i) and not (held.endswith(" Then ") and not i) else ""
            told.append(f"{then}{total} + {number} = {total + number + slip}.")
            total += number + slip
        return "".join(told) + f" The answer is {total}."


def steps_of(numbers: list[int], text: str) -> list[bool]:
    found = [tuple(map(int, match)) for match in EQUATION.findall(text)]
    return [a + b == c and b == n for (a, b, c), n in zip(found, numbers[1:])]


class Judge:
    """Stands in for the verifiers package: the answer by its marker, each equation as a step; counts its calls."""

    def __init__(self) -> None:
        self.judged: list[tuple[str, str]] = []
        self.number = 1

    def version(self, kind: str) -> str:
        return f"{kind}@{self.number}"

    def judge(self, items):
        self.judged += [(problem.id, text) for problem, text in items]
        return [self._verdict(problem, text) for problem, text in items]

    def steps(self, items):
        return [
            self._steps(problem, text) if problem.kind == "sum" else None for problem, text in items
        ]

    def read(self, items):
        return [self._verdict(problem, text).answer for problem, text in items]

    def equal(self, items):
        return [first.lstrip("0") == second.lstrip("0") for _, first, second in items]

    def _verdict(self, problem: Problem, text: str) -> Verdict:
        found = ANSWER.findall(text)
        if not found:
            return Verdict("unparsed", None, "no answer", self.version(problem.kind))
        good = found[-1] == problem.answer
        reason = "" if good else f"{found[-1]} is not {problem.answer}"
        return Verdict("right" if good else "wrong", found[-1], reason, self.version(problem.kind))

    def _steps(self, problem: Problem, text: str) -> tuple[Span, ...]:
        marks = list(EQUATION.finditer(text))
        good = steps_of(numbers_of(problem.question), text)
        return tuple(Span(m.start(), m.end(), "step", 1.0, float(g)) for m, g in zip(marks, good))


class Cached:
    """A cached model: asks only for what `held` lacks, commits one by one; dies after `budget` fresh completions."""

    def __init__(
        self, inner: Fake, held: dict[str, Completion], meter: Meter | None = None
    ) -> None:
        self.inner, self.held, self.meter = inner, held, meter or Meter()
        self.id, self.weights = inner.id, inner.weights

    def likelihood(self, pairs):
        return self.inner.likelihood(pairs)

    def write(self, requests):
        with self.meter.lock:
            for request in requests:
                key = request.key(self.id)
                if key not in self.held:
                    self.meter.spend(key)
                    [self.held[key]] = self.inner.write([request])
            return [self.held[request.key(self.id)] for request in requests]


class Meter:
    """Counts fresh completions over all models of a run; raises KeyboardInterrupt where the budget ends."""

    def __init__(self, budget: int | None = None) -> None:
        self.keys: list[str] = []
        self.budget = budget
        self.lock = threading.RLock()

    def spend(self, key: str) -> None:
        if self.budget is not None and len(self.keys) >= self.budget:
            raise KeyboardInterrupt
        self.keys.append(key)


class Book:
    """A ledger and a judgement cache in memory."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.drops, self.steps, self.values = [], [], {}
        self.lock = threading.Lock()

    def add_traces(self, traces):
        with self.lock:
            self.traces.update({t.id: t for t in traces})

    def add_drops(self, drops):
        with self.lock:
            self.drops += drops

    def add_step(self, operator, label, taken, returned):
        self.steps.append((operator, label, taken, returned))

    def get(self, keys):
        with self.lock:
            return {key: self.values[key] for key in keys if key in self.values}

    def put(self, values):
        with self.lock:
            self.values.update(values)

    @property
    def reasons(self) -> Counter[str]:
        return Counter(drop.reason for drop in self.drops)


class Trainer:
    """Training is a better skill; students are kept by stage key."""

    def __init__(self, wrap=lambda model: model, gain: float = 0.5, failing: float = 0.0) -> None:
        self.stages, self.trained, self.kept = [], 0, {}
        self.wrap, self.gain, self.failing = wrap, gain, failing

    def __call__(self, stage):
        self.stages.append(stage)
        key = stage.key({})
        if key not in self.kept:
            self.trained += 1
            skill = getattr(stage.model, "inner", stage.model).skill
            self.kept[key] = self.wrap(
                Fake(digest("model", key), skill + self.gain * (1 - skill), self.failing)
            )
        return self.kept[key]
