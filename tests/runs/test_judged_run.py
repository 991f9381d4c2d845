"""A run whose answers a model judges: the role `judge` chooses the rows and measures, and is asked nothing twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.errors import ConfigError
from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel
from potstill.runs import experiment
from potstill.runs.recipe import from_data

QUESTIONS = {
    "Why is the sky blue?": "It scatters light.",
    "Why is grass green?": "Magic.",
    "Why rain?": "Clouds scatter.",
}


def rules(path: Path, script: object) -> str:
    path.write_text(json.dumps(script))
    return f"scripted:{path}"


@pytest.fixture
def asked(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The judge's prompts, in order; `pupil:` is a student with the weights of a tiny checkpoint."""
    seen: list[str] = []

    def verdict(request: Request) -> str:
        seen.append(request.prompt[-1].content)  # type: ignore[union-attr]
        answer = seen[-1].split("answer begins\n")[-1].split("\n[")[0]
        return f"Verdict: {'right' if 'catter' in answer else 'wrong'}"

    made = {
        "pupil:": ScriptedModel(["So it scatters."], weights=tiny_checkpoint),
        "judge:": ScriptedModel(verdict, name="judge"),
    }
    real = experiment.load_model
    monkeypatch.setattr(
        experiment, "load_model", lambda spec, **more: made.get(spec) or real(spec, **more)
    )
    return seen


def recipe(tmp_path: Path, **roles: str) -> Any:
    rows = [{"id": f"p{i}", "question": q, "answer": "scattering"} for i, q in enumerate(QUESTIONS)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    (tmp_path / "t.jsonl").write_text(
        json.dumps({"id": "t", "question": "Why fog?", "answer": "scattering"}) + "\n"
    )
    data = {
        "method": "sft",
        "roles": {
            "teacher": rules(tmp_path / "teacher.json", QUESTIONS),
            "student": "pupil:",
            **roles,
        },
        "problems": str(tmp_path / "p.jsonl"),
        "kind": "judge",
        "evaluate": {"problems": str(tmp_path / "t.jsonl"), "n": 1},
        "training": {"epochs": 1},
    }
    return from_data(data)


@pytest.mark.slow
def test_the_judge_chooses_the_rows_and_measures(tmp_path: Path, asked: list[str]) -> None:
    out = tmp_path / "out"
    experiment.execute(recipe(tmp_path, judge="judge:"), out, threads=1)
    rows = [json.loads(line) for line in (out / "rows" / "sft.jsonl").read_text().splitlines()]
    assert sorted(row["problem_id"] for row in rows) == ["p0", "p2"]
    assert len(asked) == len(set(asked)) > 3, (
        "the teacher's three answers and those that were measured"
    )
    before = list(asked)
    (out / "results.json").unlink()
    experiment.execute(recipe(tmp_path, judge="judge:"), out, threads=1)
    assert asked == before, "the replies are in the store"


def test_without_a_judge_the_run_is_refused_before_the_first_call(
    tmp_path: Path, asked: Sequence[str]
) -> None:
    with pytest.raises(
        ConfigError, match="4 problems are to be judged by a model, and there is none"
    ):
        experiment.execute(recipe(tmp_path), tmp_path / "out", threads=1)
    assert asked == []
