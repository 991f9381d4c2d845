"""Recorded answers under a model as judge: verdicts by a rubric, comparisons in pairs, how far the judge is to trust.

What `potstill judge` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from potstill.data.recorded_answers import Answered
from potstill.errors import InputError
from potstill.models.model import Model
from potstill.records import Trace, Verdict
from potstill.traces.llm_judge import bias, judge_answers, prefer

STATUSES = ("right", "wrong", "unparsed", "unjudged")
DECIDED = ("right", "wrong")  # verdicts that agree or disagree with a label


class Duel(NamedTuple):
    """Two recorded models' answers to one problem."""

    model: str
    against: str
    problem_id: str


def grade_answers(judge: Model, answers: Sequence[Answered], rubric: str) -> dict[str, Any]:
    """A row a recorded model: the judge's verdicts, and how often it agrees with the file's labels."""
    verdicts = judge_answers(judge, [to_trace(answer) for answer in answers], rubric)
    rows = []
    for model in dict.fromkeys(answer.model for answer in answers):
        judged = []
        for answer, verdict in zip(answers, verdicts, strict=True):
            if answer.model == model:
                judged.append((answer, verdict))
        counts: Counter[str] = Counter(verdict.status for _, verdict in judged)
        row: dict[str, Any] = {"model": model, "answers": len(judged)}
        for status in STATUSES:
            row[status] = counts[status]
        row["cut"] = sum(answer.cut for answer, _ in judged)
        row["agrees with labels"] = agreement_with_labels(judged)
        rows.append(row)
    return {"judge": judge.id, "answers": rows}


def agreement_with_labels(judged: Sequence[tuple[Answered, Verdict]]) -> float | None:
    """The share of verdicts that agree with the file's label; None where nothing is labelled and decided."""
    agreements = []
    for answer, verdict in judged:
        if answer.label is not None and verdict.status in DECIDED:
            agreements.append(answer.label == (verdict.status == "right"))
    if not agreements:
        return None
    return sum(agreements) / len(agreements)


def compare_answers(judge: Model, answers: Sequence[Answered], rubric: str) -> dict[str, Any]:
    """Wins of each recorded model over each other on the problems that both answered, and the judge's bias.

    Raises:
        InputError: no problem is answered by two models.
    """
    # Of several answers of a model to a problem the first counts.
    traces: dict[tuple[str, str], Trace] = {}
    for answer in answers:
        traces.setdefault((answer.model, answer.problem.id), to_trace(answer))
    models = list(dict.fromkeys(answer.model for answer in answers))
    problem_ids = list(dict.fromkeys(answer.problem.id for answer in answers))
    duels = []
    for model, against in combinations(models, 2):
        for problem_id in problem_ids:
            if (model, problem_id) in traces and (against, problem_id) in traces:
                duels.append(Duel(model, against, problem_id))
    if not duels:
        raise InputError(
            f"no problem is answered by two of the recorded models ({', '.join(models)})",
            expected="answers of at least two models, told apart by a column `model` or by a column each",
            fix="leave --pairs out to judge the answers one by one",
        )

    pairs = []
    for duel in duels:
        pairs.append((traces[duel.model, duel.problem_id], traces[duel.against, duel.problem_id]))
    preferences = prefer(judge, pairs, rubric)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for duel, preference in zip(duels, preferences, strict=True):
        row = rows.setdefault(
            (duel.model, duel.against),
            {"model": duel.model, "against": duel.against, "won": 0, "lost": 0, "ties": 0},
        )
        if preference.winner is preference.one:
            row["won"] += 1
        elif preference.winner is preference.other:
            row["lost"] += 1
        else:
            row["ties"] += 1
    return {"judge": judge.id, "pairs": list(rows.values()), "bias": bias(preferences)}


def to_trace(answer: Answered) -> Trace:
    """A recorded answer as the trace that a judge reads."""
    return Trace(
        answer.problem,
        answer.problem.question,
        text=answer.text,
        finish_reason="stop",
        operator="recorded",
    )
