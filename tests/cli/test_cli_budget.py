"""A run that reaches its budget: it stops cleanly, says how to go on, and goes on where it stopped."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from potstill.store import Store

RUN = [
    "run",
    "sft",
    "--problems",
    "train.jsonl",
    "--teacher",
    "scripted:teacher.json",
    "--student",
    "transformers:tiny",
]
RUN += [
    "--set",
    "n=60",
    "--set",
    "max_new_tokens=20",
    "--set",
    "training.num_train_epochs=1",
    "--set",
    "training.max_steps=1",
]
RUN += ["--threads", "1", "--quiet"]


def rows(out: Path) -> list[str]:
    return [
        json.loads(line)["id"] for line in (out / "rows" / "sft.jsonl").read_text().splitlines()
    ]


def completions(out: Path) -> int:
    with Store.open(out, readonly=True) as store:
        return sum(1 for _ in store.completions.iterate())


@pytest.mark.slow
def test_a_run_stops_at_its_budget_and_goes_on_with_a_larger_one(here: Path, potstill) -> None:
    undisturbed = potstill(*RUN, "--out", "whole", "--json")
    assert undisturbed.code == 0, undisturbed.err
    stopped = potstill(*RUN, "--out", "part", "--budget", "teacher=17ktok", "--budget", "10Mtok")
    assert stopped.code == 2
    assert (
        "the budget of the teacher is spent:" in stopped.err and "of 17,000 tokens" in stopped.err
    )
    assert "sft/teacher: 64 of 180 completions of this call are there, 116 are left" in stopped.err
    with Store.open(here / "part", readonly=True) as store:
        assert 0 < store.attempts.spent_by_role()["teacher"].tokens <= 17_000
        assert not store.attempts.open_intents()
    assert completions(here / "part") == 64
    # The very command that the message gives goes on and comes to what an undisturbed run comes to.
    command = stopped.err.split("to go on: ")[1].strip()
    words = shlex.split(command)
    assert words[0] == "potstill" and words[-2:] == ["--budget", "teacher=34000tok"]
    assert words.count("--budget") == 2 and "10Mtok" in words
    done = potstill(*words[1:], "--json")
    assert done.code == 0, done.err
    assert rows(here / "part") == rows(here / "whole")
    assert done.json["costs"]["sft"]["teacher"]["calls"] == 180
    assert completions(here / "part") == completions(here / "whole")


def test_a_budget_that_lets_nothing_through_says_so_at_once(here: Path, potstill) -> None:
    stopped = potstill(*RUN, "--budget", "10tok")
    assert stopped.code == 2
    assert (
        "0 of 10 tokens" in stopped.err
        and "next call at its dearest; spent so far: nothing\n" in stopped.err
    )
    # What the message suggests is enough for what was stopped.
    words = shlex.split(stopped.err.split("to go on: ")[1])[1:]
    assert "10tok" not in words
    assert "0 of 180" not in potstill(*words).err


def test_wrong_flags_are_refused(here: Path, potstill) -> None:
    assert "--budget 5usd, --budget 2Mtok" in potstill(*RUN, "--budget", "5").err
    assert (
        "budget.roles.techer: unknown role 'techer'"
        in potstill(*RUN, "--budget", "techer=5usd").err
    )
    assert "no prices at none.json" in potstill(*RUN, "--prices", "none.json").err
    assert "invalid choice" in potstill(*RUN, "--truncated", "hide").err


@pytest.mark.slow
def test_a_run_may_train_with_what_was_paid_for(here: Path, potstill) -> None:
    undisturbed = potstill(*RUN, "--out", "whole", "--json")
    part = potstill(
        *RUN, "--out", "part", "--budget", "teacher=17ktok", "--when-spent", "train", "--json"
    )
    assert part.code == 0, part.err
    [note] = [note for note in part.json["notes"] if "went on without them" in note]
    assert "before 116 calls of the teacher" in note
    costs = part.json["costs"]["sft"]
    assert costs["teacher"]["calls"] == 64
    # The perplexity of the rows is a call of the student's each.
    assert completions(here / "part") == sum(cost["calls"] for cost in costs.values())
    few = rows(here / "part")
    assert 0 < len(few) < len(rows(here / "whole")) and set(few) < set(rows(here / "whole"))
    larger = note.split("--budget ")[1].split(" ")[0]
    done = potstill(*RUN, "--out", "part", "--budget", larger, "--when-spent", "train", "--json")
    assert done.code == 0, done.err
    assert rows(here / "part") == rows(here / "whole") and undisturbed.code == 0
    assert not [note for note in done.json["notes"] if "went on without them" in note]
    assert len(list((here / "part" / "students").iterdir())) == 2, "trained again on more"
