"""The instruments as tables and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from demo_results import evaluation, nested_evaluation, results

from potstill.errors import ConfigError
from potstill.evaluation import instrument_tables as tables
from potstill.evaluation.curves import curve_fronts, k_curve, powers_of_two
from potstill.traces.usage import Usage


def test_a_curve_has_powers_of_two_and_n() -> None:
    assert powers_of_two(1) == [1] and powers_of_two(8) == [1, 2, 4, 8]
    assert powers_of_two(10) == [1, 2, 4, 8, 10]


def test_k_answers_take_k_times_the_tokens() -> None:
    points = k_curve(evaluation("a", "rwww", "rrww", tokens=30))
    assert [(point.k, point.tokens) for point in points] == [(1, 30), (2, 60), (4, 120)]
    assert [point.passed.value for point in points] == pytest.approx([3 / 8, 2 / 3, 1])
    # Read and written, of all roles, where the solver was measured.
    [point] = k_curve(nested_evaluation(["rw"], usage={"m": Usage(2, 100, 20, 0.5)}), [2])
    assert (point.tokens, point.usd) == (120, 0.5)


def test_an_arm_that_is_worse_for_more_is_not_on_the_front() -> None:
    short = evaluation("short", "rrww", "rrww", tokens=10)
    long = evaluation("long", "rwww", "rwww", tokens=40)
    fronts = curve_fronts([*k_curve(short), *k_curve(long)])
    # Three of four short answers hold a right one in any case: a fourth brings nothing.
    assert fronts["passed"] == {("short", 1), ("short", 2), ("short", 4)}
    assert fronts["majority"] == {("short", 1)}
    rows = tables.curve_rows([short, long])
    assert rows[0]["pass front"] == "*" and rows[-1]["pass front"] == ""
    assert "cost a problem" not in rows[0]


def test_money_has_a_front_of_its_own() -> None:
    cheap = nested_evaluation(["rw"], usage={"m": Usage(2, 100, 20, 0.1)})
    terse = nested_evaluation(["rw"], usage={"m": Usage(2, 50, 20, 0.3)})
    rows = tables.curve_rows([replace(cheap, name="cheap"), replace(terse, name="terse")], [1])
    assert [row["pass front"] for row in rows] == ["$", "*"]
    assert rows[0]["cost a problem"] == "0.05 USD"


def test_the_table_of_scores_says_what_has_none() -> None:
    rows = tables.score_rows([evaluation("a", "rwue", "rrrr")])
    assert rows[0]["events"] == "2 of 7" and rows[0]["without score"] == "1"
    assert rows[0]["AUROC"].startswith("0.")
    document = tables.scores_json(evaluation("a", "rwue", "rrrr"))
    assert json.loads(json.dumps(document))["agreement"]["problems"] == 2
    [note] = tables.agreement_notes([evaluation("a", "rwue", "rrrr"), evaluation("b", "r", "w")])
    assert note.startswith("a: agreement as the confidence in the elected answer has an ECE of")


def test_a_surface_has_a_cost_where_the_calls_tell_who_wrote_what() -> None:
    usage = {"reasoner": Usage(2, 20, 80), "coder": Usage(4, 400, 40)}
    evaluated = nested_evaluation(["rw", "ww"], ["ww", "rr"], usage=usage)
    rows = tables.surface_rows(evaluated)
    assert [(row["plans M"], row["programs T"]) for row in rows] == [
        ("1", "1"),
        ("1", "2"),
        ("2", "1"),
        ("2", "2"),
    ]
    assert rows[0]["tokens a problem"] == "160" and rows[0]["front"] == "*"
    document = tables.surface_json(evaluated)
    assert (
        document["shapes"][3]["value"] == 1.0 and document["iso_cost"][0]["best"]["name"] == "1x1"
    )
    [_, two] = tables.iso_cost_rows(evaluated)
    assert (two["many plans"], two["one plan"], two["best shape"]) == ("2x1", "1x2", "2x1")
    note = tables.diversity_note(evaluated)
    assert note == (
        "nested: 75 % of the pairs of answers from one plan are equal; 0 % of the pairs of answers from two plans are "
        "equal; a problem has 2.50 different answers on average."
    )
    alone = nested_evaluation(["rw", "ww"], usage={"student": Usage(4, 400, 40)})
    assert "front" not in tables.surface_rows(alone)[0]
    assert tables.surface_json(alone)["iso_cost"] == []


def test_what_the_arms_of_a_run_cost() -> None:
    rows = {
        row["arm"]: row for row in tables.total_cost_rows(results(), {"student": 5e5}, ["student"])
    }
    assert rows["orion"]["selection tokens"] == "438.0k"
    assert rows["orion"]["FLOPs"] == "–", "nobody knows the teacher's parameters"
    assert rows["rft"]["FLOPs"] == f"{5e5 * (2 * 145_000 + 6 * 18_000):.3g}"
    document = tables.total_cost_json(results(), {"student": 5e5}, ["student"])
    assert document["orion"]["generation"]["tokens"] == 75_000
    assert document["orion"]["total"]["flops"] is None
    with pytest.raises(ConfigError, match="no arm has a role 'techer'"):
        tables.total_cost_rows(results(), {"techer": 1})


def test_a_fingerprint_says_what_was_measured() -> None:
    found = evaluation("a", "rw").fingerprint
    line = tables.fingerprint_line(found)
    assert line.startswith(f"fingerprint {found.id}: problems problems-0; ")
    assert "verifiers story@1" in line and "models a" in line and "seed 0" in line
