"""Scores by what is known of the problems: `--by level` measures and compares the problems of each level apart.

A stratum is the problems with one value of a metadata, or with one of a few bands of values. Its scores are those of
any evaluation, with intervals clustered by problem; few problems give wide ones, and the counts stand beside them.
Intervals are not corrected for the number of strata.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import ConfigError
from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.metrics import average, pass_at
from potstill.evaluation.rows import Evaluation, Row
from potstill.evaluation.table import format_percent, format_points
from potstill.metadata import LENGTH, Order, order_of
from potstill.records import MetadataValue

MAX_STRATA = 8  # values of a metadata that are strata of their own; more are put together
BANDS = 4  # of numbers: quarters of the problems
UNCORRECTED = (
    "Intervals of strata are not corrected for how many there are: of twenty differences that are none, "
    "one is expected to look like one."
)


class Stratum(NamedTuple):
    """Problems that belong together: a label ("Level 5", "800 to 1,200", "no level") and their ids."""

    label: str
    problem_ids: frozenset[str]


class Scores(NamedTuple):
    """An arm on the problems of one stratum.

    Args:
        stratum: its label.
        evaluation: of the arm on these problems alone.
        comparison: with the base on these problems; None for the base itself, and where there is none.
    """

    stratum: str
    evaluation: Evaluation
    comparison: Comparison | None = None


def stratify(evaluations: Iterable[Evaluation], by: str) -> list[Stratum]:
    """Put the problems of evaluations into strata by one of their metadata.

    Up to eight values are a stratum each. Of more numbers there are four bands with a quarter of the problems each; of
    dates the years, or the months of a single year; of other texts the seven most frequent, and "others". Problems
    without a value come last, under "no level".

    Args:
        evaluations: of any arms; the strata are the same for all.
        by: the name of the metadata: "level", "topic" …; "length" is the words of the question.

    Raises:
        ConfigError: no problem has such metadata.
    """
    # What is known of each problem: an older evaluation of it may know nothing.
    metadata: dict[str, Mapping[str, MetadataValue]] = {}
    for evaluation in evaluations:
        for row in evaluation.rows:
            if row.metadata or row.problem not in metadata:
                metadata[row.problem] = row.metadata
    values = {problem_id: known[by] for problem_id, known in metadata.items() if by in known}
    if not values:
        names = list(dict.fromkeys(name for known in metadata.values() for name in known))
        raise ConfigError(
            f"no measured problem has the metadata {by!r}",
            available=names,
            wanted=by,
            fix=f"--map {by}=COLUMN when it is measured; evaluations of before this version have no metadata",
        )
    labels = label_values(values)
    lacking = [problem_id for problem_id in metadata if problem_id not in values]

    # In the order of the labels, which is that of the values.
    ids_by_label: dict[str, set[str]] = {}
    for problem_id, label in labels.items():
        ids_by_label.setdefault(label, set()).add(problem_id)
    strata = [Stratum(label, frozenset(ids)) for label, ids in ids_by_label.items()]
    if lacking:
        strata.append(Stratum(f"no {by}", frozenset(lacking)))
    return strata


def label_values(values: Mapping[str, MetadataValue]) -> dict[str, str]:
    """By problem id the label of its stratum, in the order of the strata."""
    # Few values stand for themselves, whatever they are.
    counts = Counter(values.values())
    if len(counts) <= MAX_STRATA:
        ranked = sorted(values, key=lambda problem_id: _sort_key(values[problem_id]))
        return {problem_id: str(values[problem_id]) for problem_id in ranked}
    # Many are put together by their order, where all of them have one of the same kind.
    orders = {problem_id: order_of(value) for problem_id, value in values.items()}
    kinds = {None if order is None else order[0] for order in orders.values()}
    if kinds == {0}:
        numbers = {problem_id: float(order[1]) for problem_id, order in orders.items() if order}
        return _label_bands(numbers)
    if kinds == {1}:
        return _label_dates({problem_id: str(value) for problem_id, value in values.items()})
    return _label_frequent(values, counts)


def score_strata(
    evaluations: Sequence[Evaluation], by: str, *, base: Evaluation | None = None
) -> list[Scores]:
    """The scores of every arm in every stratum, compared with the base where it was asked the same.

    Args:
        evaluations: of the arms, in their order.
        by: the name of the metadata.
        base: with which each arm is compared, problem by problem; None compares none.
    """
    scores: list[Scores] = []
    for stratum in stratify(evaluations, by):
        restricted_base = restrict(base, stratum) if base is not None else None
        for evaluation in evaluations:
            restricted = restrict(evaluation, stratum)
            if not restricted.rows:
                continue  # this arm was measured on other problems
            comparison = None
            if restricted_base is not None and evaluation is not base:
                comparison = _compare_where_equal(restricted, restricted_base)
            scores.append(Scores(stratum.label, restricted, comparison))
    return scores


def _compare_where_equal(arm: Evaluation, base: Evaluation) -> Comparison | None:
    """The comparison of two evaluations that were asked the same, and have problems here."""
    if not base.rows or arm.fingerprint.differs(base.fingerprint):
        return None
    return compare(arm, base)


def restrict(evaluation: Evaluation, stratum: Stratum) -> Evaluation:
    """The evaluation with the rows of a stratum alone."""
    rows = tuple(row for row in evaluation.rows if row.problem in stratum.problem_ids)
    return dataclasses.replace(evaluation, rows=rows)


def strata_table(
    evaluations: Sequence[Evaluation], by: str, *, base: Evaluation | None = None
) -> list[dict[str, str]]:
    """One row a stratum and arm: how many problems and right answers, avg@n and pass@n with their intervals.

    Args:
        evaluations: of the arms.
        by: the name of the metadata, and of the first column.
        base: with which the last column compares.
    """
    # Columns are named by n where all arms have the same, as in the table of arms.
    counts = {evaluation.n for evaluation in evaluations}
    n = str(counts.pop()) if len(counts) == 1 else "n"
    rows: list[dict[str, str]] = []
    for scores in score_strata(evaluations, by, base=base):
        measured = scores.evaluation
        answers = sum(row.n for row in measured.rows)
        row = {
            by: scores.stratum,
            "arm": measured.name,
            "problems": f"{len(measured.rows):,}",
            "right": f"{measured.count('right'):,} of {answers:,}",
            f"avg@{n}": format_percent(average(measured)),
            f"pass@{n}": format_percent(pass_at(measured, measured.n)),
        }
        if base is not None:
            comparison = scores.comparison
            row[f"vs {base.name}"] = format_points(comparison.difference) if comparison else "–"
        rows.append(row)
    return rows


def strata_to_json(
    evaluations: Sequence[Evaluation], by: str, *, base: Evaluation | None = None
) -> list[dict[str, Any]]:
    """The same as plain data."""
    rows: list[dict[str, Any]] = []
    for scores in score_strata(evaluations, by, base=base):
        measured = scores.evaluation
        row: dict[str, Any] = {
            "stratum": scores.stratum,
            "arm": measured.name,
            "problems": len(measured.rows),
            "answers": sum(row.n for row in measured.rows),
            "right": measured.count("right"),
            "avg": average(measured)._asdict(),
            "pass": pass_at(measured, measured.n)._asdict(),
        }
        if scores.comparison is not None:
            row["comparison"] = scores.comparison.to_json()
        rows.append(row)
    return rows


def name_of_solved(reference: Evaluation) -> str:
    """Under which metadata `mark_solved` says how often a reference solved a problem."""
    return f"solved by {reference.name}"


def mark_solved(evaluation: Evaluation, reference: Evaluation) -> Evaluation:
    """The evaluation with one more metadata of its problems: how often another evaluation solved them.

    That is "0 of 4", "1 to 3 of 4" or "4 of 4", under `solved by NAME`. The reference should be none of those that are
    compared, such as the teacher's, or a measurement of the base with other seeds: problems that are chosen because an
    arm failed on them are ones on which it will do better the next time, whatever was done in between.

    Args:
        evaluation: whose problems are marked.
        reference: who solved them; problems that it was not asked have the value "not asked".
    """
    rights = {row.problem: (row.right, row.n) for row in reference.rows}
    name = name_of_solved(reference)
    rows: list[Row] = []
    for row in evaluation.rows:
        label = "not asked"
        if row.problem in rights:
            label = _solved_label(*rights[row.problem])
        rows.append(dataclasses.replace(row, metadata={**row.metadata, name: label}))
    return dataclasses.replace(evaluation, rows=tuple(rows))


def _solved_label(right: int, n: int) -> str:
    """All, none, or some of n answers are right."""
    if right in (0, n):
        return f"{right} of {n}"
    return f"1 of {n}" if n == 2 else f"1 to {n - 1} of {n}"


def strata_names(evaluations: Iterable[Evaluation]) -> list[str]:
    """The metadata by which the problems of evaluations fall into two strata or more, but for their length."""
    values_by_name: dict[str, set[MetadataValue]] = {}
    for evaluation in evaluations:
        for row in evaluation.rows:
            for name, value in row.metadata.items():
                values_by_name.setdefault(name, set()).add(value)
    return [name for name, values in values_by_name.items() if len(values) > 1 and name != LENGTH]


def _sort_key(value: MetadataValue) -> tuple[int, Order, str]:
    """Values with an order by it, then the others as texts."""
    order = order_of(value)
    if order is None:
        return 1, (0, 0.0), str(value)
    return 0, order, str(value)


def _label_bands(numbers: Mapping[str, float]) -> dict[str, str]:
    """Quarters of the problems by a number; equal numbers are in one band, that of the first of them."""
    # Which quarter a number falls into says the place at which it first stands among all of them.
    ranked = sorted(numbers, key=lambda problem_id: numbers[problem_id])
    first_place: dict[float, int] = {}
    for place, problem_id in enumerate(ranked):
        first_place.setdefault(numbers[problem_id], place)
    bands: dict[int, list[str]] = {}
    for problem_id in ranked:
        quarter = first_place[numbers[problem_id]] * BANDS // len(ranked)
        bands.setdefault(quarter, []).append(problem_id)

    # A band is called by the numbers that are in it, not by where it was cut.
    labels: dict[str, str] = {}
    for band in bands.values():
        low, high = numbers[band[0]], numbers[band[-1]]
        label = f"{low:,.10g}"
        if low != high:
            label = f"{low:,.10g} to {high:,.10g}"
        labels.update(dict.fromkeys(band, label))
    return labels


def _label_dates(dates: Mapping[str, str]) -> dict[str, str]:
    """Years; the months where all dates are of one year, and spans of years where there are many."""
    # The first characters of a date in ISO 8601 are its year, and then its month.
    years = {date[:4] for date in dates.values()}
    length = len("2024") if len(years) > 1 else len("2024-01")
    labels = {
        problem_id: dates[problem_id][:length]
        for problem_id in sorted(dates, key=dates.__getitem__)
    }
    if len(years) <= MAX_STRATA:
        return labels
    return _label_bands({problem_id: float(year) for problem_id, year in labels.items()})


def _label_frequent(
    values: Mapping[str, MetadataValue], counts: Counter[MetadataValue]
) -> dict[str, str]:
    """The most frequent values, then all others together."""
    # Ties by the text, so that the order of the problems decides nothing.
    ranked_values = sorted(counts, key=lambda value: (-counts[value], str(value)))
    frequent = ranked_values[: MAX_STRATA - 1]
    others = f"{len(ranked_values) - len(frequent)} others"
    labels: dict[str, str] = {}
    for value in frequent:
        of_value = [problem_id for problem_id in values if values[problem_id] == value]
        labels.update(dict.fromkeys(of_value, str(value)))
    for problem_id in values:
        labels.setdefault(problem_id, others)
    return labels
