"""Dualformer: parts of a teacher's reasoning are dropped at random, so that one student thinks fast or slowly.

Read: the abstract, and the released code for mazes and Sokoban. Inferred: how its kinds of clauses are carried over to
text (a clause that closes a node is a sentence that looks back, a cost is a sentence that is no step), and the mode's
mark; the paper's experiments on mathematics drop sentences of any kind with a probability of 0.1 to 0.4.

| constant | value | source |
|---|---|---|
| level 0, all stays | 0.45 | notes: the weights for mazes |
| level 1, without what looks back | 1/6 | released code: no `close` |
| level 2, also without sentences that are no step of `count_steps` | 1/6 | released code: nor costs |
| level 3, also without 10 to 40 % of the others | 1/6 | paper: nor a part of `create`; the code keeps a maze's costs |
| level 4, no reasoning at all | 0.05 | notes: the weights for mazes |
| drawings of a chain | 4 | inferred: the paper draws anew in every epoch |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, TypeAlias

from potstill.methods.reasoning_sentences import (
    marked_kind,
    reasoning_part,
    reasoning_units,
    step_starts,
)
from potstill.models.model import Model, Trainable
from potstill.records import Span, Stage, Trace
from potstill.traces import (
    Share,
    chance,
    dedupe,
    edit,
    is_finished,
    keep,
    report_shares,
    right,
    right_test,
    sample,
    segment,
    verify,
    words,
)
from potstill.traces.reasoning_steps import count_steps, find_reasoning_steps

Mode: TypeAlias = Literal["auto", "slow", "fast"]
Arm: TypeAlias = Literal["dualformer", "any-sentence", "complete", "answer-only"]
# The weight of each level; a control that drops sentences of any kind has only kept, thinned and empty ones.
WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "dualformer": (0.45, 1 / 6, 1 / 6, 1 / 6, 0.05),
    "any-sentence": (0.45, 0.0, 0.0, 0.5, 0.05),
    "complete": (1.0, 0.0, 0.0, 0.0, 0.0),
    "answer-only": (0.0, 0.0, 0.0, 0.0, 1.0),
}
MOST_DROPPED, LEAST_DROPPED = 0.4, 0.1
# How the text of each mode begins: as in the paper the first tokens decide, and without any the student does.
BEGINNINGS: Mapping[str, str] = {"auto": "", "slow": "<think>\n", "fast": "<think></think>\n"}


def dualformer(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "dualformer",
    mode: Mode = "auto",
    copies: int = 4,
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 0.6,
    max_new_tokens: int = 32768,
) -> Generator[Stage, Trainable, Any]:
    """Dualformer: controllable fast and slow thinking by learning with randomized traces (Su et al., arXiv:2410.09918).

    Learns from: the teacher's right chains with parts of their reasoning dropped at random, up to all of it.
    Needs: teacher (writes chains), student (is trained).
    Controls: arm=any-sentence (sentences of every kind are dropped, as in the paper's mathematics: is it the kinds?),
        complete (nothing is dropped), answer-only (all reasoning is, the paper's Solution-Only), mode=slow (it is
        measured thinking), fast (it is measured answering at once).
    Departure: what is dropped is drawn for each of a chain's copies, where the paper draws anew in every epoch. All
        reasoning stands in `<think>`, also where the teacher writes none. A chain is right before it is thinned; with
        `steps` its steps are right too.
    Paper: 122
    Cite: DiJia Su, Sainbayar Sukhbaatar, Michael Rabbat, Yuandong Tian, Qinqing Zheng: Dualformer: Controllable Fast
        and Slow Thinking by Learning with Randomized Reasoning Traces (2024).

    Args:
        teacher: reasons in sentences.
        student: learns all modes at once.
        arm: the method or one of its controls.
        mode: how the student is measured: it thinks, does not, or chooses.
        copies: drawings of each chain; equal ones are one row.
        n: chains of each problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain.
    """
    is_right = right_test(problems, steps)
    chains = sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    chains = keep(is_right, verify(keep(is_finished, chains)))
    chains = segment(step_starts, chains)
    rows = dedupe(words, edit(partial(draw_copies, arm, copies), chains))
    rows = keep(right, verify(rows))
    fast_rows = sum(row.text.startswith(BEGINNINGS["fast"]) for row in rows)
    steps_before = sum(copies * count_steps(chain.text) for chain in chains)
    report_shares(
        "Dropped reasoning",
        [
            Share("rows without reasoning", fast_rows, len(rows)),
            Share("steps in the rows, of the whole chains'", count_all(rows), steps_before),
        ],
        hint="Equal drawings of a chain are one row, so that copies of a short chain are few.",
    )
    student = yield Stage(student, rows, "sft")
    return partial(solve_in_mode, student, mode)


def count_all(rows: list[Trace]) -> int:
    """The steps of all rows."""
    return sum(count_steps(row.text) for row in rows)


def draw_copies(arm: Arm, copies: int, trace: Any) -> list[dict[str, str]]:
    """So many drawings of a chain, each at a level of its own."""
    texts: list[dict[str, str]] = []
    for copy in range(copies):
        rng = Random(chance("dropped", copy, trace.problem.id, trace.text))
        [level] = rng.choices(range(5), weights=WEIGHTS[arm])
        text = drop_sentences(trace, level, rng, any_kind=arm == "any-sentence")
        texts.append({"text": text, "finish_reason": trace.finish_reason})
    return texts


def drop_sentences(trace: Any, level: int, rng: Random, *, any_kind: bool) -> str:
    """The chain without the sentences that its level drops: its answer behind what is left of its reasoning."""
    _, stop = reasoning_part(trace.text)
    answer = str(trace.text[stop:]).removeprefix("</think>").lstrip()
    units = reasoning_units(trace)
    # Level 4: nothing of the reasoning is left.
    if level == 4 or not units:
        return BEGINNINGS["fast"] + answer
    # Levels 1 to 3 drop checks and corrections.
    if level >= 1 and not any_kind:
        units = without_looking_back(trace.text, units)
    # Levels 2 and 3 leave only the steps: where the chain calculates, sentences with a number.
    if level >= 2 and not any_kind:
        places = [step.start for step in find_reasoning_steps(trace.text)]
        units = [unit for unit in units if any(unit.start <= place < unit.stop for place in places)]
    # Level 3 drops a random share of what remains.
    if level == 3:
        probability = rng.uniform(LEAST_DROPPED, MOST_DROPPED)
        units = [unit for unit in units if rng.random() >= probability]
    sentences = [trace.text[unit.start : unit.stop] for unit in units]
    return f"{BEGINNINGS['slow']}{''.join(sentences).strip()}\n</think>\n{answer}"


def without_looking_back(text: str, units: Sequence[Span]) -> list[Span]:
    """The sentences that lead on: no checks and corrections, nor the sentence that a correction takes back."""
    kinds = [marked_kind(text[unit.start : unit.stop]) for unit in units]
    remaining: list[Span] = []
    for unit, kind, next_kind in zip(units, kinds, [*kinds[1:], ""], strict=True):
        if not kind and next_kind != "correction":
            remaining.append(unit)
    return remaining


def solve_in_mode(
    student: Model, mode: Mode, problems: list[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Solve problems with the beginning that the mode has: the solver."""
    return sample(student, problems, n=n, prefix=BEGINNINGS[mode], **sampling)
