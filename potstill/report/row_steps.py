"""The report's section about what the rows teach: how many steps they have, and how many state an answer alone."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.evaluation.row_steps import NOTED_STEPLESS_SHARE, RowSteps, stepless_notes
from potstill.report.markup import Html, tag
from potstill.report.section import NONE, Section, data_table, make_section


def row_steps_section(steps_by_arm: Mapping[str, RowSteps]) -> Section | None:
    """Steps of the rows of every arm; with a warning where too many rows have none."""
    if not steps_by_arm:
        return None
    hint = (
        "A step is a sentence or line of a row that says something besides the answer; equations count one by one. "
        f"Above {100 * NOTED_STEPLESS_SHARE:.0f} % of rows without a step there is a warning: such rows teach to state "
        "an answer, whatever their verdict. Checks and what is taken back are no steps; their words are known in "
        "English alone, so in another language they count."
    )
    columns = ["arm", "rows", "steps a row (median)", "rows without a step"]
    # A column for the answer's probability where some arm has it.
    has_probability = any(steps.scored for steps in steps_by_arm.values())
    if has_probability:
        columns.append("P(answer | row without its last line)")
        hint += (
            " The last column is the untrained student's probability of the gold answer, in the mean of a sample of "
            "rows: what is left of it was reasoned before the answer was stated. A row of one line loses its last "
            "sentence, and a calculation before it that ends in the answer still shows it."
        )
    cells: list[list[str]] = []
    for arm, steps in steps_by_arm.items():
        share = f"{steps.stepless:,} ({100 * steps.stepless_share:.1f} %)"
        line = [arm, f"{steps.rows:,}", f"{steps.median_steps:g}", share]
        if has_probability:
            line.append(format_probability(steps))
        cells.append(line)
    table = data_table(
        columns, cells, name="steps of the rows, by arm", number_columns=len(columns) - 1
    )
    return make_section("Steps of the rows", hint, table, draw_warnings(steps_by_arm))


def format_probability(steps: RowSteps) -> str:
    """The mean probability of the answer, with the number of rows that it was taken of."""
    if steps.answer_probability is None:
        return NONE
    return f"{steps.answer_probability:.3f} ({steps.scored:,} rows)"


def draw_warnings(steps_by_arm: Mapping[str, RowSteps]) -> Html | None:
    """The arms of whose rows too many have no step."""
    notes = stepless_notes(steps_by_arm)
    if not notes:
        return None
    return tag("ul", *[tag("li", note) for note in notes], class_="said warning")
