"""Methods with stages that no scripted student can show: whole runs on tiny checkpoints, run again and resumed."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from tiny_sums import write_sums

from potstill.cli import main

TEACHER = [
    {"pattern": "The reasoning is good if", "answers": ["Verdict: right"]},
    *(
        {"pattern": f"What is {n} ", "answers": [f"\\boxed{{{n + 2}}}", f"\\boxed{{{n}}}"]}
        for n in range(4)
    ),
]
SHORT = ("rollouts.num_generations=4", "rollouts.max_new_tokens=12")
# Its stages' labels, the roles that tiny checkpoints play, and what makes it small.
METHODS = {
    "mentor_kd": (("mentor", "student"), ("mentor", "student"), ("n=1", "max_new_tokens=8")),
    "ted": (("filters", "student"), ("teacher", "student"), ()),
    "born_again": (("generation-0", "generation-1"), ("student",), ("generations=1",)),
    "cell_o1": (("cold-start", "rewards"), ("student",), ("n=2", *SHORT)),
    "fin_r1": (("sft", "rewards"), ("student",), SHORT),
    "deepseek_r1": (
        ("cold-start", "rewards", "rejection-sampling", "second-rewards"),
        ("student",),
        ("n=4", "max_new_tokens=12", *SHORT),
    ),
    "phi4_mini_reasoning": (
        ("mid-training", "fine-tuning", "preference", "rewards"),
        ("student",),
        ("n=2", *SHORT),
    ),
    "acereason": (("math-12", "math-14"), ("student",), ("lengths=[12, 14]", *SHORT)),
    "autothink": (
        ("stabilize", "reinforce", "prune"),
        ("student",),
        ("lengths=[12, 13, 14]", *SHORT),
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with tiny checkpoints, four sums, and a scripted teacher of them."""
    folder = write_sums(tmp_path_factory.mktemp("stages"))
    (folder / "teacher.json").write_text(json.dumps(TEACHER))
    return folder


def run(name, tiny, out):
    _, checkpoints, values = METHODS[name]
    sets = [*values, "training.max_steps=2", "training.batch_size=2", "training.lr=1e-3"]
    command = ["run", name, "--problems", str(tiny / "sums.jsonl"), "--kind", "number"]
    for role in checkpoints:
        command += ["--role", f"{role}=transformers:{tiny / role}"]
    if "teacher" not in checkpoints and name not in ("born_again", "acereason", "autothink"):
        command += ["--role", f"teacher=scripted:{tiny / 'teacher.json'}"]
    for setting in sets:
        command += ["--set", setting]
    assert main([*command, "--threads", "1", "--quiet", "--out", str(out)]) == 0
    students = {}
    for folder in (out / "students").iterdir():
        students[folder.name] = (folder / "model.safetensors").read_bytes()
    return students


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_its_stages_and_resumed_ends_in_the_same_students(name, tiny, tmp_path):
    stages, checkpoints, _ = METHODS[name]
    students = run(name, tiny, tmp_path / "run")
    assert len(students) == len(stages)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    labels = {key.rpartition("/")[2] for key in results["training"]}
    assert len(stages) == 1 or labels >= set(stages), labels
    if name != "ted":  # its filters learn beside a student that stays as it is
        start = (tiny / checkpoints[-1] / "model.safetensors").read_bytes()
        assert any(weights != start for weights in students.values())

    # Without the student of one stage, as if it had been killed there, the run ends in the same ones.
    shutil.rmtree(tmp_path / "run" / "students" / min(students))
    assert run(name, tiny, tmp_path / "run") == students
