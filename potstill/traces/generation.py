"""The operators that ask a model: `sample` continues, `rewrite` replaces; `pose` sets what the learner will see."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import prompts, requests, session
from potstill.traces.keys import Key, problem
from potstill.traces.prompts import Context, Template
from potstill.traces.verification import judged


def sample(
    model: Model,
    traces: Sequence[Trace],
    *,
    prompt: Template | None = None,
    n: int = 1,
    draw: int = 0,
    context: Context | None = None,
    by: Key = problem,
    prefix: str = "",
    **settings: Any,
) -> list[Trace]:
    """Continue each trace `n` times: text = held text + prefix + what the model writes.

    Args:
        prompt: shown to the writer only; without one the writer sees the learner's prompt and the held text as its own
            beginning. With one the held text is seen only where the prompt shows it (`{text}`).
        n: draws a trace; n=8 after n=4 asks for four more.
        draw: another number asks again where an equal call would reuse.
        context: more traces to show, looked up by `by`; those shown become parents.
        prefix: put before what the model writes; counts as given.
        settings: fields of `models.model.Sampling`.
    """
    healthy = [t for t in traces if not t.error]
    shown = prompts.show(prompt, healthy, context, by)
    jobs = [
        (s.prompt, (t.text if prompt is None else "") + prefix)
        for s, t in zip(shown, healthy, strict=True)
    ]
    answers = requests.call(model, jobs, requests.sampling("sample", settings), n=n, draw=draw)
    families = [
        [
            _continued(t, requests.written(t, s, model, a, operator="sample", held=t.text + prefix))
            for a in drawn
        ]
        for t, s, drawn in zip(healthy, shown, answers, strict=True)
    ]
    _made(families)
    return _returned("sample", model.id, traces, families)


def plain(model: Model, problems: Sequence[Trace], *, n: int = 1, **sampling: Any) -> list[Trace]:
    """The solver that only samples the student on the learner's prompt."""
    return sample(model, problems, n=n, **sampling)


def _continued(parent: Trace, child: Trace) -> Trace:
    """What was said of the held text (units, step scores, masks) holds in its continuation."""
    return child.annotate(spans=parent.spans) if parent.spans else child


def rewrite(
    model: Model,
    traces: Sequence[Trace],
    *,
    prompt: Template,
    n: int = 1,
    draw: int = 0,
    context: Context | None = None,
    by: Key = problem,
    guard: bool = True,
    **settings: Any,
) -> list[Trace]:
    """Replace each trace's text `n` times by what the model writes when shown `prompt`; the learner's prompt stays.

    Args:
        guard: where the parent was judged and the rewrite's answer is not the parent's any more, keep the parent
            instead (once, however many rewrites lost it). Switch it off to have wrong traces corrected.
    """
    healthy = [t for t in traces if not t.error]
    shown = prompts.show(prompt, healthy, context, by)
    answers = requests.call(
        model,
        [(s.prompt, "") for s in shown],
        requests.sampling("rewrite", settings),
        n=n,
        draw=draw,
    )
    families = [
        [requests.written(t, s, model, a, operator="rewrite") for a in drawn]
        for t, s, drawn in zip(healthy, shown, answers, strict=True)
    ]
    _made(families)
    return _returned(
        "rewrite", model.id, traces, _guarded(healthy, families) if guard else families
    )


def _guarded(parents: Sequence[Trace], families: Sequence[list[Trace]]) -> list[list[Trace]]:
    pairs = [(p, c) for p, family in zip(parents, families, strict=True) for c in family]
    pairs = [(p, c) for p, c in pairs if p.answer is not None and not c.error]
    lost = {}
    for (p, c), finding in zip(pairs, judged([c for _, c in pairs]), strict=True):
        now = finding.verdict
        if now.answer != p.answer and not now.status == p.verdict.status == "right":
            lost[c] = f"the answer changed from {p.answer!r} to {now.answer!r}; its parent is kept"
    session.dropped("rewrite", "guard", lost.items())
    return [_kept(p, family, lost) for p, family in zip(parents, families, strict=True)]


def _kept(parent: Trace, family: Sequence[Trace], lost: Container[Trace]) -> list[Trace]:
    return list({t.id: t for t in (parent if c in lost else c for c in family)}.values())


def pose(
    prompt: Template, traces: Sequence[Trace], *, context: Context | None = None, by: Key = problem
) -> list[Trace]:
    """A new blank trace for each, whose learner sees `prompt`; the only operator that sets what the learner sees."""
    healthy = [t for t in traces if not t.error]
    shown = prompts.show(prompt, healthy, context, by)
    families = [
        [requests.child(t, "pose", s, prompt=s.prompt)] for t, s in zip(healthy, shown, strict=True)
    ]
    _made(families)
    return _returned("pose", "", traces, families)


def _made(families: Sequence[list[Trace]]) -> None:
    session.made([t for family in families for t in family])


def _returned(
    operator: str, label: str, taken: Sequence[Trace], families: Iterable[list[Trace]]
) -> list[Trace]:
    """Each healthy trace replaced by its family, the errored ones as they are; and a line in the funnel."""
    left = iter(families)
    result = [t for trace in taken for t in ([trace] if trace.error else next(left))]
    session.step(operator, label, len(taken), len(result))
    return result
