"""Scorers that read likelihoods: of a trace's own text, or of another text behind it, such as a known answer.

Every text that is scored is a call: stored by its content, batched, counted and in the budget (`models.scoring`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from potstill.errors import ConfigError, ModelError
from potstill.models.model import Completion, Scored
from potstill.models.scoring import Passage, PassageLike, score_passages, to_passages
from potstill.records import Span, Trace
from potstill.traces import session
from potstill.traces.reasoning_steps import without_last_line
from potstill.traces.scores import Score, Scorer

# Which text of a trace is scored, and behind what; None where there is none.
PassageOf: TypeAlias = Callable[[Trace], PassageLike | None]

# A whole number of the batches in which a store has texts scored: parts change no batch.
PASSAGES_AT_ONCE = 1024
# Behind it an answer is asked for; models that were taught to box their answer go on with it.
ANSWER_CUE = "\nThe answer is \\boxed{"


def learner(trace: Trace) -> Passage:
    """Return the learner's prompt and the whole text: what `nll` measures where nothing else is named."""
    return Passage(trace.prompt, trace.text)


def token_logprobs(
    model: Scored, passages: Sequence[PassageLike], *, problem_ids: Sequence[str] | None = None
) -> list[tuple[float, ...]]:
    """Return the natural-log probabilities of the tokens of each text behind its prompt and prefix.

    Args:
        model: whose likelihoods are taken.
        passages: what is scored; equal ones are asked for once.
        problem_ids: the problem of each passage, under which its tokens are counted; None counts them under none.

    Returns:
        A value a token; nothing for an empty text, one beyond the context, or one that the model failed on.

    Raises:
        ModelError: the model gives no likelihoods.
    """
    if not isinstance(model, Scored):
        raise ModelError(
            f"model {model.id} gives no likelihoods",
            expected="a model with weights, as transformers:PATH, or a server with score=",
        )
    all_passages = to_passages(passages)
    distinct = [passage for passage in dict.fromkeys(all_passages) if passage.text]
    problem_of: dict[Passage, str] = {}
    if problem_ids is not None:
        # Equal passages are counted under the problem that came first.
        for passage, problem_id in zip(all_passages, problem_ids, strict=True):
            problem_of.setdefault(passage, problem_id)

    # Nothing is kept here: a model behind a store is asked for every value, so that each run counts the same calls. It
    # scores a text once, for every scorer. A part at a time, since not all answers fit in memory.
    logprobs: dict[Passage, tuple[float, ...]] = {}
    for start in range(0, len(distinct), PASSAGES_AT_ONCE):
        part = distinct[start : start + PASSAGES_AT_ONCE]
        answers: list[Completion] = score_passages(model, part)
        if problem_ids is not None:
            session.record_usage(model, [problem_of[passage] for passage in part], answers)
        for passage, answer in zip(part, answers, strict=True):
            logprobs[passage] = tuple(answer.logprobs)
    return [logprobs.get(passage, ()) for passage in all_passages]


def nll(model: Scored, of: PassageOf = learner, clip: float | None = None) -> Scorer:
    """Score by the mean negative log-likelihood per token (nats): -1/T sum_t log p(text_t | prompt, prefix, text_<t).

    With `clip` it is -1/T sum_t max(log p(…), -clip), which lies between 0 and clip: no single token that surprises the
    model outweighs the others (REER, arXiv:2509.06160, takes 2).

    Args:
        model: whose likelihoods are taken.
        of: the passage to measure, such as a known answer after the reasoning; None where a trace has none.
        clip: the most that one token may count, in nats; None is no limit.
    """
    _check_clip(clip)
    return partial(_nll, model, of, clip)


def perplexity(model: Scored, of: PassageOf = learner) -> Scorer:
    """Score by exp(nll) per token; arguments as for `nll`, and the same stored values."""
    return partial(_perplexity, model, of)


def gain(model: Scored, of: PassageOf, baseline: PassageOf) -> Scorer:
    """Score by how much better a text is foretold: G = 1 - PPL(y | x, z) / PPL(y | x).

    Below 1; 0 where `of` is as likely as the baseline, negative where it is less likely. Unlike a perplexity it can be
    compared between problems (VR-CLI, arXiv:2503.22828).

    Args:
        model: whose likelihoods are taken.
        of: the passage with what should help, such as a known answer behind the reasoning.
        baseline: the same text without it.
    """
    return partial(_gain, model, of, baseline)


def answer_probability(
    model: Scored, *, hide_last_line: bool = True, cue: str = ANSWER_CUE
) -> Scorer:
    """Score by the probability of the gold answer behind the reasoning: prod_t p(answer_t | x, z, cue, answer_<t).

    The last line mostly states the answer, so it is hidden: what is left of the probability was thought before it.

    Args:
        model: whose likelihoods are taken.
        hide_last_line: leave out the text's last line; of a text of one line, its last sentence.
        cue: what stands between the reasoning and the answer.

    Returns:
        A scorer; None where a problem has no gold answer.
    """
    return partial(_answer_probability, model, hide_last_line, cue)


def leave_one_out(
    model: Scored,
    traces: Sequence[Trace],
    of: PassageOf,
    *,
    kind: str = "unit",
    clip: float | None = None,
) -> list[Trace]:
    """Write into each unit's span how much the negative log-likelihood of `of` rises without the unit.

    score(u) = NLL(of(trace without u)) - NLL(of(trace)): positive where the unit makes the measured text likelier.

    Args:
        model: whose likelihoods are taken.
        traces: with the spans of `segment`; one without such spans passes unchanged.
        of: the passage to measure, made of the trace's text.
        kind: of the spans that are left out one by one.
        clip: as for `nll`.

    Returns:
        The traces with a score in each of these spans; None in a span whose value nobody can tell.
    """
    _check_clip(clip)
    # The whole text and each text without one unit, all in one call.
    variants: list[Trace] = []
    for trace in traces:
        spans = _spans_of_kind(trace, kind)
        if spans:
            variants += [trace, *(_without(trace, span) for span in spans)]
    values = iter(_nll(model, of, clip, variants))

    # The values come back in the same order: a trace's own first, then one for each of its units.
    annotated: list[Trace] = []
    for trace in traces:
        units = _spans_of_kind(trace, kind)
        if not units:
            annotated.append(trace)
            continue
        whole = next(values)
        scored_spans: dict[Span, Span] = {}
        for unit in units:
            without = next(values)
            change = None
            if whole is not None and without is not None:
                change = float(without) - float(whole)
            scored_spans[unit] = unit._replace(score=change)
        with_scores = tuple(scored_spans.get(span, span) for span in trace.spans)
        annotated.append(trace.annotate(spans=with_scores))
    session.record_traces([trace for trace in annotated if _spans_of_kind(trace, kind)])
    session.record_step("leave_one_out", kind, len(traces), len(annotated))
    return annotated


def _check_clip(clip: float | None) -> None:
    if clip is not None and not clip > 0:
        raise ConfigError(f"clip={clip}", expected="nats above 0, or None", fix="clip=2.0")


def _nll(
    model: Scored, of: PassageOf, clip: float | None, traces: Sequence[Trace]
) -> list[float | None]:
    """The mean of each trace's passage; None where there is no passage, or no token."""
    means: list[float | None] = []
    for logprobs in _logprobs_of(model, of, traces):
        if logprobs and clip is not None:
            logprobs = tuple(max(value, -clip) for value in logprobs)
        means.append(-math.fsum(logprobs) / len(logprobs) if logprobs else None)
    return means


def _logprobs_of(model: Scored, of: PassageOf, traces: Sequence[Trace]) -> list[tuple[float, ...]]:
    """The log-probabilities of each trace's passage; nothing where it has none."""
    passages: list[PassageLike] = []
    for trace in traces:
        passage = of(trace)
        passages.append(passage if passage is not None else Passage(trace.prompt, ""))
    return token_logprobs(model, passages, problem_ids=[trace.problem.id for trace in traces])


def _perplexity(model: Scored, of: PassageOf, traces: Sequence[Trace]) -> list[Score]:
    means = _nll(model, of, None, traces)
    return [None if mean is None else _exp(mean) for mean in means]


def _gain(
    model: Scored, of: PassageOf, baseline: PassageOf, traces: Sequence[Trace]
) -> list[Score]:
    means = _nll(model, of, None, traces)
    baseline_means = _nll(model, baseline, None, traces)
    gains: list[Score] = []
    for mean, baseline_mean in zip(means, baseline_means, strict=True):
        if mean is None or baseline_mean is None:
            gains.append(None)
        else:
            gains.append(1 - _exp(mean - baseline_mean))
    return gains


def _answer_probability(
    model: Scored, hide_last_line: bool, cue: str, traces: Sequence[Trace]
) -> list[Score]:
    def gold_behind_reasoning(trace: Trace) -> Passage | None:
        if not trace.problem.answer:
            return None
        reasoning = without_last_line(trace.text) if hide_last_line else trace.text.rstrip()
        return Passage(trace.prompt, trace.problem.answer, prefix=reasoning + cue)

    probabilities: list[Score] = []
    for logprobs in _logprobs_of(model, gold_behind_reasoning, traces):
        probabilities.append(math.exp(math.fsum(logprobs)) if logprobs else None)
    return probabilities


def _exp(value: float) -> float:
    """e to this power; infinite beyond what a float holds, which `score` refuses with the trace's id."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _spans_of_kind(trace: Trace, kind: str) -> list[Span]:
    if trace.error:
        return []
    return [span for span in trace.spans if span.kind == kind]


def _without(trace: Trace, span: Span) -> Trace:
    """The trace without a stretch of its text: only to be measured, so nothing else of it matters."""
    text = trace.text[: span.start] + trace.text[span.stop :]
    return dataclasses.replace(trace, text=text, prefix_length=0, spans=())
