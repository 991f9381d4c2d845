"""Scorers for `score`: functions from traces to a number each, or None where they can't tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from potstill.errors import ModelError
from potstill.models.model import Model, Sampling, Scored
from potstill.records import Prompt, Trace, digest
from potstill.traces import prompts, requests, session
from potstill.traces.keys import Key, problem
from potstill.traces.prompts import Context, Template
from potstill.traces.scores import Score, Scorer

Pair: TypeAlias = tuple[Prompt, str]


def length(traces: Sequence[Trace]) -> list[Score]:
    """Characters of the text."""
    return [len(t.text) for t in traces]


def steps(traces: Sequence[Trace]) -> list[Score]:
    """The share of right steps among those that `verify` found; None where it found none."""
    found = [[s.score for s in t.spans if s.kind == "step" and s.score is not None] for t in traces]
    return [sum(scores) / len(scores) if scores else None for scores in found]


def learner(trace: Trace) -> Pair:
    """The learner's prompt and the whole text: what `nll` measures unless told otherwise."""
    return trace.prompt, trace.text


def nll(model: Scored, of: Callable[[Trace], Pair] = learner) -> Scorer:
    """Mean negative log-likelihood per token (nats): -1/T sum_t log p(text_t | prompt, text_<t).

    Args:
        of: the (prompt, text) to measure, such as a known answer after the reasoning; default `learner`.
    """
    return partial(_nll, model, of)


def perplexity(model: Scored, of: Callable[[Trace], Pair] = learner) -> Scorer:
    """exp(nll) per token; arguments as for `nll`, and the same stored values."""
    return partial(_perplexity, model, of)


def _perplexity(model: Scored, of: Callable[[Trace], Pair], traces: Sequence[Trace]) -> list[Score]:
    return [None if value is None else math.exp(float(value)) for value in _nll(model, of, traces)]


def _nll(model: Scored, of: Callable[[Trace], Pair], traces: Sequence[Trace]) -> list[Score]:
    pairs = [of(t) for t in traces]
    keys = [digest("nll", [model.id, prompt, text]) for prompt, text in pairs]
    return session.remember(keys, lambda missing: _measured(model, [pairs[i] for i in missing]))


def _measured(model: Scored, pairs: Sequence[Pair]) -> list[Score]:
    likelihood = getattr(model, "likelihood", None)
    if likelihood is None:
        raise ModelError(
            f"model {model.id} gives no likelihoods",
            expected="a model with weights, as transformers:PATH",
        )
    asked = [pair for pair in pairs if pair[1]]
    lines = iter(likelihood(asked) if asked else [])
    return [_mean(next(lines)) if text else None for _, text in pairs]


def _mean(logprobs: Sequence[float]) -> float | None:
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def ask(
    model: Model,
    prompt: Template,
    parse: Callable[[str], Score],
    *,
    draw: int = 0,
    context: Context | None = None,
    by: Key = problem,
    **settings: Any,
) -> Scorer:
    """Show a model each trace and read its reply as a score.

    Args:
        parse: from the reply to a number, or None where it is unparsed; a failed generation is None without it.
        settings: fields of `models.model.Sampling`.
    """
    how = requests.sampling("ask", settings)
    return partial(_asked, model, prompt, parse, how=how, draw=draw, context=context, by=by)


def _asked(
    model: Model,
    prompt: Template,
    parse: Callable[[str], Score],
    traces: Sequence[Trace],
    *,
    how: Sampling,
    draw: int,
    context: Context | None,
    by: Key,
) -> list[Score]:
    shown = prompts.show(prompt, traces, context, by)
    answers = requests.call(model, [(s.prompt, "") for s in shown], how, draw=draw)
    replies = [completion for [(_, completion)] in answers]
    return [None if reply.error else parse(reply.text) for reply in replies]
