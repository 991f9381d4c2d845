"""Training in several processes: the same student as in one; what is only done in one is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs, rows, stored  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny import tiny_checkpoint as make_checkpoint  # noqa: E402

from potstill.errors import StageError  # noqa: E402
from potstill.training import processes  # noqa: E402
from potstill.training.loop import Loop  # noqa: E402
from potstill.training.settings import Lora, Training  # noqa: E402
from potstill.training.supervised import STEPS, fit  # noqa: E402
from potstill.training.task import Task  # noqa: E402

COUNT = 5  # micro-batches of 3 and 2, or of 4 and 1: the last has a row for one process only
UNEVEN = Training(max_steps=4, batch_rows=4, accumulate=2, lr=1e-3, scheduler="constant", warmup=0, save_every=2)
FEW = Training(max_steps=5, batch_rows=4, lr=1e-3, sort=False, clip=0.0, save_every=0)
CASES = {
    "likelihood": (UNEVEN, "likelihood", {}),
    "steps without a row": (FEW, "likelihood", {}),
    "redi": (UNEVEN, "redi", {"alpha": 0.8}),
    "dpo": (FEW, "dpo", {}),
    "lora": (Training(max_steps=3, batch_rows=4, lr=1e-3, lora=Lora(r=4), gradient_checkpointing=True), "redi", {}),
}
HERE = Path(__file__).parent


def trained(name, start, out):
    """The report, and the gradients' norms: AdamW's steps are the same for gradients of another size."""
    settings, objective, constants = CASES[name]
    given = rows(COUNT) if objective == "likelihood" else pairs(COUNT)
    norms, plain = [], Loop._get_grad_norm

    def noted(loop, model, grad_norm=None):
        norms.append(float(grad_norm or 0.0))
        return plain(loop, model, grad_norm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_get_grad_norm", noted)
        return fit(given, start, out, settings, task=Task(objective, constants)), norms


def several(script, *arguments, count=2):
    """A script in several processes, on the CPU."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), script]
    found = os.pathsep.join(filter(None, (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*run, *map(str, arguments)], check=False, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_two_processes_make_the_student_that_one_makes(tmp_path):
    start = make_checkpoint(tmp_path / "start")
    ran = several(__file__, start, tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    began = load_file(start / "model.safetensors")
    for name in CASES:
        one, two = tmp_path / name / "one", tmp_path / name / "two"
        alone, norms = trained(name, start, one)
        said = [json.loads((tmp_path / name / f"said-{rank}").read_text()) for rank in range(2)]
        assert said[0] == said[1]
        assert said[0]["counted"] == alone.counted and said[0]["tokens"] == alone.tokens
        assert said[0]["losses"] == pytest.approx(alone.losses, abs=1e-5)
        assert said[0]["norms"] == pytest.approx(norms, rel=1e-4)
        a, b = (load_file(folder / "model.safetensors") for folder in (one, two))
        assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-5, name
        assert max(float((a[key] - began[key]).abs().max()) for key in a) > 1e-3, name
        assert len((two / STEPS).read_text().splitlines()) == alone.steps
        assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.iterdir())


def test_every_row_is_one_process_share():
    batches = [[4, 1, 7], [2], [5, 3]]
    found = [processes.shares(batches, rank, 2) for rank in range(2)]
    assert found == [[[4, 7], [2], [5]], [[1], [2], [3]]]
    assert [[processes.idle(batch, rank) for batch in batches] for rank in range(2)] == [
        [False] * 3,
        [False, True, False],
    ]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task(rollout=0.5), "rollout"),
        (Task(replay=4, rollout=0.5), "replay, rollout"),
        (Task(held=2), "held"),
        (Task("forward_kl", teacher=Path("teacher")), "teacher"),
        (Task("kto"), "labels, mismatched"),
    ],
    ids=str,
)
def test_what_is_done_in_one_process_is_refused_in_two(task, said):
    with pytest.raises(StageError) as error:
        processes.check(task, 2)
    assert error.value.found.endswith(f"comes with {said}")
    processes.check(task, 1)


def test_rows_pairs_and_kept_entries_are_not_refused(tmp_path):
    for task in (Task(), Task("redi"), Task("dpo"), Task("forward_kl", kept=stored(tmp_path))):
        processes.check(task, 2)


if __name__ == "__main__":
    start, folder = map(Path, sys.argv[1:])
    for name in CASES:
        done, norms = trained(name, start, folder / name / "two")
        told = {
            "losses": done.losses,
            "counted": done.counted,
            "tokens": done.tokens,
            "seconds": done.seconds,
            "norms": norms,
        }
        (folder / name / f"said-{processes.rank()}").write_text(json.dumps(told))
