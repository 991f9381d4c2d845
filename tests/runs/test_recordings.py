"""A recording with gaps is told before anything is asked, or measured on what it has."""

from __future__ import annotations

import pytest

from potstill.errors import InputError
from potstill.models.recorded import Recorded
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.runs.recordings import recorded_problems

ROWS = [
    {"question": "1+1?", "completions": ["2", "two"]},
    {"question": "2+2?", "completions": ["4"]},
]
PROBLEMS = [blank(Problem(f"p{n}", f"{n}+{n}?")) for n in (1, 2, 3)]


def told(recording: Recorded, problems: list, n: int) -> str:
    with pytest.raises(InputError) as caught:
        recorded_problems(recording, problems, n, spec="recorded:r.jsonl")
    return caught.value.found


def test_gaps_are_counted_and_the_first_is_named() -> None:
    recording = Recorded(ROWS)
    found = told(recording, PROBLEMS, 1)
    assert found == "recorded:r.jsonl is recorded for 2 of 3 problems; it lacks '3+3?'"
    assert "with 2 answers each for 1 of 3 problems; it lacks '2+2?'" in told(
        recording, PROBLEMS, 2
    )
    assert recorded_problems(recording, PROBLEMS[:2], 1, spec="r") == (PROBLEMS[:2], "")


def test_what_is_missing_is_left_out_and_said() -> None:
    chosen, note = recorded_problems(Recorded(ROWS, missing="drop"), PROBLEMS, 2, spec="r")
    assert chosen == PROBLEMS[:1]
    assert note.startswith("r is recorded with 2 answers each for 1 of 3 problems; the others (2)")


def test_a_recording_of_none_of_the_problems_is_refused_even_then() -> None:
    assert "for 0 of 1 problems" in told(Recorded(ROWS, missing="drop"), PROBLEMS[2:], 1)


def test_problems_in_the_same_words_share_the_answers() -> None:
    twice = [blank(Problem(name, "1+1?")) for name in ("a", "b", "c")]
    assert "for 2 of 3 problems" in told(Recorded(ROWS), twice, 1)


def test_other_models_are_asked_everything() -> None:
    model = ScriptedModel(["a"])
    assert recorded_problems(model, PROBLEMS, 4, spec="m") == (PROBLEMS, "")
