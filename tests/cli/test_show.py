"""What is printed fits a terminal of 80 columns, and no word is broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.cli import show
from potstill.cli.show import Column, split_columns
from potstill.errors import ConfigError

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
)
def test_blocks_fit_and_hold_every_column_once(sizes: list[tuple[int, int]], width: int) -> None:
    columns = []
    for place, (smallest, more) in enumerate(sizes):
        columns.append(Column(f"c{place}", False, smallest, smallest + more))
    blocks = split_columns(columns, width)
    assert [column.name for block in blocks for column in block[1:]] == [
        column.name for column in columns[1:]
    ]
    for block in blocks:
        assert block[0].name == "c0"
        assert all(column.min_width <= column.width for column in block)
        needed = sum(column.width + 3 for column in block) - 3
        assert needed <= width or len(block) <= 2


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
