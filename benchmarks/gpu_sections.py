"""The sections of benchmarks/gpu.py: each measures one thing in a process of its own, and returns lines of the table.

Rates are those of the engine itself: `fit` as `potstill train` calls it, `write` as a run does. FLOPs are counted as 2
a parameter and token forward, 4 backward; adapters need no gradients of the frozen weights, so 4 in all. Attention's
own products are left out, so shares of the peak are slightly too low.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 7
GIB = 2**30
SKIPPED_STEPS = 2  # the first steps of a training set libraries up


@dataclass(frozen=True)
class Sizes:
    """How large the model and the work of the sections are."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    rows: int  # of a training step
    row_letters: int  # of a row, about as many tokens
    steps: int
    prompts: int  # that are sampled from
    new_tokens: int
    product_side: int  # of the matrices that measure the peak
    head_tokens: int  # of the loss head alone
    head_width: int


# The shape of Qwen3-0.6B; and one that a CPU trains in moments.
FULL = Sizes(28, 1024, 16, 128, 3072, 151_936, 16, 512, 12, 128, 128, 8192, 8192, 4096)
TINY = Sizes(2, 64, 4, 16, 128, 640, 2, 16, 4, 4, 6, 256, 16, 64)


@dataclass(frozen=True)
class Place:
    """Where a section works: its device, its sizes, a folder that all sections share."""

    device: str
    sizes: Sizes
    folder: Path

    @property
    def model(self) -> Path:
        """The checkpoint of random weights."""
        return self.folder / "model"

    @property
    def peak_flops(self) -> float:
        """The measured rate of a large product; 0 where that section did not come to its end."""
        file = self.folder / "peak.json"
        return float(json.loads(file.read_text())) if file.exists() else 0.0


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    what: str
    value: str
    memory: str = ""  # at its peak
    share: str = ""  # of the measured matrix peak
    note: str = ""


def line(
    place: Place,
    what: str,
    value: str,
    *,
    flops: float = 0.0,
    note: str = "",
    has_memory: bool = True,
) -> Line:
    """A line with this process's peak memory, and its FLOP/s as a share of the peak."""
    share = ""
    if flops and place.peak_flops:
        share = f"{100 * flops / place.peak_flops:.1f} %"
    return Line(what, value, peak_memory(place.device) if has_memory else "", share, note)


def peak_memory(device: str) -> str:
    """What this process took at most: of the GPU's memory, or of the machine's."""
    if device == "cpu":
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return f"{kilobytes / 2**20:.2f} GiB of RAM"
    import torch

    return f"{torch.cuda.max_memory_allocated() / GIB:.2f} GiB"


def forget_peak(device: str) -> None:
    """Measure peak memory from here on, as far as that can be: the machine's own is that of the whole process."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()


def build_model(place: Place) -> list[Line]:
    """Write a checkpoint of random weights, with the tokenizer of the built-in student: no network is needed."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from potstill.models.local.checkpoint import load_tokenizer

    sizes, student = place.sizes, built_in("student")
    tokenizer = load_tokenizer(student)
    config = Qwen3Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads // 2,
        head_dim=sizes.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(SEED)
    with torch.device(place.device):
        model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    draft = place.folder / "model.draft"
    model.save_pretrained(draft)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        if (student / name).exists():
            shutil.copy(student / name, draft / name)
    draft.rename(place.model)
    return []


def built_in(name: str) -> Path:
    """The folder of a built-in model."""
    from potstill.runs.sources import checkpoint_of

    folder = checkpoint_of(f"world:{name}")
    assert folder is not None
    return folder


def count_parameters(folder: Path) -> int:
    """Parameters of a checkpoint."""
    from potstill.training.memory_estimate import read_shapes

    total = 0
    for shape in read_shapes(folder).values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def made_up_rows(place: Place, count: int) -> list[Any]:
    """Rows of letters; each is another one."""
    from potstill.records import Problem, Trace

    rows = []
    for number in range(count):
        problem = Problem(f"row-{number}", f"Count to {number}.", "0")
        letters = " ".join(
            "abcdefghij"[(number + at) % 10] for at in range(place.sizes.row_letters)
        )
        rows.append(Trace(problem, problem.question, text=letters, finish_reason="stop"))
    return rows


def training_settings(place: Place, **changes: Any) -> Any:
    """A training of a few steps in bf16; at this rate random weights stay where they are."""
    from potstill.training.settings import TrainingSettings

    settings = TrainingSettings(
        max_steps=place.sizes.steps,
        batch_size=place.sizes.rows,
        learning_rate=1e-6,
        bf16=True,
        seed=SEED,
        save_steps=0,
        threads=1 if place.device == "cpu" else 0,
    )
    return dataclasses.replace(settings, **changes)


def train(place: Place, name: str, settings: Any, **keywords: Any) -> list[dict[str, Any]]:
    """Train the model in a folder of its own; the records of its steps."""
    from potstill.training.fit import fit

    out = place.folder / name
    rows = made_up_rows(place, place.sizes.rows * place.sizes.steps)
    fit(rows, place.model, out, settings, **keywords)
    return read_steps(out)


def read_steps(out: Path) -> list[dict[str, Any]]:
    """The records of a finished training."""
    return [json.loads(text) for text in (out / "steps.jsonl").read_text().splitlines()]


def tokens_a_second(steps: list[dict[str, Any]]) -> float:
    """The rate of a training without its first steps."""
    counted = steps[SKIPPED_STEPS:]
    return sum(step["tokens"] for step in counted) / sum(step["seconds"] for step in counted)


# The sections.


def peak(place: Place) -> list[Line]:
    """The rate of a large square product in bf16: the best of three after a first one."""
    import torch

    side = place.sizes.product_side
    left, right = torch.randn(2, side, side, device=place.device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        float((left @ right)[0, 0])  # a GPU is waited for
        seconds.append(time.perf_counter() - began)
    flops = 2 * side**3 / min(seconds[1:])
    (place.folder / "peak.json").write_text(json.dumps(flops))
    name = "CPU"
    if place.device != "cpu":
        name = torch.cuda.get_device_name()
    note = f"{name}, torch {torch.__version__}"
    return [
        line(place, f"product of {side} x {side} in bf16", f"{flops / 1e12:.3g} TFLOP/s", note=note)
    ]


def sampling(place: Place) -> list[Line]:
    """Completions a second of the 0.6B and of the built-in student, each in one planned list."""
    from potstill.models.local.transformers import TransformersModel
    from potstill.models.model import Request, Sampling

    lines = []
    for name, folder in (
        ("random weights", place.model),
        ("built-in student", built_in("student")),
    ):
        model = TransformersModel(folder, device=place.device, dtype="bfloat16")
        settings = Sampling(max_new_tokens=place.sizes.new_tokens)
        requests = []
        for number in range(place.sizes.prompts):
            prompt = (
                f"Ned has {number} shells. Then Ned sells 3. How many shells does Ned have now?"
            )
            requests.append(Request(prompt, sampling=settings, seed=SEED))
        model.write(requests[:1])  # loads the weights
        forget_peak(place.device)
        began = time.perf_counter()
        answers = model.write(requests)
        rate = sum(answer.tokens.completion for answer in answers) / (time.perf_counter() - began)
        failed = sum(bool(answer.error) for answer in answers)
        lines.append(
            line(
                place,
                f"{name}, {count_parameters(folder) / 1e6:,.1f} M, {len(requests)} prompts",
                f"{rate:,.0f} tokens/s",
                flops=2 * count_parameters(folder) * rate,
                note=f"{failed} failed" if failed else "",
            )
        )
    return lines


def full(place: Place) -> list[Line]:
    """All weights trained in bf16 (float32 weights under autocast)."""
    return [_training_line(place, "full", "all weights", 6, training_settings(place))]


def lora(place: Place) -> list[Line]:
    """Adapters of rank 16, merged at the end."""
    from potstill.training.settings import LoraSettings

    settings = training_settings(place, lora=LoraSettings())
    return [_training_line(place, "lora", "adapters of rank 16", 4, settings)]


def _training_line(
    place: Place, name: str, what: str, flops_a_parameter: int, settings: Any
) -> Line:
    steps = train(place, name, settings)
    rate = tokens_a_second(steps)
    return line(
        place,
        f"{what}, {count_parameters(place.model) / 1e6:,.1f} M, {place.sizes.rows} rows a step",
        f"{rate:,.0f} tokens/s",
        flops=flops_a_parameter * count_parameters(place.model) * rate,
        note=f"loss {steps[0]['loss']:.3f} to {steps[-1]['loss']:.3f}",
    )


def fsdp2(place: Place) -> list[Line]:
    """Weights, gradients and optimizer shared out by accelerate: over two GPUs, in one process where there is one."""
    import torch

    processes = 2
    if place.device != "cpu":
        processes = min(2, torch.cuda.device_count())
    command = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2"]
    command += ["--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP", "--main_process_port=0"]
    command += [f"--num_processes={processes}", *child_command(place, "fsdp2-child")[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"accelerate launch failed: {last_line(done.stderr)}")
    steps = read_steps(place.folder / "fsdp2")
    rate = tokens_a_second(steps)
    note = f"loss {steps[0]['loss']:.3f} to {steps[-1]['loss']:.3f}"
    if place.device == "cpu":
        note += "; accelerate is told that CPUs are GPUs"
    flops = 6 * count_parameters(place.model) * rate / processes  # of each GPU
    return [
        line(
            place,
            f"all weights in {processes} process(es)",
            f"{rate:,.0f} tokens/s",
            flops=flops,
            note=note,
            has_memory=False,
        )
    ]


def fsdp2_child(place: Place) -> list[Line]:
    """What each process of `fsdp2` does."""
    if place.device == "cpu":
        _share_out_on_cpus()
    train(place, "fsdp2", training_settings(place))
    return []


def _share_out_on_cpus() -> None:
    """Have accelerate share out weights on a CPU, which it does on accelerators alone."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    plain = AcceleratorState.__init__

    def init(state: Any, *args: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        plain(state, *args, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            state.fsdp_plugin = fsdp_plugin
            state.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = init


def resume(place: Place) -> list[Line]:
    """A training that is killed after its first checkpoint and goes on, beside one that is left alone."""
    for name in ("whole", "killed"):
        out = place.folder / name
        if name == "killed":
            _kill_after_checkpoint(place, out)
        done = subprocess.run(
            child_command(place, f"resume-child-{name}"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the training {name} failed: {last_line(done.stderr)}")
    whole, killed = place.folder / "whole", place.folder / "killed"
    is_same = (whole / "model.safetensors").read_bytes() == (
        killed / "model.safetensors"
    ).read_bytes()
    losses = [[step["loss"] for step in read_steps(out)] for out in (whole, killed)]
    difference = max(abs(one - other) for one, other in zip(*losses, strict=True))
    value = "the same bits" if is_same else "other bits"
    note = f"losses differ by {difference:.1e} at most, of {losses[0][-1]:.3f}"
    return [line(place, "killed with SIGKILL, then resumed", value, note=note, has_memory=False)]


def _kill_after_checkpoint(place: Place, out: Path) -> None:
    """Start the training and kill it once a checkpoint is whole."""
    child = subprocess.Popen(
        child_command(place, "resume-child-killed"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not list(out.glob("training/checkpoint-*/complete")):
            if child.poll() is not None:
                raise RuntimeError(
                    f"the training ended ({child.returncode}) before its first checkpoint"
                )
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    if (out / "fit.json").exists():
        raise RuntimeError("the training came to its end before it was killed")


def resume_child(place: Place, name: str) -> list[Line]:
    """The training of `resume`: a checkpoint at half of it."""
    settings = training_settings(place, save_steps=max(1, place.sizes.steps // 2))
    # The killed one waits behind its checkpoint, so that it can't come to its end first.
    waits = not (place.folder / name / "training").exists() and name == "killed"

    def progress(label: str, done: int, total: int) -> None:
        if waits and list((place.folder / name).glob("training/checkpoint-*/complete")):
            time.sleep(60)

    train(place, name, settings, progress=progress)
    return []


def memory(place: Place) -> list[Line]:
    """A batch that the memory is too small for: it is written in halves. In a training there is no such thing."""
    from potstill.models.local import transformers as local
    from potstill.models.model import Request, Sampling

    model = local.TransformersModel(place.model, device=place.device, dtype="bfloat16")
    settings = Sampling(max_new_tokens=place.sizes.new_tokens)
    requests = []
    for number in range(2 * place.sizes.prompts):
        requests.append(Request("abcdefghij " * 20, sampling=settings, sample_index=number))
    model.write(requests[:1])
    sizes: list[int] = []
    generate, limit = local.generate_batch, _memory_limit(place, model)

    def watched(weights: Any, batch: Any, *arguments: Any) -> Any:
        sizes.append(len(batch.prompt_of_row))
        limit(len(batch.prompt_of_row))
        return generate(weights, batch, *arguments)

    local.generate_batch = watched
    try:
        answers = model.write(requests)
    finally:
        local.generate_batch = generate
    failed = sum(bool(answer.error) for answer in answers)
    note = "batches of " + ", ".join(str(size) for size in sizes[:8])
    if place.device == "cpu":
        note += "; the error is made up"
    value = f"{len(answers) - failed} of {len(answers)} answered"
    if max(sizes) == min(sizes):
        value += ", nothing was halved"
    return [
        line(place, "sampling: a batch too large", value, note=note),
        Line(
            "training: a micro-batch too large", "not supported", note="it stops; lower batch_size"
        ),
    ]


def _memory_limit(place: Place, model: Any) -> Callable[[int], None]:
    """Make memory so small that half of the batch fits, and the whole does not."""
    import torch

    most_rows = place.sizes.prompts
    if place.device == "cpu":

        def refuse(row_count: int) -> None:
            if row_count > most_rows:
                raise torch.OutOfMemoryError("made up")

        return refuse

    # Keys and values of the rows at their longest: three quarters of the whole batch, beside what is there.
    positions = 2 * most_rows * (place.sizes.new_tokens + 240)
    wanted = torch.cuda.memory_allocated() + 0.75 * positions * model._cache_bytes_per_token
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, wanted / total))
    return lambda row_count: None


def on_policy(place: Place) -> list[Line]:
    """The built-in student writes, and learns from the built-in teacher's distribution on what it wrote."""
    from potstill.training.fit import fit
    from potstill.training.objective_config import ObjectiveConfig

    config = ObjectiveConfig(
        "opd",
        teacher=built_in("teacher"),
        on_policy_fraction=1,
        num_generations=4,
        max_new_tokens=place.sizes.new_tokens,
    )
    settings = training_settings(place)
    rows = made_up_rows(place, place.sizes.rows * place.sizes.steps)
    out = place.folder / "on-policy"
    fit(rows, built_in("student"), out, settings, config=config)
    steps = read_steps(out)
    counted = steps[SKIPPED_STEPS:]
    rate = len(counted) / sum(step["seconds"] for step in counted)
    value = f"{rate:.2f} steps/s, {tokens_a_second(steps):,.0f} tokens/s"
    what = f"opd, 4 rollouts of at most {place.sizes.new_tokens} tokens, {place.sizes.rows} prompts"
    note = f"mean length {steps[-1].get('length', 0.0):.0f}; built-in student and teacher"
    return [line(place, what, value, note=note)]


def loss_head(place: Place) -> list[Line]:
    """The divergence from hidden states and heads, forward and backward: ours, the plain formula, TRL's, liger's."""
    import kd

    sizes = place.sizes
    sizes_told = (
        f"{sizes.head_tokens:,} tokens, width {sizes.head_width:,}, vocabulary {sizes.vocabulary:,}"
    )
    lines = []
    for beta, name in ((0.5, "JSD"), (1.0, "reverse KL")):
        plain: dict[str, float] = {}
        for way in ("plain", "potstill", "trl", "liger"):
            if kd.missing_package(way):
                note = f"{kd.missing_package(way)} is not installed"
                lines.append(Line(f"{name}: {way}", "left out", note=note))
                continue
            step = kd.measure(
                argparse.Namespace(
                    way=way,
                    tokens=sizes.head_tokens,
                    vocabulary=sizes.vocabulary,
                    width=sizes.head_width,
                    teacher_width=sizes.head_width,
                    beta=beta,
                    device=place.device,
                    dtype="bfloat16",
                    threads=1,
                )
            )
            plain = plain or step
            time_ratio = step["seconds"] / plain["seconds"]
            note = f"{time_ratio:.2f} of the plain formula's time"
            memory = ""
            if place.device != "cpu":  # there a process's peak is that of all of them
                note += f", {step['step_mib'] / plain['step_mib']:.2f} of its memory"
                memory = f"{step['step_mib'] / 1024:.2f} GiB a step"
            share = f"{100 * step['share']:.1f} %"
            value = f"{1000 * step['seconds']:,.1f} ms"
            lines.append(Line(f"{name}: {way}, {sizes_told}", value, memory, share, note))
    return lines


SECTIONS: dict[str, Callable[[Place], list[Line]]] = {
    "peak": peak,
    "sampling": sampling,
    "full": full,
    "lora": lora,
    "fsdp2": fsdp2,
    "resume": resume,
    "memory": memory,
    "on-policy": on_policy,
    "loss-head": loss_head,
}
CHILDREN: dict[str, Callable[[Place], list[Line]]] = {
    "model": build_model,
    "fsdp2-child": fsdp2_child,
    "resume-child-whole": lambda place: resume_child(place, "whole"),
    "resume-child-killed": lambda place: resume_child(place, "killed"),
}


def child_command(place: Place, section: str) -> list[str]:
    """The command line of a section in a process of its own."""
    script = str(Path(__file__).with_name("gpu.py"))
    command = [sys.executable, script, "--device", place.device, "--section", section]
    command += ["--folder", str(place.folder)]
    if place.sizes == TINY:
        command.append("--tiny")
    return command


def last_line(text: str) -> str:
    """The last line that says something, short enough for a table."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return lines[-1][:160] if lines else f"nothing was said (pid {os.getpid()})"
