"""What a hostile newcomer tried: odd values, odd paths, half characters; no traceback, and no folder lost to a typo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
MEASURE = ["evaluate", "--model", "scripted:teacher.json", "--problems", "train.jsonl", "--quiet"]
TRAIN = ["train", "--rows", "rows.jsonl", "--student", "transformers:tiny", "--quiet"]

BEFORE = {  # refused before a folder is made
    "temperature below 0": (
        [*RUN, "--set", "evaluate.sampling.temperature=-1"],
        ["temperature=-1.0 (0 or more)"],
    ),
    "no evaluation": ([*RUN, "--set", "evaluate.n=0"], ["n=0", "n is at least 1"]),
    "seed of minus one": ([*RUN, "--set", "seed=-1"], ["seed: -1 is below 0"]),
    "overlap of minus one": ([*RUN, "--set", "overlap_n=-1"], ["overlap_n: -1 is below 0"]),
    "batch of minus one": (
        [*RUN, "--set", "training.batch_size=-1", "--set", "training.batch_tokens=9"],
        ["batch_size is negative"],
    ),
    "a million threads": ([*RUN, "--threads", "1000000"], ["more than 1024 threads"]),
    "a million training threads": (
        [*RUN, "--set", "training.threads=1000000"],
        ["more than 1024 threads"],
    ),
    "temperature that is no number": ([*MEASURE, "--temperature", "nan"], ["temperature=nan"]),
    "too much top-p": ([*MEASURE, "--top-p", "7"], ["top_p=7.0 (above 0, at most 1)"]),
    "a billion draws": ([*MEASURE, "--n", "9" * 11], ["n=99999999999", "at most 1000000 draws"]),
    "a prompt without the question": (
        [*MEASURE, "--prompt", "{question hi"],
        ["does not show the question"],
    ),
    "an evaluation over a folder": ([*MEASURE, "--out", "nested"], ["--out nested is a folder"]),
    "an evaluation over its answers": ([*MEASURE, "--out", "x.cache"], ["fix:       --out x.json"]),
    "a setting that is no YAML": (
        [*TRAIN, "--out", "o", "--set", "lora=[1,"],
        ["lora: expected a mapping, found '[1,'"],
    ),
    "a setting inside a value": (
        [*TRAIN, "--out", "o", "--set", "lr=1", "--set", "lr.x=2"],
        ["lr is given as a value"],
    ),
    "a student over a file": (
        [*TRAIN, "--out", "train.jsonl"],
        ["train.jsonl", "can't be read or written"],
    ),
    "half a character in a question": (
        ["verify", "--problems", "half.jsonl", "--quiet"],
        ["half.jsonl, line 1: half a character ('\\ud800')"],
    ),
    "half a character in a recording": (
        ["evaluate", "--model", "recorded:half.jsonl", "--problems", "train.jsonl"],
        ["half.jsonl, line 1: half a character ('\\ud800')"],
    ),
}


@pytest.mark.parametrize("name", BEFORE)
def test_refused_before_anything_is_begun(name: str, here: Path, potstill) -> None:
    (here / "nested").mkdir()
    (here / "rows.jsonl").write_text(
        json.dumps({"prompt": "Say hello.", "completion": "Hello."}) + "\n"
    )
    row = {"question": "Add \ud800 and 3.", "answer": "5", "completion": "\\boxed{5}"}
    (here / "half.jsonl").write_text(json.dumps(row) + "\n")
    words, said = BEFORE[name]
    failed = potstill(*words)
    assert failed.code == 2, failed
    assert failed.out == ""
    for part in said:
        assert part in failed.err
    assert not (here / "runs").exists()


def test_whole_characters_outside_the_first_plane_are_read(here: Path, potstill) -> None:
    (here / "fox.jsonl").write_text(
        json.dumps({"question": "Two \U0001f98a and one?", "answer": "3"}) + "\n"
    )
    assert "\\ud83e" in (here / "fox.jsonl").read_text()
    assert potstill("verify", "--problems", "fox.jsonl", "--quiet").code == 0


EXPORT = ["export", "--arm", "sft", "--format", "trl"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "place"),
    [
        (EXPORT, "train.jsonl/rows.jsonl"),
        (EXPORT, "train.jsonl/folder"),
        *(
            (words, place)
            for words in (["cache", "export"], ["report"])
            for place in ("train.jsonl/rows.jsonl", "nested")
        ),
    ],
)
def test_an_output_that_can_not_be_written(
    words: list[str], place: str, finished: Path, here: Path, potstill
) -> None:
    (here / "nested").mkdir()
    failed = potstill(*words, finished, "--out", place)
    assert failed.code == 2, failed
    assert "can't be read or written" in failed.err and "fix:" in failed.err
    assert not list((here / "nested").iterdir())


@pytest.mark.slow
def test_a_mistaken_setting_does_not_keep_the_folder(here: Path, potstill) -> None:
    failed = potstill(*RUN, "--quiet", "--set", "n=0")
    assert failed.code == 2
    assert "n of at least 1" in failed.err
    assert "what was generated is kept" not in failed.err, "nothing was"
    done = ["--set", "n=2", "--set", "training.max_steps=1", "--threads", "1"]
    assert potstill(*RUN, "--quiet", *done).code == 0
    failed = potstill(*RUN, "--quiet", "--set", "n=3")
    assert failed.code == 2
    assert "arms.sft.values.n: 2 found, 3 asked" in failed.err
