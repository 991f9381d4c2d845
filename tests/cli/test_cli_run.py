"""`run` and what reads its folder: the outcome, its JSON, the exports, the store, the report; and going on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import child
import pytest

from potstill.cli.results import stopping_on_sigterm

RUN = ["run", "sft", "--problems", "train.jsonl", "--teacher", "scripted:teacher.json"]
RUN += [
    "--student",
    "transformers:tiny",
    "--set",
    "n=2",
    "--set",
    "training.learning_rate=1e-3",
    "--set",
    "training.num_train_epochs=1",
]
RUN += [
    "--evaluate",
    "test.jsonl",
    "--eval-n",
    "2",
    "--set",
    "evaluate.sampling.max_new_tokens=4",
    "--threads",
    "1",
]


@pytest.fixture
def again(finished: Path, here: Path) -> Path:
    """A copy of the finished run where the same command finds it."""
    shutil.copytree(finished, here / "runs" / "sft")
    return here / "runs" / "sft"


def test_run_again_asks_nobody_and_prints_tables(again: Path, potstill) -> None:
    before = json.loads((again / "results.json").read_text())
    done = potstill(*RUN)
    assert done.code == 0, done.err
    assert "sft: sample teacher  3 → 6  kept from before" in done.err
    assert "untrained" in done.out and "sft: from problems to rows" in done.out
    assert "keep right" in done.out
    assert f"report   {Path('runs/sft/report.html')}" in done.out
    assert "student  runs/sft/students/" in done.out and "next     potstill evaluate" in done.out
    after = json.loads((again / "results.json").read_text())
    assert {k: v for k, v in after.items() if k != "timing"} == {
        k: v for k, v in before.items() if k != "timing"
    }


def test_run_json_is_one_document(again: Path, potstill) -> None:
    done = potstill(*RUN, "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    assert done.json["rows"] == ["runs/sft/rows/sft.jsonl"]
    assert Path(done.json["students"]["sft"]).is_dir() and "{question}" in done.json["prompts"][0]
    assert done.json["report"] == "runs/sft/report.html"
    steps = {
        step["operator"]: (step["taken"], step["returned"])
        for step in done.json["funnels"]["sft"]["steps"]
    }
    assert steps["sample"] == (3, 6) and steps["keep"] == (6, 3) and steps["train"] == (3, 3)
    assert [row["arm"] for row in done.json["table"]] == ["untrained", "sft"]
    assert done.json["training"]["sft"]["rows"] == 3
    assert any("is not distinguishable from" in sentence for sentence in done.json["notes"])


def test_other_settings_in_the_same_folder_are_refused(again: Path, potstill) -> None:
    failed = potstill(*RUN, "--seed", "1", "--quiet")
    assert failed.code == 2
    assert "holds a run with other settings: seed: 0 found, 1 asked" in failed.err
    assert "choose another run folder" in failed.err


def test_a_folder_of_another_version_is_refused(again: Path, potstill) -> None:
    manifest = json.loads((again / "manifest.json").read_text())
    (again / "manifest.json").write_text(
        json.dumps({**manifest, "potstill": "9.0.0", "scheme": "potstill-9"})
    )
    failed = potstill(*RUN, "--quiet")
    assert failed.code == 2
    assert (
        "made by another version: potstill 9.0.0, scheme potstill-9" in failed.err
        and "fix:" in failed.err
    )
    results = json.loads((again / "results.json").read_text())
    (again / "results.json").write_text(json.dumps({**results, "schema": 99}))
    failed = potstill("report", again)
    assert failed.code == 2 and "results schema 99" in failed.err


@pytest.mark.slow
def test_a_run_stopped_by_an_error_goes_on_after_it_is_mended(here: Path, potstill) -> None:
    (here / "teacher.json").rename(here / "right.json")
    rules = json.loads((here / "right.json").read_text())
    (here / "teacher.json").write_text(json.dumps(rules))
    shutil.copytree(here / "tiny", here / "broken")
    (here / "broken" / "chat_template.jinja").unlink()
    words = [word.replace("transformers:tiny", "transformers:broken") for word in RUN]
    words = [word for word in words if word not in ("--evaluate", "test.jsonl", "--eval-n", "2")]
    failed = potstill(*words, "--quiet")
    assert failed.code == 2
    assert "no chat template" in failed.err and "chat_template.jinja" in failed.err
    assert (
        "what was generated is kept in runs/sft: the same command goes on from there" in failed.err
    )
    shutil.copy(here / "tiny" / "chat_template.jinja", here / "broken" / "chat_template.jinja")
    done = potstill(*words, "--json")
    assert done.code == 0
    assert "sft: sample teacher  3 → 6  kept from before" in done.err


def test_export_keeps_the_text(finished: Path, here: Path, potstill) -> None:
    rows = [json.loads(line) for line in (finished / "rows" / "sft.jsonl").read_text().splitlines()]
    said = potstill(
        "export",
        finished,
        "--arm",
        "sft",
        "--format",
        "trl",
        "--out",
        here / "out" / "trl.jsonl",
        "--json",
    )
    told = said.json
    assert told.pop("fingerprint").startswith("export-")
    assert told == {
        "rows": 3,
        "arm": "sft",
        "format": "trl",
        "out": str(here / "out" / "trl.jsonl"),
        "files": 1,
        "sent": 1,
    }
    trl = [json.loads(line) for line in (here / "out" / "trl.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in trl] == [
        [{"role": "assistant", "content": r["completion"]}] for r in rows
    ]
    assert [row["prompt"] for row in trl] == [
        [{"role": "user", "content": r["prompt"]}] for r in rows
    ]
    shown = potstill("export", finished, "--arm", "sft", "--format", "sharegpt")
    sharegpt = [json.loads(line) for line in shown.out.splitlines()]
    assert [[t["from"] for t in row["conversations"]] for row in sharegpt] == [["human", "gpt"]] * 3
    assert [row["conversations"][1]["value"] for row in sharegpt] == [r["completion"] for r in rows]
    assert "\x1b" not in shown.out
    assert (
        potstill("export", finished, "--arm", "sft", "--format", "sharegpt", "--json").json
        == sharegpt
    )


def test_export_of_an_arm_that_is_not_there(finished: Path, potstill) -> None:
    failed = potstill("export", finished, "--arm", "stf", "--format", "trl")
    assert failed.code == 2 and failed.out == ""
    assert "nearest:   sft" in failed.err and "fix:       --arm sft" in failed.err


@pytest.mark.slow
def test_exported_rows_train(finished: Path, here: Path, potstill) -> None:
    potstill("export", finished, "--arm", "sft", "--format", "trl", "--out", "rows.jsonl")
    words = (
        "train",
        "--rows",
        "rows.jsonl",
        "--student",
        "transformers:tiny",
        "--out",
        "st",
        "--set",
        "lr=1e-3",
    )
    done = potstill(*words, "--set", "epochs=1", "--json")
    assert done.code == 0, done.err
    assert (done.json["rows"], done.json["steps"], done.json["skipped"]) == (3, 1, {})
    assert "training: 1 of 1" in done.err
    assert (here / "st" / "model.safetensors").is_file()
    words = (
        "evaluate",
        "--model",
        "transformers:st",
        "--problems",
        "test.jsonl",
        "--n",
        "2",
        "--max-new-tokens",
        "5",
    )
    first = potstill(*words, "--out", "e.json", "--json")
    assert first.json["measures"]["problems"] == 1 and first.json["out"] == "e.json"
    assert (
        "none" not in first.json["fingerprint"]["task"]["n"]
        and first.json["fingerprint"]["task"]["n"] == "2"
    )
    assert "kept from before" in potstill(*words, "--out", "e.json").err
    failed = potstill("compare", "e.json", f"{finished}:untrained")
    assert failed.code == 2 and "unequal: sampling" in failed.err and "--force" in failed.err
    forced = potstill("compare", "e.json", f"{finished}:untrained", "--force", "--json")
    assert forced.json["comparisons"][0]["differs"] == ["sampling"]


def test_compare_a_run(finished: Path, potstill) -> None:
    told = potstill("compare", finished)
    assert "is not distinguishable from" in told.out
    same = potstill("compare", f"{finished}:sft", f"{finished}:sft", "--json")
    assert same.json["comparisons"][0]["difference"] == 0.0
    failed = potstill("compare", f"{finished}:orion", finished)
    assert failed.code == 2 and "measured no arm 'orion'" in failed.err
    failed = potstill("compare", "nothing.json", finished)
    assert failed.code == 2 and "there is no nothing.json" in failed.err


def test_cache(finished: Path, here: Path, potstill) -> None:
    stats = potstill("cache", "stats", finished, "--json").json
    teacher = next(paid for paid in stats["paid"] if paid["role"] == "teacher")
    assert teacher["completions"] == 6 and stats["students"] == 1
    assert potstill("cache", "stats", finished).code == 0
    assert potstill("cache", "verify", finished, "--json").json == {"sound": True, "found": []}
    assert potstill("cache", "gc", finished, "--json").json["deleted"] is False
    count = potstill("cache", "export", finished, "--out", "c.jsonl", "--json").json["completions"]
    assert potstill("cache", "import", "other", "c.jsonl", "--json").json == {
        "new": count,
        "known": 0,
    }
    assert potstill("cache", "import", "other", "c.jsonl", "--json").json == {
        "new": 0,
        "known": count,
    }
    assert potstill("cache", "gc", "other", "--delete", "--json").json["completions"] == count
    failed = potstill("cache", "stats", here / "nowhere")
    assert failed.code == 2 and "there is no store in" in failed.err


def test_damage_is_found(again: Path, potstill) -> None:
    import sqlite3

    with sqlite3.connect(again / "store.sqlite") as connection:
        connection.execute(
            "UPDATE completions SET draw = 7, payload = replace(payload, 'Add', 'Sub')"
        )
    connection.close()
    found = potstill("cache", "verify", again, "--json")
    assert found.code == 2 and found.json["sound"] is False
    assert "are damaged" in found.err


def test_report(again: Path, potstill) -> None:
    (again / "report.html").unlink(missing_ok=True)
    written = potstill("report", again, "--json").json
    assert written["report"] == str(again / "report.html") and written["notes"]
    assert list(written["row_steps"]) == ["sft"]
    page = (again / "report.html").read_text()
    assert "<!doctype html>" in page and "\x1b" not in page
    failed = potstill("report", again / "nowhere")
    assert failed.code == 2 and "no results at" in failed.err


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_command(finished: Path, here: Path, potstill) -> None:
    command = [sys.executable, "-m", "potstill", *RUN, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with child.started(command, prepared=True, **pipes) as running:
        rows_file = here / "runs" / "sft" / "rows" / "sft.jsonl"
        while running.poll() is None and not rows_file.exists():
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert running.returncode == 130, err
    assert json.loads(out) == {
        "stopped": True,
        "resume": f"potstill {shlex.join([*RUN, '--json'])}",
    }
    assert "Traceback" not in err
    done = potstill(*RUN, "--json")
    assert done.code == 0, done.err
    assert "sft: sample teacher  3 → 6  kept from before" in done.err
    stopped, whole = (
        json.loads((run / "results.json").read_text()) for run in (here / "runs" / "sft", finished)
    )
    assert {k: v for k, v in stopped.items() if k != "timing"} == {
        k: v for k, v in whole.items() if k != "timing"
    }


def test_sigterm_ends_a_run_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopping_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before
