"""Train a student on rows of your own, without a method, by any objective.

Rows are a file, hf:NAME or a run's: {prompt, completion}, {messages}, {conversations}, {prompt, chosen, rejected},
traces. Objectives:
OBJECTIVES

Those of pairs want chosen and rejected (kto also takes {prompt, completion, label: true or false}). Those of
distributions want a --teacher of the same tokenizer, here or on a server (--set loss_top_k=20: docs/servers.md), or a
--teacher-cache (potstill cache-teacher); uld, gold, multilevel_ot, dskd, cot2align and rkd compare with a --teacher of
any tokenizer. With --set on_policy_fraction=1 the student writes its own completions of the problems in --rows.

examples:
  potstill train --rows rows.jsonl --student transformers:models/qwen --out students/mine --set lr=1e-5 --set epochs=2
  potstill train --rows pairs.jsonl --student world:student --objective redi --set alpha=0.8 --out students/redi
  potstill train --rows rows.jsonl --student world:student --objective jsd --teacher world:teacher --set beta=0.5 \\
    --out students/jsd
  potstill cache-teacher --rows rows.jsonl --teacher world:teacher --out cache
  potstill train --rows rows.jsonl --student world:student --objective forward_kl --teacher-cache cache \\
    --out students/kd
  potstill train --rows rows.jsonl --student world:student --out students/again --set lora.r=8 --set lora.use_dora=true
  torchrun --nproc-per-node 2 -m potstill train --rows rows.jsonl --student world:student --out students/shared

On several GPUs (or CPUs) torchrun or accelerate launch --multi_gpu share out the rows of every micro-batch: the same
batches and the same student as in one process, but for rounding. Each process holds the whole model; accelerate launch
--use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP shares it out (no adapters). Several machines
start the same command with torchrun --nnodes, and share the folder of --out: docs/scale.md.
"""

from __future__ import annotations

import argparse
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill import objectives
from potstill.budget.amounts import NOTHING, format_amount
from potstill.cli import options, rows, show
from potstill.cli.evaluate import PROMPT_HELP
from potstill.cli.progress import show_progress
from potstill.cli.retry import failure_notes
from potstill.data import files
from potstill.data.rows import RowTraces
from potstill.errors import ConfigError
from potstill.extras import TRAINING, require_extra
from potstill.models.phase import in_phase
from potstill.models.token_scoring import TokenScored
from potstill.runs.run_log import format_duration
from potstill.runs.train_settings import read_keywords
from potstill.store import Store, with_cache
from potstill.training.objective_config import LOOP_KEYWORDS, ObjectiveConfig, bind, trainable
from potstill.training.settings import SETTINGS, FitResult, TrainingSettings

if TYPE_CHECKING:
    from potstill.runs.training_summary import TrainingSummary

# Keywords of the loop that have a flag of their own, or that are no text.
KEYWORDS_WITH_FLAGS = ("teacher", "teachers", "reference", "teacher_cache", "reward")

TEACHER_ROLE = "teacher_"  # before the name of one of several
_NAMED_TEACHER = re.compile(
    r"[\w.-]+="
)  # a spec has a colon or a slash before its first equals sign

_NAMES = textwrap.fill(", ".join(trainable()), 110, initial_indent="  ", subsequent_indent="  ")
__doc__ = (__doc__ or "").replace("OBJECTIVES", _NAMES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    rows.add_row_arguments(parser)
    parser.add_argument(
        "--student",
        "--start",
        required=True,
        metavar="SPEC",
        help="the checkpoint to train: transformers:PATH, PATH, world:student",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=options.expand_path,
        metavar="DIR",
        help="where the student is stored; the same command goes on where a stopped one was",
    )
    keywords = ", ".join(name for name in LOOP_KEYWORDS if name not in KEYWORDS_WITH_FLAGS)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"a constant of the objective; a keyword of its loop: {keywords}; or a training setting "
        f"(training.KEY where a constant has its name): {', '.join(SETTINGS)}. docs/training.md says what each does",
    )
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of the order of rows, of adapters and dropout (0)",
    )
    _add_objective_arguments(parser)
    options.add_budget(parser, "teacher")
    options.add_retry_errors(parser)
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_verify_on(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def _add_objective_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objective",
        default="sft",
        metavar="NAME",
        help="what the student learns by (sft); docs/objectives.md compares them",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="SPEC",
        help="a checkpoint (uld, gold, …: of any tokenizer), or a server that scores (opd, …, with loss_top_k jsd, …); "
        "several as NAME=SPEC, with --set teacher_by=domain (or another column, kind, average)",
    )
    parser.add_argument(
        "--reference",
        default="",
        metavar="SPEC",
        help="the checkpoint that the student is to stay near (default: the student as it starts)",
    )
    parser.add_argument(
        "--teacher-cache",
        type=options.expand_path,
        metavar="DIR",
        help="cached teacher logits (potstill cache-teacher), instead of --teacher",
    )
    parser.add_argument(
        "--kind", default="", help="verifier of the problems, where rewards are wanted (guessed)"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="which column is what (docs/data.md); may be given again",
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEMPLATE", help=f"with on_policy_fraction=1: {PROMPT_HELP}"
    )


def execute(args: argparse.Namespace) -> None:
    """Train and print what it did."""
    with files.skipping(args.skip_bad), options.verifying_on(args.verify_on):
        _train(args)


def _train(args: argparse.Namespace) -> None:
    require_extra("local", TRAINING)
    # Mistakes in the settings are reported before a model is loaded.
    settings, keywords = read_keywords(
        args.objective, args.set, seed=args.seed, threads=args.threads
    )
    asks_server = bool(keywords.get("loss_top_k"))
    with _teacher_behind_store(args, _load_models(args), asks_server=asks_server) as models:
        _fit(args, settings, {**keywords, **models})


def _fit(args: argparse.Namespace, settings: TrainingSettings, keywords: Mapping[str, Any]) -> None:
    from potstill.runs.sources import load_checkpoint
    from potstill.runs.train_settings import match_chat_mode
    from potstill.runs.training_summary import summarise
    from potstill.training import distributed
    from potstill.training.fit import fit

    config = bind(args.objective, keywords).config
    training_rows = _read_rows(args, config)
    student = load_checkpoint(args.student, role="student", threads=args.threads)
    settings = match_chat_mode(settings, student, args.student)
    with show_progress(args.quiet) as progress, in_phase("training"):
        result = fit(
            training_rows.traces,
            student.weights,
            args.out,
            settings,
            config=config,
            progress=progress,
        )

    # Of several processes only the first reports.
    if distributed.process_rank():
        return

    # What was trained, and how its rows were read.
    summary = summarise(result, args.out, config)
    notes = [*training_rows.notes, *summary.notes]
    bad_rows = [item._asdict() for item in files.save(args.out)]
    if args.json:
        show.print_json(
            {
                "out": str(args.out),
                **summary.totals,
                "columns": training_rows.mapping,
                "unread": training_rows.unread,
                "losses": result.losses,
                "stats": {name: tuple(ends) for name, ends in summary.statistics.items()},
                "notes": notes,
                "bad": bad_rows,
            }
        )
        return
    _print_summary(summary, result)
    show.print_columns(training_rows.mapping, training_rows.unread)
    show.print_bad_rows(bad_rows)
    for reason, count in result.skipped.items():
        show.print_line(f"left out {count:,}: {reason}")
    for note in notes:
        show.print_line(f"note: {note}")
    show.print_line(f"took {format_duration(result.seconds)}; student {args.out}")


@contextmanager
def _teacher_behind_store(
    args: argparse.Namespace, models: Mapping[str, Any], *, asks_server: bool
) -> Iterator[Mapping[str, Any]]:
    """The models, with a teacher on a server behind a store beside --out: what it was paid for is paid for once.

    Args:
        asks_server: whether a server is asked although its model's weights are here too (`loss_top_k`).
    """
    served = _served_models(models, asks_server=asks_server)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if args.budget and (not served or processes > 1):
        raise ConfigError(
            "--budget limits what a teacher on a server is asked by one process",
            expected="--teacher openai:…?score=…, without torchrun",
            fix="leave --budget out",
        )
    if not served:
        yield models
        return

    # Several processes ask for a share of the rows each, and a store has one writer.
    rank = os.environ.get("RANK", "0")
    suffix = ".cache" if rank == "0" else f".cache-{rank}"
    folder = args.out.with_name(args.out.name + suffix)
    with Store.open(folder) as store:
        budget = options.open_budget(args, store, served)
        cached: dict[str, Any] = {}
        for role, model in served.items():
            cached[role] = with_cache(
                model,
                store,
                role=role,
                arm="train",
                seed=args.seed,
                budget=budget,
                retry_errors=args.retry_errors,
            )
        yield _with_cached(models, cached)
        spent_by_role = budget.spent_by_role()
        if not args.json and rank == "0":
            for role in served:
                spent = format_amount(spent_by_role.get(f"{role}/training", NOTHING))
                asked = "the teacher" if role == "teacher" else role
                show.print_line(f"asked {asked} {spent}; its answers {folder}")
            for note in (*failure_notes(store), *budget.notes()):
                show.print_line(f"note: {note}")


def _served_models(models: Mapping[str, Any], *, asks_server: bool) -> dict[str, Any]:
    """The teachers that are asked on a server, by the role under which their calls are counted."""
    teachers = {TEACHER_ROLE + name: model for name, model in models.get("teachers", {}).items()}
    if "teacher" in models:
        teachers["teacher"] = models["teacher"]
    served = {}
    for role, model in teachers.items():
        has_weights = getattr(model, "weights", None) is not None
        is_asked = asks_server and isinstance(model, TokenScored)
        if not has_weights or is_asked:
            served[role] = model
    return served


def _with_cached(models: Mapping[str, Any], cached: Mapping[str, Any]) -> dict[str, Any]:
    """The models with those behind the store in their places."""
    teachers = {}
    for name, model in models.get("teachers", {}).items():
        teachers[name] = cached.get(TEACHER_ROLE + name, model)
    replaced = {**models, "teachers": teachers} if teachers else dict(models)
    if "teacher" in cached:
        replaced["teacher"] = cached["teacher"]
    return replaced


def _print_summary(summary: TrainingSummary, result: FitResult) -> None:
    totals = []
    for name, value in summary.totals.items():
        if not isinstance(value, Mapping):
            totals.append({"": name, "value": value})
    show.print_table(totals)
    statistics = []
    for name, (first, last) in summary.statistics.items():
        statistics.append({"": name, "first tenth": f"{first:.4g}", "last tenth": f"{last:.4g}"})
    show.print_table(statistics)


def _read_rows(args: argparse.Namespace, config: ObjectiveConfig) -> RowTraces:
    """The rows; where the student writes all completions itself, problems do."""
    mapping = options.parse_pairs(args.map, "--map")
    is_run = args.arm or Path(args.rows).is_dir()
    if config.on_policy_fraction == 1 and not is_run:
        traces = rows.pose_problems(
            args.rows, args.limit, mapping=mapping, kind=args.kind, prompt=args.prompt
        )
        return RowTraces(traces, mapping)
    if args.prompt:
        raise ConfigError(
            f"--prompt {args.prompt[:60]!r} is for problems, and these rows have prompts of their own",
            expected="problems that the student answers itself",
            fix="--set on_policy_fraction=1, or leave --prompt out",
        )
    return rows.read_rows(
        args.rows,
        args.limit,
        arm=args.arm,
        stage=args.stage,
        mapping=mapping,
        kind=args.kind,
        needs_pairs=config.wants_pairs,
        keep_wrong="mismatched" in config.needs,
    )


def _load_models(args: argparse.Namespace) -> dict[str, Any]:
    """The teacher, its cache and the reference, as keywords of the objective."""
    from potstill.runs.sources import load_checkpoint

    keywords: dict[str, Any] = {}
    if args.teacher_cache:
        keywords["teacher_cache"] = args.teacher_cache
    if args.teacher:
        # Where log-probabilities of tokens are asked, or the likeliest tokens, a server that scores will do.
        needs = objectives.entry(args.objective).needs
        can_be_server = "logp" in needs or "distribution" in needs
        teachers = {}
        for name, spec in _teacher_specs(args.teacher).items():
            teachers[name] = load_checkpoint(
                spec, role="teacher", threads=args.threads, can_be_server=can_be_server
            )
        if "" in teachers:
            keywords["teacher"] = teachers[""]
        else:
            keywords["teachers"] = teachers
    if args.reference:
        keywords["reference"] = load_checkpoint(
            args.reference, role="reference", threads=args.threads
        )
    return keywords


def _teacher_specs(texts: Sequence[str]) -> dict[str, str]:
    """The specs of --teacher by their names; one without a name is the only one, under ""."""
    named = [text for text in texts if _NAMED_TEACHER.match(text)]
    if len(named) == len(texts):
        return options.parse_pairs(texts, "--teacher")
    if len(texts) > 1:
        raise ConfigError(
            f"--teacher is given {len(texts)} times, and not each has a name",
            expected="one SPEC, or several NAME=SPEC with --set teacher_by=…",
            fix="--teacher math=SPEC --teacher code=SPEC --set teacher_by=domain",
        )
    return {"": texts[0]}
