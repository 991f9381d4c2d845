"""Training in several processes: the same student as in one, whatever it learns by."""

import dataclasses
import json
import os
import random
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import child
import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from accelerate import DistributedType, PartialState
from learning_rows import length, pairs, rows, stored
from other_tokens import other_checkpoint
from rolling import traces
from safetensors.torch import load_file
from tiny import tiny_checkpoint as make_checkpoint
from torch.distributed.distributed_c10d import BackendConfig

from potstill import objectives
from potstill.errors import StageError
from potstill.training import distributed, node_checks
from potstill.training.dataset import batching
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.fit import fit
from potstill.training.objective_config import ObjectiveConfig, trainable
from potstill.training.output_dir import STEPS_FILE
from potstill.training.rollout import rewards
from potstill.training.rollout_log import KEPT_ROLLOUTS, ROLLOUTS_FILE, read_rollouts
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.trainer import StudentTrainer

COUNT = 5  # micro-batches of 3 and 2, or of 4 and 1: the last has a row for one process only
UNEVEN = TrainingSettings(
    max_steps=4,
    batch_size=4,
    gradient_accumulation_steps=2,
    learning_rate=5e-4,
    lr_scheduler_type="constant",
    warmup_steps=0,
    save_steps=2,
)
FEW = TrainingSettings(
    max_steps=5,
    batch_size=4,
    learning_rate=5e-4,
    group_by_length=False,
    max_grad_norm=0.0,
    save_steps=0,
)
LORA = TrainingSettings(
    max_steps=3,
    batch_size=4,
    learning_rate=1e-3,
    lora=LoraSettings(r=4),
    gradient_checkpointing=True,
)
KINDS = {
    objectives.entry(name): name for name in trainable() if name not in ("rkd", "ted_filters")
}  # one of each that is given other things
# Starts that are not `start`: a student that writes the rows' texts, one whose head is no copy of its embeddings.
STARTS = {
    "rollouts, aligned": "writer",
    "kto": "writer",
    "fsdp, kto": "writer",
    "fsdp, a head of its own": "untied",
}
KILLED = ("projections", "buffer", "fsdp killed")
ON_TWO_NODES = ("buffer",)
HERE = Path(__file__).parent


def evenly(problem, text):
    """A reward that often is the same for a whole group."""
    return float(len(text) % 3 == 0)


def cases(folder):
    """Settings and tasks by name; teachers and stored entries lie in the folder."""
    same, other = folder / "teacher", folder / "other"
    made = {
        name: (FEW if at % 2 else UNEVEN, _task(name, same, other))
        for at, name in enumerate(KINDS.values())
    }
    sampled = ObjectiveConfig(
        "opd", teacher=same, on_policy_fraction=1, num_generations=2, max_new_tokens=8
    )
    priced = ObjectiveConfig(
        "grpo",
        {"beta": 0.1},
        on_policy_fraction=1,
        num_generations=3,
        max_new_tokens=8,
        reward=length,
    )
    mixed = ObjectiveConfig("jsd", teacher=same, on_policy_fraction=0.5, max_new_tokens=6)
    return made | {
        "kto": (FEW, ObjectiveConfig("kto", reference=folder / "start")),  # else its kl is 0
        "teacher_cache": (
            FEW,
            ObjectiveConfig("forward_kl", teacher_cache=folder / "teacher_cache"),
        ),
        "lora": (LORA, ObjectiveConfig("redi")),
        "packed": (
            dataclasses.replace(FEW, packing=True),
            ObjectiveConfig("reverse_kl", teacher=same),
        ),
        "a reference": (FEW, ObjectiveConfig("dpo", reference=same)),
        "the mean of sequences": (UNEVEN, ObjectiveConfig(loss_reduction="sequence")),
        "rollouts": (FEW, dataclasses.replace(sampled, mask_truncated_completions=True)),
        "rollouts of half the steps": (UNEVEN, mixed),
        "rollouts, aligned": (
            UNEVEN,
            ObjectiveConfig("uld", teacher=other, on_policy_fraction=1, max_new_tokens=10),
        ),
        "rollouts, minillm": (
            UNEVEN,
            ObjectiveConfig(
                "minillm", {"mixed": 0.2}, teacher=same, on_policy_fraction=1, max_new_tokens=6
            ),
        ),
        "rewards and a reference": (FEW, priced),
        "num_iterations": (FEW, dataclasses.replace(priced, num_iterations=2)),
        "rewards, nover": (
            FEW,
            dataclasses.replace(priced, teacher=same, reward={"nover": 1.0, "teacher": 9.0}),
        ),
        "pools, its own average": (
            UNEVEN,
            ObjectiveConfig(
                "jsd",
                teacher_model_kind="ema",
                teacher_prompt_template="{question} It is {answer}. {prompt}",
                difficulty_pools={"hard": (0.5, 0.2), "easy": (1.0, 1.0)},
                recheck_steps=2,
                on_policy_fraction=1,
                max_new_tokens=6,
            ),
        ),
        "resampled": (
            FEW,
            dataclasses.replace(
                priced,
                reward=evenly,
                recheck_steps=2,
                max_resample_times=2,
                eval_steps=9,
            ),
        ),
        "skd": (
            FEW,
            dataclasses.replace(mixed, rollout_sampling="speculative", on_policy_fraction=1),
        ),
        "a buffer": (
            dataclasses.replace(UNEVEN, max_steps=12),
            dataclasses.replace(mixed, replay_buffer_size=4, eval_rows=1, eval_steps=2),
        ),
        "held out": (FEW, ObjectiveConfig(eval_rows=2, eval_steps=2, max_new_tokens=8)),
        "internalised": (
            FEW,
            ObjectiveConfig("implicit_cot", options={"per_epoch": 2.0, "smoothing": 0.5}),
        ),
    }


def endings(folder):
    """Those that are killed: they are longer, and something in each is random."""
    noisy = dataclasses.replace(
        FEW, max_steps=24, save_steps=3, lora=LoraSettings(r=4, lora_dropout=0.2)
    )
    buffer = ObjectiveConfig(
        "jsd",
        teacher=folder / "teacher",
        on_policy_fraction=0.5,
        replay_buffer_size=4,
        eval_rows=1,
        eval_steps=2,
        max_new_tokens=6,
    )
    return {
        "projections": (noisy, ObjectiveConfig("dskd", teacher=folder / "other")),
        "buffer": (dataclasses.replace(UNEVEN, max_steps=24, save_steps=3), buffer),
        "fsdp killed": (
            dataclasses.replace(UNEVEN, max_steps=24, save_steps=3),
            ObjectiveConfig("redi"),
        ),
    }


def sharded(folder):
    """Those whose weights are shared out too."""
    teacher = folder / "teacher"
    recomputed = dataclasses.replace(FEW, gradient_checkpointing=True)
    whole = cases(folder)
    return {
        "fsdp": (UNEVEN, ObjectiveConfig()),
        "fsdp, a head of its own": (UNEVEN, ObjectiveConfig("redi")),
        "fsdp, a reference": (FEW, ObjectiveConfig("dpo", reference=teacher)),
        "fsdp, recomputed": (recomputed, ObjectiveConfig("jsd", teacher=teacher)),
        "fsdp, packed": (
            dataclasses.replace(UNEVEN, packing=True),
            ObjectiveConfig("forward_kl", teacher_cache=folder / "teacher_cache"),
        ),
        "fsdp, kto": whole["kto"],
        "fsdp, rollouts": whole["rollouts"],
        "fsdp, rollouts, minillm": whole["rollouts, minillm"],
        "fsdp, rewards and a reference": whole["rewards and a reference"],
    }


def shard():
    """Have accelerate share out weights on a CPU, which it does on accelerators alone."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    plain = AcceleratorState.__init__

    def made(state, *args, fsdp_plugin=None, **more):
        plain(state, *args, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            state.fsdp_plugin = fsdp_plugin
            state.distributed_type = PartialState._shared_state["distributed_type"] = (
                DistributedType.FSDP
            )

    AcceleratorState.__init__ = made


def _task(name, same, other):
    needs = set(objectives.entry(name).needs)
    teacher = (
        other if needs & {"aligned", "own"} else same if needs & {"distribution", "logp"} else None
    )
    if "advantages" in needs:
        return ObjectiveConfig(
            name,
            teacher=teacher,
            on_policy_fraction=1,
            num_generations=2,
            max_new_tokens=6,
            reward=length,
        )
    return ObjectiveConfig(name, teacher=teacher, max_new_tokens=8)


def trained(name, folder, out):
    """The report, and the gradients' norms: AdamW's steps are the same for gradients of another size."""
    settings, config = (cases(folder) | sharded(folder) | endings(folder))[name]
    given = traces(COUNT) if config.shortens_rows else rows(COUNT)
    if {"pairs", "labels"} & set(config.needs) - {"advantages"}:
        given = pairs(COUNT)
    norms, plain = [], StudentTrainer._get_grad_norm

    def noted(loop, model, grad_norm=None):
        norms.append(float(grad_norm or 0.0))
        assert distributed.is_sharded(loop.model) is distributed.uses_fsdp()
        return plain(loop, model, grad_norm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentTrainer, "_get_grad_norm", noted)
        patch.setattr(rewards, "PROXY_UPDATE_STEPS", 2)  # NOVER's copy
        patch.setattr(rewards, "reasoning_before_answer", lambda text: text[: len(text) // 2])
        return fit(given, folder / STARTS.get(name, "start"), out, settings, config=config), norms


def several(*arguments):
    """The command line of something in two processes, and its environment."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    if any("fsdp" in str(word) for word in arguments):
        run = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--use_fsdp",
            "--fsdp_version=2",
            "--num_processes=2",
        ]
        run += ["--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP", "--main_process_port=0"]
    found = os.pathsep.join(
        filter(None, (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH")))
    )
    return [*run, *map(str, arguments)], {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}


def ran(*arguments):
    """What it has said, once it is done."""
    command, env = several(*arguments)
    return child.run(command, deadline=900, check=False, env=env)


@contextmanager
def two_nodes(folder, *arguments):
    """Two launchers, as on two machines, with a process each; what they say is in `node-0` and `node-1`."""
    _, env = several()
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    with ExitStack() as stack:
        launchers = []
        for node in range(2):
            nodes = ["--nnodes", "2", "--node-rank", node, "--rdzv-endpoint", address]
            run = [sys.executable, "-m", "torch.distributed.run", *nodes, "--nproc-per-node", "1"]
            noise = stack.enter_context((folder / f"node-{node}").open("w"))
            launchers.append(
                stack.enter_context(
                    child.started(
                        [*run, *arguments], deadline=900, env=env, stdout=noise, stderr=noise
                    )
                )
            )
        yield launchers


def killed(folder, name, out, step):
    """A training of this file, ended by SIGKILL at a moment after the checkpoint of that step.

    Of two machines one loses its process, and the other must notice it; else both processes are killed.
    """
    with ExitStack() as stack:
        if name in ON_TWO_NODES:
            ranks = [1]
            launchers = stack.enter_context(two_nodes(folder, __file__, folder, name, out))
        else:
            ranks = [0, 1]
            command, env = several(__file__, folder, name, out)
            noise = stack.enter_context((folder / "noise").open("w"))
            launchers = [
                stack.enter_context(
                    child.started(command, deadline=300, env=env, stdout=noise, stderr=noise)
                )
            ]
        complete = out / "training" / f"checkpoint-{step}" / "complete"
        while not complete.is_file() and launchers[0].poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.3))
        for rank in ranks:
            os.kill(int((folder / f"pid-{rank}").read_text()), signal.SIGKILL)
        if name in ON_TWO_NODES:
            assert all(launcher.wait() for launcher in launchers)
            assert "has lost its connection to the others" in (folder / "node-0").read_text()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Students, teachers, stored entries."""
    folder = tmp_path_factory.mktemp("processes")
    make_checkpoint(folder / "start")
    make_checkpoint(folder / "untied", tie_word_embeddings=False)
    other_checkpoint(folder / "other")
    stored(folder)  # by the teacher that it makes
    writing = TrainingSettings(
        num_train_epochs=40, batch_size=8, learning_rate=3e-3, warmup_steps=0
    )
    fit(
        rows(), folder / "start", folder / "writer", writing
    )  # else it writes no text that another could read
    return folder


@pytest.fixture(scope="module")
def two(models):
    """Every case trained in two processes: of two launchers, or with weights shared out."""
    with two_nodes(models, __file__, models, *cases(models)) as launchers:
        statuses = [launcher.wait() for launcher in launchers]
    assert statuses == [0, 0], (models / "node-0").read_text()[-3000:]
    done = ran(__file__, models, *sharded(models))
    assert done.returncode == 0, done.stderr[-3000:]
    return models


@pytest.mark.slow
@pytest.mark.xdist_group("two processes")  # one launch trains all
@pytest.mark.parametrize("name", [*cases(Path()), *sharded(Path())])
def test_two_processes_make_the_student_that_one_makes(two, name):
    one, both = two / name / "one", two / name / "two"
    alone, norms = trained(name, two, one)
    said = [json.loads((two / name / f"said-{rank}").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    assert said[0]["loss_tokens"] == alone.loss_tokens and said[0]["tokens"] == alone.tokens
    assert said[0]["losses"] == pytest.approx(alone.losses, abs=1e-5)
    assert said[0]["norms"] == pytest.approx(norms, rel=1e-4)
    steps = [
        [json.loads(line) for line in (folder / STEPS_FILE).read_text().splitlines()]
        for folder in (one, both)
    ]
    for at, (mine, theirs) in enumerate(zip(*steps, strict=True)):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"seconds", *OF_A_SHARE}:
            written = key.startswith("eval_") and "rows" not in key
            if at == 0 or not written:  # later a rounded weight may turn a token that is drawn
                assert theirs[key] == pytest.approx(mine[key], abs=1e-4, rel=1e-4), key
    a, b = (load_file(folder / "model.safetensors") for folder in (one, both))
    began = load_file(two / STARTS.get(name, "start") / "model.safetensors")
    assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-5
    assert max(float((a[key] - began[key]).abs().max()) for key in a) > 1e-4
    names = {path.name for path in one.iterdir()}
    if ROLLOUTS_FILE in names:
        written = [
            list(read_rollouts(folder / ROLLOUTS_FILE))[:KEPT_ROLLOUTS] for folder in (one, both)
        ]
        assert written[0] == written[1]
    assert {path.name for path in both.iterdir()} == names


# Computed at a few positions of each process's share.
OF_A_SHARE = (
    "entropy",
    "top_share",
    *(
        f"{text}_{what}"
        for text in ("own", "rows")
        for what in ("forward_kl", "reverse_kl", "overlap")
    ),
)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", KILLED)
def test_two_killed_processes_go_on_to_the_same_bits(models, tmp_path, name):
    """With what is random in a training, a buffer or projections in its checkpoints."""
    for out in (tmp_path / "whole", tmp_path / "killed"):
        if out.name == "killed":
            for step in sorted(random.sample(range(3, 18, 3), 2)):
                killed(models, name, out, step)
                assert not (out / "fit.json").exists(), "it ended before it was killed"
        done = ran(__file__, models, name, out)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, again = (tmp_path / part / "model.safetensors" for part in ("whole", "killed"))
    assert whole.read_bytes() == again.read_bytes()
    steps = [
        [
            {**json.loads(line), "seconds": 0}
            for line in (tmp_path / part / STEPS_FILE).read_text().splitlines()
        ]
        for part in ("whole", "killed")
    ]
    assert steps[0] == steps[1] and len(steps[0]) == 24


@pytest.mark.slow
@pytest.mark.long
def test_the_command_speaks_with_one_voice(models, tmp_path):
    """The table once, an error once; a run of models is not shared out."""
    lines = [json.dumps({"prompt": row.prompt, "completion": row.text}) for row in rows(COUNT)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    words = [
        "-m",
        "potstill",
        "train",
        "--rows",
        tmp_path / "rows.jsonl",
        "--student",
        f"{models / 'start'}",
    ]
    done = ran(*words, "--out", tmp_path / "out", "--set", "max_steps=2")
    assert done.returncode == 0 and done.stdout.count("loss_first_tenth") == 1, done.stderr[-3000:]
    assert done.stderr.count("training: 2 of 2") == 1
    again = ran(*words, "--out", tmp_path / "out", "--set", "max_steps=2")
    assert again.returncode == 0 and again.stdout.count("loss_first_tenth") == 1
    wrong = ran(
        *words,
        "--out",
        tmp_path / "wrong",
        "--objective",
        "rkd",
        "--teacher",
        f"{models / 'other'}",
    )
    assert (
        wrong.returncode != 0 and wrong.stderr.count("rkd compares the rows of a micro-batch") == 1
    )
    given = [
        "--problems",
        tmp_path / "rows.jsonl",
        "--student",
        "world:student",
        "--teacher",
        "world:teacher",
    ]
    run = ran("-m", "potstill", "run", "sft", *given, "--out", tmp_path / "run")
    assert run.returncode != 0 and run.stderr.count("a run started in 2 processes") == 1
    assert not list((tmp_path / "run").glob("*.jsonl"))


def test_every_row_is_one_process_share():
    batches = [[4, 1, 7], [2], [5, 3]]
    found = [distributed.split_batches(batches, rank, 2) for rank in range(2)]
    assert found == [[[4, 7], [2], [5]], [[1], [], [3]]]


def test_what_was_shared_out_comes_together_in_its_order(monkeypatch):
    monkeypatch.setattr(
        distributed, "gather_objects", lambda share: [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    )
    assert distributed.gather_shares(["b", "e"]) == list("abcdefg")


def test_a_share_without_rows_teaches_nothing():
    batch = batching.collate([])
    assert (
        batching.is_idle(batch)
        and batch["input_ids"].shape == (1, 2)
        and not batch["loss_weights"].any()
    )
    assert not batching.is_idle(batching.collate_rows([TokenizedRow.of(0, [1, 2], [0.0, 1.0], 1)]))


@pytest.mark.parametrize(
    ("ids", "refused"), [(["gpu-0", "gpu-1"], ""), (["gpu-0"] * 2, "they see 1 GPU")]
)
def test_on_gpus_objects_still_go_between_cpus_and_each_process_has_its_own(
    monkeypatch, ids, refused
):
    """Without GPUs: accelerate takes the backends as they are, and torch keeps objects on the CPU."""
    met = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=ids[device])
    )
    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "gather_objects", lambda own: ids)
    monkeypatch.setattr("accelerate.PartialState", lambda **given: met.append(given))
    with pytest.raises(StageError, match=refused) if refused else nullcontext():
        distributed.join_processes()
    backend = met[0]["backend"]
    assert PartialState._prepare_backend(None, False, False, backend) == (
        backend,
        DistributedType.MULTI_GPU,
    )
    assert BackendConfig(backend).get_device_backend_map() == {"cuda": "nccl", "cpu": "gloo"}


@pytest.mark.slow
def test_a_checkpoint_of_shared_out_weights_is_not_taken_up_with_whole_ones(
    tiny_checkpoint, tmp_path
):
    def stop(label, done, total):
        if done == 2:
            raise KeyboardInterrupt

    settings = dataclasses.replace(FEW, save_steps=1)
    with pytest.raises(KeyboardInterrupt):
        fit(rows(COUNT), tiny_checkpoint, tmp_path / "out", settings, progress=stop)
    sharded = tmp_path / "out" / "training" / "checkpoint-2" / "pytorch_model_fsdp_0"
    sharded.mkdir()
    with pytest.raises(
        StageError, match="checkpoint-2 was written by a training started with FSDP"
    ):
        fit(rows(COUNT), tiny_checkpoint, tmp_path / "out", settings)
    sharded.rename(sharded.with_name("global_step2"))
    with pytest.raises(
        StageError, match="checkpoint-2 was written by a training started with DeepSpeed"
    ):
        fit(rows(COUNT), tiny_checkpoint, tmp_path / "out", settings)
    sharded.with_name("global_step2").rmdir()
    assert fit(rows(COUNT), tiny_checkpoint, tmp_path / "out", settings).steps == 5


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("FSDP", {}, "FSDP 1"),  # where nothing is said
        ("PARALLELISM_CONFIG", {}, "PARALLELISM_CONFIG"),
        ("DEEPSPEED", {"DEEPSPEED_ZERO_STAGE": "3"}, "DeepSpeed's ZeRO 3"),
        ("DEEPSPEED", {"DEEPSPEED_CONFIG_FILE": "ds.json"}, "DeepSpeed settings from a file"),
        ("DEEPSPEED", {"MIXED_PRECISION": "bf16"}, "DeepSpeed in bf16"),
    ],
)
def test_other_ways_to_share_out_weights_are_refused(monkeypatch, tmp_path, name, settings, said):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    for variable, value in settings.items():
        monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(StageError, match=f"started with {said}"):
        fit(rows(), tmp_path / "start", tmp_path / "out", TrainingSettings())


def test_what_deepspeed_has_no_place_for_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    distributed.check_supported(ObjectiveConfig("kto"), 2, LORA)
    with pytest.raises(StageError, match="DeepSpeed, and dskd comes with projectors"):
        distributed.check_supported(ObjectiveConfig("dskd", teacher=Path("teacher")), 2, FEW)


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (ObjectiveConfig("ted", teacher=Path("teacher")), TrainingSettings(), "layers, projectors"),
        (ObjectiveConfig("uld", teacher=Path("teacher")), TrainingSettings(), "aligned"),
        (ObjectiveConfig(), LORA, "lora"),
    ],
)
def test_what_asks_a_whole_model_is_refused_of_shared_out_weights(
    monkeypatch, config, settings, said
):
    distributed.check_supported(config, 2, settings)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(StageError, match=f"FSDP, and {config.objective} comes with {said}"):
        distributed.check_supported(config, 2, settings)


@pytest.fixture
def one_of_two(monkeypatch):
    """This is process 0 of two; what the other has is made of what this one has."""

    def with_other(make_other):
        monkeypatch.setattr(distributed, "process_count", lambda: 2)
        monkeypatch.setattr(distributed, "process_rank", lambda: 0)
        monkeypatch.setattr(distributed, "gather_objects", lambda own: [own, make_other(own)])

    return with_other


def test_processes_that_see_another_folder_or_were_given_other_rows_are_refused(
    one_of_two, tmp_path
):
    one_of_two(lambda own: own)
    node_checks.check_same_folder(tmp_path / "a" / "b")
    node_checks.check_same_training({"rows": "12"})
    assert not list(tmp_path.iterdir())
    one_of_two(lambda own: "" if own else own)
    with pytest.raises(StageError, match=r"is another folder in process 1 on .* than in process 0"):
        node_checks.check_same_folder(tmp_path)
    one_of_two(lambda own: {"rows": "34"} if own == {"rows": "12"} else own)
    with pytest.raises(StageError, match=r"process 1 on .* another student .*: other rows"):
        node_checks.check_same_training({"rows": "12"})


def test_relations_between_rows_are_refused():
    config = ObjectiveConfig("rkd", teacher=Path("teacher"))
    with pytest.raises(StageError, match="rkd compares the rows of a micro-batch"):
        distributed.check_supported(config, 2)
    distributed.check_supported(config, 1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if distributed.uses_fsdp():
        shard()
    if sys.argv[2] in KILLED:
        (folder / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
        trained(sys.argv[2], folder, Path(sys.argv[3]))
        sys.exit()
    for name in sys.argv[2:]:
        done, norms = trained(name, folder, folder / name / "two")
        told = {
            "losses": done.losses,
            "loss_tokens": done.loss_tokens,
            "tokens": done.tokens,
            "seconds": done.seconds,
            "norms": norms,
        }
        (folder / name / f"said-{distributed.process_rank()}").write_text(json.dumps(told))
