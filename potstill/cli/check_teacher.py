"""`potstill check teacher`: does a teacher on a server give the loss that its weights give, token by token."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.budget.amounts import NOTHING, format_amount
from potstill.cli import options, rows, show
from potstill.cli.progress import show_progress
from potstill.errors import ConfigError, StageError
from potstill.extras import require_extra
from potstill.models.phase import in_phase
from potstill.models.token_scoring import TokenScored
from potstill.store import Store, with_cache

if TYPE_CHECKING:
    from potstill.training.teacher.comparison import TeacherComparison

NAME = "teacher"  # in the place of a method's name
DEFAULT_TOP_K = 20  # what vLLM gives without being told otherwise
DEFAULT_ROWS = 200
NEEDED_FLAGS = ("teacher", "student", "rows")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a teacher's check."""
    group = parser.add_argument_group("of potstill check teacher")
    group.add_argument(
        "--teacher", metavar="SPEC", help="a server that scores tokens (docs/servers.md)"
    )
    group.add_argument("--student", metavar="SPEC", help="the checkpoint that it is to teach")
    group.add_argument("--rows", metavar="SPEC", help=rows.SPEC)
    group.add_argument(
        "--local", metavar="SPEC", help="the teacher's own weights, to compare the loss with"
    )
    group.add_argument(
        "--loss-top-k",
        type=options.positive_int,
        default=DEFAULT_TOP_K,
        metavar="K",
        help=f"entries a token ({DEFAULT_TOP_K})",
    )
    group.add_argument(
        "--limit",
        type=options.positive_int,
        default=DEFAULT_ROWS,
        metavar="N",
        help=f"rows at most ({DEFAULT_ROWS})",
    )
    group.add_argument(
        "--out",
        type=options.expand_path,
        metavar="DIR",
        help="where the teacher's answers are kept, so that the same check pays for none of them again (nowhere)",
    )
    options.add_budget(parser, NAME)
    options.add_threads(parser)
    options.add_quiet(parser)


def execute(args: argparse.Namespace) -> None:
    """Compare, print a line an objective, and fail where served and local losses differ."""
    missing = [f"--{name}" for name in NEEDED_FLAGS if not getattr(args, name)]
    if missing:
        raise ConfigError(
            f"potstill check teacher without {', '.join(missing)}",
            expected="a served teacher, the student's checkpoint, and rows",
            fix="potstill check teacher --teacher 'openai:NAME?url=…&score=prompt_logprobs' --student PATH --rows FILE",
        )
    require_extra("local", "a student's loss")
    with _opened_store(args) as store:
        comparison, spent = _compare(args, store)
    _report(args, comparison, spent)
    if not comparison.is_equal:
        worst = max(comparison.losses, key=lambda loss: abs(loss.difference or 0.0))
        raise StageError(
            f"served and local teacher differ by {worst.difference:.2e} nats a token ({worst.objective})",
            expected="losses at the same k that are equal to 1e-4 and what rounding to float32 does to them",
            fix="serve these very weights, in float32 if they are quantized or rounded there",
        )


@contextmanager
def _opened_store(args: argparse.Namespace) -> Iterator[Store]:
    """The store of --out, or one that ends with the check."""
    if args.out is not None:
        with Store.open(args.out) as store:
            yield store
        return
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        yield store


def _compare(args: argparse.Namespace, store: Store) -> tuple[TeacherComparison, str]:
    """The comparison, and what was paid for it in words."""
    from potstill.models.local import checkpoint
    from potstill.runs.sources import load_checkpoint
    from potstill.training.dataset.chat_template import read_chat_template
    from potstill.training.teacher.cached_logits import threads
    from potstill.training.teacher.comparison import compare_teachers
    from potstill.training.teacher.tokenizer_check import check_served_tokens

    teacher = load_checkpoint(args.teacher, role=NAME, can_be_server=True)
    if not isinstance(teacher, TokenScored):
        raise ConfigError(
            f"{args.teacher} says nothing of given tokens",
            expected="openai:NAME?url=…&score=prompt_logprobs (vLLM), input_top_logprobs (SGLang), n_probs (llama.cpp)",
            fix="docs/servers.md, “A served teacher”",
        )
    student = load_checkpoint(args.student, role="student", threads=args.threads)
    local: Path | None = None
    if args.local:
        local = load_checkpoint(args.local, role=NAME, threads=args.threads).weights
    traces = rows.read_rows(args.rows, args.limit).traces
    budget = options.open_budget(args, store, {NAME: teacher})
    cached: Any = with_cache(teacher, store, role=NAME, arm="check", seed=0, budget=budget)
    chat = read_chat_template(checkpoint.load_tokenizer(student.weights))
    with show_progress(args.quiet) as progress, in_phase("training"), threads(args.threads):
        check_served_tokens(student.weights, chat, cached)
        comparison = compare_teachers(
            traces,
            student.weights,
            chat,
            cached,
            loss_top_k=args.loss_top_k,
            local=local,
            progress=progress,
        )
    return comparison, format_amount(budget.spent_by_role().get("teacher/training", NOTHING))


def _report(args: argparse.Namespace, comparison: TeacherComparison, spent: str) -> None:
    losses = []
    for loss in comparison.losses:
        line: dict[str, Any] = {"objective": loss.objective, "served": f"{loss.served:.6f}"}
        if loss.local_top_k is not None and loss.local is not None:
            line |= {
                f"local, top {comparison.k}": f"{loss.local_top_k:.6f}",
                "difference": f"{loss.difference:+.1e}",
                "rounding": f"{loss.rounding:.0e}",
                "local, whole": f"{loss.local:.6f}",
                f"beyond the {comparison.k}": f"{loss.beyond_k:+.1e}",
            }
        losses.append(line)
    if args.json:
        show.print_json({**dataclasses.asdict(comparison), "spent": spent})
        return
    show.print_line(
        f"the server reads as the student does; {comparison.rows:,} rows, {comparison.tokens:,} tokens, "
        f"{comparison.k} of {comparison.vocabulary:,} entries with {comparison.mass:.4%} of the probability; {spent}"
    )
    show.print_table(losses)
    if comparison.largest_gap is not None:
        show.print_line(
            f"largest difference of a log-probability above 1e-6: {comparison.largest_gap:.1e}"
        )
    verdict = "no local weights to compare with (--local)"
    if comparison.largest_gap is not None and comparison.is_equal:
        verdict = "served and local teacher give the same loss"
    show.print_line(verdict)
