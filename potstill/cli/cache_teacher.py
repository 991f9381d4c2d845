"""Store a teacher's top logits for rows, once, to distil from them as often as you like without the teacher.

For each token that is learnt: the k most probable tokens (4 bytes each) and their log-probabilities (2 bytes each).
docs/training.md says what is lost beyond the k.

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
from potstill.cli.progress import show_progress
from potstill.data import files
from potstill.errors import ConfigError
from potstill.extras import require_extra
from potstill.training.settings import TrainingSettings

MILLION = 1_000_000
GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    rows.add_row_arguments(parser)
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="SPEC",
        help="a checkpoint with the student's tokenizer: transformers:PATH",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=options.expand_path,
        metavar="DIR",
        help="where the logits are stored; what is there already is not computed again",
    )
    parser.add_argument(
        "--k", type=options.positive_int, default=64, metavar="N", help="entries a token (64)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="at which teacher and student will be compared (1)",
    )
    parser.add_argument(
        "--max-length",
        type=options.non_negative_int,
        default=0,
        metavar="N",
        help="tokens of a row at most, prompt included (default: the model's context)",
    )
    parser.add_argument(
        "--max-dropped-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of rows that may be longer, and are left out (0)",
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
        totals = _cache_teacher(args)
        bad_rows = [item._asdict() for item in files.save(args.out)]
        notes = [*totals.pop("notes"), *files.notes()]
    if args.json:
        show.print_json({**totals, "notes": notes, "bad": bad_rows})
        return
    lines = []
    for name, value in totals.items():
        if name != "left out":
            lines.append({"": name, "value": value})
    show.print_table(lines)
    for reason, count in totals["left out"].items():
        show.print_line(f"left out {count:,}: {reason}")
    if totals["k"] < args.k:
        show.print_line(
            f"note: k is {totals['k']:,}, which is all that the teacher's vocabulary has (asked for {args.k:,})"
        )
    show.print_bad_rows(bad_rows)
    for note in notes:
        show.print_line(f"note: {note}")


def _cache_teacher(args: argparse.Namespace) -> dict[str, Any]:
    require_extra("local", "reading a teacher's logits")
    from potstill.models.local.replicas import ReplicatedModel
    from potstill.runs.sources import load_checkpoint
    from potstill.training.dataset.build import tokenize_for_teacher
    from potstill.training.teacher import cached_logits

    learnable = rows.read_rows(args.rows, args.limit, arm=args.arm, stage=args.stage)
    teacher = load_checkpoint(args.teacher, role="teacher", threads=args.threads)
    settings = TrainingSettings(
        max_length=args.max_length,
        max_dropped_share=args.max_dropped_share,
        threads=args.threads,
        chat=teacher.encoder.chat,
    )
    dataset = tokenize_for_teacher(learnable.traces, teacher.weights, settings)

    # What is stored already is not computed again.
    with show_progress(args.quiet) as progress, cached_logits.threads(args.threads):
        cache = cached_logits.write(
            args.out,
            teacher.weights,
            dataset.rows,
            k=args.k,
            temperature=args.temperature,
            device=args.device,
            progress=progress,
            replicas=teacher.settings if isinstance(teacher, ReplicatedModel) else None,
        )
    bytes_per_token = cache.bytes / max(cache.tokens, 1)
    return {
        "notes": learnable.notes,
        "out": str(args.out),
        "rows": cache.rows,
        "tokens": cache.tokens,
        "k": cache.k,
        "temperature": cache.temperature,
        "bytes": cache.bytes,
        "bytes_per_token": round(bytes_per_token, 1),
        "gib_per_million_tokens": round(bytes_per_token * MILLION / GIB, 3),
        "left out": dict(dataset.skipped),
    }
