"""The main job on recorded models in GSM8K's layout: funnel as a plain recomputation's, exports, a trained student."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main
from potstill.evaluation.results import load

FIXTURE = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"
MODEL = "175b_verification"
LABELLED = {
    "6b_finetuning": 286,
    "6b_verification": 515,
    "175b_finetuning": 458,
    "175b_verification": 742,
}


def plain_right(row: dict, model: str) -> bool:
    """What a reader would call right: the number after the last "A:" equals the reference's."""
    ends = [
        re.findall(r"A:\s*\$?(-?[\d,]*\.?\d+)", text)
        for text in (row["ground_truth"], row[model]["solution"])
    ]
    gold, found = ([float(n.replace(",", "")) for n in numbers[-1:]] for numbers in ends)
    return bool(found) and gold == found


def run(method: str, data: Path, folder: Path, student: Path, *more: str) -> int:
    writer = "--sampler" if method == "rft" else "--teacher"
    spec = f"recorded:{data}?model={MODEL}"
    training = ["--set", "training.max_steps=2", "--set", "training.max_dropped_share=1.0"]
    models = [writer, spec, "--student", f"transformers:{student}"]
    return main(
        [
            "run",
            method,
            "--problems",
            str(data),
            *models,
            *training,
            "--out",
            str(folder),
            "--quiet",
            *more,
        ]
    )


def funnel(folder: Path, arm: str) -> list[tuple[int, int]]:
    return [
        (s.taken, s.returned)
        for s in load(folder / "results.json").funnels[arm].steps
        if s.operator == "keep"
    ]


@pytest.mark.parametrize("method", ["sft", pytest.param("rft", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_fixture_funnel_export_and_training(method, tmp_path, tiny_checkpoint, capsys):
    data = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    assert run(method, FIXTURE, tmp_path / "run", tiny_checkpoint, "--set", "n=1") == 0
    right = sum(plain_right(row, MODEL) for row in data)
    assert funnel(tmp_path / "run", method) == [(len(data), right)]
    assert load(tmp_path / "run" / "results.json").training[method]["steps"] == 2
    for layout, key in (("trl", "prompt"), ("sharegpt", "conversations")):
        file = tmp_path / f"{layout}.jsonl"
        assert (
            main(
                [
                    "export",
                    str(tmp_path / "run"),
                    "--arm",
                    method,
                    "--format",
                    layout,
                    "--out",
                    str(file),
                ]
            )
            == 0
        )
        exported = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(exported) == right and all(key in row for row in exported)


def test_orion_says_that_a_recording_cannot_be_trained(tmp_path, tiny_checkpoint, capsys):
    spec = f"recorded:{FIXTURE}?model={MODEL}"
    arguments = [
        "run",
        "orion",
        "--problems",
        str(FIXTURE),
        "--teacher",
        spec,
        "--student",
        spec,
        "--set",
        "n=1",
    ]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert (
        "arm orion: the student recorded:" in message and "--student transformers:PATH" in message
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "rft"])
def test_real_funnel(method, tmp_path, tiny_checkpoint, shared_data):
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    data = [json.loads(line) for line in file.read_text().splitlines()]
    assert {name: sum(row[name]["is_correct"] for row in data) for name in LABELLED} == LABELLED
    assert run(method, file, tmp_path / "run", tiny_checkpoint, "--set", "n=1") == 0
    assert funnel(tmp_path / "run", method) == [
        (len(data), sum(plain_right(row, MODEL) for row in data))
    ]
    assert funnel(tmp_path / "run", method) == [(1319, LABELLED[MODEL])]
