"""results.json and the table made from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from demo_results import TASK, evaluation, results

from potstill.errors import InputError
from potstill.evaluation.results import (
    Cost,
    Example,
    Length,
    Passage,
    Results,
    load,
    outcome,
    save,
    summarize_lengths,
)
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.evaluation.table import quality_notes, table


def test_a_file_gives_the_results_back(tmp_path: Path) -> None:
    made = results()
    save(made, tmp_path / "new" / "results.json")
    back = load(tmp_path / "new" / "results.json")
    assert outcome(back) == outcome(made)
    assert back.evaluations == made.evaluations
    assert back.costs == made.costs and back.training == made.training
    assert [*back.comparisons] == [*made.comparisons] and [*back.examples] == [*made.examples]
    assert (
        back.funnels == made.funnels
        and back.lengths == made.lengths
        and back.sections == made.sections
    )


@pytest.mark.slow
def test_equal_results_are_equal_bytes_and_no_temporary_file_stays(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        save(results(), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    save(load(tmp_path / "a.json"), tmp_path / "c.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]


def test_only_the_timing_section_knows_the_clock_and_the_cache(tmp_path: Path) -> None:
    made = results()
    slow = replace(
        made,
        costs={
            **made.costs,
            "sft": {"teacher": Cost(300, 299, 21_000, 54_000, 999.0, 0, lost=0.5)},
        },
        training={**made.training, "sft": {**made.training["sft"], "seconds": 1e6}},
    )
    assert outcome(slow) == outcome(made)
    save(slow, tmp_path / "slow.json")
    data = json.loads((tmp_path / "slow.json").read_text())
    assert data["timing"]["costs"]["sft"]["teacher"] == {
        "reused": 299,
        "seconds": 999.0,
        "lost": 0.5,
    }
    assert data["timing"]["training"]["sft"] == {"seconds": 1e6}
    assert load(tmp_path / "slow.json").costs["sft"]["teacher"].seconds == 999.0


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(results(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        save(replace(results(), training={"sft": {"loss": float("nan")}}), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_odd_model_text_survives(tmp_path: Path) -> None:
    text = "\ud800 \u202e \x1b[31m </script> \x00 é"
    made = Results("t", 0, examples=[Example("q", None, "a", (Passage("row", text),))])
    save(made, tmp_path / "r.json")
    [example] = load(tmp_path / "r.json").examples
    assert example.passage("row") == Passage("row", text) and example.passage("source") is None


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no results at"),
        ("{", "can't be read as JSON"),
        ("[]", "has results schema None"),
        ('{"schema": 99, "potstill": "9.0"}', "has results schema 99 (written by potstill 9.0)"),
        ('{"schema": 3}', "is damaged (KeyError: 'costs')"),
    ],
)
def test_what_is_not_a_results_file_is_refused(
    tmp_path: Path, content: str | None, found: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as refused:
        load(path)
    assert found in refused.value.found and refused.value.fix


def test_lengths_are_nearest_rank() -> None:
    assert summarize_lengths(range(1, 11)) == Length(10, 5.5, 1.0, 5.0, 9.0)
    assert summarize_lengths([]).count == 0


def test_the_table_has_an_arm_a_row_and_says_what_may_be_said() -> None:
    rows = table(results())
    assert [row["arm"] for row in rows] == ["untrained", "sft", "rft", "orion"]
    assert list(rows[0]) == [
        *("arm", "rows", "avg@4", "pass@4", "maj@4", "steps right", "unparsed", "cut", "errors"),
        *("tokens/answer", "vs untrained", "verdict", "cost"),
    ]
    assert rows[0]["verdict"] == "the base of the differences" and rows[0]["vs untrained"] == "–"
    assert rows[3]["verdict"].startswith("orion beats untrained by ")
    assert rows[3]["rows"] == "251" and rows[0]["rows"] == "–"
    assert rows[3]["cost"] == "teacher 300 calls 54.0k tokens; student 2,320 calls 128.0k tokens"
    assert rows[0]["unparsed"] == "0.1 %"


def test_the_table_compares_nothing_that_was_asked_differently() -> None:
    made = Results(
        "t",
        0,
        evaluations={"untrained": evaluation("untrained", "rw"), "b": evaluation("b", "rww")},
    )
    assert [row["verdict"] for row in table(made)] == [
        "the base of the differences",
        "not compared (unequal: n)",
    ]
    assert table(made, base="none")[0]["verdict"] == "no arm none to compare with"


def test_pass_and_maj_at_several_k() -> None:
    made = Results("t", 0, evaluations={"a": evaluation("a", "rwww", "wwww")})
    [row] = table(made, base="a", ks=(1, 2, 4))
    shares = {name: cell.split(" [")[0] for name, cell in row.items() if "@" in name}
    assert list(shares) == ["avg@4", "pass@1", "pass@2", "pass@4", "maj@1", "maj@2", "maj@4"]
    assert (shares["pass@1"], shares["pass@2"], shares["pass@4"]) == ("12.5 %", "25.0 %", "50.0 %")


def cut_evaluation(cut: int, whole: int) -> Evaluation:
    """One answer a problem, the first `cut` of them ended by the limit."""
    rows = []
    for i in range(cut + whole):
        rows.append(Row(f"p{i}", (Answer("right", "7", cut=i < cut),)))
    return Evaluation("a", tuple(rows), Fingerprint(TASK, {}))


def test_cut_answers_have_a_column_and_above_a_share_a_note() -> None:
    made = Results("t", 0, evaluations={"a": cut_evaluation(3, 37)})
    [row] = table(made, base="a")
    assert row["cut"] == "7.5 %" and row["unparsed"] == "0.0 %"
    [note] = quality_notes(made.evaluations.values())
    assert note.startswith("a: 8 % of the answers were cut at the token limit")
    assert quality_notes([cut_evaluation(2, 38)]) == []


def test_failed_answers_above_a_share_have_a_note() -> None:
    [note] = quality_notes([evaluation("a", *["r"] * 9, "e")])
    assert note == "a: 10 % of the answers are failed calls, which count as not right."
    assert quality_notes([evaluation("a", *["r"] * 19, "e")]) == []
