"""Gold answers and recorded answers under the verifiers: what `potstill verify` reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from potstill import verifiers
from potstill.data.recorded_answers import Answered
from potstill.records import Problem, Progress, Verdict
from potstill.verifiers.placement import current_place
from potstill.verifiers.sql.execute import NO_ROWS

STATUSES = ("right", "wrong", "unparsed", "unjudged")
PORTION = 500  # problems or answers a machine between two reports of progress


class JudgedAnswer(NamedTuple):
    """A recorded answer and its verdict."""

    answer: Answered
    verdict: Verdict

    @property
    def disagrees(self) -> bool:
        """Whether the file's label and the verifier differ; no verdict does not agree with the label "right"."""
        if self.answer.label is None:
            return False
        return self.answer.label != (self.verdict.status == "right")


def judge_gold(problems: Sequence[Problem], progress: Progress) -> list[tuple[Problem, Verdict]]:
    """The problems that have a gold answer, each with what its own verifier says of it."""
    judged = []
    for portion in portions(problems, progress, "gold answers"):
        judged += verifiers.judge_gold(portion)
    return judged


def judge_recorded(answers: Sequence[Answered], progress: Progress) -> list[JudgedAnswer]:
    """Every recorded answer with its verdict."""
    judged = []
    for portion in portions(answers, progress, "answers"):
        verdicts = verifiers.judge([(answer.problem, answer.text) for answer in portion])
        for answer, verdict in zip(portion, verdicts, strict=True):
            judged.append(JudgedAnswer(answer, verdict))
    return judged


def portions(items: Sequence[Any], progress: Progress, label: str) -> Iterator[Sequence[Any]]:
    """The items in slices, with progress reported after each."""
    progress(label, 0, len(items))
    place = current_place()
    size = PORTION * (place.breadth if place is not None else 1)  # enough for all machines
    for start in range(0, len(items), size):
        yield items[start : start + size]
        progress(label, min(start + size, len(items)), len(items))


def count_verdicts(judged: Sequence[JudgedAnswer]) -> list[dict[str, Any]]:
    """A row a recorded model: answers, right by the file's labels (None without labels), the verdicts' counts."""
    by_model: dict[str, list[JudgedAnswer]] = {}
    for item in judged:
        by_model.setdefault(item.answer.model, []).append(item)
    rows = []
    for model, items in by_model.items():
        statuses: Counter[str] = Counter(item.verdict.status for item in items)
        labels = [item.answer.label for item in items if item.answer.label is not None]
        row: dict[str, Any] = {"model": model, "answers": len(items)}
        row["right by label"] = sum(labels) if labels else None
        for status in STATUSES:
            row[status] = statuses[status]
        row["cut"] = sum(item.answer.cut for item in items)
        row["disagreements"] = sum(item.disagrees for item in items)
        rows.append(row)
    return rows


def list_disagreements(judged: Sequence[JudgedAnswer]) -> list[dict[str, Any]]:
    """The answers whose label and verdict differ."""
    rows = []
    for answer, verdict in (item for item in judged if item.disagrees):
        rows.append(
            {
                "model": answer.model,
                "problem": answer.problem.id,
                "label": "right" if answer.label else "wrong",
                "verdict": verdict.status,
                "answer": verdict.answer,
                "gold": answer.problem.answer,
                "reason": verdict.reason,
                "text": answer.text,
            }
        )
    return rows


def summarise_gold(judged: Sequence[tuple[Problem, Verdict]]) -> dict[str, Any]:
    """How many gold answers were checked and passed, a row for each that failed, and queries that return nothing."""
    failing = []
    empty = []
    for problem, verdict in judged:
        if problem.kind == "table" and verdict.status == "right" and NO_ROWS in verdict.reason:
            empty.append(problem.id)
        if verdict.status == "right":
            continue
        failing.append(
            {
                "problem": problem.id,
                "gold": problem.answer,
                "kind": problem.kind,
                "verdict": verdict.status,
                "reason": verdict.reason,
            }
        )
    return {
        "checked": len(judged),
        "right": len(judged) - len(failing),
        "failing": failing,
        "without_rows": empty,
    }
