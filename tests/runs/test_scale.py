"""`plan --scale`: time, money and what binds, of a plan and a cluster; speeds from a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.errors import ConfigError
from potstill.runs.estimate import Need, Plan
from potstill.runs.scale import (
    Cluster,
    Engine,
    ScaledPlan,
    read_cluster,
    refuse_unknown_sections,
    scale_plan,
)
from potstill.runs.scale_rates import (
    AccountTotals,
    MeasuredRun,
    extrapolate,
    load_measurements,
    read_log_times,
)


def need(role: str, completion: int, calls: int = 1_000, money: float | None = 0.0) -> Need:
    counts = (role, "model", calls, 2 * completion, completion, completion)
    return Need(*counts, money=money, low=money, high=money, limit=money)


PLAN = Plan(
    problems=1_000,
    tried=24,
    needs=[need("teacher", 3_600_000), need("student/evaluation", 360_000)],
    rows={"sft": 900},
    unreached=[],
    disk={"store": 5 * 10**9},
    training_tokens={"sft": 7_200_000.0},
)
# An hour for the teacher, a quarter for the training, six minutes for the evaluation.
CLUSTER = Cluster(
    {
        "teacher": Engine(replicas=2, tokens_per_second=500, usd_per_hour=3.0, start_seconds=60),
        "student": Engine(tokens_per_second=1_000),
        "train": Engine(replicas=8, tokens_per_second=1_000, usd_per_hour=2.0),
    },
    seconds_per_call=0.01,
)


def seconds_by_part(scaled: ScaledPlan) -> dict[str, float]:
    return {part.name: part.seconds for part in scaled.parts}


def test_parts_take_their_work_over_the_replicas() -> None:
    scaled = scale_plan(PLAN, CLUSTER)
    assert seconds_by_part(scaled) == {
        "teacher": 3_660.0,
        "train sft": 900.0,
        "student/evaluation": 360.0,
        "driver": 20.0,
    }
    assert scaled.seconds == 4_940.0
    assert scaled.binding() == ("generation", pytest.approx(4_020 / 4_940))
    # 2 x 3 USD for 61 minutes, 8 x 2 USD for a quarter of an hour.
    assert scaled.replica_money == pytest.approx(6.1 + 4.0)
    assert scaled.held_money == pytest.approx(22.0 * 4_940 / 3_600)
    assert not scaled.unknown and not scaled.warnings


def test_more_replicas_shorten_all_but_the_serial_part() -> None:
    scaled = scale_plan(PLAN, CLUSTER)
    assert scaled.serial_seconds == 80.0
    for factor, seconds in scaled.seconds_by_factor.items():
        assert seconds == pytest.approx(80.0 + (4_940.0 - 80.0) / factor)


def test_a_rate_limit_binds_whatever_the_replicas() -> None:
    limited = read_cluster(["teacher.requests_per_minute=10"], CLUSTER)
    scaled = scale_plan(PLAN, limited)
    assert scaled.parts[0].kind == scaled.binding()[0] == "rate limit"
    assert seconds_by_part(scaled)["teacher"] == 6_060.0
    assert scaled.seconds_by_factor[16] > 6_060.0
    # An interface that says nothing but its limit has a time too.
    remote = scale_plan(PLAN, read_cluster(["teacher.tokens_per_minute=108000"]))
    assert seconds_by_part(remote) == {"teacher": 6_000.0}


def test_what_is_not_known_is_said_and_not_counted() -> None:
    scaled = scale_plan(PLAN, read_cluster(["teacher.tokens_per_second=1000", "disk.gb=4"]))
    assert seconds_by_part(scaled) == {"teacher": 3_600.0}
    assert [sentence.split(" is not")[0] for sentence in scaled.unknown] == [
        "how fast sft trains",
        "how fast student/evaluation writes",
    ]
    assert scaled.warnings == ["the disk binds: the run needs 5 GB and has 4 GB"]
    json.dumps(scaled.to_json())


def test_a_cluster_is_read_from_files_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("teacher: {replicas: 4, usd_per_hour: 2.5}\nverify: {rows_per_second: 90}\n")
    cluster = read_cluster([str(file), "teacher.replicas=8"], CLUSTER)
    assert cluster.engines["teacher"] == Engine(8, 500, usd_per_hour=2.5, start_seconds=60)
    assert seconds_by_part(scale_plan(PLAN, cluster))["verify"] == pytest.approx(2_000 / 90)
    refuse_unknown_sections(cluster, {"teacher", "student"})
    for text, message in (
        ("teacher.replica=8", r"(?s)replica is unknown.*nearest: +teacher\.replicas"),
        ("teacher.replicas=many", "not a number"),
        ("teacher.replicas=0", "replicas above 0"),
        ("nowhere.yaml", "neither a file of sections"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_cluster([text])
    with pytest.raises(ConfigError, match="the run has no such role"):
        refuse_unknown_sections(read_cluster(["judge.replicas=2"]), {"teacher", "student"})


def test_a_run_of_the_same_recipe_gives_calls_and_rows_a_problem() -> None:
    small = MeasuredRun(
        folder=Path("runs/small"),
        cluster=Cluster(),
        assumptions={},
        problems=200,
        accounts={
            "teacher": AccountTotals(calls=210, prompt=40_000, completion=90_000),
            "student/evaluation": AccountTotals(calls=1, prompt=1, completion=1),
        },
        training_tokens={"sft": 100_000.0},
        settings={"arms": {"sft": {"method": "sft"}}, "problems": "a.jsonl", "seed": 0},
        seconds=60.0,
    )
    larger = {"arms": {"sft": {"method": "sft"}}, "problems": "b.jsonl", "seed": 1}
    plan, sentence = extrapolate(PLAN, small, larger)
    teacher, evaluation = plan.needs
    assert (teacher.calls, teacher.prompt, teacher.completion) == (1_050, 200_000, 450_000)
    assert evaluation == PLAN.needs[1]  # as much is measured as before
    assert plan.training_tokens == {"sft": 500_000.0} and sentence.endswith("times 5")

    other, sentence = extrapolate(PLAN, small, {**larger, "arms": {"sft": {"method": "rft"}}})
    assert other == PLAN
    assert "another recipe (arms.sft.method: " in sentence


def test_times_are_read_from_a_log_without_its_pauses(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(
        "2026-01-01 10:00:00  arm sft; 300 problems, measured on 200\n"
        "2026-01-01 10:00:03  about 900 calls\n"
        "2026-01-01 10:01:03  sft: sample teacher  300 → 300  60 s\n"
        "2026-01-01 10:01:13  sft: verify story@1  1,300 → 300\n"
        "2026-01-01 18:00:00  arm sft; 300 problems, measured on 200\n"
        "2026-01-01 18:00:20  sft: train  290 rows, 12 updates  20 s\n"
    )
    assert read_log_times(log) == (93.0, 3.0, 10.0, 1_300)


def test_the_error_is_the_one_that_was_measured() -> None:
    measurements = load_measurements()
    assert measurements is not None and len(measurements.runs) >= 3
    sentence = measurements.error_sentence()
    for run in measurements.runs:
        assert f"{run.planned_seconds / run.measured_seconds - 1:+.0%}" in sentence
        assert run.problems >= 4 * run.small_problems
