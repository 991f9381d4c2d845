"""`verify` annotates traces with verdicts; neither a text nor an id changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.models.model import Model
from potstill.records import Span, Trace, Verdict, digest
from potstill.traces import llm_judge, session
from potstill.verifiers import placement


class VerifierResult(NamedTuple):
    """What the verifier of a problem's kind says of a text; `steps` is None where the kind has no step verifier."""

    verdict: Verdict
    steps: tuple[Span, ...] | None


def verify(traces: Sequence[Trace]) -> list[Trace]:
    """Annotate each trace with its verdict and, where its kind has a step verifier, with step spans.

    Such a kind also sets scores["steps"]: 1 if every step is right, 0 if one is not, None without steps. Judging again
    replaces the verdict, steps and score that were there.

    Args:
        traces: what is judged, each by the verifier of its problem's kind.

    Returns:
        The traces with their verdicts; blank and errored traces pass unchanged.

    Raises:
        ConfigError: a kind is unknown, or its verifier can't run here.
    """
    # Blank and errored traces keep their place and are not judged.
    results = iter(run_verifiers([trace for trace in traces if _is_judgeable(trace)]))
    annotated: list[Trace] = []
    judged: list[Trace] = []
    for trace in traces:
        if _is_judgeable(trace):
            trace = _annotate_result(trace, next(results))
            judged.append(trace)
        annotated.append(trace)
    session.record_traces(judged)
    names = {trace.verdict.verifier for trace in annotated} - {""}
    session.record_step("verify", "+".join(sorted(names)), len(traces), len(annotated))
    return annotated


def _is_judgeable(trace: Trace) -> bool:
    """An empty completion is judged (and unparsed); a problem that nobody has worked on is not."""
    return not trace.error and bool(trace.text or trace.author)


def _annotate_result(trace: Trace, result: VerifierResult) -> Trace:
    if result.steps is None:
        return trace.annotate(verdict=result.verdict)
    # The spans of an earlier judgement go; units, masks and tool turns stay.
    other_spans = [span for span in trace.spans if span.kind != "step"]
    all_right = None  # nothing can be said of a text without steps
    if result.steps:
        all_right = float(all(step.score == 1 for step in result.steps))
    return trace.annotate(
        verdict=result.verdict,
        spans=(*other_spans, *result.steps),
        scores={**trace.scores, "steps": all_right},
    )


def run_verifiers(traces: Sequence[Trace]) -> list[VerifierResult]:
    """Return the verdict on each trace: from the session's cache, the others from the verifiers, equal texts once.

    Verdicts are cached by verifier version, exact text and problem, so that a time-out or a newer checkpoint can't
    change a row. What a model judges is not in this cache: its replies are in the store as every completion is, and a
    failed one can be asked again.
    """
    model = session.current_session().judge
    if model is None:
        return _run_cached_verifiers(traces)
    # What the session's judge is to judge, and what a verifier judges, each in one call; then in input order again.
    model_judged = [trace for trace in traces if trace.problem.kind == "judge"]
    others = [trace for trace in traces if trace.problem.kind != "judge"]
    model_verdicts = iter(llm_judge.judge_answers(model, model_judged))
    other_results = iter(_run_cached_verifiers(others))
    results: list[VerifierResult] = []
    for trace in traces:
        if trace.problem.kind == "judge":
            results.append(VerifierResult(next(model_verdicts), None))
        else:
            results.append(next(other_results))
    return results


def _run_cached_verifiers(traces: Sequence[Trace]) -> list[VerifierResult]:
    # The key holds the version, so that a verifier that changed judges anew.
    kinds = {trace.problem.kind for trace in traces}
    versions = {kind: verifiers.version(kind) for kind in sorted(kinds)}
    keys = [verdict_key(trace, versions[trace.problem.kind]) for trace in traces]

    def compute(missing: list[int]) -> list[dict[str, object]]:
        items = [(traces[index].problem, traces[index].text) for index in missing]
        verdicts = verifiers.judge(items)
        steps = verifiers.steps(items)
        return [{"verdict": v, "steps": s} for v, s in zip(verdicts, steps, strict=True)]

    return [_result_of_json(value) for value in session.cached_values(keys, compute)]


def verdict_key(trace: Trace, version: str) -> str:
    """The key under which a verifier's verdict on a trace is cached: its version, the exact text, the problem."""
    steps_version = verifiers.steps_version(trace.problem)
    if steps_version:
        version += f" {steps_version}"
    return digest("verdict", [version, trace.text, trace.problem])


def _result_of_json(value: dict[str, Any]) -> VerifierResult:
    verdict = Verdict(*value["verdict"])
    if value["steps"] is None:
        return VerifierResult(verdict, None)
    return VerifierResult(verdict, tuple(Span(*step) for step in value["steps"]))


def check_judge(traces: Sequence[Trace], model: Model | None, flag: str) -> None:
    """Refuse problems that can't be judged here: by a model that there is not, or in a sandbox that does not work.

    Args:
        traces: the problems, as blank traces.
        model: the judge, if there is one.
        flag: how a judge is given, for the message.

    Raises:
        ConfigError: there is a problem of the kind "judge" and no judge, or one of the kind "code" and no sandbox.
    """
    if any(trace.problem.kind == "code" for trace in traces):
        placement.describe_sandbox()  # refused where none works
    count = sum(trace.problem.kind == "judge" for trace in traces)
    if count and model is None:
        raise ConfigError(
            f"{count} problems are to be judged by a model, and there is none",
            expected="a model that judges, for problems of the kind judge",
            fix=flag,
        )


def verifier_version(kind: str) -> str:
    """Return the verifier of a kind with its version; where a model judges, the model's id is part of it."""
    model = session.current_session().judge
    if kind == "judge" and model:
        return llm_judge.judge_version(model)
    return verifiers.version(kind)
