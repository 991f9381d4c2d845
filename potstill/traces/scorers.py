"""Scorers for `score`: functions from traces to a number each, or None where they can't tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from potstill.errors import ModelError
from potstill.models.model import Model, Sampling, Scored
from potstill.models.scoring import score_pairs
from potstill.records import Prompt, Trace
from potstill.traces import prompts, requests, session
from potstill.traces.keys import Key, problem
from potstill.traces.prompts import Context, Template
from potstill.traces.scores import Score, Scorer

PromptAndText: TypeAlias = tuple[Prompt, str]

# A whole number of the batches in which a store has texts scored: parts change no batch.
PAIRS_AT_ONCE = 1024


def length(traces: Sequence[Trace]) -> list[Score]:
    """Count the characters of each text."""
    return [len(trace.text) for trace in traces]


def steps(traces: Sequence[Trace]) -> list[Score]:
    """Return the share of right steps among those that `verify` found; None where it found none."""
    shares: list[Score] = []
    for trace in traces:
        scores: list[float] = []
        for span in trace.spans:
            if span.kind == "step" and span.score is not None:
                scores.append(span.score)
        if scores:
            shares.append(sum(scores) / len(scores))
        else:
            shares.append(None)
    return shares


def learner(trace: Trace) -> PromptAndText:
    """Return the learner's prompt and the whole text: what `nll` measures where nothing else is named."""
    return trace.prompt, trace.text


def nll(model: Scored, of: Callable[[Trace], PromptAndText] = learner) -> Scorer:
    """Score by the mean negative log-likelihood per token (nats): -1/T sum_t log p(text_t | prompt, text_<t).

    Args:
        model: whose likelihoods are taken; it must have weights.
        of: the (prompt, text) to measure, such as a known answer after the reasoning.
    """
    return partial(_nll, model, of)


def perplexity(model: Scored, of: Callable[[Trace], PromptAndText] = learner) -> Scorer:
    """Score by exp(nll) per token; arguments as for `nll`, and the same stored values."""
    return partial(_perplexity, model, of)


def _perplexity(
    model: Scored, of: Callable[[Trace], PromptAndText], traces: Sequence[Trace]
) -> list[Score]:
    values = _nll(model, of, traces)
    return [None if value is None else _exp(float(value)) for value in values]


def _exp(value: float) -> float:
    """e to this power; infinite beyond what a float holds, which `score` refuses with the trace's id."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _nll(
    model: Scored, of: Callable[[Trace], PromptAndText], traces: Sequence[Trace]
) -> list[Score]:
    # Nothing is kept here: a model behind a store is asked for every value, so that each run counts the same calls. It
    # scores a text once, for `perplexity` and any other `nll` too.
    if not isinstance(model, Scored):
        raise ModelError(
            f"model {model.id} gives no likelihoods",
            expected="a model with weights, as transformers:PATH",
        )
    pairs = [of(trace) for trace in traces]
    # An empty text has no tokens, and so no mean. A part at a time: only the means of all of them fit in memory.
    problem_ids: dict[PromptAndText, str] = {}
    for pair, trace in zip(pairs, traces, strict=True):
        if pair[1]:
            problem_ids.setdefault(pair, trace.problem.id)
    distinct = list(problem_ids)
    means: dict[PromptAndText, float | None] = {}
    for start in range(0, len(distinct), PAIRS_AT_ONCE):
        part = distinct[start : start + PAIRS_AT_ONCE]
        answers = score_pairs(model, part)
        session.record_usage(model, [problem_ids[pair] for pair in part], answers)
        for pair, answer in zip(part, answers, strict=True):
            means[pair] = _mean_nll(answer.logprobs)
    return [means.get(pair) for pair in pairs]


def _mean_nll(logprobs: Sequence[float]) -> float | None:
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def ask(
    model: Model,
    prompt: Template,
    parse: Callable[[str], Score],
    *,
    sample_index: int = 0,
    context: Context | None = None,
    by: Key = problem,
    **settings: Any,
) -> Scorer:
    """Score by showing a model each trace and reading its reply.

    Args:
        model: who is asked.
        prompt: shown to the model; it names what it shows of the trace.
        parse: from the reply to a number, or None where it is unparsed; a failed generation is None without it.
        sample_index: another number asks anew where an equal call would reuse.
        context: more traces to show, looked up by `by`.
        by: the key under which a trace finds its context.
        settings: fields of `models.model.Sampling`.

    Raises:
        ConfigError: an unknown setting; an unknown name in the prompt, once it is used.
    """
    sampling = requests.make_sampling("ask", settings)
    return partial(
        _ask,
        model,
        prompt,
        parse,
        sampling=sampling,
        sample_index=sample_index,
        context=context,
        by=by,
    )


def _ask(
    model: Model,
    prompt: Template,
    parse: Callable[[str], Score],
    traces: Sequence[Trace],
    *,
    sampling: Sampling,
    sample_index: int,
    context: Context | None,
    by: Key,
) -> list[Score]:
    rendered_prompts = prompts.render_prompts(prompt, traces, context, by)
    jobs = [(rendered.prompt, "") for rendered in rendered_prompts]
    answers = requests.request_completions(model, jobs, sampling, sample_index=sample_index)
    requests.record_usage(model, traces, answers)
    scores: list[Score] = []
    for [(_, completion)] in answers:
        if completion.error:
            scores.append(None)
        else:
            scores.append(parse(completion.text))
    return scores
