"""A curation gives what the operators give on a list, whatever the shards, the processes and the kills."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import potstill as ps
from potstill.cli import main
from potstill.data.problems import load
from potstill.data.row_files import ShardFormat
from potstill.data.rows import is_good, judge_traces, read_traces
from potstill.data.trace_files import load_traces
from potstill.errors import ConfigError, InputError
from potstill.records import Trace
from potstill.runs.curation import curate as steps
from potstill.runs.curation import importing
from potstill.runs.curation.curate import curate
from potstill.runs.curation.settings import CurationSettings
from potstill.runs.export import export_rows
from potstill.traces import decontaminate, dedupe_near, is_finished, keep, mix, where

pytest.importorskip("rensa", reason="needs the extra potstill[curate]")

ROWS = 60


def story(rng: random.Random, words: int) -> str:
    return " ".join(f"w{rng.randrange(500)}" for _ in range(words))


def write_rows(path: Path, count: int = ROWS, seed: int = 0) -> Path:
    """Sums in stories: some answers wrong, some not finished, some nearly the one before."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if rows and rng.random() < 0.3:
            row = dict(rows[-1], response=rows[-1]["response"].replace("w1 ", "w2 "))
        else:
            answer = rng.choice([str(number + 1), str(number + 1), "7000"])
            row = {
                "question": f"{story(rng, 20)}. What is {number} + 1?",
                "response": f"{story(rng, 30)} w1 w1 w1. The answer is {answer}.",
                "gold": str(number + 1),
                "level": number % 5,
                "finish_reason": rng.choice(["stop", "stop", "length"]),
            }
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "answers.jsonl")


@pytest.fixture
def held_out(tmp_path: Path, answers: Path) -> Path:
    """Every ninth question, in capitals."""
    path = tmp_path / "test.jsonl"
    with path.open("w") as file:
        for line in answers.read_text().splitlines()[::9]:
            row = json.loads(line)
            file.write(json.dumps({"question": row["question"].upper(), "answer": row["gold"]}))
            file.write("\n")
    return path


def settings_of(*inputs: Path, held_out: Path | None = None, **more: Any) -> CurationSettings:
    more = {"verify": True, "keep": "right", "near_duplicates": 0.8, **more}
    specs = (str(held_out),) if held_out else ()
    return CurationSettings(tuple(map(str, inputs)), decontaminate=specs, **more)


def run(settings: CurationSettings, out: Path, **more: Any) -> dict[str, Any]:
    form = more.pop("form", ShardFormat(shard_bytes=4000))
    return curate(settings, out, work_path=out / "work", form=form, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes().replace(str(folder).encode(), b"OUT")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def by_operators(answers: Path, held_out: Path) -> list[Trace]:
    """The same steps on a list of all traces."""
    traces = judge_traces(read_traces(str(answers)).traces)
    traces = keep(is_good, traces)
    traces = keep(is_finished, keep(where("level>=1"), traces))
    return decontaminate(load(str(held_out)), dedupe_near(traces))


@pytest.mark.parametrize("shard_rows", [pytest.param(7, marks=pytest.mark.slow), 10_000])
def test_it_gives_what_the_operators_give(tmp_path, answers, held_out, monkeypatch, shard_rows):
    monkeypatch.setattr(importing, "SHARD_ROWS", shard_rows)
    settings = settings_of(answers, held_out=held_out, finished=True, where=("level>=1",))
    report = run(settings, tmp_path / "out")
    expected = by_operators(answers, held_out)
    assert load_traces(tmp_path / "out") == expected
    assert report["rows"] == len(expected) and report["files"] > 1
    names = [
        "verify",
        "keep right",
        "where level>=1",
        "finished",
        "near-duplicates",
        "decontaminate",
    ]
    assert [line["step"] for line in report["steps"]] == names
    for line, next_line in zip(report["steps"], report["steps"][1:], strict=False):
        assert line["came"] - line["went"] == line["stayed"] == next_line["came"]
        assert next_line["went"] == sum(next_line["why"].values()) > 0
    # Nothing is left of the work, and the finished command only reads its report again.
    assert not (tmp_path / "out" / "work").exists()
    before = contents(tmp_path / "out")
    assert run(settings, tmp_path / "out") == report and contents(tmp_path / "out") == before


def test_each_dropped_row_has_its_reason(tmp_path, answers, held_out):
    report = run(settings_of(answers, held_out=held_out), tmp_path / "out")
    lines = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    dropped = [json.loads(line) for line in lines]
    assert len(dropped) + report["rows"] == ROWS
    assert [line["row"] for line in dropped] == sorted({line["row"] for line in dropped})
    ids = [trace.id for trace in read_traces(str(answers)).traces]
    assert all(line["id"] == ids[line["row"]] for line in dropped)
    by_step: dict[str, dict[str, Any]] = {line["step"]: line for line in dropped}
    assert by_step["keep right"]["reason"].startswith("wrong")
    duplicate = by_step["near-duplicates"]
    assert duplicate["resembles"] in ids[: duplicate["row"]] and duplicate["similarity"] >= 0.8
    overlap = by_step["decontaminate"]
    assert overlap["source"] == "test.jsonl" and overlap["problem"] in overlap["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["import_inputs", "check_rows", "find_duplicates", "choose_mix", "_output_lines"]
)
def test_after_a_kill_the_same_command_goes_on(tmp_path, answers, held_out, monkeypatch, stage):
    monkeypatch.setattr(importing, "SHARD_ROWS", 13)
    settings = settings_of(answers, held_out=held_out, shuffle=True, layout="messages")
    run(settings, tmp_path / "undisturbed")
    whole, calls = getattr(steps, stage), []

    def killed(*args: Any, **more: Any) -> Any:
        result = whole(*args, **more)
        if stage == "_output_lines":
            return (
                line if place < 9 else calls.append(line) or 1 / 0
                for place, line in enumerate(result)
            )
        raise ZeroDivisionError

    monkeypatch.setattr(steps, stage, killed)
    with pytest.raises(ZeroDivisionError):
        run(settings, tmp_path / "out")
    with pytest.raises(ConfigError, match="another command"):
        run(settings_of(answers), tmp_path / "out")
    monkeypatch.setattr(steps, stage, whole)
    run(settings, tmp_path / "out")
    # Killed once more, after the report: what is left of the work goes.
    steps.WorkFolder(tmp_path / "out" / "work", settings.fingerprint())
    run(settings, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_processes_change_nothing(tmp_path, answers, held_out, monkeypatch):
    monkeypatch.setattr(importing, "SHARD_ROWS", 20)
    settings = settings_of(answers, held_out=held_out)
    run(settings, tmp_path / "one")
    run(settings, tmp_path / "two", processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_a_mix_has_its_shares_and_grows(tmp_path, answers):
    more = write_rows(tmp_path / "more.jsonl", 20, seed=5)
    shares = {str(answers): 3, str(more): 1}
    plain = {"verify": False, "keep": "all", "near_duplicates": 0.0}
    found = {}
    for rows in (0, 24, 12):
        settings = settings_of(answers, more, shares=shares, rows=rows, seed=3, **plain)
        report = run(settings, tmp_path / f"out{rows}")
        found[rows] = load_traces(tmp_path / f"out{rows}")
        sources = [trace.problem.source for trace in found[rows]]
        assert sources.count("more.jsonl") * 3 == sources.count("answers.jsonl") > 0
        assert report["rows"] == len(found[rows]) == (rows or 80)
        assert found[rows] == mix(found[rows], seed=3)
    assert {t.id for t in found[12]} < {t.id for t in found[24]} < {t.id for t in found[0]}
    settings = settings_of(answers, rows=100, shuffle=True, **plain)
    assert "the inputs give 60" in run(settings, tmp_path / "all")["notes"][0]
    assert load_traces(tmp_path / "all") == mix(read_traces(str(answers)).traces)


def test_a_layout_says_how_rows_ended(tmp_path, answers):
    settings = settings_of(answers, layout="messages", near_duplicates=0.0)
    report = run(settings, tmp_path / "out", form=ShardFormat())
    kept = [t for t in judge_traces(read_traces(str(answers)).traces) if is_good(t)]
    lines = (tmp_path / "out" / "train-00000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == export_rows(kept, "messages")
    assert "rows are not finished" in report["notes"][0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"near_duplicates": 2.0}, "threshold"),
        ({"compared": "answer"}, "near-duplicates of 'answer'"),
        ({"layout": "parquet"}, "no layout"),
        ({"where": ("level",)}, "level"),
        ({"shares": {"other.jsonl": 1}}, "no input"),
        ({"shares": {"a.jsonl": -1}}, "share of a.jsonl"),
        ({"shares": {"a.jsonl": 1}}, "b.jsonl has no share"),
        ({"kind": "nmber"}, "nmber"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_read(wrong, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(Path("a.jsonl"), Path("b.jsonl"), **wrong)


@pytest.mark.slow
def test_rows_that_are_there_are_not_replaced(tmp_path, answers):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train-00000.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds train-00000.jsonl already"):
        run(settings_of(answers), out)
    assert contents(out) == {"train-00000.jsonl": b"mine"}


@pytest.mark.slow
def test_an_input_that_changed_and_one_without_rows(tmp_path, answers):
    run(settings_of(answers), tmp_path / "out")
    write_rows(answers, 10)
    with pytest.raises(ConfigError, match="have changed since"):
        run(settings_of(answers), tmp_path / "out")
    with pytest.raises(ConfigError, match="no row is left"):
        run(settings_of(answers, where=("level>9",)), tmp_path / "none")
    answers.write_text("")
    with pytest.raises(InputError):
        run(settings_of(answers), tmp_path / "empty")


def test_in_python(tmp_path, answers):
    report = ps.curate(answers, tmp_path / "out", verify=True, keep="right")
    assert load_traces(tmp_path / "out") == [
        trace for trace in judge_traces(read_traces(str(answers)).traces) if is_good(trace)
    ]
    assert ps.curate(answers, tmp_path / "out", verify=True, keep="right") == report
    with pytest.raises(ConfigError, match="no setting 'near_duplicate'"):
        ps.curate(answers, tmp_path / "other", near_duplicate=0.8)


@pytest.mark.slow
def test_the_command(tmp_path, answers, held_out, capsys):
    words = ["curate", str(answers), "--verify", "--keep", "right", "--near-duplicates", "0.8"]
    words += ["--decontaminate", str(held_out), "--processes", "1", "--quiet"]
    out = str(tmp_path / "out")
    assert main([*words, "--out", out, "--mix", f"{answers}=1", "--rows", "5"]) == 0
    shown = capsys.readouterr().out
    assert "near-duplicates" in shown and "5 rows in 1 files" in shown
    words += ["--parquet", "--json"]
    assert main([*words, "--out", str(tmp_path / "p")]) == 2
    assert "--format messages" in capsys.readouterr().out
    words += ["--format", "messages"]
    assert main([*words, "--out", str(tmp_path / "p")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (tmp_path / "p" / "train-00000.parquet").is_file() and report["rows"] > 5
    assert main([*words, "--out", "s3://bucket/x"]) == 2
    assert "--work" in capsys.readouterr().out
    assert main([*words, "--out", out, "--mix", "1"]) == 2
