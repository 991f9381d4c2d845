"""`show`: one trace of a run with everything that it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.cli import show_
from potstill.errors import InputError
from potstill.records import Problem, Trace

pytestmark = pytest.mark.usefixtures("finished")


@pytest.fixture
def row(finished: Path) -> dict:
    """The first row that the arm sft of the finished run trained on."""
    return json.loads((finished / "rows" / "sft.jsonl").read_text().splitlines()[0])


def test_a_row_is_shown_with_its_parents(finished: Path, row: dict, potstill) -> None:
    outcome = potstill("show", row["id"], finished)
    assert outcome.code == 0
    for part in (
        row["id"],
        *row["parents"],
        "written by: teacher",
        "verdict:    right",
        f"steps:      {row['scores']['step_count']:g}",
        f"problem:    level {row['level']}",
        "made from",
    ):
        assert part in outcome.out
    last_line = row["completion"].splitlines()[-1]
    assert last_line.replace("\x1b[31m", "").replace("\x1b[0m", "") in outcome.out
    assert "\x1b" not in outcome.out


def test_the_folder_may_come_first_and_the_beginning_of_an_id_is_enough(
    finished: Path, row: dict, potstill
) -> None:
    document = potstill("show", finished, row["id"][:14], "--json").json
    assert document["trace"]["id"] == row["id"] and document["arm"] == "sft"
    assert document["trace"]["text"] == row["completion"]
    assert document["trace"]["metadata"] == {"level": row["level"]}
    assert [member["id"] for member in document["ancestors"]] == row["parents"]
    # The same descent as on the page of the trace: what each is, where the row stands, what it taught.
    assert document["ancestors"][0]["title"] == "The problem"
    assert (document["rows"][0]["arm"], document["rows"][0]["position"]) == ("sft", 0)
    assert document["answers"][0]["student"] == "sft" and document["answers"][0]["text"]


def test_a_row_is_named_by_its_arm_and_line(finished: Path, row: dict, potstill) -> None:
    assert potstill("show", "sft:1", finished, "--json").json["trace"]["id"] == row["id"]
    outcome = potstill("show", "sft:99", finished)
    assert outcome.code == 2 and "no row sft:99" in outcome.err and "from 1" in outcome.err
    outcome = potstill("show", "sft:1", finished, "--arm", "rft")
    assert outcome.code == 2 and "--arm says 'rft'" in outcome.err


def test_a_row_that_several_runs_have_is_not_chosen_in_silence() -> None:
    rows = [show_.Found(Path("a"), "sft", "trace-1"), show_.Found(Path("b"), "sft", "trace-2")]
    with pytest.raises(InputError, match="2 runs have a row sft:1"):
        show_._only_row("sft:1", rows, "")


def test_without_a_folder_the_runs_below_are_searched(
    finished: Path, row: dict, potstill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent.parent)
    assert row["id"] in potstill("show", row["id"]).out


@pytest.mark.parametrize("text", ["trace-no", "trace-"])
def test_what_is_not_there_or_not_one_is_refused(finished: Path, potstill, text: str) -> None:
    outcome = potstill("show", text, finished)
    assert outcome.code == 2
    assert f"begin with {text!r}" in outcome.err or f"begins with {text!r}" in outcome.err


def test_dropped_traces_say_by_what(finished: Path, potstill) -> None:
    calls = potstill("cache", "journal", finished, "--status", "wrong", "--json").json["journal"]
    [wrong, *_] = [verdict for call in calls for verdict in call["verdicts"] if verdict["trace"]]
    assert "dropped by: keep right: wrong" in potstill("show", wrong["trace"], finished).out


def test_what_the_readers_of_a_reference_were_not_shown_is_shown(capsys) -> None:
    reference = Trace(Problem("p", "q"), "q", "4 + 4 = 8.", operator="edit", finish_reason="stop")
    member = show_.describe_member(reference.annotate(scores={"hidden": "So 8."}), {}, {})
    show_._print_member(member, is_first=False)
    assert "its readers were not shown:\n    So 8.\n" in capsys.readouterr().out
