"""ELAD end to end on a pool without gold answers: rows, report, and what it says of rows that nobody could judge."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main
from potstill.world import story


@pytest.mark.slow
@pytest.mark.long
def test_a_pool_without_gold_answers_is_annotated_trained_on_and_reported(tmp_path):
    pool = tmp_path / "pool.jsonl"
    with pool.open("w", encoding="utf-8") as file:
        for problem in story.problems("story-easy", size=8, split="pool"):
            file.write(json.dumps({"id": problem.id, "question": problem.question}) + "\n")
    out = tmp_path / "run"
    words = ["run", "elad", "--problems", pool, "--kind", "story", "--map", "answer=", "--out", out]
    words += ["--teacher", "world:oracle", "--student", "world:student", "--quiet"]
    words += ["--evaluate", "world:story-easy?split=test&size=2", "--eval-n", 1]
    for setting in ("n=2", "settings.rounds=1", "training.max_steps=1"):
        words += ["--set", setting]
    assert main([str(word) for word in words]) == 0

    lines = (out / "rows" / "elad.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 4 and {row["saw_gold"] for row in rows} == {False}
    # The step verifier needs no gold answer: the oracle's rows are right in every step.
    assert {row["scores"]["steps"] for row in rows} == {1.0}
    sections = {
        s["title"]: s for s in json.loads((out / "results.json").read_text())["sections"]["elad"]
    }
    shares = {share["label"]: share for share in sections["Annotations"]["shares"]}
    unjudged = shares["rows that nobody could judge: no gold answer"]
    assert (unjudged["part"], unjudged["whole"]) == (4, 4)
    assert "rows with the right answer" not in shares
    assert "nobody could judge" in (out / "report.html").read_text("utf-8")
