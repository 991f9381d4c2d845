"""From prompts to requests to completions, and from completions to traces with their lineage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion, Model, Request, Sampling
from potstill.records import Author, Problem, Prompt, Trace, digest
from potstill.traces import session
from potstill.traces.prompts import RenderedPrompt
from potstill.traces.sample_indices import SampleCounter
from potstill.traces.session import current_session

# A request's number is `sample_index` times this, plus how many equal requests came before it in the call.
SAMPLES_PER_CALL = 1_000_000
_SETTINGS = tuple(field.name for field in dataclasses.fields(Sampling))
_LIST_SETTINGS = ("stop", "ban_first")  # a single string stands for a list of one

Answer = tuple[Request, Completion]


def make_sampling(operator: str, settings: Mapping[str, Any]) -> Sampling:
    """Turn keyword settings into `Sampling`.

    Raises:
        ConfigError: a setting is unknown; the nearest name is suggested.
    """
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(
                f"{operator} got the unknown setting {name!r}", available=_SETTINGS, wanted=name
            )
    # A single string for a setting that takes a list is a list of one.
    fields = dict(settings)
    for name in _LIST_SETTINGS:
        if name in settings:
            value = settings[name]
            if isinstance(value, str):
                value = [value]
            fields[name] = tuple(value) if isinstance(value, Iterable) else value
    return Sampling(**fields)


def request_completions(
    model: Model,
    jobs: Sequence[tuple[Prompt, str]],
    sampling: Sampling,
    *,
    n: int = 1,
    sample_index: int = 0,
    problems: Sequence[Problem] | None = None,
) -> list[list[Answer]]:
    """Ask for `n` completions of each (prompt, prefix) in one bulk call; equal jobs get different samples.

    In a run so do equal jobs of other calls that sample (`sample_indices`). A run with n=8 begins with the samples of
    one with n=4, and sample_index=1 never repeats one of sample_index=0 (`SAMPLES_PER_CALL`).

    Args:
        model: who writes.
        jobs: a prompt and the beginning of its completion, for each request.
        sampling: the settings of all requests.
        n: completions of each job.
        sample_index: another number asks anew where an equal call would reuse.
        problems: of each job, where it samples; without them an equal call asks for the same again, as a judge does.

    Returns:
        For each job, its `n` requests with their completions.

    Raises:
        ConfigError: `n` or `sample_index` is out of range, or a prompt is asked more often than a call can count.
        ModelError: the model returned another number of completions than it was asked for.
    """
    for name, value in (("n", n), ("sample_index", sample_index)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{name} is {value!r}", expected="a whole number")
    if n < 1 or sample_index < 0:
        raise ConfigError(
            f"n={n}, sample_index={sample_index}",
            expected="n of at least 1, sample_index of at least 0",
        )
    if n > SAMPLES_PER_CALL:  # before they are counted one by one
        raise ConfigError(
            f"n={n}", expected=f"at most {SAMPLES_PER_CALL} draws a prompt", fix="--set n=8"
        )
    # Equal jobs are counted, so that each gets samples of its own.
    counter = SampleCounter()
    if problems is not None:
        counter = session.current_counter()
    requests: list[Request] = []
    seed = request_seed(model)
    for number, (prompt, prefix) in enumerate(jobs):
        first = Request(prompt, prefix, sampling, sample_index, seed)
        problem = problems[number] if problems is not None else None
        for index in counter.take(first, model.id, problem, n):
            if index >= SAMPLES_PER_CALL:
                raise ConfigError(
                    f"one prompt is asked for its sample number {index}",
                    expected=f"at most {SAMPLES_PER_CALL} samples of a prompt",
                )
            absolute_index = sample_index * SAMPLES_PER_CALL + index
            requests.append(dataclasses.replace(first, sample_index=absolute_index))
    answers = list(zip(requests, _write_all(model, requests), strict=True))
    return [answers[start : start + n] for start in range(0, len(answers), n)]


def record_usage(
    model: Model, traces: Sequence[Trace], answers: Sequence[Sequence[Answer]]
) -> None:
    """Count the completions that a model was asked for of each trace, for whoever measures what a solver takes."""
    problem_ids: list[str] = []
    completions: list[Completion] = []
    for trace, samples in zip(traces, answers, strict=True):
        for _, completion in samples:
            problem_ids.append(trace.problem.id)
            completions.append(completion)
    session.record_usage(model, problem_ids, completions)


def request_seed(model: Model) -> int:
    """Return the seed of this session's requests.

    Raises:
        ConfigError: the model's store asks under another seed.
    """
    session_seed = current_session().seed
    store_seed = getattr(model, "store_seed", None)
    if session_seed is None:
        return 0
    if store_seed is not None and store_seed != session_seed:
        raise ConfigError(
            f"the session has seed {session_seed}, and the store of {model.id} asks under seed {store_seed}",
            expected="one seed: it is recorded with the results",
            fix="open the store or folder with the seed of the evaluation",
        )
    return session_seed


def _write_all(model: Model, requests: Sequence[Request]) -> Sequence[Completion]:
    completions = model.write(requests) if requests else []
    if len(completions) != len(requests):
        raise ModelError(
            f"model {model.id} returned {len(completions)} completions for {len(requests)} requests",
            expected="one completion a request, in order; a failed one with an error",
        )
    return completions


def trace_of_completion(
    parent: Trace,
    rendered: RenderedPrompt,
    model: Model,
    answer: Answer,
    *,
    operator: str,
    given_text: str = "",
) -> Trace:
    """Make the trace of a completion: `given_text`, which stood there before, and what the author wrote."""
    request, completion = answer
    author = Author(
        model.id, digest("prompt", request.prompt), request.sampling.changed(), request.sample_index
    )
    finish = completion.finish_reason
    if completion.error:
        finish = ""
    return derive_trace(
        parent,
        operator,
        rendered,
        text=given_text + completion.text,
        prefix_length=len(given_text),
        finish_reason=finish,
        stop_string="" if completion.error else completion.stop_string,
        author=author,
        error=completion.error,
        tokens=completion.tokens,
    )


def derive_trace(parent: Trace, operator: str, rendered: RenderedPrompt, **fields: Any) -> Trace:
    """Make a trace from another and from the context it was shown.

    The parent and the context traces are its parents, and it saw gold where the prompt or one of them did.
    """
    parents = [parent, *rendered.sources]
    root = parent.root
    if not root and parent.text:
        root = parent.id
    return Trace(
        problem=parent.problem,
        prompt=fields.pop("prompt", parent.prompt),
        parents=tuple(dict.fromkeys(trace.id for trace in parents)),
        root=root,
        operator=operator,
        saw_gold=rendered.saw_gold or any(trace.saw_gold for trace in parents),
        **fields,
    )
