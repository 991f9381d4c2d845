"""The report scores problems apart by their metadata, where they have any."""

from __future__ import annotations

import dataclasses

import pytest
from demo_results import results

from potstill.report.page import render_page


def with_levels(plain):
    evaluations = {}
    for name, evaluation in plain.evaluations.items():
        rows = []
        for number, row in enumerate(evaluation.rows):
            rows.append(dataclasses.replace(row, metadata={"level": number % 2, "length": number}))
        evaluations[name] = dataclasses.replace(evaluation, rows=tuple(rows))
    return dataclasses.replace(plain, evaluations=evaluations)


@pytest.mark.slow
def test_a_report_has_a_table_of_the_levels_that_problems_have():
    plain = results()
    assert "Kinds of problems" not in render_page(plain)
    page = render_page(with_levels(plain))
    assert "By level" in page and "scores by length" not in page
    assert "not corrected for how many there are" in page
    assert "scores by length" in render_page(with_levels(plain), by=["length"])
