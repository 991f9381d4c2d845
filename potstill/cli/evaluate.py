"""Measure a model on problems: n answers each, judged, with intervals that are clustered by problem.

With --out the evaluation is stored for `potstill compare`, its answers in FILE.cache, so that a stopped one goes on.

examples:
  potstill evaluate --model world:student --problems 'world:story?split=test&size=100' --n 4 --out before.json
  potstill evaluate --model openai:NAME?at=together --problems test.jsonl --n 8 --curve --scores
  potstill evaluate --model transformers:runs/sft/students/stage-1f… --problems test.jsonl --out after.json
  potstill evaluate --model openai:NAME?at=together --problems essays.jsonl --kind judge --judge openai:gpt-4o-mini
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from potstill.cli import instruments, options, show
from potstill.cli.progress import announcer, show_progress
from potstill.cli.retry import failure_notes
from potstill.data import files
from potstill.data.learner_prompt import list_templates
from potstill.errors import ConfigError
from potstill.evaluation.metrics import check_ks, usage_per_answer
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.strata import strata_table, strata_to_json
from potstill.evaluation.table import quality_notes, usage_table
from potstill.metadata import check_names
from potstill.models.model import Model, Sampling
from potstill.records import Trace
from potstill.runs.recipe import EvaluationSettings
from potstill.verifiers import reading_thoughts

DEFAULTS = EvaluationSettings()
PROMPT_HELP = (
    "what the model sees, with {question} in it "
    "(default: the one that a student was trained with, else the kind's own, which for math asks for a boxed answer)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "--model", required=True, metavar="SPEC", help=f"the model to measure: {options.MODELS}"
    )
    options.add_problems(parser, required=True)
    parser.add_argument(
        "--judge",
        default="",
        metavar="SPEC",
        help="the model that judges problems of the kind judge",
    )
    parser.add_argument("--prompt", default="", metavar="TEMPLATE", help=PROMPT_HELP)
    parser.add_argument(
        "--limit",
        type=options.positive_int,
        metavar="N",
        help="measure on at most N problems (all)",
    )
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of samples and of --limit's choice (0)",
    )
    parser.add_argument("--name", default="", help="what to call it in tables (default: the model)")
    parser.add_argument(
        "--out", type=options.expand_path, metavar="FILE.json", help="store the evaluation here"
    )
    _add_sampling_arguments(parser)
    options.add_answers_in_thoughts(parser)
    options.add_retry_errors(parser)
    options.add_budget(parser, "model", "judge")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def _add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    sampling = DEFAULTS.sampling
    parser.add_argument(
        "--n",
        type=options.positive_int,
        default=DEFAULTS.n,
        help=f"answers a problem ({DEFAULTS.n})",
    )
    options.add_ks(parser)
    instruments.add_arguments(parser)
    options.add_by(parser)
    parser.add_argument(
        "--temperature",
        type=float,
        default=sampling.temperature,
        help=f"of sampling; 0 is greedy ({sampling.temperature})",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=sampling.top_p,
        help=f"share of the probability that is sampled from ({sampling.top_p})",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=options.positive_int,
        default=sampling.max_new_tokens,
        help=f"tokens of an answer at most ({sampling.max_new_tokens})",
    )


def execute(args: argparse.Namespace) -> None:
    """Evaluate, store and print."""
    with files.skipping(args.skip_bad), reading_thoughts(args.answers_in_thoughts):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from potstill.runs import trained_prompt
    from potstill.runs.recordings import recorded_problems
    from potstill.runs.sources import load_model, load_problems, pose_all
    from potstill.store import Store
    from potstill.traces.verification import check_judge

    check_ks(args.k, args.n)
    problems = load_problems(
        args.problems,
        mapping=options.parse_pairs(args.map, "--map"),
        limit=args.limit or 0,
        seed=args.seed,
        kind=args.kind,
        where=args.where,
    )
    check_names(args.by, problems)
    _check_out(args)
    trained = trained_prompt.read_trained_prompt(args.model)
    model = load_model(trained_prompt.match_spec(args.model, trained), threads=args.threads)
    asked = trained_prompt.choose_prompt(trained, args.prompt, problems)
    judge = load_model(args.judge, threads=args.threads) if args.judge else None
    traces = pose_all(problems, asked.template, recorded=args.model.startswith("recorded:"))
    check_judge(traces, judge, "--judge SPEC")
    traces, missing_note = recorded_problems(model, traces, args.n, spec=args.model)
    announce = announcer(args.quiet)
    if missing_note:
        announce(missing_note)
    answers = len(traces) * args.n
    announce(f"asks {len(traces):,} problems x {args.n} answers: {answers:,} answers")
    with _cache_folder(args.out) as folder, Store.open(folder) as store:
        budget = options.open_budget(args, store, {"model": model, "judge": judge})
        evaluation = _measure(args, store, budget, model=model, judge=judge, traces=traces)
        failures = failure_notes(store, is_stored=args.out is not None)
    if args.out:
        from potstill.runs import manifest

        manifest.write(args.out, evaluation.to_json())
        files.save_beside(args.out)

    notes = [*quality_notes([evaluation]), *failures, *files.notes(), *budget.notes()]
    if asked.note:
        notes.append(f"{evaluation.name}: {asked.note}")
    if missing_note:
        notes.append(missing_note)
    if args.json:
        out = str(args.out) if args.out else None
        prompts = list_templates(traces)
        document = summarise(evaluation, args.k) | instruments.instruments_document(
            args, evaluation
        )
        strata = {by: strata_to_json([evaluation], by) for by in args.by}
        show.print_json(
            document | {"strata": strata, "prompts": prompts, "notes": notes, "out": out}
        )
        return
    show.print_arms([table_row(evaluation, args.k)])
    show.print_table(usage_table([evaluation]), may_shorten_names=True)
    instruments.print_instruments(args, [evaluation])
    for by in args.by:
        show.print_table(strata_table([evaluation], by), title=f"by {by}")
    for note in notes:
        show.print_line(note)
    instruments.print_fingerprints([evaluation])
    if args.out:
        show.print_line(f"evaluation {args.out}")


def _check_out(args: argparse.Namespace) -> None:
    """Refuse before hours of measuring what could not be written after them, or paid for and not stored."""
    out: Path | None = args.out
    if args.budget and not out:
        raise ConfigError(
            "--budget without --out: what was paid for would be lost where the limit is reached",
            expected="a file that the evaluation, and its answers beside it, are kept in",
            fix="--out FILE.json",
        )
    if out and (out.is_dir() or out.suffix == ".cache"):
        what = "a folder" if out.is_dir() else "where the answers of an evaluation are kept"
        raise ConfigError(
            f"--out {out} is {what}", expected="a file", fix=f"--out {out.with_suffix('.json')}"
        )


@contextmanager
def _cache_folder(out: Path | None) -> Iterator[Path]:
    """Where the answers are stored: beside the evaluation, or only as long as it takes."""
    if out:
        yield out.with_suffix(".cache")
        return
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        yield Path(folder)


def _measure(
    args: argparse.Namespace,
    store: Any,
    budget: Any,
    *,
    model: Model,
    judge: Model | None,
    traces: list[Trace],
) -> Evaluation:
    from potstill.evaluation.benchmark import evaluate
    from potstill.store import with_cache
    from potstill.traces import Session, plain, using

    sampling = dataclasses.replace(
        Sampling(),
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
    )
    with show_progress(args.quiet) as progress:
        cached = partial(
            with_cache,
            store=store,
            arm="evaluation",
            seed=args.seed,
            progress=progress,
            budget=budget,
            retry_errors=args.retry_errors,
        )
        cached_judge = cached(judge, role="judge") if judge is not None else None
        with using(Session(verdict_cache=store.verdicts, judge=cached_judge)):
            return evaluate(
                partial(plain, cached(model, role="model")),
                traces,
                name=args.name or args.model,
                n=args.n,
                sampling=sampling,
                seed=args.seed,
                threads=args.threads or _torch_threads(),
            )


def _torch_threads() -> int | None:
    """The threads that torch uses, where a local model has loaded it."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def table_row(evaluation: Evaluation, ks: Sequence[int] = ()) -> dict[str, str]:
    """The evaluation as a row of the table of arms, without the columns that compare it with others."""
    from potstill.evaluation.results import Results
    from potstill.evaluation.table import table

    results = Results("", 0, evaluations={evaluation.name: evaluation})
    [cells] = table(results, base=evaluation.name, ks=ks)
    return {name: cell for name, cell in cells.items() if not name.startswith("vs ")}


def summarise(evaluation: Evaluation, ks: Sequence[int] = ()) -> dict[str, Any]:
    """The measures and the fingerprint, without the answers."""
    from potstill.evaluation.metrics import measures

    measured: dict[str, Any] = {}
    for name, value in measures(evaluation, ks).items():
        measured[name] = value._asdict() if isinstance(value, tuple) else value
    fingerprint = evaluation.fingerprint
    return {
        "name": evaluation.name,
        "measures": measured,
        "statuses": evaluation.statuses(),
        "per_answer": {role: u._asdict() for role, u in usage_per_answer(evaluation).items()},
        "fingerprint": {
            "id": fingerprint.id,
            "task_id": fingerprint.task_id,
            "task": dict(fingerprint.task),
            "run": dict(fingerprint.run),
        },
    }
