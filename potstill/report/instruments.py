"""The report's sections of instruments: plans and programs, what gives wrong answers away, accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.evaluation.instrument_tables import (
    agreement_notes,
    diversity_note,
    score_rows,
    surface_rows,
    total_cost_rows,
)
from potstill.evaluation.nested import is_nested
from potstill.evaluation.results import Results
from potstill.report.markup import Html, tag
from potstill.report.section import NONE, Section, data_table, make_section


def surface_section(results: Results) -> Section | None:
    """solve@(M,T) of every arm whose answers descend from several plans."""
    tables: list[Html] = []
    for name, evaluation in results.evaluations.items():
        if is_nested(evaluation):
            rows = surface_rows(evaluation)
            for row in rows:
                del row["arm"]
            tables += [tag("h3", name), draw_rows(rows, name=f"solve@(M,T) of {name}")]
            tables.append(tag("p", diversity_note(evaluation), class_="soft"))
    if not tables:
        return None
    hint = (
        "The chance that one of M plans with T programs each solves a problem, estimated without bias from all. "
        "*: no shape solves as much for no more tokens."
    )
    return make_section("Plans and programs", hint, *tables)


def scores_section(results: Results) -> Section | None:
    """How well entropy, disagreement and length detect wrong answers; nothing for one answer a problem."""
    evaluations = [e for e in results.evaluations.values() if e.n > 1]
    if not evaluations:
        return None
    rows = score_rows(evaluations)
    hint = (
        "AUROC: the chance that a wrong answer has the higher score than a right one, clustered by problem; a score "
        "that says nothing has 0.5. Its AUPRC is the share of events."
    )
    notes = [tag("li", note) for note in agreement_notes(evaluations)]
    return make_section(
        "What gives wrong answers away",
        hint,
        draw_rows(rows, name="scores as detectors of wrong answers", text_columns=3),
        tag("ul", *notes, class_="said") if notes else None,
    )


def total_cost_section(results: Results) -> Section | None:
    """avg@n of every arm beside what its student cost; nothing where no arm trained or collected anything."""
    # The report knows no parameters, and so no FLOPs.
    rows = total_cost_rows(results, {})
    if not any(row["tokens in all"] != "0" for row in rows):
        return None
    for row in rows:
        del row["FLOPs"]
    hint = (
        "Tokens that all models read and wrote until the student was there; measuring it is left out. *: no arm is as "
        "good for no more tokens. potstill compare RUN --total-cost --parameters ROLE=N adds FLOPs, --selecting ROLE "
        "tells choosing from making rows."
    )
    return make_section(
        "Accuracy against cost", hint, draw_rows(rows, name="accuracy against cost")
    )


def draw_rows(rows: Sequence[Mapping[str, str]], *, name: str, text_columns: int = 1) -> Html:
    """Rows of strings as a table, all columns but the first ones as numbers; those without content are left out."""
    columns = [title for title in rows[0] if any(row[title] not in ("", NONE) for row in rows)]
    cells: list[list[str]] = []
    for row in rows:
        cells.append([row[title] for title in columns])
    return data_table(columns, cells, name=name, number_columns=len(columns) - text_columns)
