"""`verify` annotates traces with verdicts; neither a text nor an id changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.models.model import Model
from potstill.records import Span, Trace, Verdict, digest
from potstill.traces import llm_judge, session


class Finding(NamedTuple):
    """What the verifier of a problem's kind says of a text; `steps` is None where the kind has no step verifier."""

    verdict: Verdict
    steps: tuple[Span, ...] | None


def verify(traces: Sequence[Trace]) -> list[Trace]:
    """Annotate each trace with its verdict and, where its kind has a step verifier, step spans and scores["steps"].

    scores["steps"] is 1 if every step is right, 0 if one is not, None without steps. Judging again replaces what was
    found before. Blank and errored traces pass unchanged.
    """
    todo = [t for t in traces if _judgeable(t)]
    findings = iter(judged(todo))
    result = [_found(t, next(findings)) if _judgeable(t) else t for t in traces]
    session.made([t for t in result if _judgeable(t)])
    session.step(
        "verify",
        "+".join(sorted({t.verdict.verifier for t in result} - {""})),
        len(traces),
        len(result),
    )
    return result


def judged(traces: Sequence[Trace]) -> list[Finding]:
    """The findings for traces, in order: from the session's cache, the rest from the verifiers, equal texts once.

    Keyed by verifier version, exact text and problem, so that a time-out or a newer checkpoint can't change a row. What
    a model judges is not among them: its replies are in the store as every completion is, and a failed one can be asked
    again.
    """
    model = session.current().judge
    if model is None:
        return _checked(traces)
    asked = [t.problem.kind == "judge" for t in traces]
    said = iter(llm_judge.verdicts(model, [t for t, a in zip(traces, asked, strict=True) if a]))
    checked = iter(_checked([t for t, a in zip(traces, asked, strict=True) if not a]))
    return [Finding(next(said), None) if a else next(checked) for a in asked]


def check_judge(traces: Sequence[Trace], model: Model | None, flag: str) -> None:
    """Refuse problems that a model is to judge where there is none; `flag` is how one is given."""
    count = sum(t.problem.kind == "judge" for t in traces)
    if count and model is None:
        raise ConfigError(
            f"{count} problems are to be judged by a model, and there is none",
            expected="a model that judges, for problems of the kind judge",
            fix=flag,
        )


def version(kind: str) -> str:
    """The verifier of a kind; where a model judges, which one is part of its name."""
    model = session.current().judge
    return (
        f"{verifiers.version(kind)}:{model.id}"
        if kind == "judge" and model
        else verifiers.version(kind)
    )


def _checked(traces: Sequence[Trace]) -> list[Finding]:
    versions = {kind: verifiers.version(kind) for kind in sorted({t.problem.kind for t in traces})}
    keys = [digest("verdict", [versions[t.problem.kind], t.text, t.problem]) for t in traces]

    def compute(missing: list[int]) -> list[dict[str, object]]:
        items = [(traces[i].problem, traces[i].text) for i in missing]
        found = zip(verifiers.judge(items), verifiers.steps(items), strict=True)
        return [{"verdict": verdict, "steps": steps} for verdict, steps in found]

    return [_finding(value["verdict"], value["steps"]) for value in session.remember(keys, compute)]


def _finding(verdict: list[str], steps: list[list[float]] | None) -> Finding:
    spans = None if steps is None else tuple(Span(*step) for step in steps)  # type: ignore[arg-type]
    return Finding(Verdict(*verdict), spans)  # type: ignore[arg-type]


def _judgeable(trace: Trace) -> bool:
    """An empty completion is judged (and unparsed); a problem that nobody has worked on is not."""
    return not trace.error and bool(trace.text or trace.author)


def _found(trace: Trace, finding: Finding) -> Trace:
    if finding.steps is None:
        return trace.annotate(verdict=finding.verdict)
    spans = tuple(span for span in trace.spans if span.kind != "step") + finding.steps
    sound = float(all(span.score == 1 for span in finding.steps)) if finding.steps else None
    return trace.annotate(
        verdict=finding.verdict, spans=spans, scores={**trace.scores, "steps": sound}
    )
