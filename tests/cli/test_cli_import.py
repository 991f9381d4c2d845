"""`potstill import`: recorded answers become traces that train, export and recorded: take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from potstill.data import trace_files
from potstill.data.rows import is_good, judge_traces, read_traces
from potstill.errors import ConfigError, InputError
from potstill.models import load
from potstill.models.model import Request
from potstill.records import Message
from potstill.store import Store

OUTPUTS = [
    {
        "question": "1 + 1?",
        "answer": "2",
        "generations": ["It is \\boxed{2}.", "It is \\boxed{3}."],
        "score": [1, 0],
    },
    {
        "question": "2 + 2?",
        "answer": "4",
        "generations": ["It is \\boxed{4}.", "It is \\boxed{4}."],
        "score": [1, 0],
    },
]


def put(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return path


@pytest.mark.slow
def test_counts_of_the_real_recordings_are_the_files_own(
    shared_data: Path, tmp_path: Path, potstill
) -> None:
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    done = potstill("import", file, "--judge", "--out", tmp_path / "t.jsonl", "--json", "--quiet")
    assert done.code == 0, done.err
    right = {row["author"]: (row["right by label"], row["right"]) for row in done.json["answers"]}
    assert right == {
        "recorded:6b_finetuning": (286, 286),
        "recorded:6b_verification": (515, 515),
        "recorded:175b_finetuning": (458, 458),
        "recorded:175b_verification": (742, 742),
    }
    assert (done.json["rows"], done.json["problems"], done.json["traces"]) == (1319, 1319, 5276)
    assert done.json["mapping"]["gold"] == "ground_truth"
    traces = trace_files.load_traces(tmp_path / "t.jsonl")
    rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
    assert [t.text for t in traces[:4]] == [
        rows[0][name]["solution"] for name in list(rows[0])[2:6]
    ]
    again = potstill("import", tmp_path / "t.jsonl", "--json", "--quiet").json
    assert (
        again["answers"] == done.json["answers"] and again["mapping"]["layout"] == "potstill traces"
    )


@pytest.mark.slow
def test_math_outputs_come_with_their_golds_and_labels(shared_data: Path, potstill) -> None:
    file = shared_data / "math-outputs" / "qwen2.5-math-cot-100.jsonl"
    done = potstill("import", file, "--map", "completion=code", "--judge", "--json", "--quiet").json
    [row] = done["answers"]
    rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
    assert (row["problems"], row["traces"]) == (100, 800)
    assert row["right by label"] == sum(sum(r["score"]) for r in rows) == 728
    assert (row["right"], row["wrong"]) == (737, 63)  # nine labels are false rejects
    assert done["mapping"] == {
        "layout": "columns as given",
        "question": "question",
        "completion": "code",
        "label": "score",
        "gold": "answer",
        "solution": "solution",
        "system": "system",
        "level": "level",
    }
    assert "response" in done["unread"]


def test_an_evaluations_own_reading_of_the_gold_is_not_taken_for_it(tmp_path: Path) -> None:
    row = {
        "question": "When?",
        "gt_cot": "At \\boxed{4:30\\text{ p.m.}}",
        "gt": "4:30p..",
        "code": ["4:30 p.m."],
    }
    for fields, gold in (({"answer": "4:30 p.m."}, "4:30 p.m."), ({}, "4:30p..")):
        file = put(tmp_path / "a.jsonl", [row | fields])
        [trace] = read_traces(str(file), mapping={"completion": "code"}).traces
        assert trace.problem.answer == gold
    said = {"question": "1 + 1?", "gt": "2", "answer": "It is 3.", "output": "3"}
    assert read_traces(str(put(tmp_path / "b.jsonl", [said]))).mapping["gold"] == "gt"


def test_the_table_and_the_mapping_are_shown(tmp_path: Path, potstill) -> None:
    done = potstill("import", put(tmp_path / "a.jsonl", OUTPUTS), "--judge", "--quiet")
    assert done.code == 0
    assert "question=question, completion=generations, label=score, gold=answer" in done.out
    line = next(
        line.split() for line in done.out.splitlines() if line.strip().startswith("recorded")
    )
    assert line == ["recorded", "2", "4", "0", "2", "2", "3", "1", "0", "0"]


def test_traces_have_problem_author_finish_label_and_verdict(tmp_path: Path) -> None:
    found = read_traces(str(put(tmp_path / "a.jsonl", OUTPUTS)))
    traces = judge_traces(found.traces, lambda *_: None)
    assert [t.scores["label"] for t in traces] == [1.0, 0.0, 1.0, 0.0]
    assert [t.verdict.status for t in traces] == ["right", "wrong", "right", "right"]
    assert [(t.author.model, t.author.sample_index) for t in traces if t.author] == [
        ("recorded", 0),
        ("recorded", 1),
    ] * 2
    assert {t.problem.id for t in traces[:2]} == {traces[0].problem.id} and traces[
        0
    ].problem.answer == "2"
    assert [is_good(t) for t in found.traces] == [True, False, True, False]
    assert [is_good(t) for t in traces] == [True, False, True, True]


def test_system_turns_reasoning_and_writers_are_kept(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "1 + 1?"}]
    said = {"role": "assistant", "reasoning_content": "Add.", "content": "2"}
    file = put(
        tmp_path / "a.jsonl",
        [{"messages": [*chat, said], "model": "r1", "finish_reason": "length"}],
    )
    [trace] = read_traces(str(file)).traces
    assert trace.prompt == (Message("system", "Brief."), Message("user", "1 + 1?"))
    assert trace.text == "<think>\nAdd.\n</think>\n\n2" and trace.finish_reason == "length"
    assert trace.author and trace.author.model == "r1" and trace.problem.answer is None


@pytest.mark.slow
def test_what_train_export_and_recorded_take(here: Path, potstill) -> None:
    put(here / "a.jsonl", OUTPUTS)
    assert (
        potstill(
            "import", "a.jsonl", "--judge", "--keep", "right", "--out", "t.jsonl", "--quiet"
        ).code
        == 0
    )
    model = load("recorded:t.jsonl")
    assert [
        c.text for c in model.write([Request("1 + 1?"), Request("2 + 2?", sample_index=1)])
    ] == [
        "It is \\boxed{2}.",
        "It is \\boxed{4}.",
    ]
    words = "train --rows t.jsonl --student transformers:tiny --out s --set max_steps=1 --set max_dropped_share=1.0"
    trained = potstill(*words.split(), "--threads", 1, "--quiet", "--json")
    assert trained.code == 0, trained.err
    assert trained.json["rows"] == 3
    exported = potstill("export", "t.jsonl", "--format", "trl")
    assert [json.loads(line)["completion"][0]["content"] for line in exported.out.splitlines()] == [
        t.text for t in trace_files.load_traces(Path("t.jsonl"))
    ]


def test_a_run_folder_keeps_everything_and_its_rows_are_what_was_kept(here: Path, potstill) -> None:
    put(here / "a.jsonl", OUTPUTS)
    words = ("import", "a.jsonl", "--judge", "--keep", "right", "--out", "run", "--json", "--quiet")
    first = potstill(*words)
    assert first.code == 0, first.err
    assert potstill(*words).json == first.json
    with Store.open(Path("run"), readonly=True) as store:
        assert len(list(store.history.traces("import"))) == 4
        assert [len(ids) for ids in store.history.row_ids("import").values()] == [3]
    exported = potstill("export", "run", "--arm", "import", "--format", "preference", "--pairs")
    [row] = [json.loads(line) for line in exported.out.splitlines()]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == (
        "It is \\boxed{2}.",
        "It is \\boxed{3}.",
    )


def test_a_folder_of_another_run_is_refused(here: Path, finished: Path, potstill) -> None:
    put(here / "a.jsonl", OUTPUTS)
    shutil.copytree(finished, here / "run")
    failed = potstill("import", "a.jsonl", "--out", "run", "--quiet")
    assert failed.code == 2 and "holds a run with other settings" in failed.err


def test_bad_rows_stop_or_are_listed(here: Path, potstill) -> None:
    rows = [
        OUTPUTS[0],
        '{"question": "x\n',
        {"question": "no answers"},
        OUTPUTS[1],
        {"question": "3?", "answer": 1},
    ]
    put(here / "a.jsonl", rows)
    failed = potstill("import", "a.jsonl", "--out", "t.jsonl", "--quiet")
    assert failed.code == 2 and "a.jsonl, line 2" in failed.err and "--skip-bad" in failed.err
    assert not Path("t.jsonl").exists()
    done = potstill("import", "a.jsonl", "--out", "t.jsonl", "--skip-bad", "--json", "--quiet")
    assert done.code == 0, done.err
    assert [item["where"] for item in done.json["bad"]] == ["line 2", "line 3", "line 5"]
    assert done.json["traces"] == 4 and len(trace_files.load_traces(Path("t.jsonl"))) == 4
    listed = [json.loads(line) for line in Path("t.bad_rows.jsonl").read_text().splitlines()]
    assert listed == done.json["bad"]


def test_one_id_for_two_questions_names_both_lines(here: Path, potstill) -> None:
    rows = [{"id": "a", "prompt": f"{n}?", "completion": "x", "gold": "1"} for n in range(2)]
    put(here / "a.jsonl", rows)
    failed = potstill("import", "a.jsonl", "--quiet")
    assert failed.code == 2 and "line 1 and line 2 have the same id 'a'" in failed.err
    kept = potstill("import", "a.jsonl", "--quiet", "--json", "--skip-bad").json
    assert kept["traces"] == 1 and [item["where"] for item in kept["bad"]] == ["line 2"]
    assert potstill("import", "a.jsonl", "--quiet", "--json", "--map", "id=").json["traces"] == 2


def test_mistakes_are_said(here: Path, potstill) -> None:
    put(here / "a.jsonl", OUTPUTS)
    cases = {
        ("--map", "golden=answer"): ("no field 'golden'", "nearest:   gold"),
        ("--map", "gold=anser"): ("no column 'anser'", "nearest:   answer"),
        ("--map", "completion=generation"): ("no column 'generation'", "nearest:   generations"),
        ("--out", "t.parquet"): ("neither a .jsonl file nor a folder", "--out t.jsonl"),
    }
    for words, parts in cases.items():
        failed = potstill("import", "a.jsonl", "--quiet", *words)
        assert failed.code == 2 and all(part in failed.err for part in parts), failed.err
    put(here / "w.jsonl", [{"question": "1?", "answer": "1", "completion": "\\boxed{7}"}])
    failed = potstill("import", "w.jsonl", "--judge", "--keep", "right", "--quiet")
    assert failed.code == 2 and "none of 1 answers" in failed.err


def test_a_trace_file_that_was_changed_is_refused_by_line(tmp_path: Path) -> None:
    trace_files.write_traces(
        read_traces(str(put(tmp_path / "a.jsonl", OUTPUTS))).traces, tmp_path / "t.jsonl"
    )
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace("boxed{4}", "boxed{5}")
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"t\.jsonl, line 3: the trace stored as .* was changed"):
        trace_files.load_traces(tmp_path / "t.jsonl")
    with pytest.raises(InputError, match="line 1: no trace"):
        trace_files.load_traces(put(tmp_path / "b.jsonl", OUTPUTS))
    with pytest.raises(ConfigError, match="no field"):
        read_traces(str(tmp_path / "a.jsonl"), mapping={"x": "y"})


@pytest.mark.slow
def test_skip_bad_in_a_run_lists_the_rows_and_says_so(here: Path, potstill) -> None:
    rows = [{"question": q, "answer": a} for q, a in (("Add 2 and 3.", "5"), ("Add 4 and 5.", "9"))]
    put(here / "p.jsonl", [rows[0], "{broken\n", rows[1]])
    words = "run sft --problems p.jsonl --teacher scripted:teacher.json --student transformers:tiny --set n=2"
    words += " --set training.max_steps=1 --threads 1 --quiet"
    failed = potstill(*words.split())
    assert failed.code == 2 and "p.jsonl, line 2" in failed.err
    done = potstill(*words.split(), "--skip-bad")
    assert done.code == 0, done.err
    assert "Bad rows left out: 1 of p.jsonl" in done.out
    [bad] = [json.loads(line) for line in Path("runs/sft/bad_rows.jsonl").read_text().splitlines()]
    assert (bad["file"], bad["where"], bad["start"]) == ("p.jsonl", "line 2", "{broken")


def test_skip_bad_leaves_out_rows_whose_gold_fails(here: Path, potstill) -> None:
    rows = [
        {"id": n, "question": f"{n}?", "answer": a} for n, a in enumerate(["1", "no number", "3"])
    ]
    put(here / "p.jsonl", rows)
    words = (
        "evaluate",
        "--model",
        "scripted:teacher.json",
        "--problems",
        "p.jsonl",
        "--kind",
        "number",
        "--quiet",
    )
    failed = potstill(*words)
    assert failed.code == 2 and "1 of 3 gold answers" in failed.err and "--skip-bad" in failed.err
    done = potstill(*words, "--skip-bad", "--out", "e.json")
    assert done.code == 0, done.err
    [bad] = [json.loads(line) for line in Path("e.bad_rows.jsonl").read_text().splitlines()]
    assert bad["where"] == "line 2, 1" and "'no number'" in bad["reason"]
    verified = potstill(
        "verify", "--problems", "p.jsonl", "--skip-bad", "--kind", "number", "--json", "--quiet"
    )
    assert verified.code == 2  # verify is there to show them


def test_an_export_leaves_bad_rows_of_a_trace_file_out(tmp_path: Path, potstill) -> None:
    assert (
        potstill(
            "import", put(tmp_path / "a.jsonl", OUTPUTS), "--out", tmp_path / "t.jsonl", "--quiet"
        ).code
        == 0
    )
    with (tmp_path / "t.jsonl").open("a") as file:
        file.write('{"id": 1}\n')
    words = ("export", tmp_path / "t.jsonl", "--format", "messages")
    refused = potstill(*words)
    assert refused.code == 2 and "line 5" in refused.err
    done = potstill(*words, "--skip-bad")
    assert done.code == 0 and len(done.out.splitlines()) == 4
    assert "Bad rows left out: 1 of" in done.err
