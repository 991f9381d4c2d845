"""Why a stage can't be trained: counts of what a method's operators dropped, and what helps against it."""

from __future__ import annotations

import threading
from collections import Counter

from potstill.errors import StageError
from potstill.methods.checks import no_readable_answer, no_wrong_attempts
from potstill.records import Stage

FINAL_FAILURES = (
    "error: length",
    "error: context",
    "error: missing",
)  # asking again does not help against these
SHOWN_REASONS = 8


class DropCounter:
    """Counts what a method's operators drop and pass; the threads of `each` may call it at once."""

    def __init__(self) -> None:
        """Count from here on."""
        # By (operator, test, kind of reason), since the last stage.
        self.since_stage: Counter[tuple[str, str, str]] = Counter()
        # By (test, kind of reason) of the operator `keep`, since the method began.
        self._kept_out: Counter[tuple[str, str]] = Counter()
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add_drop(self, operator: str, test: str, reason: str) -> None:
        """Count a drop by the kind of its reason."""
        kind = kind_of_reason(reason)
        with self._lock:
            self.since_stage[operator, test, kind] += 1
            if operator == "keep":
                self._kept_out[test, kind.partition(":")[0]] += 1

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Count what passed a test."""
        if operator == "keep" and taken:
            with self._lock:
                self._passed[label] += returned

    def statuses_where_none_passed(self, test: str) -> Counter[str]:
        """Verdicts of the traces that a test of `keep` dropped; empty where some passed, or where it met none."""
        if test not in self._passed or self._passed[test]:
            return Counter()
        statuses: Counter[str] = Counter()
        for (dropped_by, status), count in self._kept_out.items():
            if dropped_by == test:
                statuses[status] += count
        return statuses


def kind_of_reason(reason: str) -> str:
    """The kind of a reason, which quotes an answer after its colon; of a failed call also what failed."""
    kind, _, details = reason.partition(":")
    failure = details.partition(":")[0].strip()
    if kind == "error" and failure.isidentifier():
        return f"{kind}: {failure}"
    return kind


def check_errors(method: str, drops: DropCounter) -> None:
    """Refuse rows that should have come from a model's errors where it made none, or none that could be read.

    A method may say this itself, and earlier, with words of its own (`methods.checks`).
    """
    statuses = drops.statuses_where_none_passed("wrong")
    if statuses:
        raise no_wrong_attempts(method, statuses)


def check_rows(method: str, stage: Stage, drops: DropCounter) -> None:
    """Refuse a stage without rows; the error counts what was dropped before it and says what helps."""
    if stage.rows:
        return
    for test in ("right", "sound", "checked"):
        statuses = drops.statuses_where_none_passed(test)
        if statuses and statuses["unparsed"] == statuses.total():
            raise no_readable_answer(method, statuses.total())

    reasons: list[str] = []
    for (operator, test, reason), count in drops.since_stage.most_common(SHOWN_REASONS):
        reasons.append(f"{operator} {test}: {count} ({reason})")
    failed = f"; {stage.errored} rows were failed generations" if stage.errored else ""
    raise StageError(
        f"{method} yielded a stage without rows{failed}; dropped before it: {'; '.join(reasons) or 'nothing'}",
        expected="at least one trace to train on",
        fix=advise(stage, drops.since_stage),
    )


def advise(stage: Stage, drops: Counter[tuple[str, str, str]]) -> str:
    """What helps: failed calls are no fault of the method, and are asked for again only on request."""
    failures: Counter[str] = Counter({"error": stage.errored})
    for (_, _, reason), count in drops.items():
        kind = reason if reason in FINAL_FAILURES else reason.split(":")[0]
        failures[kind] += count
    majority = failures.total() / 2
    if failures["error: context"] > majority:
        return (
            "the prompts are longer than the model's context: shorter problems or --prompt, or a model with a longer "
            "context, in another folder; --retry-errors does not help"
        )
    if failures["error: length"] > majority:
        return "another folder with a larger --set max_new_tokens=N, or with --truncated raise, continue or shorter"
    if failures["error: missing"] > majority:
        return "a recording that has answers to these problems, in another folder; --retry-errors does not help"
    if failures["too few steps"] + failures["too short"] > majority:
        return (
            "a writer or a prompt that reasons and does not only copy the answer, or less of the reference's steps: "
            "--set gate.min_step_share=0.25 (potstill methods METHOD says what the gate asks)"
        )
    if failures["error"] > majority:
        return "potstill cache journal RUN --status error says what failed; --retry-errors asks for it again"
    return "more problems or draws, a stronger writer, or a weaker filter; what was generated so far is kept"
