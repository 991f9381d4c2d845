"""Columns are chosen over a sample: by all that stands in a column, in any order of rows, with one role a file."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import columns
from potstill.data.columns import ColumnChooser, Purpose
from potstill.data.rows import read_traces
from potstill.errors import ConfigError, InputError

ROWS: list[dict[str, Any]] = [
    {
        "question": "1 + 1?",
        "answer": "2",
        "solution": "One and one is 2.",
        "response": "It is 2.",
        "reasoning_content": "One more.",
        "is_correct": True,
        "finish_reason": "stop",
        "choices": ["2", "3"],
        "chapter": "one",
    },
    {
        "question": "2 + 2?",
        "answer": "4",
        "solution": "Two and two is 4.",
        "response": "It is 5.",
        "reasoning_content": "Two more.",
        "is_correct": False,
        "finish_reason": "length",
        "choices": ["4", "5"],
        "chapter": "two",
    },
]
OPTIONAL = [name for name in ROWS[0] if name not in ("question", "response")]
EMPTY = [None, "", [], {}]


def choose(
    rows: list[dict[str, Any]], purpose: Purpose = "answers", **mapping: str
) -> dict[str, str]:
    """The mapping of a file of these rows."""
    chooser = ColumnChooser(rows, mapping, purpose, "rows.jsonl")
    for row in rows:
        chooser.choose(row)
    return chooser.to_mapping()


@given(
    st.lists(st.sampled_from(OPTIONAL), unique=True),
    st.sampled_from(EMPTY),
    st.permutations(range(3)),
)
def test_rows_with_empty_cells_change_no_columns_wherever_they_stand(
    names: list[str], empty: Any, order: list[int]
) -> None:
    sparse = {**ROWS[0], **dict.fromkeys(names, empty)}
    rows = [sparse, *ROWS]
    assert choose([rows[index] for index in order]) == choose(ROWS)


@given(st.permutations(list(ROWS[0])))
def test_the_order_of_columns_does_not_matter(names: list[str]) -> None:
    assert choose([{name: row[name] for name in names} for row in ROWS]) == choose(ROWS)


@pytest.mark.parametrize("name", columns.COMPLETION_NAMES)
@pytest.mark.parametrize("empty", [None, ""])
def test_a_gold_solution_is_no_completion_where_a_column_of_completions_stands(
    name: str, empty: str | None
) -> None:
    rows = [
        {"problem": "1?", "solution": "gold", name: empty},
        {"problem": "2?", "solution": "gold", name: "said"},
    ]
    for ordered in itertools.permutations(rows):
        assert choose(list(ordered))["completion"] == name
    [alone] = [{"problem": "1?", "solution": "gold", name: None}]
    assert choose([alone])["completion"] == name, "and where it is null throughout, there is none"


def test_a_gold_solution_is_a_completion_only_where_nothing_else_is() -> None:
    assert choose([{"question": "1?", "solution": "said"}])["completion"] == "solution"
    chat = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "said"}]
    assert (
        choose([{"question": "1?", "solution": "gold", "messages": chat}])["completion"]
        == "messages"
    )


def test_names_are_compared_without_case_and_shown_as_they_are() -> None:
    row = {"Question": "1?", "Response": "1", "Answer": "1", "Is_Correct": True}
    assert choose([row]) == {
        "layout": "prompt/completion",
        "question": "Question",
        "completion": "Response",
        "gold": "Answer",
        "label": "Is_Correct",
    }


def test_what_is_not_read_is_listed() -> None:
    chooser = ColumnChooser(ROWS, {}, "answers", "rows.jsonl")
    for row in ROWS:
        chooser.choose(row)
    assert chooser.unread_columns() == ["chapter"]


@pytest.mark.parametrize(
    "values", [("on", "off"), (True, False), ("low", "high"), ("none", "auto")]
)
def test_a_switch_is_no_reasoning(values: tuple[Any, Any]) -> None:
    rows = [{"question": "1?", "response": "1", "reasoning": value} for value in values]
    assert "reasoning" not in choose(rows)


@pytest.mark.parametrize(
    ("labels", "is_label"),
    [
        ((True, False), True),
        (("yes", "No"), True),
        (("correct", "incorrect"), True),
        ((1, 0), True),
        ((1.0, -1.0), True),
        (([1, 0], [1, 1]), True),
        ((None, False), True),
        ((1, 5), False),
        ((0.3, 1.0), False),
        (("A", "B"), False),
        ((1, "great"), False),
    ],
)
@pytest.mark.parametrize("name", ["correct", "is_correct", "label", "score", "reward"])
def test_a_label_is_a_column_of_yes_and_no_and_never_the_gold(
    name: str, labels: tuple[Any, Any], is_label: bool
) -> None:
    rows = [
        {"question": "1?", "response": "1", "solution": "gold", name: label} for label in labels
    ]
    for ordered in (rows, rows[::-1]):
        found = choose(ordered)
        assert (found.get("label") == name) == is_label
        if is_label or name != "correct":
            assert found["gold"] == "solution"


def test_correct_is_the_gold_where_it_names_an_option() -> None:
    row = {"question": "1?", "options": ["1", "2"], "correct": "B"}
    assert choose([row], purpose="problems")["answer"] == "correct"


def test_a_file_of_several_layouts_says_so() -> None:
    chat = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1"}]
    found = choose([{"messages": chat}, {"prompt": "1?", "completion": "1"}])
    assert found["layout"] == "messages or prompt/completion"
    assert found["completion"] == "messages or completion"


def test_a_column_that_would_change_its_role_is_refused() -> None:
    rows = [{"question": "1?", "output": "1"}, {"question": "2?", "response": "2", "output": "x"}]
    for ordered in (rows, rows[::-1]):
        with pytest.raises(InputError, match="'output' would be the") as error:
            choose(ordered)
        assert "--map completion=COLUMN" in error.value.fix
    assert choose(rows[1:], completion="output")["completion"] == "output"


def test_a_column_that_held_nothing_in_the_sample_is_refused_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("potstill.data.rows.SAMPLE_ROWS", 1)
    rows = ['{"question": "1?", "response": "1", "thinking": null}']
    rows += ['{"question": "2?", "response": "2", "thinking": "Two."}']
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows))
    with pytest.raises(InputError, match="line 2: the column 'thinking' held nothing"):
        read_traces(str(file))
    rows[1] = rows[1].replace('"Two."', "null")
    file.write_text("\n".join(rows))
    assert len(read_traces(str(file)).traces) == 2


def test_mistakes_of_map_are_named() -> None:
    with pytest.raises(ConfigError, match="no field 'golden'") as error:
        choose(ROWS, golden="answer")
    assert error.value.nearest == ("gold",)
    with pytest.raises(ConfigError, match="no column 'respons'") as error:
        choose(ROWS, completion="respons")
    assert error.value.nearest == ("response",)


def test_map_wins_and_an_empty_column_means_none() -> None:
    found = choose(ROWS, question="chapter", reasoning="", label="", gold="solution")
    assert (found["question"], found["gold"]) == ("chapter", "solution")
    assert "reasoning" not in found and "label" not in found
