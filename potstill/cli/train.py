"""Train a student on rows of your own, without a method, by any objective.

Rows are a file, hf:NAME or a run's: {prompt, completion}, {messages}, {conversations}, {prompt, chosen, rejected},
traces. Objectives:
OBJECTIVES

Those of pairs want chosen and rejected (kto also takes {prompt, completion, label: true or false}). Those of
distributions want a --teacher of the same tokenizer, or a --teacher-cache (potstill cache-teacher); uld, gold,
multilevel_ot, dskd, cot2align and rkd compare with a --teacher of any tokenizer. With
--set on_policy_fraction=1 the student writes its own completions of the problems in --rows.

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
--use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP shares it out (no rollouts, no adapters).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill import objectives
from potstill.cli import options, rows, show
from potstill.cli.evaluate import ASKED
from potstill.cli.progress import clock, watching
from potstill.data import files
from potstill.data.row_traces import RowTraces
from potstill.errors import ConfigError, ModelError
from potstill.runs.train_rows import read_keywords
from potstill.training.objective_config import LOOP_KEYWORDS, ObjectiveConfig, bind, trainable
from potstill.training.settings import SETTINGS, FitResult, TrainingSettings

_NAMES = textwrap.fill(", ".join(trainable()), 110, initial_indent="  ", subsequent_indent="  ")
__doc__ = (__doc__ or "").replace("OBJECTIVES", _NAMES)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    rows.add(parser)
    parser.add_argument(
        "--student",
        "--start",
        required=True,
        metavar="SPEC",
        help="a checkpoint: transformers:PATH, PATH, world:student",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=options.folder,
        metavar="DIR",
        help="where the student is stored",
    )
    parser.add_argument(
        "--objective", default="sft", metavar="NAME", help="what it learns by (sft)"
    )
    parser.add_argument(
        "--teacher",
        default="",
        metavar="SPEC",
        help="a checkpoint (uld, gold, …: of any tokenizer; opd, …: or a server that scores)",
    )
    parser.add_argument(
        "--reference", default="", metavar="SPEC", help="a checkpoint (the student as it starts)"
    )
    parser.add_argument(
        "--teacher-cache",
        type=options.folder,
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
        help="which column is what (docs/data.md)",
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEMPLATE", help=f"with on_policy_fraction=1: {ASKED}"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a constant of the objective; of the loop: "
        f"{', '.join(name for name in LOOP_KEYWORDS if name not in _FLAGS)}; or a setting (training.KEY where a "
        f"constant has its name): {', '.join(SETTINGS)}",
    )
    parser.add_argument(
        "--seed", type=options.number, default=0, help="of the order of rows, adapters, dropout (0)"
    )
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


_FLAGS = ("teacher", "reference", "teacher_cache", "reward")
CUT = 0.5  # share of what the student writes that may reach its limit without a word about it


def execute(args: argparse.Namespace) -> None:
    """Train and print what it did."""
    with files.skipping(args.skip_bad):
        _train(args)


def _train(args: argparse.Namespace) -> None:
    settings, keywords = read_keywords(
        args.objective, args.set, seed=args.seed, threads=args.threads
    )
    config = bind(args.objective, keywords | _given(args)).config
    found = _rows(args, config)
    student = loaded(args.student, args.threads, "student")
    from potstill.training import distributed
    from potstill.training.fit import fit

    settings = _as_asked(student, settings, args.student)
    with watching(args.quiet) as progress:
        done = fit(
            found.traces, student.weights, args.out, settings, config=config, progress=progress
        )
    if distributed.rank():
        return  # the first process speaks
    steps = _steps(args.out)
    told = {"objective": args.objective, **_report(done, steps)}
    notes, bad = (
        [*found.notes, *config.notes(), *_cut(told, config)],
        [item._asdict() for item in files.save(args.out)],
    )
    if args.json:
        more = {
            "columns": found.mapping,
            "unread": found.unread,
            "losses": done.losses,
            "stats": _ends(done, steps),
            "notes": notes,
            "bad": bad,
        }
        show.document({"out": str(args.out), **told, **more})
        return
    show.table(
        [
            {"": name, "value": value}
            for name, value in told.items()
            if not isinstance(value, Mapping)
        ]
    )
    ends = _ends(done, steps).items()
    if ends:
        show.table(
            [
                {"": name, "first tenth": f"{a:.4g}", "last tenth": f"{b:.4g}"}
                for name, (a, b) in ends
            ]
        )
    show.columns(found.mapping, found.unread)
    show.bad(bad)
    for reason, number in done.refused.items():
        show.say(f"left out {number:,}: {reason}")
    for sentence in notes:
        show.say(f"note: {sentence}")
    show.say(f"took {clock(done.seconds)}; student {args.out}")


def _rows(args: argparse.Namespace, config: ObjectiveConfig) -> RowTraces:
    """The rows; where the student writes all completions itself, problems do."""
    mapping = options.pairs(args.map, "--map")
    is_run = args.arm or Path(args.rows).is_dir()
    if config.on_policy_fraction == 1 and not is_run:
        traces = rows.ask(
            args.rows, args.limit, mapping=mapping, kind=args.kind, prompt=args.prompt
        )
        return RowTraces(traces, mapping)
    if args.prompt:
        raise ConfigError(
            f"--prompt {args.prompt[:60]!r} is for problems, and these rows have prompts of their own",
            expected="problems that the student answers itself",
            fix="--set on_policy_fraction=1, or leave --prompt out",
        )
    return rows.read(
        args.rows,
        args.limit,
        arm=args.arm,
        mapping=mapping,
        kind=args.kind,
        needs_pairs=config.wants_pairs,
        keep_wrong="mismatched" in config.needs,
    )


def _given(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"teacher_cache": args.teacher_cache} if args.teacher_cache else {}
    told = "logp" in objectives.entry(args.objective).needs  # by a server too
    for role in ("teacher", "reference"):
        if getattr(args, role):
            found[role] = loaded(
                getattr(args, role), args.threads, role, scores=told and role == "teacher"
            )
    return found


def loaded(spec: str, threads: int, role: str, *, scores: bool = False) -> Any:
    """The model of a spec or of a bare path, with weights.

    Args:
        scores: whether one will do that only says how likely given tokens are.
    """
    from potstill.runs.sources import load_model

    model = load_model(spec if ":" in spec else f"transformers:{spec}", threads=threads)
    if getattr(model, "weights", None) is None and not (scores and hasattr(model, "likelihood")):
        what = "no weights to train" if role == "student" else "no weights"
        expected = f"transformers:PATH or world:{'teacher' if role == 'teacher' else 'student'}"
        expected += ", or a server that scores (?score=prompt_logprobs)" if scores else ""
        raise ModelError(f"{spec} has {what}", expected=expected, fix=f"--{role} …")
    return model


def _as_asked(student: Any, settings: TrainingSettings, spec: str) -> TrainingSettings:
    """A student is trained as it is asked: what its template is told when it writes, it is told here."""
    chat: Any = getattr(getattr(student, "encoder", None), "chat", "auto")
    if chat == "plain":
        raise ModelError(
            f"{spec} is read as plain text; rows are rendered by a chat template",
            expected="a student with a chat template",
            fix="leave ?chat=plain out, and copy a chat_template.jinja into the checkpoint if it has none",
        )
    return dataclasses.replace(settings, chat=chat) if settings.chat == "auto" else settings


def _steps(out: Path) -> list[dict[str, float]]:
    """What was measured at each step."""
    from potstill.training.output_dir import STEPS_FILE

    file = out / STEPS_FILE
    return (
        [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        if file.is_file()
        else []
    )


def _report(done: FitResult, steps: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    plain = {
        name: getattr(done, name) for name in ("rows", "steps", "tokens", "counted", "threads")
    }
    first, last = _tenths(done.losses) if done.losses else (0.0, 0.0)
    ends = (
        {"loss_first_tenth": round(first, 4), "loss_last_tenth": round(last, 4)}
        if done.losses
        else {}
    )
    cut = [step["truncated"] for step in steps if "truncated" in step]
    shares = {"cut_rollouts": round(sum(cut) / len(cut), 4)} if cut else {}
    return {
        **plain,
        "refused": dict(done.refused),
        "seconds": round(done.seconds, 1),
        **ends,
        **shares,
    }


def _ends(done: FitResult, steps: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Each statistic at the beginning and at the end of the training."""
    return {
        name: _tenths([step[name] for step in steps if name in step])
        for name in done.stats
        if steps
    }


def _tenths(values: Sequence[float]) -> tuple[float, float]:
    """Means over the first and the last tenth, at least one: single steps hold different rows."""
    part = max(1, len(values) // 10)
    return sum(values[:part]) / part, sum(values[-part:]) / part


def _cut(told: Mapping[str, Any], config: ObjectiveConfig) -> list[str]:
    share = told.get("cut_rollouts", 0.0)
    if share <= CUT:
        return []
    learnt = (
        "cut texts are not learnt"
        if config.mask_truncated_completions
        else "the student learns texts without an end"
    )
    return [
        f"{share:.0%} of what the student wrote was cut at max_new_tokens={config.max_new_tokens}: {learnt}; "
        "--set max_new_tokens=…"
    ]
