"""`potstill plan` and `potstill prices`: what they print, and a pilot that the run does not pay for again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import serving

from potstill.budget.prices import built_in_prices
from potstill.store import Store

FLAGS = [
    "sft",
    "--problems",
    "train.jsonl",
    "--student",
    "transformers:tiny",
    "--set",
    "n=4",
    "--set",
    "max_new_tokens=30",
]
FLAGS += [
    "--set",
    "training.max_steps=2",
    "--kind",
    "regex",
    "--threads",
    "1",
    "--prices",
    "mine.json",
]
MONEY = {"test-model": {"prompt": 100, "completion": 200}}


@pytest.fixture
def forty(here: Path) -> Path:
    rows = [{"question": f"Say {i}.", "answer": "(?s).*"} for i in range(40)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("mine.json").write_text(json.dumps(MONEY))
    return here


def test_a_plan_names_roles_money_memory_steps_and_assumptions(forty: Path, potstill) -> None:
    told = ["--teacher", "openai:test-model?url=http://127.0.0.1:9/v1", "--assume", "completion=20"]
    done = potstill("plan", *FLAGS, *told)
    assert done.code == 0, done.err
    for part in (
        "calls for 40 problems",
        "160",
        "3,200",
        "USD at most",
        "memory",
        "steps",
        "chars",
        "completion",
    ):
        assert part in done.out, part
    assert "openai:test-model?url=http" in done.out, "a model is known by the beginning of its name"
    data = potstill("plan", *FLAGS, *told, "--json").json
    assert data["needs"][0]["calls"] == 160 and data["training"]["sft"]["steps"] == 2
    assert not (forty / "runs").exists()


def test_a_plan_leaves_bad_rows_out_and_says_so(forty: Path, potstill) -> None:
    with Path("train.jsonl").open("a") as file:
        file.write("{broken\n")
    flags = [*FLAGS, "--teacher", "scripted:teacher.json", "--json"]
    refused = potstill("plan", *flags)
    assert refused.code == 2 and "line 41" in refused.out
    data = potstill("plan", *flags, "--skip-bad").json
    assert data["problems"] == 40 and "1 of train.jsonl" in " ".join(data["notes"])


@pytest.mark.slow
def test_a_pilot_measures_and_the_run_does_not_pay_for_it_again(forty: Path, potstill) -> None:
    with serving(words=6) as server:
        flags = [*FLAGS, "--teacher", f"openai:test-model?url={server.url}", "--quiet"]
        found = potstill("plan", *flags, "--pilot", "10", "--json")
        assert found.code == 0, found.err
        assert sum(server.served.values()) == 40
        teacher, reading = found.json["needs"]
        assert reading["role"] == "student/training"
        assert teacher["calls"] == 160
        assert found.json["measured"]["sample by teacher: right"]["value"] == 1
        assert found.json["paid"] > 0
        ran = potstill("run", *flags, "--json")
        assert ran.code == 0, ran.err
        assert sorted(server.served.values()) == [1] * 160  # forty of them were the pilot's
        cost = ran.json["costs"]["sft"]["teacher"]
        assert cost["calls"] == 160 and cost["reused"] == 0
        assert teacher["low"] * 0.9 <= cost["cost"] <= teacher["high"] * 1.1
        assert found.json["rows"]["sft"] == ran.json["training"]["sft"]["rows"]
        with serving(words=6) as idle:
            pass
        assert not idle.served


@pytest.mark.slow
def test_a_pilot_keeps_to_the_budget(forty: Path, potstill) -> None:
    with serving(words=6) as server:
        flags = [*FLAGS, "--teacher", f"openai:test-model?url={server.url}", "--quiet"]
        stopped = potstill("plan", *flags, "--pilot", "30", "--budget", "0.1usd")
    assert stopped.code == 2
    assert "the budget is spent" in stopped.err and "to go on: potstill plan sft" in stopped.err


def test_prices(forty: Path, potstill) -> None:
    done = potstill("prices", "openai/gpt-4o-mini-2024-07-18", "--json")
    assert (
        done.json["openai/gpt-4o-mini-2024-07-18"]["prompt"]
        == built_in_prices()["gpt-4o-mini"].prompt
    )
    assert potstill("prices", "test-model", "--prices", "mine.json").code == 0
    everything = potstill("prices")
    assert "USD per million tokens" in everything.out and "as of" in everything.out
    unknown = potstill("prices", "gpt-4o-mni")
    assert unknown.code == 2 and "nearest:   gpt-4o-mini" in unknown.err
    assert (
        "limit" not in unknown.err and "claude" not in unknown.err
    )  # not what a budget says, nor the whole table


def test_a_student_that_is_not_here_is_named_where_steps_and_memory_are_missing(forty, potstill):
    done = potstill("plan", *FLAGS, "--teacher", "world:teacher", "--student", "transformers:none")
    assert done.code == 0, done.err
    assert "steps and memory are not known: there is no checkpoint of transformers:none" in done.out


LOCAL = ["sft", "--problems", "train.jsonl", "--kind", "regex", "--threads", "1", "--quiet"]
LOCAL += ["--set", "n=2", "--set", "max_new_tokens=30", "--set", "training.max_steps=2"]


def test_a_plan_says_of_which_local_models_the_time_is_not_known(
    forty: Path, potstill, tiny_checkpoint: Path
) -> None:
    spec = f"transformers:{tiny_checkpoint}"
    done = potstill("plan", *LOCAL, "--teacher", spec, "--student", spec)
    assert done.code == 0, done.err
    assert "how long the calls of teacher take is not known: --probe" in done.out
    assert "how long the training of sft takes is not known: --probe trains it" in done.out


@pytest.mark.slow
def test_a_probe_and_earlier_calls_say_how_long_local_models_take(
    forty: Path, potstill, tiny_checkpoint: Path
) -> None:
    spec = f"transformers:{tiny_checkpoint}"
    flags = [*LOCAL, "--teacher", spec, "--student", spec, "--out", "here"]
    probed = potstill("plan", *flags, "--probe", "--json").json
    teacher = probed["needs"][0]
    assert 0 < teacher["seconds"]["low"] <= teacher["seconds"]["high"] < 600
    assert 0 < probed["training_seconds"]["sft"]["low"] < 600
    assert not Path("here").exists(), "a probe leaves nothing"
    assert not any("is not known" in note for note in probed["notes"])

    # What a pilot wrote counts in the plan that it belongs to, and its calls cost the run nothing.
    piloted = potstill("plan", *flags, "--pilot", "4")
    assert piloted.code == 0, piloted.err
    assert " time " in piloted.out and "the training of sft takes is not known" in piloted.out
    ran = potstill("run", *flags, "--json")
    assert ran.code == 0, ran.err
    known = potstill("plan", *flags, "--json").json
    [trained] = list(Path("here/students").glob("*/fit.json"))
    seconds = json.loads(trained.read_text())["seconds"]
    assert known["training_seconds"]["sft"]["low"] == pytest.approx(seconds, rel=2)

    # A larger run of the recipe takes its speeds, and its calls and rows a problem.
    Path("more.jsonl").write_text(Path("train.jsonl").read_text().replace("Say", "Tell"))
    flags[flags.index("train.jsonl")] = "more.jsonl"
    scaling = ["--scale-from", "here", "--scale", "teacher.replicas=4", "--out", "there"]
    scaled = potstill("plan", *flags[:-2], *scaling, "--json").json
    parts = {part["name"]: part for part in scaled["scale"]["parts"]}
    with Store.open(Path("here"), readonly=True) as store:
        usage = store.usage("sft")["teacher"]
    assert parts["teacher"]["tokens"] == usage["completion_tokens"]
    assert parts["teacher"]["replicas"] == 4 and parts["train sft"]["seconds"] > 0
    assert any("40 problems), times 1" in note for note in scaled["notes"])
