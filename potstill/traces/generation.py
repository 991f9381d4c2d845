"""The operators that ask a model: `sample` continues, `rewrite` replaces; `pose` sets what the learner will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ConfigError
from potstill.models.model import Model
from potstill.records import Problem, Prompt, Trace
from potstill.traces import prompts, requests, session
from potstill.traces.answers import compare_answers
from potstill.traces.keys import Key, problem
from potstill.traces.learning import spans_of_prefix
from potstill.traces.prompts import Context, Template
from potstill.traces.verification import run_verifiers

# What `pose` moves with a text: who wrote it and how it ended, and what was said of it since.
MOVED_FIELDS = (
    *("text", "prefix_length", "finish_reason", "stop_string", "author"),
    *("verdict", "scores", "spans", "weight", "tokens"),
)


def sample(
    model: Model,
    traces: Sequence[Trace],
    *,
    prompt: Template | None = None,
    n: int = 1,
    sample_index: int = 0,
    context: Context | None = None,
    by: Key = problem,
    prefix: str = "",
    **settings: Any,
) -> list[Trace]:
    """Continue each trace `n` times: the text so far, then `prefix`, then what the model writes.

    What a model wrote of the text so far is learnt like what is new (`records.learnt_stretches`), each piece with its
    author in a span.

    Args:
        model: who writes.
        traces: what is continued; blank traces are problems to solve.
        prompt: shown to the writer only. Without one the writer sees the learner's prompt, and the text so far as its
            own beginning. With one the text so far is seen only where the prompt shows it (`{text}`).
        n: samples of each trace; a run with n=8 asks for four more than one with n=4 did. Within a run equal calls take
            different samples.
        sample_index: another number asks for others than every call without it.
        context: more traces to show, looked up by `by`; those shown become parents.
        by: the key under which a trace finds its context.
        prefix: put before what the model writes; shown only, and so not learnt (`learn` changes that).
        settings: fields of `models.model.Sampling`.

    Returns:
        `n` new traces in the place of each trace; an errored trace passes unchanged.

    Raises:
        ConfigError: an unknown setting, an unknown name in the prompt, or a context without a prompt.
    """
    # Ask for all samples of all traces in one call. The writer goes on from the text so far, or sees it in `prompt`.
    healthy = [trace for trace in traces if not trace.error]
    rendered_prompts = prompts.render_prompts(prompt, healthy, context, by)
    jobs: list[tuple[Prompt, str]] = []
    for trace, rendered in zip(healthy, rendered_prompts, strict=True):
        beginning = trace.text if prompt is None else ""
        jobs.append((rendered.prompt, beginning + prefix))
    sampling = requests.make_sampling("sample", settings)
    problems = [trace.problem for trace in healthy]
    answers = requests.request_completions(
        model, jobs, sampling, n=n, sample_index=sample_index, problems=problems
    )
    requests.record_usage(model, healthy, answers)

    # A trace of each completion; those of one parent are a family.
    families: list[list[Trace]] = []
    for trace, rendered, samples in zip(healthy, rendered_prompts, answers, strict=True):
        family: list[Trace] = []
        for answer in samples:
            child = requests.trace_of_completion(
                trace, rendered, model, answer, operator="sample", given_text=trace.text + prefix
            )
            # Units, step scores, masks and authors of the text so far hold in its continuation.
            spans = spans_of_prefix(trace)
            if spans:
                child = child.annotate(spans=spans)
            family.append(child)
        families.append(family)
    _record_families(families)
    return _replace_by_families("sample", model.id, traces, families)


def plain(model: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any) -> list[Trace]:
    """Solve problems by sampling the student on the learner's prompt: the solver of most methods."""
    return sample(model, problems, n=n, **sampling)


def solve_posed(
    model: Model, prompt: Template, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Solve problems under a prompt of the method's own: the solver where the learner was posed it.

    `return partial(solve_posed, student, PROMPT)`.
    """
    return sample(model, pose(prompt, problems), n=n, **sampling)


def rewrite(
    model: Model,
    traces: Sequence[Trace],
    *,
    prompt: Template,
    n: int = 1,
    sample_index: int = 0,
    context: Context | None = None,
    by: Key = problem,
    guard: bool = True,
    **settings: Any,
) -> list[Trace]:
    """Replace each trace's text `n` times by what the model writes when shown `prompt`; the learner's prompt stays.

    Args:
        model: who writes.
        traces: what is rewritten.
        prompt: shown to the writer only.
        n: rewrites of each trace.
        sample_index: another number asks for others than every call without it.
        context: more traces to show, looked up by `by`; those shown become parents.
        by: the key under which a trace finds its context.
        guard: where the parent was judged and a rewrite's answer is another one, keep the parent instead (once,
            however many rewrites lost it). Switch it off to have wrong traces corrected.
        settings: fields of `models.model.Sampling`.

    Returns:
        The rewrites in the place of each trace; an errored trace passes unchanged.

    Raises:
        ConfigError: an unknown setting, or an unknown name in the prompt.
    """
    # A rewrite begins anew: the writer sees the old text only where the prompt shows it.
    healthy = [trace for trace in traces if not trace.error]
    rendered_prompts = prompts.render_prompts(prompt, healthy, context, by)
    jobs = [(rendered.prompt, "") for rendered in rendered_prompts]
    sampling = requests.make_sampling("rewrite", settings)
    problems = [trace.problem for trace in healthy]
    answers = requests.request_completions(
        model, jobs, sampling, n=n, sample_index=sample_index, problems=problems
    )
    requests.record_usage(model, healthy, answers)

    families: list[list[Trace]] = []
    for trace, rendered, samples in zip(healthy, rendered_prompts, answers, strict=True):
        family: list[Trace] = []
        for answer in samples:
            family.append(
                requests.trace_of_completion(trace, rendered, model, answer, operator="rewrite")
            )
        families.append(family)
    _record_families(families)
    if guard:
        families = _guard_answers(healthy, families)
    return _replace_by_families("rewrite", model.id, traces, families)


def _guard_answers(parents: Sequence[Trace], families: Sequence[list[Trace]]) -> list[list[Trace]]:
    """Put the parent in the place of each rewrite that lost its answer."""
    # What was never judged has no answer to lose.
    pairs: list[tuple[Trace, Trace]] = []
    for parent, family in zip(parents, families, strict=True):
        for child in family:
            if parent.answer is not None and not child.error:
                pairs.append((parent, child))

    # An answer that is written otherwise, and still right or the same to the verifier, is not lost.
    drops: dict[Trace, str] = {}
    verdicts = [result.verdict for result in run_verifiers([child for _, child in pairs])]
    candidates: list[tuple[Problem, str, str]] = []
    for (parent, _), verdict in zip(pairs, verdicts, strict=True):
        if verdict.answer is not None and parent.answer is not None:
            candidates.append((parent.problem, parent.answer, verdict.answer))
    comparisons = iter(compare_answers(candidates))
    for (parent, child), verdict in zip(pairs, verdicts, strict=True):
        both_right = verdict.status == parent.verdict.status == "right"
        is_same = verdict.answer is not None and next(comparisons)
        if not (is_same or both_right):
            drops[child] = (
                f"the answer changed from {parent.answer!r} to {verdict.answer!r}; its parent is kept"
            )
    session.record_drops("rewrite", "guard", drops.items())
    guarded: list[list[Trace]] = []
    for parent, family in zip(parents, families, strict=True):
        guarded.append(_with_parent_for_drops(parent, family, drops))
    return guarded


def _with_parent_for_drops(
    parent: Trace, family: Sequence[Trace], drops: Mapping[Trace, str]
) -> list[Trace]:
    """The family with its parent in the place of dropped traces; equal traces once."""
    unique: dict[str, Trace] = {}
    for child in family:
        trace = parent if child in drops else child
        unique[trace.id] = trace
    return list(unique.values())


def pose(
    prompt: Template,
    traces: Sequence[Trace],
    *,
    context: Context | None = None,
    by: Key = problem,
    keep_text: bool = False,
) -> list[Trace]:
    """Make a blank trace of each, whose learner sees `prompt`; no other operator sets what the learner sees.

    Args:
        prompt: what the learner sees: a template, or a function of the trace.
        traces: what the prompt is filled from; they become parents.
        context: more traces to show, looked up by `by`; those shown become parents.
        by: the key under which a trace finds its context.
        keep_text: move the text too, so that a text that was written under one prompt is learnt under another: author,
            what of it is learnt, end, verdict, scores, weight and tokens stay. A score that depends on the prompt
            (`nll`) is then of the old one; score anew.

    Returns:
        A trace without text, or with its text, in the place of each trace; an errored trace passes unchanged.

    Raises:
        ConfigError: an unknown name in the prompt, or a pair whose text is to be kept.
    """
    healthy = [trace for trace in traces if not trace.error]
    rendered_prompts = prompts.render_prompts(prompt, healthy, context, by)
    families: list[list[Trace]] = []
    for trace, rendered in zip(healthy, rendered_prompts, strict=True):
        fields = moved_fields(trace) if keep_text else {}
        posed = requests.derive_trace(trace, "pose", rendered, prompt=rendered.prompt, **fields)
        families.append([posed])
    _record_families(families)
    return _replace_by_families("pose", "", traces, families)


def set_teacher_prompt(
    prompt: Template,
    traces: Sequence[Trace],
    *,
    context: Context | None = None,
    by: Key = problem,
) -> list[Trace]:
    """Decide what a teacher reads in the place of the learner's prompt while it is asked about the learner's tokens.

    So a teacher knows what the learner never sees: a gold solution, wrong attempts. Texts and ids stay as they are.

    Args:
        prompt: what the teacher reads: a template, or a function of the trace.
        traces: blank ones, where the learner writes in its training, or finished ones.
        context: more traces to show, looked up by `by`.
        by: the key under which a trace finds its context.

    Returns:
        The traces, annotated; an errored trace passes unchanged.

    Raises:
        ConfigError: an unknown name in the prompt.
    """
    healthy = [trace for trace in traces if not trace.error]
    rendered_prompts = iter(prompts.render_prompts(prompt, healthy, context, by))
    result: list[Trace] = []
    for trace in traces:
        if trace.error:
            result.append(trace)
        else:
            result.append(trace.annotate(teacher_prompt=next(rendered_prompts).prompt))
    session.record_step("set_teacher_prompt", "", len(traces), len(result))
    return result


def moved_fields(trace: Trace) -> dict[str, Any]:
    """All that goes with a text that is moved under another prompt."""
    if trace.rejected is not None:
        raise ConfigError(
            f"pose can't move the text of {trace.id}: it is the chosen side of a pair",
            expected="both sides under one prompt",
            fix="pose both sides first, then pair them",
        )
    return {name: getattr(trace, name) for name in MOVED_FIELDS}


def _record_families(families: Sequence[list[Trace]]) -> None:
    new_traces: list[Trace] = []
    for family in families:
        new_traces += family
    session.record_traces(new_traces)


def _replace_by_families(
    operator: str, label: str, traces: Sequence[Trace], families: Sequence[list[Trace]]
) -> list[Trace]:
    """Put its family in the place of each healthy trace, and record a line of the funnel."""
    # `families` are those of the healthy traces, in order.
    remaining = iter(families)
    result: list[Trace] = []
    for trace in traces:
        if trace.error:
            result.append(trace)
        else:
            result += next(remaining)
    session.record_step(operator, label, len(traces), len(result))
    return result
