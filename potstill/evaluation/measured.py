"""The fingerprint of a figure that no evaluation holds, such as an AUROC of a probe or ΔPPL: what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.benchmark import LIBRARIES, installed_version
from potstill.evaluation.rows import Fingerprint
from potstill.records import Trace, canonical, digest
from potstill.traces.verification import verifier_version


def fingerprint_figure(
    name: str,
    traces: Sequence[Trace],
    *,
    models: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Fingerprint:
    """Everything that moves a figure, in the form that an evaluation has.

    Args:
        name: of the figure, such as "delta_perplexity".
        traces: what it was computed on; of pairs the rejected texts count too.
        models: role -> id of each model that was asked.
        settings: what it was computed with, such as sampling, bins or the steps that were probed.

    Returns:
        `task` holds the figure's name, the problems, prompts, texts, verifiers and settings, `run` the models and the
        versions. `differs` of two names what is not equal.
    """
    kinds = sorted({trace.problem.kind for trace in traces})
    # Ids of traces are digests of prompt, text and author; a pair's other side is no part of its id.
    texts = [(trace.id, trace.rejected.id if trace.rejected else "") for trace in traces]
    task = {
        "figure": name,
        "problems": digest("problems", list(dict.fromkeys(trace.problem for trace in traces))),
        "prompts": digest("prompts", list(dict.fromkeys(trace.prompt for trace in traces))),
        "texts": digest("texts", texts),
        "verifiers": " ".join(verifier_version(kind) for kind in kinds),
        "settings": canonical(dict(settings or {})),
    }
    run = {f"model {role}": model_id for role, model_id in sorted((models or {}).items())}
    run["python"] = platform.python_version()
    for library in LIBRARIES:
        run[library] = installed_version(library)
    return Fingerprint(task, run)
