"""`cache`: the journal, Parquet files, what nobody needs, and a damaged store that goes on from what was saved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import child
import pytest
from store_fakes import store_failed_tries

from potstill.models.model import Attempt
from potstill.store import Store

HOLDER = """
import sys
from pathlib import Path
from potstill.store import Store
with Store.open(Path(sys.argv[1])) as store:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to do things to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.slow
def test_the_journal_lists_every_call(run: Path, potstill) -> None:
    calls = potstill("cache", "journal", run, "--json").json["journal"]
    assert len(calls) == potstill("cache", "stats", run, "--json").json["completions"]
    teacher = [call for call in calls if call["role"] == "teacher"]
    assert len(teacher) == 6
    assert all(call["payload"]["prompt"] and call["verdicts"][0]["verifier"] for call in teacher)
    wrong = potstill("cache", "journal", run, "--arm", "sft", "--status", "wrong", "--json").json[
        "journal"
    ]
    assert [call["reply"] for call in wrong] == ["It is \\boxed{10}."]
    told = potstill("cache", "journal", run, "--status", "right").out
    assert "right (number@" in told
    assert "\x1b" not in told  # the teacher's answer has escapes of terminals in it
    failed = potstill("cache", "journal", run, "--arm", "stf")
    assert (failed.code, "nearest:   sft" in failed.err) == (2, True)
    failed = potstill("cache", "journal", run, "--status", "wrng")
    assert (failed.code, "nearest:   wrong" in failed.err) == (2, True)
    assert "unparsed" in failed.err and "timeout" in failed.err
    assert (
        potstill("cache", "journal", run, "--status", "timeout").code == 0
    )  # a known one that no call has


def test_stats_name_the_models(run: Path, potstill) -> None:
    roles = json.loads((run / "manifest.json").read_text())["settings"]["roles"]
    paid = potstill("cache", "stats", run, "--json").json["paid"]
    names = {(row["arm"], row["role"]): row["name"] for row in paid}
    assert names["sft", "teacher"] == roles["teacher"]
    assert names["untrained", "student/evaluation"] == roles["student"]
    assert (
        names["sft", "student/evaluation"] == f"students/{next((run / 'students').iterdir()).name}"
    )
    assert potstill("cache", "stats", run).out.count(roles["teacher"][:20])
    # Completions in a store without a run are called what their server called the model.
    with Store.open(run) as store, store.database.transaction() as connection:
        connection.execute("UPDATE completions SET served = 'm-0613' WHERE role = 'teacher'")
    (run / "manifest.json").unlink()
    paid = potstill("cache", "stats", run, "--json").json["paid"]
    assert {row["name"] for row in paid if row["role"] == "teacher"} == {"m-0613"}


@pytest.mark.slow
def test_stats_tell_attempts_and_money(run: Path, potstill) -> None:
    with Store.open(run) as store:
        key = next(store.completions.iterate()).key
        tries = [
            (key, Attempt("rate: 429")),
            (key, Attempt("timeout: 600 s", cost=0.125, billed=True)),
        ]
        store_failed_tries(store, "m", "teacher", "sft", tries)
    found = potstill("cache", "stats", run, "--json").json
    assert [(t["failure"], t["attempts"], t["billed"], t["cost"]) for t in found["tried"]] == [
        ("rate", 1, 0, 0.0),
        ("timeout", 1, 1, 0.125),
    ]
    assert found["spent"]["teacher"]["cost"] == 0.125
    told = potstill("cache", "stats", run).out
    assert "attempts that became no completion" in told
    assert "0.125" in told


def test_parquet_files_are_checked_and_written_again(run: Path, potstill) -> None:
    path = run / "traces" / "sft.parquet"
    whole = path.read_bytes()
    assert potstill("cache", "parquet", run, "--json").json == {"written": []}
    path.write_bytes(whole[:-100])
    failed = potstill("cache", "verify", run)
    assert failed.code == 2
    assert f"{path} can't be read as Parquet" in failed.out
    assert f"potstill cache parquet {run}" in failed.err
    assert potstill("cache", "parquet", run, "--json").json == {"written": [str(path)]}
    assert path.read_bytes() == whole
    assert potstill("cache", "verify", run).code == 0


def test_gc_of_traces_verdicts_and_students(run: Path, potstill) -> None:
    def gone(*flags: str) -> dict[str, object]:
        return potstill("cache", "gc", run, "--json", *flags).json

    nothing = {"completions": 0, "bytes": 0, "traces": 0, "verdicts": 0, "students": 0}
    assert gone("--students") == {**nothing, "deleted": False}
    (student,) = [p.name for p in (run / "students").iterdir()]
    (run / "students" / "stage-left-over").mkdir()
    (run / "students" / "elsewhere").symlink_to(run / "rows")
    with Store.open(run) as store:
        store.verdicts.put(
            {
                "verdict-old": json.dumps(
                    {"verdict": ["right", "1", "", "number@0"], "steps": None}
                ),
                "verdict-odd": json.dumps([1, 2]),
                "likelihood-1": "[-1.0]",
            }
        )
        with store.database.transaction() as connection:
            connection.execute("INSERT INTO traces VALUES ('trace-old', 'sample', '[]', '{}')")
    found = {**nothing, "traces": 1, "verdicts": 1, "students": 1, "deleted": False}
    assert gone("--students") == found
    assert gone("--students", "--delete") == {**found, "deleted": True}
    assert gone("--students") == {**nothing, "deleted": False}
    assert sorted(p.name for p in (run / "students").iterdir()) == sorted([student, "elsewhere"])
    with Store.open(run) as store:
        kept = store.verdicts.get(["verdict-old", "verdict-odd", "likelihood-1"])
        assert set(kept) == {"verdict-odd", "likelihood-1"}
        assert store.students.get(student)
        store.ledger(
            "sft"
        )  # begun again, and not ended: nothing but completions is certain not to be needed
        with store.database.transaction() as connection:
            connection.execute("INSERT INTO traces VALUES ('trace-old', 'sample', '[]', '{}')")
    assert gone("--students")["traces"] == 0
    assert potstill("cache", "verify", run).code == 2  # trace-old is no trace


def test_a_damaged_store_goes_on_from_what_was_saved(run: Path, here: Path, potstill) -> None:
    count = potstill("cache", "stats", run, "--json").json["completions"]
    with Store.open(run) as store, store.database.transaction() as connection:
        connection.execute("UPDATE completions SET text = text || '!' WHERE rowid = 2")
    failed = potstill("cache", "verify", run)
    assert failed.code == 2
    for command in (
        f'cache export "{run}" --out',
        f'mv "{run}" "{run}.old"',
        f'cache import "{run}" rescued.jsonl --p',
    ):
        assert command in failed.err
    saved = potstill("cache", "export", run, "--out", "rescued.jsonl", "--json")
    assert saved.json == {"completions": count - 1, "lost": 1, "out": "rescued.jsonl"}
    assert "1 completions are damaged and were left out" in saved.err
    assert potstill("cache", "import", "fresh", "rescued.jsonl", "--paid").code == 0
    spent = potstill("cache", "stats", "fresh", "--json").json["spent"]
    assert sum(amount["tokens"] for amount in spent.values()) > 0


def test_readers_work_beside_a_writer_and_a_second_writer_is_refused(
    run: Path, here: Path, potstill
) -> None:
    command = [sys.executable, "-c", HOLDER, run]
    with child.started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        for words in (["stats"], ["verify"], ["journal"], ["gc"]):
            assert potstill("cache", *words, run, "--json").code == 0
        assert potstill("cache", "export", run, "--out", "out.jsonl").code == 0
        refused = (
            ["cache", "gc", run, "--delete"],
            ["cache", "import", run, "out.jsonl"],
            ["cache", "parquet", run],
            ["verify", "--again", run, "--quiet"],
        )
        for words in refused:
            done = potstill(*words)
            assert done.code == 2
            assert f"is in use: process {holder.pid} is writing to it" in done.err
        holder.communicate(b"\n")
    assert potstill("cache", "parquet", run).code == 0


def test_the_journal_is_limited_and_one_call_is_shown_whole(run: Path, potstill) -> None:
    calls = potstill("cache", "journal", run, "--json").json["journal"]
    assert potstill("cache", "journal", run, "--limit", 2, "--json").json["journal"] == calls[:2]
    table = potstill("cache", "journal", run, "--limit", 1).out
    assert f"{len(calls)} calls, 1 of them shown" in table
    digits = calls[0]["key"].rpartition("-")[2]
    assert digits[:10] in table
    whole = potstill("cache", "journal", run, "--call", digits[:10])
    assert whole.code == 0 and calls[0]["key"] in whole.out
    for line in (calls[0]["payload"]["prompt"] + "\n" + calls[0]["reply"]).splitlines():
        assert line.strip() in whole.out
    document = potstill("cache", "journal", run, "--call", calls[0]["key"], "--json").json
    assert document["key"] == calls[0]["key"] and document["journal"][0] == calls[0]


def test_a_call_that_is_not_one_is_refused(run: Path, potstill) -> None:
    assert (
        "has a key that begins with 'zzz'" in potstill("cache", "journal", run, "--call", "zzz").err
    )
    several = potstill("cache", "journal", run, "--call", "completion-")
    assert several.code == 2 and "several calls" in several.err
