"""Store a teacher's best entries for rows, once, to distil from them as often as you like without the teacher.

For each token that is learnt: the k most probable tokens (4 bytes each) and their log-probabilities (2 bytes each).

examples:
  potstill cache-teacher --rows rows.jsonl --teacher transformers:models/qwen-7b --k 64 --out cache
  potstill cache-teacher --rows runs/sft --arm sft --teacher world:teacher --out cache
  potstill train --rows rows.jsonl --student transformers:models/qwen-0.5b --objective forward_kl \\
    --teacher-cache cache --out kd
"""

from __future__ import annotations

import argparse
from typing import Any

from potstill.cli import options, rows, show
from potstill.cli.progress import watching
from potstill.cli.train import loaded
from potstill.data import files
from potstill.errors import ConfigError
from potstill.training.settings import TrainingSettings

MILLION = 1_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    rows.add(parser)
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="SPEC",
        help="a checkpoint with the student's tokenizer: transformers:PATH",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=options.folder,
        metavar="DIR",
        help="where the entries are stored",
    )
    parser.add_argument(
        "--k", type=options.count, default=64, metavar="N", help="entries a token (64)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="at which they will be compared (1)",
    )
    parser.add_argument(
        "--max-length",
        type=options.number,
        default=0,
        metavar="N",
        help="longest row (the context)",
    )
    parser.add_argument(
        "--max-dropped-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of rows that may be longer (0)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (auto)")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Store the entries and print what they take."""
    if not args.temperature > 0:
        raise ConfigError(
            f"--temperature {args.temperature:g}",
            expected="a number above 0",
            fix="--temperature 1",
        )
    with files.skipping(args.skip_bad):
        said = _keep(args)
    bad = [item._asdict() for item in files.save(args.out)]
    if args.json:
        show.document({**said, "bad": bad})
        return
    show.table([{"": name, "value": value} for name, value in said.items() if name != "left out"])
    for reason, number in said["left out"].items():
        show.say(f"left out {number:,}: {reason}")
    if said["k"] < args.k:
        show.say(
            f"note: k is {said['k']:,}, which is all that the teacher's vocabulary has (asked for {args.k:,})"
        )
    show.bad(bad)


def _keep(args: argparse.Namespace) -> dict[str, Any]:
    traces = rows.read(args.rows, args.limit, arm=args.arm).traces
    teacher = loaded(args.teacher, args.threads, "teacher")
    from potstill.training.dataset.build import tokenize_for_teacher
    from potstill.training.teacher import cached_logits

    settings = TrainingSettings(
        max_length=args.max_length,
        max_dropped_share=args.max_dropped_share,
        threads=args.threads,
        chat=teacher.encoder.chat,
    )
    dataset = tokenize_for_teacher(traces, teacher.weights, settings)
    with watching(args.quiet) as progress, cached_logits.threads(args.threads):
        told = cached_logits.write(
            args.out,
            teacher.weights,
            dataset.rows,
            k=args.k,
            temperature=args.temperature,
            device=args.device,
            progress=progress,
        )
    each = told.bytes / max(told.tokens, 1)
    return {
        "out": str(args.out),
        "rows": told.rows,
        "tokens": told.tokens,
        "k": told.k,
        "temperature": told.temperature,
        "bytes": told.bytes,
        "bytes_per_token": round(each, 1),
        "gib_per_million_tokens": round(each * MILLION / 2**30, 3),
        "left out": dict(dataset.skipped),
    }
