"""Options in whatever shape: in the order of their labels, with the gold answer naming the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import problems, skipped
from potstill.data.choices import (
    LETTERS,
    Options,
    option_columns,
    read_gold_option,
    read_option_columns,
    read_options,
)
from potstill.data.rows import read_traces
from potstill.errors import InputError

TEXTS = ("iron", "oxygen", "salt", "water")


@given(st.permutations(range(4)), st.sampled_from(["ABCD", "abcd", "1234"]))
def test_labelled_options_mean_the_same_in_any_order(order: list[int], labels: str) -> None:
    shapes: list[Any] = [
        {labels[index]: TEXTS[index] for index in order},
        {"text": [TEXTS[i] for i in order], "label": [labels[i] for i in order]},
        [{"label": labels[index], "text": TEXTS[index]} for index in order],
    ]
    for shape in (*shapes, *map(json.dumps, shapes)):
        options = read_options(shape)
        assert options.texts == TEXTS
        for index, label in enumerate(labels):
            assert read_gold_option(label, options) == LETTERS[index]


@given(st.lists(st.text("xyz ", min_size=1), min_size=2, max_size=6), st.integers(0, 3))
def test_null_behind_the_last_option_is_padding(texts: list[str], padding: int) -> None:
    padded = [*texts, *[None] * padding]
    assert read_options(padded) == read_options(texts)
    labelled = dict(zip(LETTERS, padded, strict=False))
    assert read_options(labelled) == read_options(dict(zip(LETTERS, texts, strict=False)))


@pytest.mark.parametrize(
    "names",
    [
        ("A", "B", "C", "D"),
        ("option_a", "option_b", "option_c", "option_d"),
        ("opa", "opb", "opc", "opd"),
        ("Option A", "Option B", "Option C", "Option D"),
        ("optA", "optB", "optC", "optD"),
        ("choice1", "choice2", "choice3", "choice4"),
    ],
)
def test_a_column_for_each_option(names: tuple[str, ...]) -> None:
    row = {"question": "?", "answer": "B", **dict(zip(names, TEXTS, strict=True))}
    assert option_columns(row) == names
    assert read_option_columns(row, names).texts == TEXTS
    assert read_option_columns({**row, names[3]: None}, names).texts == TEXTS[:3]


def test_the_numbers_of_a_sum_are_no_options() -> None:
    assert option_columns(["question", "a", "b", "answer"]) == ()


@pytest.mark.parametrize(
    ("gold", "wanted"),
    [
        ("B", "B"),
        ("(b)", "B"),
        (1, "B"),
        (1.0, "B"),
        ("oxygen", "oxygen"),
        ("The answer is (B).", "B"),
        ("So it is oxygen.\n#### B", "B"),
        (7, "7"),
    ],
)
def test_the_gold_names_an_option_in_many_ways(gold: Any, wanted: str) -> None:
    assert read_gold_option(gold, read_options(list(TEXTS))) == wanted


def test_numbers_are_labels_where_the_options_have_numbers_for_labels() -> None:
    options = read_options({"text": list(TEXTS), "label": ["1", "2", "3", "4"]})
    assert [read_gold_option(gold, options) for gold in ("1", 1, "4")] == ["A", "A", "D"]


@pytest.mark.parametrize(
    "value", [["a", None, "b"], {"text": ["x", "y"], "label": ["A", "A"]}, "which of them", 5]
)
def test_what_can_not_be_told_is_refused(value: Any) -> None:
    with pytest.raises(InputError) as error:
        read_options(value)
    assert error.value.fix


def test_no_options() -> None:
    for value in (None, "", [], {}):
        assert read_options(value) == Options()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_golds_that_count_from_1_are_refused_and_others_are_told(tmp_path: Path) -> None:
    def rows(*golds: int) -> list[dict[str, Any]]:
        return [
            {"question": f"q{number}", "choices": list(TEXTS), "answer": gold, "completion": "x"}
            for number, gold in enumerate(golds)
        ]

    from_one = write_rows(tmp_path / "one.jsonl", rows(1, 4, 2))
    for load in (problems.load, read_traces):
        with pytest.raises(
            InputError, match=r"line 2 has 4 with 4 options.* counted from 1 \(1 is A\)"
        ):
            load(from_one)
    from_zero = write_rows(tmp_path / "zero.jsonl", rows(1, 0, 3))
    with skipped.skipping():
        assert [problem.answer for problem in problems.load(from_zero)] == ["B", "A", "D"]
        [note] = skipped.column_notes()
    [trace_note] = read_traces(from_zero).notes
    assert trace_note in note and problems.describe(problems.load(from_zero, limit=2))["notes"] == [
        trace_note
    ]
    assert note.endswith("3 gold answers are positions of options, counted from 0 (0 is A).")


def test_an_option_column_that_is_empty_throughout_is_refused(tmp_path: Path) -> None:
    row = {"question": "q", "A": "iron", "B": None, "C": "salt", "D": "water", "answer": "C"}
    path = write_rows(tmp_path / "gap.jsonl", [row])
    with pytest.raises(InputError, match="A, C, D are filled, and B is empty throughout") as caught:
        problems.load(path)
    assert "--map choices=A,C,D" in caught.value.fix
    [problem] = problems.load(path, mapping={"choices": "A,C,D"})
    assert problem.choices == ("iron", "salt", "water") and problem.answer == "B"
    # Behind the last option an empty column is padding.
    padded = write_rows(tmp_path / "padded.jsonl", [{**row, "B": "oxygen", "D": None}])
    assert problems.load(padded)[0].choices == ("iron", "oxygen", "salt")
