"""Local sampling beside transformers' `generate`, our own server, llama.cpp's server, and the machine's limits.

    python benchmarks/sampling.py [CHECKPOINT] [--gguf FILE] [--json]

All ways write the same prompts with the same limit, at temperature 1 and on the same number of threads, in turns, so
that a busy machine slows all of them:

- `potstill`: `TransformersModel.write` on all requests, in batches of `--batch` rows at most;
- `serve`: `potstill serve`, in a process of its own, asked by `openai:` with `--batch` calls at once;
- `generate`: transformers' `generate` in batches of `--batch` prompts, padded on the left; the longest ends a batch;
- `llama.cpp`: its server (the package xllamacpp) in a process of its own with `--batch` slots, on the GGUF file as it
  is and on the same weights in float32. Only with `--gguf`, of which the checkpoint of the other ways is made.

Tokens are those drawn, end tokens included. CPU time is that of this process and of the server; the client of a server
is part of its cost. The limits are what this machine could reach by its bandwidth and its rate of matrix products, both
measured here: where every step reads weights and cache once and computes nothing (memory), and where the products of
prompts and steps are computed at that rate, or memory takes longer (both).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from potstill.models import load
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Request, Sampling
from potstill.world.story import problems

DEFAULT = Path(__file__).resolve().parents[1] / "potstill" / "world" / "checkpoints" / "student"
LLAMA_SERVER = """
import sys
import xllamacpp

path, slots, positions, threads = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path = path
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx, params.n_parallel = slots * positions, slots
params.cont_batching, params.warmup = True, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
Way = Callable[[Sequence[str]], int]
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Parse, measure, print."""
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    torch.set_num_threads(args.threads)
    checkpoint = args.checkpoint
    if args.gguf:
        checkpoint = load(f"transformers:{args.gguf}").weights  # type: ignore[attr-defined]
    model = TransformersModel(checkpoint, dtype="float32", device="cpu", batch=args.batch)
    prompts = [
        problem.question for problem in problems("story", size=args.problems, seed=1, split="bench")
    ]
    with ExitStack() as stack:
        pids: dict[str, int] = {}
        ways: dict[str, Way] = {
            "potstill": lambda texts: write_direct(model, texts, args),
            "generate": lambda texts: write_generate(model, texts, args),
        }
        ways["serve"], pids["serve"] = stack.enter_context(serve(checkpoint, args))
        if args.gguf:
            longest = max(len(model.encoder.encode_prompt(prompt)) for prompt in prompts)
            positions = longest + args.max_new_tokens + 8
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            float_file = write_float32(args.gguf, folder / "float32.gguf")
            for name, file in (("llama.cpp", args.gguf), ("llama.cpp f32", float_file)):
                started = stack.enter_context(serve_llama(file, positions, args))
                ways[name], pids[name] = started
        rows = measure(ways, pids, prompts, args.rounds)
        new_tokens = rows["potstill"]["tokens"] / args.rounds
        limits = measure_limits(model, prompts, new_tokens, args.batch)
    report = {"settings": settings_of(args, checkpoint), "ways": rows, "limits": limits}
    print(json.dumps(report) if args.json else render(report))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--gguf", type=Path, help="also llama.cpp's server, on this file")
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def settings_of(args: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    versions = {}
    for package in ("potstill", "torch", "transformers", "xllamacpp"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    names = ("problems", "batch", "max_new_tokens", "top_p", "threads", "rounds")
    settings = {name: getattr(args, name) for name in names}
    return {**settings, "checkpoint": checkpoint.name, "versions": versions}


def measure(
    ways: dict[str, Way], pids: dict[str, int], prompts: Sequence[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Tokens, seconds and CPU seconds of each way, over rounds in which each of them has its turn."""
    for way in ways.values():
        way(prompts[:2])  # load the weights, build lazy state
    rows = {name: {"tokens": 0.0, "seconds": 0.0, "cpu": 0.0} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began, cpu = time.perf_counter(), time.process_time()
            server_cpu = cpu_of(pids[name]) if name in pids else 0.0
            rows[name]["tokens"] += way(prompts)
            rows[name]["seconds"] += time.perf_counter() - began
            rows[name]["cpu"] += time.process_time() - cpu
            if name in pids:
                rows[name]["cpu"] += cpu_of(pids[name]) - server_cpu
    for row in rows.values():
        row["tokens_per_second"] = row["tokens"] / row["seconds"]
        row["tokens_per_cpu_second"] = row["tokens"] / row["cpu"]
    return rows


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def make_requests(prompts: Sequence[str], args: argparse.Namespace) -> list[Request]:
    sampling = Sampling(max_new_tokens=args.max_new_tokens, top_p=args.top_p)
    return [Request(prompt, sampling=sampling) for prompt in prompts]


def write_direct(model: TransformersModel, prompts: Sequence[str], args: Any) -> int:
    """Tokens drawn by our own loop."""
    completions = model.write(make_requests(prompts, args))
    return sum(completion.tokens.completion for completion in completions)


def write_generate(model: TransformersModel, prompts: Sequence[str], args: Any) -> int:
    """Tokens drawn by `generate`, in batches of prompts of near length."""
    tokenizer = model.encoder.tokenizer
    encoded = sorted((model.encoder.encode_prompt(prompt) for prompt in prompts), key=len)
    pad_token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    drawn = 0
    for start in range(0, len(encoded), args.batch):
        batch = encoded[start : start + args.batch]
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), pad_token)
        mask = torch.zeros_like(ids)
        for row, prompt_ids in enumerate(batch):
            ids[row, longest - len(prompt_ids) :] = torch.tensor(prompt_ids)
            mask[row, longest - len(prompt_ids) :] = 1
        output = model.model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=args.top_p,
            max_new_tokens=args.max_new_tokens,
            eos_token_id=list(model.end_ids),
            pad_token_id=pad_token,
        )
        new_ids = output[:, longest:]
        ended = torch.isin(new_ids, torch.tensor(model.end_ids)).cumsum(1)
        drawn += int((ended == 0).sum() + (ended.amax(1) > 0).sum())
    return drawn


@contextmanager
def serve(checkpoint: Path, args: Any) -> Iterator[tuple[Way, int]]:
    """`potstill serve` on the checkpoint."""
    command = [sys.executable, "-m", "potstill", "serve", f"{checkpoint}?batch={args.batch}"]
    command += ["--port", "0", "--json", "--threads", str(args.threads), "--name", "model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        spec = f"openai:model?at=potstill&url={url}&concurrency={args.batch}"
        try:
            yield ask_server(spec, args), process.pid
        finally:
            process.terminate()


@contextmanager
def serve_llama(file: Path, positions: int, args: Any) -> Iterator[tuple[Way, int]]:
    """llama.cpp's server on a GGUF file, with a slot a row."""
    command = [sys.executable, "-c", LLAMA_SERVER, str(file)]
    command += [str(number) for number in (args.batch, positions, args.threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        lines = iter(process.stdout.readline, "")
        address = next(line.strip() for line in lines if line.startswith("http"))
        spec = f"openai:model?at=llamacpp&url={address}/v1&concurrency={args.batch}"
        try:
            yield ask_server(spec, args), process.pid
        finally:
            process.kill()


def ask_server(spec: str, args: argparse.Namespace) -> Way:
    """A way that asks a server; every answer must be one."""
    client = load(spec)

    def ask(prompts: Sequence[str]) -> int:
        completions = client.write(make_requests(prompts, args))
        errors = [completion.error for completion in completions if completion.error]
        if errors:
            print(f"{len(errors)} errors of {spec}, the first: {errors[0]}", file=sys.stderr)
        return sum(completion.tokens.completion for completion in completions)

    return ask


def write_float32(source: Path, target: Path) -> Path:
    """The same model with its weights in float32, so that all ways compute with the same numbers."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.get_field("general.architecture").contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (
            "general.architecture",
            "general.file_type",
            "general.quantization_version",
        ):
            continue
        kind = field.types[0]
        item_kind = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=item_kind)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def measure_limits(
    model: TransformersModel, prompts: Sequence[str], new_tokens: float, batch: int
) -> dict[str, float]:
    """New tokens a second that the machine's bandwidth and its matrix products allow.

    Args:
        model: loaded.
        prompts: of one round.
        new_tokens: that a round writes.
        batch: rows of a step.
    """
    parameters = sum(tensor.numel() for tensor in model.model.parameters())
    prompt_tokens = sum(len(model.encoder.encode_prompt(prompt)) for prompt in prompts)
    mean_positions = (prompt_tokens + new_tokens / 2) / len(prompts)
    cache_bytes = model._cache_bytes_per_token * mean_positions * batch
    bandwidth, products = best_rate(measure_bandwidth), best_rate(measure_products)
    # Seconds of one step, and of reading the prompts.
    memory_step = (parameters * model.dtype.itemsize + cache_bytes) / bandwidth
    product_step = 2 * parameters * batch / products
    reading = 2 * parameters * prompt_tokens / products
    steps = new_tokens / batch
    return {
        "parameters": parameters,
        "prompt_tokens": prompt_tokens,
        "bandwidth_gb": bandwidth / 1e9,
        "products_gflops": products / 1e9,
        "memory": new_tokens / (steps * memory_step),
        "both": new_tokens / (reading + steps * max(memory_step, product_step)),
    }


def best_rate(rate: Callable[[], float], tries: int = 5) -> float:
    return max(rate() for _ in range(tries))


def measure_bandwidth() -> float:
    """Bytes a second that are read, of more than any cache holds."""
    values = torch.ones(64 << 20)
    began = time.process_time()
    values.sum()
    return values.nbytes / (time.process_time() - began) * torch.get_num_threads()


def measure_products() -> float:
    """Floating point operations a second of a large square product."""
    size = 1024
    left, right = torch.rand(size, size), torch.rand(size, size)
    began = time.process_time()
    for _ in range(4):
        left @ right
    return 4 * 2 * size**3 / (time.process_time() - began) * torch.get_num_threads()


def render(report: dict[str, Any]) -> str:
    """The report as a table."""
    settings, limits = report["settings"], report["limits"]
    versions = ", ".join(f"{name} {number}" for name, number in settings["versions"].items())
    lines = [
        f"{settings['problems']} prompts, batches of {settings['batch']}, {settings['max_new_tokens']} new tokens "
        f"at most, top_p {settings['top_p']:g}, {settings['threads']} threads, {settings['rounds']} rounds, "
        f"{settings['checkpoint']}",
        versions,
        "",
        f"{'':14} {'tokens':>8} {'tokens/s':>9} {'tokens/CPU s':>13} {'/ generate':>12} {'/ limit':>13}",
    ]
    reference = report["ways"]["generate"]["tokens_per_cpu_second"]
    for name, row in report["ways"].items():
        rate = row["tokens_per_cpu_second"]
        lines.append(
            f"{name:14} {row['tokens']:8.0f} {row['tokens_per_second']:9.0f} {rate:13.0f} "
            f"{rate / reference:12.2f} {rate * settings['threads'] / limits['both']:13.2f}"
        )
    lines += [
        "",
        f"limits by CPU time: {limits['memory']:.0f} tokens/s by memory ({limits['bandwidth_gb']:.1f} GB/s), "
        f"{limits['both']:.0f} with the products ({limits['products_gflops']:.0f} GFLOP/s)",
        f"{limits['parameters'] / 1e6:.1f} M float32 parameters, {limits['prompt_tokens']} tokens of prompts a round",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
