"""Other trainers' layouts: text unchanged, whatever is in it; what a layout can't say is refused."""

from __future__ import annotations

import io
import json

import pytest

from potstill.errors import StageError
from potstill.export import LAYOUTS, rows, sharegpt, trl, write
from potstill.records import Message, Problem, Span, Trace

HOSTILE = "<think>\r\n\u2028 a\ud800 \x1b[31m \x00</think>\n\\boxed{1} \u202e"


def trace(text: str = HOSTILE, **more: object) -> Trace:
    return Trace(Problem("p1", "2 - 1?"), "2 - 1?", text, finish="stop", **more)  # type: ignore[arg-type]


def test_trl_layout() -> None:
    row = trace("It is 1.")
    assert trl(row) == {
        "id": row.id,
        "problem_id": "p1",
        "prompt": [{"role": "user", "content": "2 - 1?"}],
        "completion": [{"role": "assistant", "content": "It is 1."}],
    }


def test_sharegpt_layout_with_a_system_turn() -> None:
    row = Trace(Problem("p1", "q"), (Message("system", "Be brief."), Message("user", "q")), "a")
    assert sharegpt(row)["conversations"] == [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_comes_back_as_it_was(layout: str) -> None:
    file = io.StringIO()
    write(rows([trace(), trace("x\ny")], layout), file)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2 and file.getvalue().isascii()
    row = json.loads(lines[0])
    said = row["completion"][0]["content"] if layout == "trl" else row["conversations"][-1]["value"]
    assert said == HOSTILE


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"rival": trace("No.")}, "a rejected trace"),
        ({"spans": (Span(0, 3, "tool"),)}, "masked text"),
        ({"spans": (Span(0, 3, "loss", 0.0),)}, "masked text"),
        ({"given": 4}, "masked text"),
        ({"weight": 0.5}, "a weight"),
    ],
)
def test_what_a_layout_cannot_say_is_refused(more: dict[str, object], named: str) -> None:
    with pytest.raises(StageError, match=named):
        rows([trace(**more)], "trl")


def test_steps_and_units_are_no_masks() -> None:
    assert rows([trace(spans=(Span(0, 3, "step", 1.0, 0.0), Span(0, 3, "unit")))], "trl")


def test_trl_takes_the_rows() -> None:
    trl_data = pytest.importorskip("trl.data_utils", reason="needs the extra potstill[dev]")
    assert trl_data.is_conversational(trl(trace()))
