"""Scorers for `score`: functions from traces to a number each, or None where they can't tell."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from potstill.models.model import Model, Sampling
from potstill.records import Trace
from potstill.traces import prompts, requests
from potstill.traces.keys import Key, problem
from potstill.traces.prompts import Context, Template
from potstill.traces.scores import Score, Scorer


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


def of_each(fn: Callable[[Trace], Score]) -> Scorer:
    """Score each trace by a function of it alone: `score("words", of_each(count_words), traces)`."""
    return partial(_score_each, fn)


def look_up(values: Mapping[Any, Score], *, by: Key = problem) -> Scorer:
    """Score each trace by the value that its key has, such as one of its problem; None for a key without one."""
    return partial(_score_each, partial(_value_of_key, values, by))


def constant(value: Score) -> Scorer:
    """Score all traces alike: the number of a round, or who chose them."""
    return partial(_score_all, value)


def _score_each(fn: Callable[[Trace], Score], traces: Sequence[Trace]) -> list[Score]:
    return [fn(trace) for trace in traces]


def _value_of_key(values: Mapping[Hashable, Score], by: Key, trace: Trace) -> Score:
    return values.get(by(trace))


def _score_all(value: Score, traces: Sequence[Trace]) -> list[Score]:
    return [value] * len(traces)


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
