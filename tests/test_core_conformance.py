"""What the core must keep for any method: chains, stop strings, tool loops, votes; from the call to what is learnt."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.evaluation.benchmark import evaluate
from potstill.evaluation.metrics import average, majority_at
from potstill.models.model import Model, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Span, Stage, Trace, blank
from potstill.runs.export import export_rows
from potstill.store import Store, with_cache
from potstill.traces import Session, answer_classes, each, edit, learn, pair, sample, using, verify
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import check_rows, tokenize_traces

QUESTION = blank(Problem("p", "How many legs have 3 cats?", "12", "number"))
SENTENCES = ("A cat has 4 legs", "So 3 cats have 12", "The answer is 12.")
END = "<|im_end|>"


class Student:
    id = "student-1"


def learnt(*traces: Trace) -> list[str]:
    """What a training learns of each trace, as its check lets it through."""
    template = read_chat_template(tiny_tokenizer())
    tokenized = tokenize_traces(traces, template, max_length=1000)
    check_rows(traces, tokenized, template, max_length=1000)
    assert not tokenized.skipped
    return [template.tokenizer.decode(row.input_ids[row.is_learnt]) for row in tokenized.rows]


def next_sentence(request: Any) -> str:
    """The whole answer behind what the request has of it, as a model that goes on would write it."""
    return ". ".join(SENTENCES)[len(request.prefix) :]


def grow(model: Model, traces: list[Trace]) -> list[Trace]:
    """Sentence by sentence, the stop string put back between two."""
    while traces[0].finish_reason != "stop":
        traces = sample(model, edit(with_its_end, traces), stop=". ")
    return traces


def with_its_end(trace: Trace) -> str:
    return trace.text + trace.stop_string


def test_a_chain_grown_step_by_step_is_learnt_like_one_that_was_written_at_once(store: Store):
    model = ScriptedModel(next_sentence)
    [whole] = sample(model, [QUESTION])
    cached = with_cache(model, store, role="teacher", arm="a", seed=0)
    [grown] = grow(cached, [QUESTION])
    assert grown.text == whole.text and grown.finish_reason == "stop"
    assert learnt(grown, whole) == [". ".join(SENTENCES) + END] * 2
    assert export_rows([grown], "trl")[0]["completion"] == [
        {"role": "assistant", "content": whole.text}
    ]
    assert Stage(Student(), [grown], "sft").id == Stage(Student(), [whole], "sft").id
    calls = len(model.calls)
    assert grow(cached, [QUESTION]) == [grown] and len(model.calls) == calls, "all is stored"


def test_two_ends_of_one_chain_are_a_pair_that_learns_its_ends_alone():
    model = ScriptedModel(next_sentence)
    chain = edit(with_its_end, sample(model, [QUESTION], stop=". "))
    [good] = sample(model, chain)
    [bad] = sample(ScriptedModel(["Then it is 13."]), chain)
    [pairing] = pair([good], [bad])
    assert learnt(pairing, pairing.rejected) == [
        f"{'. '.join(SENTENCES[1:])}{END}",
        f"Then it is 13.{END}",
    ]


@pytest.mark.parametrize("stop", [". ", ("?", ". "), ("4 legs", ". ")])
def test_a_stop_string_is_no_end_of_an_answer(stop: Any):
    [piece] = sample(ScriptedModel(next_sentence), [QUESTION], stop=stop)
    assert piece.finish_reason == "stop_string" and piece.stop_string in stop
    [text] = learnt(piece)
    assert text == piece.text and END not in text
    [ended] = edit(lambda trace: {"text": "Done. It is 12.", "finish_reason": "stop"}, [piece])
    assert learnt(ended) == [f"Done. It is 12.{END}"], "who completes it says so"


def call_or_end(request: Any) -> str:
    """Asks a tool for 3 x 4 and then for 12 + 0, and ends when it has seen both."""
    calls = ("<call>3 * 4</call>", "<call>12 + 0</call>", "The answer is 12.")
    return calls[request.prefix.count("<seen>")]


def observe(trace: Trace) -> dict[str, Any]:
    """What a tool answers to the last call, as a stretch that the tool wrote."""
    asked = trace.text + trace.stop_string
    left, operation, right = re.findall(r"<call>(\d+) ([*+]) (\d+)</call>", asked)[-1]
    value = int(left) * int(right) if operation == "*" else int(left) + int(right)
    text = f"{asked}<seen>{value}</seen>"
    return {"text": text, "spans": (Span(len(asked), len(text), "tool"),)}


def work(model: Model, traces: list[Trace]) -> list[Trace]:
    while traces[0].finish_reason != "stop":
        traces = sample(model, traces, stop="</call>")
        if traces[0].finish_reason == "stop_string":
            traces = edit(observe, traces)
    return traces


def test_a_tool_loop_learns_what_the_model_wrote_and_nothing_of_the_tools():
    [done] = each(partial(work, ScriptedModel(call_or_end)), [QUESTION])
    assert done.text.count("<seen>12</seen>") == 2
    [text] = learnt(done)
    assert text == f"<call>3 * 4</call><call>12 + 0</call>The answer is 12.{END}"
    assert verify([done])[0].verdict.status == "right"
    [shown] = learnt(*learn("all", [done]))
    assert shown == done.text + END, "who wants the observations learnt says so"


SPELLINGS = [
    "It is \\boxed{0.5}.",
    "It is \\boxed{\\frac12}.",
    "\\boxed{3}",
    "I give up.",
    "\\boxed{4}",
]
HALF = blank(Problem("h", "What is half of one?", "1/2", "math"))


def vote(model: Model, problems: list[Trace], *, n: int, k: int, **settings: Any) -> list[Trace]:
    """Of k answers one of the largest class, n times: equal answers are one ballot however they are written."""
    winners: list[Trace] = []
    for problem in problems:
        for _ in range(n):
            ballots = sample(model, [problem], n=k, **settings)
            classes = answer_classes(ballots)
            counts = Counter(number for number in classes if number is not None)
            winner = counts.most_common(1)[0][0] if counts else None
            winners.append(ballots[classes.index(winner)])
    return winners


def test_a_vote_counts_classes_of_equal_answers_and_its_rounds_are_different_draws():
    model = ScriptedModel(SPELLINGS)
    with using(Session()):
        voted = evaluate(
            partial(vote, model, k=5), [HALF], name="vote", n=2, sampling=Sampling(), seed=0
        )
        single = evaluate(
            partial(vote, model, k=1), [HALF], name="one", n=5, sampling=Sampling(), seed=0
        )
    assert average(voted).value == 1.0 and not voted.repeats and not single.repeats
    assert average(single).value == 0.4 and majority_at(single).value == 1.0
    assert {request.sample_index for request in model.calls} == set(range(10))
    assert voted.fingerprint.run["solver_values"] == '{"k":"5"}'
