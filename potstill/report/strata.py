"""The report's section that scores the problems apart by what is known of them: level, topic, rating …"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.data.metadata_columns import FIELDS
from potstill.evaluation.results import Results
from potstill.evaluation.strata import UNCORRECTED, strata_names, strata_table
from potstill.report.markup import Html
from potstill.report.section import Section, data_table, fold, make_section


def strata_section(results: Results, base: str, names: Sequence[str]) -> Section | None:
    """A table for each of the problems' metadata, every arm in every stratum; none where there is nothing to part.

    Args:
        results: of a run.
        base: the arm that the others are compared with, where it was measured.
        names: of the metadata; without any those of the usual five by which the problems fall into two strata or more.
    """
    # Other metadata than the usual are shown where they are asked for: some have a value for each problem.
    evaluations = list(results.evaluations.values())
    chosen = list(names)
    if not chosen:
        chosen = [name for name in strata_names(evaluations) if name in FIELDS]
    tables: list[Html] = []
    for name in chosen:
        rows = strata_table(evaluations, name, base=results.evaluations.get(base))
        columns = list(rows[0])
        cells = [list(row.values()) for row in rows]
        table = data_table(
            columns, cells, name=f"scores by {name}", number_columns=len(columns) - 2
        )
        tables.append(fold(f"By {name}", table, is_open=bool(names)))
    if not tables:
        return None
    hint = (
        "The problems of each stratum alone: right answers of all answers, shares with 95 % intervals, and the paired "
        f"difference on these problems. {UNCORRECTED}"
    )
    return make_section("Kinds of problems", hint, *tables)
