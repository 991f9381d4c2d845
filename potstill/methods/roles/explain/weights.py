"""Row weights: easier and more recent problems weigh more (the amount and the form are inferred)."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.metadata import known_metadata, ranks_of
from potstill.methods.roles.explain.settings import Settings
from potstill.records import Problem, Trace
from potstill.traces import ReportSection, Share, note, report

NEEDED_BY = "explain's weights"


def weigh_problems(problems: Sequence[Trace], settings: Settings) -> dict[str, float]:
    """By problem id the weight w = 1 + e (1/2 - difficulty) + r (recency - 1/2), and a part of the report that says so.

    Difficulty and recency are ranks among the problems, from 0 to 1, so that the scale of a rating does not matter and
    the mean weight is 1. What no problem says does not weigh, and a note says so before the first call.

    Args:
        problems: all problems of the run.
        settings: which metadata, and e and r.

    Raises:
        InputError: some problems say how hard or how recent they are, and others do not.
    """
    all_problems = [trace.problem for trace in problems]
    weights = dict.fromkeys((problem.id for problem in all_problems), 1.0)
    shares: list[Share] = []
    for what, names, amount in (
        ("difficulty", settings.difficulty, -settings.easy_weight),
        ("recency", settings.recency, settings.recent_weight),
    ):
        name = first_known(names, all_problems)
        if not name:
            if names and amount:
                note(
                    f"no problem has a {' or '.join(names)} in its metadata: {what} does not weigh"
                )
            shares.append(Share(f"{what}: no {' or '.join(names)}", 0, len(all_problems)))
            continue
        # Some say it, so all must: a problem without a rating is neither easy nor hard.
        shares.append(Share(f"{what}: by {name}", len(all_problems), len(all_problems)))
        ranks = ranks_of(name, all_problems, needed_by=NEEDED_BY)
        for problem_id, rank in ranks.items():
            weights[problem_id] += amount * (rank - 0.5)
    report(
        ReportSection(
            title="Row weights",
            hint="Easier and more recent problems weigh more in training, where the problems say which these are.",
            shares=tuple(shares),
        )
    )
    return weights


def first_known(names: Sequence[str], problems: Sequence[Problem]) -> str:
    """The first of these metadata that any problem has; "" where none has one."""
    for name in names:
        if any(name in known_metadata(problem) for problem in problems):
            return name
    return ""
