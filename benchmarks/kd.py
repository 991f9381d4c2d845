"""The distillation step from hidden states and heads, head product counted: ours, the plain formula, TRL's GKD loss.

Each runs in a process of its own; memory is what its resident set peaks at above the states and heads themselves. The
products' rate is that of the four a step can't do without (both heads, and two gradients), as a share of what a large
square product of the same type reaches on the same device and threads: what is left is softmax, memory and overhead.

    python benchmarks/kd.py --tokens 1024 --vocabulary 151936
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("potstill", "plain", "trl")


def main() -> None:
    args = arguments()
    if args.way:
        print(json.dumps(measure(args)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(args.repeat):
        for way in WAYS:
            command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--way", way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    most = ("tflops", "share")
    best = {
        way: {key: (max if key in most else min)(run[key] for run in runs) for key in runs[0]}
        for way, runs in found.items()
    }
    if args.json:
        print(json.dumps({**vars(args), **best}))
        return
    print(
        f"JSD {args.beta:g} of {args.tokens} positions, vocabulary {args.vocabulary}, {args.device}, {args.dtype}"
    )
    for way, run in best.items():
        times = f"{run['seconds']:7.2f} s ({run['cpu']:.2f} s of CPU)"
        memory = f"{run['step_mib']:8.0f} MiB a step   {run['peak_mib']:8.0f} MiB in all"
        print(
            f"{way:9} {times}   {memory}   {run['tflops']:.3g} TFLOP/s, {run['share']:.2f} of the peak"
        )
    for way in WAYS[1:]:
        step, peak, wall, cpu = (
            best["potstill"][k] / best[way][k] for k in ("step_mib", "peak_mib", "seconds", "cpu")
        )
        shares = f"{step:.2f} of the step's memory, {peak:.2f} of the peak, {wall:.2f} of the time ({cpu:.2f})"
        print(f"potstill / {way}: {shares}")
        print(
            f"  difference of the gradients' norms: {abs(best['potstill']['norm'] - best[way]['norm']):.2e}"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--teacher-width", type=int, default=896)
    parser.add_argument(
        "--beta", type=float, default=0.5, help="of the generalised JSD: 1 is the reverse KL (0.5)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=WAYS, default="")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    make = {"device": args.device, "dtype": getattr(torch, args.dtype)}
    hidden = torch.randn(args.tokens, args.width, **make).requires_grad_()
    theirs = torch.randn(args.tokens, args.teacher_width, **make)
    head = torch.nn.Linear(args.width, args.vocabulary, bias=False, **make)
    teacher = torch.nn.Linear(
        args.teacher_width, args.vocabulary, bias=False, **make
    ).requires_grad_(False)
    before, cuda = resident(), args.device.startswith("cuda")
    for _ in range(1 + cuda):  # a GPU's first step sets libraries up
        hidden.grad = head.weight.grad = None
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated() / 2**20 if cuda else before
        began, cpu_began = time.perf_counter(), time.process_time()
        WAY[args.way](hidden, head, theirs, teacher, args.beta).backward()
        norm = float(hidden.grad.norm())  # a GPU is waited for
        cpu, seconds = time.process_time() - cpu_began, time.perf_counter() - began
    highest_mib = torch.cuda.max_memory_allocated() / 2**20 if cuda else highest()
    work = 2 * args.tokens * args.vocabulary * (3 * args.width + args.teacher_width)
    memory = {"peak_mib": highest_mib, "step_mib": highest_mib - base}
    share = work / seconds / peak(**make)
    return {
        "seconds": seconds,
        "cpu": cpu,
        **memory,
        "norm": norm,
        "tflops": work / seconds / 1e12,
        "share": share,
    }


def peak(device: str, dtype) -> float:
    """The rate of a large square product, in FLOP/s: the best of three after a first one."""
    import torch

    side = 8192 if device.startswith("cuda") else 2048
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        float((a @ b)[0, 0])
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times[1:])


def potstill(hidden, head, theirs, teacher, beta):
    import torch

    from potstill.objectives.divergence import jsd
    from potstill.objectives.inputs import Hidden, Inputs, reduce

    weights = torch.full((len(hidden),), 1 / len(hidden), device=hidden.device)
    targets = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    x = Inputs(hidden, head, targets, weights_N=weights, teacher=Hidden(theirs, teacher))
    return reduce(jsd(x, beta=beta).values_N, weights, 1.0)


def plain(hidden, head, theirs, teacher, beta):
    import torch

    lq = head(hidden).float().log_softmax(-1)
    with torch.no_grad():
        lp = teacher(theirs).float().log_softmax(-1)
    if beta == 1:
        return (lq.exp() * (lq - lp)).sum(-1).mean()
    lm = torch.logaddexp(lp + math.log(beta), lq + math.log1p(-beta))
    return (beta * lp.exp() * (lp - lm) + (1 - beta) * lq.exp() * (lq - lm)).sum(-1).mean()


def trl(hidden, head, theirs, teacher, beta):
    import torch
    from trl.experimental.gkd import GKDTrainer

    with torch.no_grad():
        expected = teacher(theirs)[None]
    loss = GKDTrainer.generalized_jsd_loss(head(hidden)[None], expected, beta=beta, reduction="sum")
    return loss / len(hidden)


def resident() -> float:
    """MiB now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def highest() -> float:
    """MiB at the peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WAY = {"potstill": potstill, "plain": plain, "trl": trl}

if __name__ == "__main__":
    main()
