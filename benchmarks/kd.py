"""The loss head of distillation, forward and backward from hidden states: ours, the plain formula, TRL's and liger's.

    python benchmarks/kd.py [--beta 1] [--tokens 1024] [--threads 1] [--device cuda --dtype bfloat16]

`trl` is what its stable DistillationTrainer calls (`_chunked_divergence_loss`); `trl gkd` is the unchunked loss of its
experimental GKDTrainer; `liger` is LigerFusedLinearJSDLoss, where liger-kernel is installed (a CPU needs no Triton for
it). Each runs in a process of its own, and they take turns. Memory is what a step adds at its peak to the states and
heads themselves. `share` is the rate of the four products that no step can do without (both heads, and two
gradients) over that of a large square product of the same type, device and threads.
"""

from __future__ import annotations

import argparse
import json
import math
from importlib.util import find_spec

from peers import Timer, best, highest_mib, product_rate, resident_mib, run_alone, versions

WAYS = ("potstill", "plain", "trl", "trl gkd", "liger")


def main() -> None:
    args = arguments()
    if args.way:
        print(json.dumps(measure(args)))
        return
    ways = [way for way in args.ways.split(",") if not missing_package(way)]
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(args.repeat):
        for way in ways:
            runs[way].append(run_alone(__file__, [*command_line(args), "--way", way]))
    table = {way: best(found, highest=("tflops", "share")) for way, found in runs.items()}
    if args.json:
        print(json.dumps({**vars(args), "versions": versions(), "ways": table}))
        return
    print_table(args, table)


def missing_package(way: str) -> str:
    """The package that one of them needs and that is not installed; empty where there is none."""
    package = {"trl": "trl", "trl gkd": "trl", "liger": "liger_kernel"}.get(way, "torch")
    return "" if find_spec(package) else package


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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=2, help="processes of each (2)")
    parser.add_argument("--ways", default=",".join(WAYS), help="which of them, by commas (all)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=WAYS, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def command_line(args: argparse.Namespace) -> list[str]:
    """The arguments of a process that measures one of them."""
    words = []
    for name in ("tokens", "vocabulary", "width", "teacher_width", "beta", "device", "dtype"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return [*words, "--threads", str(args.threads)]


def print_table(args: argparse.Namespace, table: dict[str, dict[str, float]]) -> None:
    print(versions("torch", "trl", "liger-kernel"))
    if "liger" not in table:
        print(
            "liger is left out: liger-kernel is not installed (pip install --no-deps liger-kernel)"
        )
    sizes = f"{args.tokens:,} tokens, vocabulary {args.vocabulary:,}, widths {args.width} and {args.teacher_width}"
    print(f"beta {args.beta:g}, {sizes}, {args.dtype}, {args.device}, {args.threads} thread(s)")
    print("| way | CPU s | clock s | MiB a step | MiB in all | share of the peak |")
    print("|---|---|---|---|---|---|")
    for way, run in table.items():
        times = f"{run['cpu']:.2f} | {run['seconds']:.2f}"
        memory = f"{run['step_mib']:,.0f} | {run['peak_mib']:,.0f}"
        print(f"| {way} | {times} | {memory} | {run['share']:.2f} |")
    ours = table["potstill"]
    for way, run in table.items():
        if way == "potstill":
            continue
        ratios = {key: ours[key] / run[key] for key in ("cpu", "seconds", "step_mib", "peak_mib")}
        print(
            f"potstill / {way}: {ratios['cpu']:.2f} of the CPU time ({ratios['seconds']:.2f} by the clock), "
            f"{ratios['step_mib']:.2f} of the step's memory ({ratios['peak_mib']:.2f} of all); "
            f"gradients' norms differ by {abs(ours['norm'] - run['norm']) / ours['norm']:.1e}"
        )


def measure(args: argparse.Namespace) -> dict[str, float]:
    """A step of one of them in this process; on a GPU the second one, as the first sets libraries up."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    make = {"device": args.device, "dtype": getattr(torch, args.dtype)}
    hidden = torch.randn(args.tokens, args.width, **make).requires_grad_()
    teacher_hidden = torch.randn(args.tokens, args.teacher_width, **make)
    head = torch.nn.Linear(args.width, args.vocabulary, bias=False, **make)
    teacher_head = torch.nn.Linear(args.teacher_width, args.vocabulary, bias=False, **make)
    teacher_head.requires_grad_(False)
    loss = LOSSES[args.way]
    loss(hidden[:2], head, teacher_hidden[:2], teacher_head, args.beta).backward()  # imports

    on_gpu = args.device.startswith("cuda")
    hidden.grad = head.weight.grad = None
    base_mib = resident_mib()
    for _ in range(1 + on_gpu):
        hidden.grad = head.weight.grad = None
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            base_mib = torch.cuda.memory_allocated() / 2**20
        with Timer() as timer:
            loss(hidden, head, teacher_hidden, teacher_head, args.beta).backward()
            norm = float(hidden.grad.norm())  # a GPU is waited for
    peak_mib = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else highest_mib()
    flops = 2 * args.tokens * args.vocabulary * (3 * args.width + args.teacher_width)
    seconds = timer.seconds if on_gpu else timer.cpu / args.threads
    return {
        "seconds": timer.seconds,
        "cpu": timer.cpu,
        "peak_mib": peak_mib,
        "step_mib": peak_mib - base_mib,
        "norm": norm,
        "tflops": flops / seconds / 1e12,
        "share": flops / seconds / product_rate(args.device, make["dtype"]),
    }


# Each is the mean over the tokens of the divergence; the gradients go to the student's states and head.


def potstill(hidden, head, teacher_hidden, teacher_head, beta):
    import torch

    from potstill.objectives.divergence import jsd
    from potstill.objectives.inputs import Hidden, Inputs, reduce

    weights = torch.full((len(hidden),), 1 / len(hidden), device=hidden.device)
    targets = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    teacher = Hidden(teacher_hidden, teacher_head)
    inputs = Inputs(hidden, head, targets, weights_N=weights, teacher=teacher)
    return reduce(jsd(inputs, beta=beta).values_N, weights, 1.0)


def plain(hidden, head, teacher_hidden, teacher_head, beta):
    import torch

    student_logprobs = head(hidden).float().log_softmax(-1)
    with torch.no_grad():
        teacher_logprobs = teacher_head(teacher_hidden).float().log_softmax(-1)
    if beta == 1:
        gap = student_logprobs - teacher_logprobs
        return (student_logprobs.exp() * gap).sum(-1).mean()
    mixed = torch.logaddexp(teacher_logprobs + math.log(beta), student_logprobs + math.log1p(-beta))
    of_teacher = teacher_logprobs.exp() * (teacher_logprobs - mixed)
    of_student = student_logprobs.exp() * (student_logprobs - mixed)
    return (beta * of_teacher + (1 - beta) * of_student).sum(-1).mean()


def trl(hidden, head, teacher_hidden, teacher_head, beta):
    import torch
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    mask = torch.ones(1, len(hidden), device=hidden.device)
    states = hidden[None], teacher_hidden[None]
    loss, _, _ = _chunked_divergence_loss(
        *states, head.weight, teacher_head.weight, mask, beta, num_items_in_batch=len(hidden)
    )
    return loss


def trl_gkd(hidden, head, teacher_hidden, teacher_head, beta):
    import torch
    from trl.experimental.gkd import GKDTrainer

    with torch.no_grad():
        expected = teacher_head(teacher_hidden)[None]
    loss = GKDTrainer.generalized_jsd_loss(head(hidden)[None], expected, beta=beta, reduction="sum")
    return loss / len(hidden)


def liger(hidden, head, teacher_hidden, teacher_head, beta):
    import torch
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    # Compiled, as it comes, on a GPU; on a CPU the compiler takes minutes, and as it is without.
    soft = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=hidden.is_cuda
    )
    labels = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    return soft(hidden, head.weight, teacher_hidden, teacher_head.weight, labels)


LOSSES = {"potstill": potstill, "plain": plain, "trl": trl, "trl gkd": trl_gkd, "liger": liger}

if __name__ == "__main__":
    main()
