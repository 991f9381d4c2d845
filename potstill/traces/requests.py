"""From prompts to requests to completions, and from completions to traces with their lineage."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion, Model, Request, Sampling
from potstill.records import Author, Prompt, Trace, digest
from potstill.traces import session
from potstill.traces.prompts import RenderedPrompt
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
            fields[name] = tuple(value)
    return Sampling(**fields)


def request_completions(
    model: Model,
    jobs: Sequence[tuple[Prompt, str]],
    sampling: Sampling,
    *,
    n: int = 1,
    sample_index: int = 0,
) -> list[list[Answer]]:
    """Ask for `n` completions of each (prompt, prefix) in one bulk call; equal jobs get different samples.

    The first of n=8 after n=4 are the same four, and sample_index=1 never repeats one
    of sample_index=0 (`SAMPLES_PER_CALL`).

    Args:
        model: who writes.
        jobs: a prompt and the beginning of its completion, for each request.
        sampling: the settings of all requests.
        n: completions of each job.
        sample_index: another number asks anew where an equal call would reuse.

    Returns:
        For each job, its `n` requests with their completions.

    Raises:
        ConfigError: `n` or `sample_index` is out of range, or a prompt is asked more often than a call can count.
        ModelError: the model returned another number of completions than it was asked for.
    """
    if n < 1 or sample_index < 0:
        raise ConfigError(
            f"n={n}, sample_index={sample_index}",
            expected="n of at least 1, sample_index of at least 0",
        )
    if n > SAMPLES_PER_CALL:  # before they are counted one by one
        raise ConfigError(
            f"n={n}", expected=f"at most {SAMPLES_PER_CALL} draws a prompt", fix="--set n=8"
        )
    # Equal jobs of one call are counted, so that each gets a sample of its own.
    repetitions: Counter[tuple[Prompt, str]] = Counter()
    requests: list[Request] = []
    seed = request_seed(model)
    for prompt, prefix in jobs:
        for _ in range(n):
            number = sample_index * SAMPLES_PER_CALL + repetitions[prompt, prefix]
            repetitions[prompt, prefix] += 1
            requests.append(Request(prompt, prefix, sampling, number, seed))
    most_repeated = max(repetitions.values(), default=0)
    if most_repeated > SAMPLES_PER_CALL:
        raise ConfigError(
            f"one prompt is asked {most_repeated} times in a call",
            expected=f"<= {SAMPLES_PER_CALL}",
        )
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
