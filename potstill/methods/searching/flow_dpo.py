"""Flow-DPO: one model writes a solution chunk by chunk, another says when it is done, and both learn from rollouts.

Notes of the whole paper were read, no code. Inferred: the prompts, the temperature, the number of rounds, and that a
reply of the stop model that can't be read goes on unless the answer model has ended by itself.

| constant | value | source |
|---|---|---|
| chunk, chunks of a solution | 160 tokens, 6 | paper |
| alternatives at a node | 1, carried on to its end | paper |
| beta, learning rate of DPO | 1.0, 5e-6 | paper |
| LoRA of DPO, its batch | rank 8, alpha 8; 32 | paper; left to the recipe |
| rows, learning rate, epochs of the student | 1,500, 2e-4, 3 (LoRA rank 16) | paper |
| rounds of DPO | 3 | inferred; the paper updates with every batch |
| temperature | 0.7 | inferred |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.methods.checks import require_pairs
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    by_chance,
    chance,
    each,
    edit,
    is_finished,
    keep,
    pair_all,
    pose,
    read_yes_no,
    report_shares,
    right,
    right_test,
    sample,
    verify,
)

STOP = """\
Here is a question and what has been written of its solution so far. Has the solution reached a final answer, so that \
nothing is left to write? Answer with "Yes" or "No" alone.

Question: {question}

Solution so far:
{text}"""
DPO: dict[str, Any] = {"beta": 1.0, "learning_rate": 5e-6}
SFT: dict[str, Any] = {"num_train_epochs": 3, "learning_rate": 2e-4}


class Flow(NamedTuple):
    """The two models of a flow, and the limits of what they write.

    Args:
        answerer: writes the next chunk.
        stopper: says whether the solution is done.
        max_chunks: of a solution.
        sampling: of a chunk; the stop model is sampled alike.
    """

    answerer: Model
    stopper: Model
    max_chunks: int
    sampling: dict[str, Any]


class Node(NamedTuple):
    """One turn of a flow.

    Args:
        before: the solution in front of the chunk.
        chunk: the solution with the chunk, of which the chunk alone is new.
        decision: what the stop model said then.
    """

    before: Trace
    chunk: Trace
    decision: Trace


def flow_dpo(
    problems: list[Trace],
    student: Trainable,
    answerer: Trainable | None = None,
    stopper: Trainable | None = None,
    *,
    arm: Literal["flow-dpo", "untrained", "self"] = "flow-dpo",
    rounds: int = 3,
    max_chunks: int = 6,
    max_rows: int = 1500,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.7, max_new_tokens=160),
) -> Generator[Stage, Trainable, None]:
    """Flow-DPO: online multi-agent learning of two models that write a solution together (arXiv:2410.22304).

    At each node one other chunk, and the other decision of the stop model, is carried on to its end. Where exactly one
    of the two ends is right, (what stands before, good, bad) is a pair of DPO.

    Learns from: right solutions that an answer model and a stop model wrote together, after both learnt from pairs.
    Needs: student (is trained on the solutions; the base of both models where they are not given), [answerer] (writes
        chunks, and is trained), [stopper] (says when a solution is done, and is trained).
    Controls: arm=untrained (the flow without DPO), self (the student's own right solutions, written in one go: the
        paper's comparison).
    Departure: the models learn after each of `rounds` shares of the problems, where the paper updates them with every
        batch. With `steps` a learnt solution is right in every step.
    Paper: 86
    Cite: Yihe Deng, Paul Mineiro: Flow-DPO: Improving LLM Mathematical Reasoning through Online Multi-Agent Learning
        (2024).

    Args:
        student: learns the flow's solutions.
        answerer: a model of its own, with weights of its own.
        stopper: another one.
        arm: the method or one of its controls.
        rounds: shares of the problems, each followed by a training of both models.
        max_chunks: of a solution.
        max_rows: solutions that are learnt, chosen by chance.
        steps: also demand that every step of a learnt solution is right; left open, where the verifier judges steps.
        sampling: of a chunk, and of what the stop model says.
    """
    is_right = right_test(problems, steps)
    if arm == "self":
        settings = dict(sampling)
        settings["max_new_tokens"] *= max_chunks
        written = sample(student, problems, **settings)
        own_solutions = keep(is_right, verify(keep(is_finished, written)))
        yield Stage(student, best(by_chance, own_solutions, k=max_rows), "sft", **SFT)
        return

    answerer, stopper = answerer or student, stopper or student
    flow = Flow(answerer, stopper, max_chunks, dict(sampling))

    # Rounds of DPO, each on pairs of another share of the problems.
    if arm == "flow-dpo":
        shuffled = sorted(problems, key=lambda trace: chance("rounds", trace.problem.id))
        answer_count = 0
        for number in range(rounds):
            pairs = each(partial(collect_pairs, flow), shuffled[number::rounds])
            answer_pairs = [row for row in pairs if not is_decision(row)]
            stop_pairs = [row for row in pairs if is_decision(row)]
            answer_count += len(answer_pairs)
            if number == rounds - 1 and not answer_count:
                require_pairs("flow_dpo", answer_pairs, alternative="--set arm=untrained")
            if answer_pairs:
                trained = yield Stage(
                    flow.answerer, answer_pairs, "dpo", name=f"answer-{number + 1}", **DPO
                )
                flow = flow._replace(answerer=trained)
            if stop_pairs:
                trained = yield Stage(
                    flow.stopper, stop_pairs, "dpo", name=f"stop-{number + 1}", **DPO
                )
                flow = flow._replace(stopper=trained)

    # The flow's right solutions are what the student learns.
    solutions = keep(is_finished, each(partial(write_solution, flow), problems))
    rows = best(by_chance, keep(is_right, verify(solutions)), k=max_rows)
    report_flow(solutions, rows, problems)
    yield Stage(student, rows, "sft", name="student", **SFT)


# A flow.


def write_nodes(flow: Flow, start: Trace, max_chunks: int) -> list[Node]:
    """Go on with a solution chunk by chunk until it is done, or has so many more chunks; a failure ends it."""
    nodes: list[Node] = []
    current = start
    while len(nodes) < max_chunks:
        [chunk] = sample(flow.answerer, [current], **flow.sampling)
        if chunk.error:
            break
        [decision] = sample(flow.stopper, pose(STOP, [chunk]), **flow.sampling)
        nodes.append(Node(current, chunk, decision))
        if is_done(nodes[-1]):
            break
        current = chunk
    return nodes


def is_done(node: Node) -> bool:
    """The stop model says so; where it says neither, the answer model has ended by itself."""
    verdict = read_yes_no(node.decision.text)
    return verdict if verdict is not None else node.chunk.finish_reason == "stop"


def write_solution(flow: Flow, problem: list[Trace]) -> list[Trace]:
    """The solution that a flow writes: finished where it is done within its chunks."""
    nodes = write_nodes(flow, problem[0], flow.max_chunks)
    if not nodes:
        return []
    reason = "stop" if is_done(nodes[-1]) else "length"
    return edit(partial(end_with, reason), [nodes[-1].chunk])


def end_with(finish_reason: str, trace: Any) -> dict[str, str]:
    """The same text, which ends as the stop model says and not as its last chunk did."""
    return {"text": trace.text, "finish_reason": finish_reason}


# Pairs.


def collect_pairs(flow: Flow, problem: list[Trace]) -> list[Trace]:
    """The pairs of a problem: at each node another chunk, and the other decision, each carried on to its end."""
    nodes = write_nodes(flow, problem[0], flow.max_chunks)
    if not nodes:
        return []
    is_right = ends_right(nodes[-1].chunk)
    pairs: list[Trace] = []
    for number, node in enumerate(nodes, 1):
        # Another chunk in the place of this one.
        others = write_nodes(flow, node.before, flow.max_chunks - number + 1)
        if others and others[0].chunk.text != node.chunk.text:
            other_is_right = ends_right(others[-1].chunk)
            pairs += make_pair(node.chunk, others[0].chunk, is_right, other_is_right)
        # The other decision: on from here, or an end.
        if node.decision.error:
            continue
        last = node.chunk
        if is_done(node):
            continuation = write_nodes(flow, node.chunk, flow.max_chunks - number)
            last = continuation[-1].chunk if continuation else node.chunk
        done, not_done = [
            edit(partial(write_decision, word), [node.decision])[0] for word in ("Yes.", "No.")
        ]
        decision, other_decision = (done, not_done) if is_done(node) else (not_done, done)
        pairs += make_pair(decision, other_decision, is_right, ends_right(last))
    return pairs


def ends_right(trace: Trace) -> bool:
    """Whether a solution's answer is right."""
    return right(verify([trace])[0])


def write_decision(word: str, trace: Any) -> dict[str, str]:
    """A decision in one word."""
    return {"text": word, "finish_reason": "stop"}


def make_pair(
    first: Trace, second: Trace, first_is_right: bool, second_is_right: bool
) -> list[Trace]:
    """The pair of what led to the right answer and what did not; none where both or neither did."""
    if first_is_right == second_is_right:
        return []
    good, bad = (first, second) if first_is_right else (second, first)
    return pair_all([good], [bad])


def is_decision(row: Trace) -> bool:
    """Whether a row is the stop model's, and not the answer model's."""
    return str(row.prompt).startswith(STOP[:60])


def report_flow(
    solutions: Sequence[Trace], rows: Sequence[Trace], problems: Sequence[Trace]
) -> None:
    """Say how many solutions the flow finished, and how many of them are rows."""
    shares = (
        Share("problems with a finished solution", len(solutions), len(problems)),
        Share("solutions that are learnt", len(rows), len(solutions)),
    )
    hint = "Two models write each solution: one the next chunk, the other whether it is done."
    report_shares("Solutions of the flow", shares, hint=hint)
