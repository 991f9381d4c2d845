"""What is printed fits a terminal of 80 columns, and no word is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_results import evaluation
from hypothesis import given
from hypothesis import strategies as st

from potstill.cli import show
from potstill.cli.results import next_commands
from potstill.cli.show import Column, split_columns
from potstill.errors import ConfigError
from potstill.evaluation.results import Results

SCORES = {"untrained": "wwww", "b": "rrrw", "a": "rrrw", "c": "rwww"}

ROWS = [
    {
        "arm": name,
        **{f"pass@{k}": f"{k}1.2 % [40.1, 62.2]".replace(" [", "\n[") for k in (1, 2, 4, 8, 16)},
        "reason": "the answer names none of the options that the problem has, but says why",
        "vs untrained": "+12.3\n[+8.1, +16.5]",
    }
    for name in ("untrained", "orion-no-errors")
]


def words_of(text: str) -> set[str]:
    return {word for word in text.split() if not set(word) <= {"─"}}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_wide_table_goes_on_below_with_its_first_column(narrow, capsys) -> None:
    show.print_table(ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    printed = " ".join(lines)
    whole = " ".join(f"{name} {cell}" for row in ROWS for name, cell in row.items())
    assert words_of(printed) == words_of(whole)
    assert printed.count("orion-no-errors") > 1


def test_where_two_columns_name_a_row_both_stand_in_every_part(narrow, capsys) -> None:
    rows = []
    for role in ("student", "teacher"):
        counts = {f"tokens of kind {number}".replace(" ", "-"): "1,234" for number in range(6)}
        rows.append({"arm": "orion", "role": role, **counts})
    show.print_table(rows)
    parts = capsys.readouterr().out.split("\n arm ")[1:]
    assert len(parts) > 1 and all("student" in part and "teacher" in part for part in parts)


def test_a_long_name_leaves_room_for_the_columns_beside_it(narrow, capsys) -> None:
    spec = "transformers:runs/first/students/student-22d7c6ebce83ab4b46d6"
    cells = {f"pass@{k}": "87.5 %\n[31.6, 99.1]" for k in (1, 2, 4)}
    show.print_arms([{"arm": spec, **cells}])
    assert capsys.readouterr().out.count("3ab4b46d6") == 1
    # Names that end alike stay whole: they would be one name.
    show.print_arms([{"arm": f"{run}/{spec}", **cells} for run in "ab"])
    assert "a/transformers" in capsys.readouterr().out
    # Names that somebody copies, such as those of parameters, stay whole too.
    show.print_table([{"name": spec, **cells}])
    assert spec in capsys.readouterr().out


def test_into_a_file_a_table_stays_in_one_piece(monkeypatch, capsys) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show.print_table(ROWS)
    assert capsys.readouterr().out.count("orion-no-errors") == 1


def test_sentences_are_broken_between_words(narrow, capsys) -> None:
    sentence = "  expected:  " + "a sentence of many words " * 8
    show.print_line(sentence)
    first, *others = capsys.readouterr().out.splitlines()
    assert len(first) <= 80 and all(line.startswith(" " * 13) for line in others)
    assert words_of(" ".join([first, *others])) == words_of(sentence)
    path = "/a/" + "very-long-folder/" * 8
    show.print_line(f"results  {path}")
    assert path in capsys.readouterr().out


def test_errors_are_broken_between_words_on_a_terminal(narrow, potstill) -> None:
    outcome = potstill("run", "sft", "--no-such-flag-at-all")
    lines = outcome.err.splitlines()
    assert outcome.code == 2 and max(map(len, lines)) <= 80


def test_help_fits_the_terminal(narrow, potstill) -> None:
    for words in (["--help"], ["run", "--help"], ["evaluate", "--help"], ["train", "--help"]):
        lines = potstill(*words).out.splitlines()
        too_long = [line for line in lines if len(line) > 80 and len(line.split()) > 1]
        assert not too_long, words


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 50)), min_size=1, max_size=12),
    st.integers(40, 120),
    st.integers(1, 2),
)
def test_blocks_fit_and_hold_every_column_once(
    sizes: list[tuple[int, int]], width: int, naming: int
) -> None:
    columns = []
    for place, (smallest, more) in enumerate(sizes):
        columns.append(Column(f"c{place}", False, smallest, smallest + more))
    blocks = split_columns(columns, width, naming)
    assert [column.name for block in blocks for column in block[naming:]] == [
        column.name for column in columns[naming:]
    ]
    for block in blocks:
        names = [column.name for column in block[:naming]]
        assert names == [column.name for column in columns[:naming]]
        assert all(column.min_width <= column.width for column in block)
        needed = sum(column.width + 3 for column in block) - 3
        assert needed <= width or len(block) <= naming + 1


def test_an_error_is_json_for_programs() -> None:
    error = ConfigError("no arm 'x'", available=["a", "b"], wanted="a", fix="name one")
    error.add_note("kept")
    assert error.to_json() == {
        "kind": "ConfigError",
        "message": "no arm 'x'",
        "expected": "",
        "nearest": ["a"],
        "available": ["a", "b"],
        "fix": "name one",
        "notes": ["kept"],
    }


def test_next_commands_are_about_the_highest_arm(tmp_path: Path) -> None:
    evaluations = {name: evaluation(name, draws) for name, draws in SCORES.items()}
    outcome = Results(
        "run", 0, recipe={"arms": {"b": {}, "a": {}, "c": {}}}, evaluations=evaluations
    )
    students = {arm: tmp_path / arm for arm in "bac"}
    view, measure, compare, export = next_commands(outcome, tmp_path, students)
    # Of a and b, which are as good, the name decides, as where the highest arm is named.
    assert f"transformers:{tmp_path / 'a'} " in measure and "--arm a " in export
    assert (view, compare) == (f"potstill view {tmp_path}", f"potstill compare {tmp_path}")


def test_next_commands_of_rows_alone_name_the_last_arm(tmp_path: Path) -> None:
    outcome = Results("run", 0, recipe={"arms": {"b": {}, "a": {}}})
    [_, export] = next_commands(outcome, tmp_path, {})
    assert "--arm a " in export
