"""Scorers of likelihoods, on a model whose log-probabilities are a table of words."""

from __future__ import annotations

import math

import pytest

from potstill.errors import ConfigError, ModelError
from potstill.models.scoring import Passage
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Span, Trace
from potstill.store import with_cache
from potstill.traces import (
    answer_probability,
    gain,
    leave_one_out,
    nll,
    score,
    token_logprobs,
)
from potstill.traces.reasoning_steps import without_last_line

PROBLEM = Problem("p", "How many?", "12 eggs", kind="sum")


def foretold(passage):
    """A word that stands before it is sure to half a nat, any other costs four."""
    read = f"{passage.prompt} {passage.prefix}".split()
    return [-0.5 if word in read else -4.0 for word in passage.text.split()]


def chain(text, *spans, answer="12 eggs"):
    problem = PROBLEM if answer else Problem("none", "How many?", kind="sum")
    return Trace(problem, "How many?", text=text, spans=spans, finish_reason="stop")


def answer_behind(trace):
    return Passage(trace.prompt, trace.problem.answer, prefix=trace.text)


def answer_alone(trace):
    return trace.prompt, trace.problem.answer


@pytest.fixture
def model():
    return ScriptedModel(["x"], logprobs=foretold)


def only(trace, scorer):
    return score("s", scorer, [trace])[0].scores["s"]


def test_a_clip_bounds_each_token_before_the_mean(model):
    trace = chain("The eggs: ")
    assert only(trace, nll(model, answer_behind)) == 4.0, "'eggs:' is not 'eggs'"
    trace = chain("So many eggs ")
    assert only(trace, nll(model, answer_behind)) == (4.0 + 0.5) / 2
    assert only(trace, nll(model, answer_behind, clip=2.0)) == (2.0 + 0.5) / 2
    with pytest.raises(ConfigError, match="clip=0"):
        nll(model, clip=0)


def test_gain_is_one_minus_the_ratio_of_perplexities(model):
    trace = chain("12 eggs ")
    assert only(trace, gain(model, answer_behind, answer_alone)) == 1 - math.exp(0.5 - 4.0)
    assert only(trace, gain(model, answer_alone, answer_alone)) == 0.0
    assert only(chain("x", answer=""), gain(model, answer_behind, answer_alone)) is None


def test_without_a_unit_the_answer_is_as_much_less_likely_as_its_span_says(model):
    text = "First 12 of them. Hens sing. "
    trace = chain(text, Span(0, 18, "unit"), Span(18, 29, "unit"), Span(0, 5, "step", score=1.0))
    bare = chain("no units")
    helped, idle, step = leave_one_out(model, [trace, bare], answer_behind)[0].spans
    assert (helped.score, idle.score) == ((4.0 - 0.5) / 2, 0.0)
    assert step.score == 1.0, "spans of another kind keep theirs"
    assert leave_one_out(model, [bare], answer_behind) == [bare]
    [unanswered] = leave_one_out(
        model, [chain(text, Span(0, 18, "unit"), answer="")], answer_behind
    )
    assert unanswered.spans[0].score is None


def test_the_answer_is_asked_for_behind_the_reasoning_without_its_last_line(model):
    told = chain("Count them.\nThe answer is 12 eggs\n")
    hidden = only(told, answer_probability(model, cue="\nIt is "))
    shown = only(told, answer_probability(model, hide_last_line=False, cue="\nIt is "))
    assert hidden == math.exp(-8.0) and shown == math.exp(-1.0)
    assert model.scored[0] == Passage("How many?", "12 eggs", prefix="Count them.\nIt is ")
    assert only(chain("x", answer=""), answer_probability(model)) is None


def test_the_last_line_of_one_line_is_its_last_sentence():
    assert without_last_line("a\n\nb\n") == "a"
    assert without_last_line("One. Two. So 3.") == "One. Two."
    assert without_last_line("3") == without_last_line("") == ""


def test_passages_are_counted_stored_and_asked_for_once(model, store):
    stored = with_cache(model, store, role="scorer", arm="sft", seed=0)
    passages = [Passage("q", "12 eggs", prefix="12 "), ("q", "12 eggs"), ("q", "")]
    values = token_logprobs(stored, [*passages, passages[0]])
    assert values == [(-0.5, -4.0), (-4.0, -4.0), (), (-0.5, -4.0)]
    assert len(model.scored) == 2 and store.usage("sft")["scorer"]["calls"] == 2
    assert token_logprobs(stored, passages) == values[:3] and len(model.scored) == 2


def test_a_black_box_scores_nothing():
    class Box:
        id = "box"

    with pytest.raises(ModelError, match="box gives no likelihoods"):
        token_logprobs(Box(), [("q", "a")])


@pytest.mark.parametrize("passage", ["42", "a long text", ("prompt",)])
def test_a_bare_text_is_no_passage_and_its_letters_are_not_scored(model, passage):
    # "42" would be the text "2" behind the prompt "4".
    with pytest.raises(ConfigError, match="is no text to score"):
        token_logprobs(model, [passage])
