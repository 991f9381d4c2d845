"""Worked examples to show beside a problem: `few_shot` makes a context of a pool of traces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, final

from potstill.errors import ConfigError, StageError
from potstill.records import Trace
from potstill.traces import session


@final
class Examples(list[Trace]):
    """What one trace is shown: a template shows each example with its question."""

    def texts(self) -> list[str]:
        """Each example's question and, on the next line, its text."""
        return [f"{example.question}\n{example.text}" for example in self]


@final
class FewShot:
    """Examples of other problems for each trace: a context of `sample`, `rewrite`, `pose`, `edit` and `ask`."""

    def __init__(self, examples: Sequence[Trace], n: int, at_least: int) -> None:
        """Take the examples in the order of preference, one a problem."""
        self._examples = tuple(examples)
        self._n, self._at_least = n, at_least

    def __call__(self, trace: Trace) -> Examples:
        """The first n examples that are of another problem than this trace, and do not ask its question."""
        examples = Examples()
        for example in self._examples:
            is_own = example.problem.id == trace.problem.id or example.question == trace.question
            if not is_own and len(examples) < self._n:
                examples.append(example)
        if len(examples) < self._at_least:
            raise StageError(
                f"{self._at_least} examples are to be shown with problem {trace.problem.id!r}, "
                f"and there are {len(examples)}",
                expected="a pool with examples of other problems",
                fix="a larger pool, or a smaller n",
            )
        return examples


def few_shot(
    pool: Sequence[Trace], n: int, seed: int = 0, *, at_least: int | None = None
) -> FewShot:
    """Choose examples to show: `sample(model, traces, prompt=…, context={"examples": few_shot(pool, 4)})`.

    Every trace is shown the same `n` examples, but never one of its own problem: the next one takes its place. They are
    parents of what is written, and what saw gold passes that on. A template shows each with its question before its
    text; a prompt function gets views of them, as of every context.

    Args:
        pool: worked examples, such as verified chains; of a problem with several one is chosen. Failed and blank traces
            are none.
        n: examples shown with each trace.
        seed: another seed chooses others; the order of the pool decides nothing.
        at_least: fewer than n do where the pool has no more, down to this number; a note says so.

    Raises:
        ConfigError: `n` is less than 1.
        StageError: when it is used, the pool has too few examples of other problems.
    """
    if n < 1:
        raise ConfigError(f"few_shot got n={n}", expected="at least 1")
    # A hash of seed and id is a shuffle that another order of the pool does not change.
    shuffled = sorted(
        (trace for trace in pool if trace.text and not trace.error),
        key=lambda trace: hashlib.sha256(f"{seed}:{trace.id}".encode()).digest(),
    )
    one_a_problem: dict[str, Trace] = {}
    for trace in shuffled:
        one_a_problem.setdefault(trace.problem.id, trace)
    # One of them may be of the problem that is asked, which is shown the others.
    available = len(one_a_problem) - 1
    if at_least is not None and at_least <= available < n:
        session.note(
            f"{available} worked examples are shown where {n} were asked for: there are no more"
        )
    return FewShot(list(one_a_problem.values()), n, n if at_least is None else at_least)


def show_as_turns(
    ask: Callable[[Any], str], trace: Any, examples: Sequence[Any] = ()
) -> list[tuple[str, str]]:
    """A prompt with the examples as earlier turns of a conversation: `prompt=partial(show_as_turns, ask_in_my_words)`.

    Args:
        ask: what the user says of an example, and of the trace in the last turn.
        trace: what is asked for.
        examples: the context of that name; each one's text is an answer of the assistant.
    """
    turns: list[tuple[str, str]] = []
    for example in examples:
        turns += [("user", ask(example)), ("assistant", example.text)]
    return [*turns, ("user", ask(trace))]
