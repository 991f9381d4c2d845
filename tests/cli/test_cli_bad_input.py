"""Bad input: each says what was found, what was expected and what mends it, with exit code 2 and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import serving

MODELS = ["--teacher", "scripted:teacher.json", "--student", "transformers:tiny"]
EVALUATE = ["evaluate", "--problems", "train.jsonl"]


def run(method: str, *words: str) -> list[str]:
    return ["run", method, "--quiet", *words]


def write(path: Path, *rows: object) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


CASES = {
    "missing problem file": (
        run("sft", "--problems", "trian.jsonl", *MODELS),
        ["no file trian.jsonl", "train.jsonl"],
    ),
    "empty problem file": (
        run("sft", "--problems", "empty.jsonl", *MODELS),
        ["empty.jsonl is empty", "at least one"],
    ),
    "unknown problem source": (
        run("sft", "--problems", "wrld:story", *MODELS),
        ["'wrld' are unknown", "world:…"],
    ),
    "no columns": (
        run("sft", "--problems", "odd.jsonl", *MODELS),
        ["no column for the question", "--map question="],
    ),
    "unknown method": (
        run("orin", "--problems", "train.jsonl", *MODELS),
        ["unknown method 'orin' (nearest: orion)"],
    ),
    "unknown parameter": (
        run(
            "sft", "--problems", "train.jsonl", *MODELS, "--set", "m=3", "--set", "training.lrate=1"
        ),
        [
            "2 mistake(s)",
            "unknown parameter 'm'",
            "training.lrate: unknown setting 'lrate'",
            "potstill methods sft",
        ],
    ),
    "wrong type": (
        run("sft", "--problems", "train.jsonl", *MODELS, "--set", "n=four"),
        ["--set n=four: values.n: expected a whole number, found 'four'"],
    ),
    "missing role": (
        run("sft", "--problems", "train.jsonl", *MODELS[:2]),
        ["role 'student' of sft has no model (--student"],
    ),
    "no equals sign": (
        run("sft", "--problems", "train.jsonl", *MODELS, "--role", "x"),
        ["--role x", "name=value"],
    ),
    "no recipe": (["run", "nothing.yaml"], ["no recipe at nothing.yaml"]),
    "unknown model kind": (
        [*EVALUATE, "--model", "vlm:tiny"],
        ["unknown model kind", "transformers", "world"],
    ),
    "unknown world model": (
        [*EVALUATE, "--model", "world:techer"],
        ["no world model", "nearest:   teacher"],
    ),
    "no checkpoint there": (
        [*EVALUATE, "--model", "transformers:tny"],
        ["no checkpoint folder tny", "config.json"],
    ),
    "no checkpoint": ([*EVALUATE, "--model", "transformers:."], ["has no config.json", "nested"]),
    "no scripted file": (
        [*EVALUATE, "--model", "scripted:no.json"],
        ["no file no.json", "teacher.json"],
    ),
    "no report": (["report", "nowhere"], ["no results at nowhere"]),
    "no rows to train": (
        ["train", "--rows", "train.jsonl", "--student", "transformers:tiny", "--out", "o"],
        ["train.jsonl, line 1: no completion", "prompt and completion"],
    ),
    "unknown training setting": (
        [
            "train",
            "--rows",
            "rows.jsonl",
            "--student",
            "transformers:tiny",
            "--out",
            "o",
            "--set",
            "lrate=1",
        ],
        ["unknown setting 'lrate'", "available: ", " learning_rate (lr), "],
    ),
    "a student without weights": (
        ["train", "--rows", "rows.jsonl", "--student", "scripted:teacher.json", "--out", "o"],
        ["has no weights to train", "transformers:PATH"],
    ),
    "answers to other problems": (
        ["verify", "--problems", "train.jsonl", "--answers", "rows.jsonl", "--quiet"],
        ["none of 1 rows of rows.jsonl answers one of the 3 problems", "--map id=COLUMN"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_says_what_is_wrong(name: str, here: Path, potstill) -> None:
    (here / "empty.jsonl").write_text("")
    (here / "nested").mkdir()
    (here / "nested" / "config.json").write_text("{}")
    write(here / "odd.jsonl", {"text": "2 and 3", "out": "5"})
    write(here / "rows.jsonl", {"prompt": "Say hello.", "completion": "Hello."})
    words, said = CASES[name]
    failed = potstill(*words)
    assert failed.code == 2, failed
    assert failed.out == ""
    assert failed.err.startswith("potstill: ")
    for part in said:
        assert part in failed.err
    assert not (here / "runs").exists(), "nothing was begun"


def test_gold_answers_that_fail_their_verifier(here: Path, potstill) -> None:
    write(
        here / "gold.jsonl",
        {"question": "Add 2 and 3.", "answer": "five apples or six"},
        {"question": "b", "answer": "2"},
    )
    words = ["--problems", "gold.jsonl", "--kind", "number"]
    failed = potstill(*run("sft", *words, *MODELS))
    assert failed.code == 2
    assert "1 of 2 gold answers in gold.jsonl fail their own verifier" in failed.err
    assert "--kind" in failed.err and "--map answer=COLUMN" in failed.err
    found = potstill("verify", *words, "--json", "--quiet")
    assert found.code == 2
    assert (found.json["gold"]["checked"], found.json["gold"]["right"]) == (2, 1)
    assert found.json["gold"]["failing"][0]["gold"] == "five apples or six"
    assert potstill("verify", *words, "--quiet").code == 2


def test_zero_rows_name_their_reasons(here: Path, potstill) -> None:
    (here / "wrong.json").write_text(json.dumps(["It is \\boxed{1}."]))
    words = run("sft", "--problems", "train.jsonl", "--teacher", "scripted:wrong.json", *MODELS[2:])
    for _ in range(2):  # the second is the first again: what was generated is kept
        failed = potstill(*words)
        assert failed.code == 2
        assert (
            "sft yielded a stage without rows; dropped before it: keep right: 3 (wrong)"
            in failed.err
        )
        assert "what was generated is kept in runs/sft" in failed.err
    assert potstill("cache", "stats", "runs/sft", "--json").json["completions"] == 3


def test_answers_that_nobody_can_read(here: Path, potstill) -> None:
    (here / "mute.json").write_text(json.dumps(["I would rather not say."]))
    words = ["--problems", "train.jsonl", "--student", "scripted:mute.json", "--quiet"]
    failed = potstill("run", "rft", *words)
    assert failed.code == 2
    assert "rft: none of 12 answers is in a form that can be read" in failed.err
    assert "\\boxed{18}" in failed.err and "--prompt" in failed.err
    failed = potstill("run", "orion", *words, "--teacher", "scripted:teacher.json", "--set", "n=2")
    assert failed.code == 2
    assert "orion: none of 6 answers is in a form that can be read" in failed.err
    told = potstill(
        "evaluate", "--model", "scripted:mute.json", "--problems", "train.jsonl", "--quiet"
    )
    assert told.code == 0
    assert (
        "scripted:mute.json: 100 % of the answers are in no form that the verifier reads"
        in told.out
    )


def test_a_student_without_errors(here: Path, potstill) -> None:
    right = [
        {"pattern": q, "answers": [f"It is \\boxed{{{a}}}."]}
        for q, a in (("2 and 3", 5), ("4 and 5", 9), ("", 13))
    ]
    (here / "right.json").write_text(json.dumps(right))
    models = ["--teacher", "scripted:right.json", "--student", "scripted:right.json"]
    failed = potstill(*run("orion", "--problems", "train.jsonl", *models, "--set", "n=2"))
    assert failed.code == 2
    assert "orion learns from errors, and none of 6 attempts is wrong (6 right)" in failed.err
    assert "--set arm=none" in failed.err


def test_problems_that_are_evaluation_problems_stop_the_run(here: Path, potstill) -> None:
    words = [
        "--problems",
        "train.jsonl",
        "--evaluate",
        "train.jsonl",
        "--teacher",
        "scripted:teacher.json",
    ]
    failed = potstill(*run("sft", *words, "--student", "scripted:teacher.json"))
    assert failed.code == 2
    assert (
        "3 training problems overlap the evaluation set" in failed.err
        and "--overlap drop" in failed.err
    )


def test_a_recorded_model_cannot_rewrite(here: Path, potstill) -> None:
    rows = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"
    (here / "wrong.json").write_text(json.dumps(["\\boxed{-1}"]))
    words = ["--problems", rows, "--teacher", f"recorded:{rows}?model=175b_verification"]
    words += ["--student", "scripted:wrong.json", "--set", "arm=teacher-refines"]
    failed = potstill("run", "orion", *words, "--set", "n=1", "--quiet")
    assert failed.code == 2
    assert "the recorded model has no completion for this prompt" in failed.err
    assert "use a model that writes for this role" in failed.err


def test_terminal_escapes_in_an_error_are_taken_out(here: Path, potstill) -> None:
    failed = potstill("evaluate", "--model", "\x1b[31mred:x", "--problems", "train.jsonl")
    assert failed.code == 2 and "\x1b" not in failed.err


def test_a_student_without_weights_is_refused_before_anything_is_asked(
    here: Path, potstill
) -> None:
    models = ["--teacher", "world:oracle", "--student", "world:oracle"]
    failed = potstill(*run("sft", "--problems", "world:story", *models, "--out", "run"))
    assert failed.code == 2
    assert (
        "the student world:oracle can't be what sft needs: Trainable" in failed.err
        and "world:student" in failed.err
    )
    assert not (here / "run" / "store.sqlite").exists()


def test_a_model_that_cant_go_on_is_refused_where_answers_are_to_be_continued(
    here: Path, potstill
) -> None:
    words = run(
        "sft",
        "--problems",
        "train.jsonl",
        "--student",
        "transformers:tiny",
        "--truncated",
        "continue",
    )
    with serving() as server:
        teacher = f"openai:m?url={server.url}"
        failed = potstill(*words, "--teacher", teacher, "--out", "run")
        assert failed.code == 2 and "the teacher openai:m" in failed.err
        assert (
            "can't go on with a text that was cut off" in failed.err and "?prefill=" in failed.err
        )
        assert not (here / "run" / "store.sqlite").exists() and not server.served
