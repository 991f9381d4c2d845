"""Each shipped recipe trains for one step, LoRA included, on a tiny random model of its own architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from tiny import tiny_checkpoint

from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel
from potstill.runs import experiment
from potstill.runs.experiment import execute
from potstill.runs.recipe import from_file
from potstill.store.store import Store

RECIPES = Path(__file__).parents[2] / "recipes"
PROBLEMS = [
    ("What is 17 plus 25?", "42"),
    ("What is 9 times 8?", "72"),
    ("What is 60 minus 4?", "56"),
]
STEPS = " ".join(f"Step {i} is to add the next digit." for i in range(8))


def hesitant(request: Request) -> str:
    """Wrong on its own, right with a reference before it."""
    text = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
    gold = next(answer for question, answer in PROBLEMS if question in text)
    return f"{STEPS} So \\boxed{{{gold if 'Reference solution:' in text else int(gold) + 1}}}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arch"), [("orion-qwen2.5-7b", "qwen2"), ("orion-qwen3-0.6b", "qwen3")]
)
def test_a_recipe_trains_one_step(name, arch, tmp_path, monkeypatch):
    checkpoint = tiny_checkpoint(tmp_path / "model", arch)
    recorded = tmp_path / "recorded.jsonl"
    rows = [
        {"question": q, "answer": a, "completion": f"{STEPS} It is \\boxed{{{a}}}"}
        for q, a in PROBLEMS
    ]
    recorded.write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = experiment.load_model
    student = ScriptedModel(hesitant, weights=checkpoint)
    monkeypatch.setattr(
        experiment,
        "load_model",
        lambda spec, **more: student if "Qwen" in spec else real(spec, **more),
    )
    sets = [
        f"roles.teacher=recorded:{recorded}",
        f"problems={recorded}",
        "evaluate.problems=''",
        "training.max_steps=1",
    ]
    recipe = from_file(RECIPES / f"{name}.yaml", sets)

    results = execute(recipe, tmp_path / "run", threads=1)

    report = results.training["orion"]
    assert (report["steps"], report["rows"], report["skipped"]) == (1, len(PROBLEMS), {})
    with Store.open(tmp_path / "run", readonly=True) as store:
        [trained] = store.students.all()
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["model_type"] == arch
    assert not list(trained.folder.glob("adapter*")), (
        "the adapter is merged into a plain checkpoint"
    )
    assert trained.settings["lora"]["r"] == 16
