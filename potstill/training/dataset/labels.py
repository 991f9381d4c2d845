"""What an objective reads of a trace beside its text: whether it is right, and how good its rationale is."""

from __future__ import annotations

from potstill.records import Trace

SCORE = "score"  # name of the score that says how good a rationale is, 0 to 1


def label_of(trace: Trace) -> bool | None:
    """Whether a completion is a right one: by its label, else by its verdict; None where neither says."""
    label = trace.scores.get("label")
    if isinstance(label, int | float):
        return label > 0
    return {"right": True, "wrong": False}.get(trace.verdict.status)


def rationale_score(trace: Trace) -> float | None:
    """How good a rationale is; None where nobody said."""
    score = trace.scores.get(SCORE)
    return float(score) if isinstance(score, int | float) else None
