"""Measure a model on problems: n answers each, judged, with intervals that are clustered by problem.

With --out the evaluation is stored for `potstill compare`, its answers in FILE.cache, so that a stopped one goes on.

examples:
  potstill evaluate --model world:student --problems 'world:story?split=test&size=100' --n 4 --out before.json
  potstill evaluate --model openai:NAME?at=together --problems test.jsonl --n 8 --curve --scores
  potstill evaluate --model transformers:runs/sft/students/stage-1f… --problems test.jsonl --out after.json
  potstill evaluate --planner runs/explain/students/stage-1f… --model world:oracle --problems world:story-code --n 8
  potstill evaluate --solver subthoughts --set temperature=0 --model transformers:models/qwen --problems test.jsonl
  potstill evaluate --model openai:NAME?at=together --problems essays.jsonl --kind judge --judge openai:gpt-4o-mini
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli import instruments, options, show, solver
from potstill.cli.evaluations import (
    add_by,
    check_references,
    mark_evaluation,
    metadata_names,
    read_references,
)
from potstill.cli.progress import announcer, show_progress
from potstill.cli.retry import failure_notes
from potstill.data import files
from potstill.data.learner_prompt import list_templates
from potstill.errors import ConfigError
from potstill.evaluation.compare import compare
from potstill.evaluation.metrics import check_ks, usage_per_answer
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.strata import strata_table, strata_to_json
from potstill.evaluation.table import quality_notes, usage_table
from potstill.metadata import check_names
from potstill.models.model import Model, Sampling
from potstill.records import Problem, Trace
from potstill.runs.recipe import EvaluationSettings
from potstill.traces.reply_counts import ReplyCounter
from potstill.verifiers import reading_thoughts

if TYPE_CHECKING:
    from potstill.runs.trained_prompt import TrainedPrompt

DEFAULTS = EvaluationSettings()
PLANNER_SEES = {
    "problem": "the problem alone: it must have learned to plan (--planner-sees editorial asks for a plan)",
    "editorial": "a request for an editorial",
}
PROMPT_HELP = (
    "what the model sees, with {question} in it "
    "(default: the one that a student was trained with, else the kind's own, which for math asks for a boxed answer)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "--model", required=True, metavar="SPEC", help=f"the model to measure: {options.MODELS}"
    )
    parser.add_argument(
        "--planner",
        default="",
        metavar="SPEC",
        help="a model that writes plans, which --model carries out: solve@(M,T), who plans x who codes",
    )
    parser.add_argument(
        "--programs",
        type=options.positive_int,
        default=0,
        metavar="T",
        help="with --planner: answers of each plan; --n answers have n / T plans (1)",
    )
    parser.add_argument(
        "--planner-sees",
        choices=("problem", "editorial"),
        help="the problem alone, as a student that learned to plan, or a request for an editorial, as any other model "
        "(default: problem for a student of a training, else editorial)",
    )
    solver.add_arguments(parser)
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
    options.add_budget(parser, "model", "planner", "judge")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_verify_on(parser)
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
    add_by(parser)
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
    with (
        files.skipping(args.skip_bad),
        reading_thoughts(args.answers_in_thoughts),
        options.verifying_on(args.verify_on),
    ):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from potstill.runs import trained_prompt
    from potstill.runs.recordings import recorded_problems
    from potstill.runs.sources import load_problems, pose_all
    from potstill.store import Store
    from potstill.traces.verification import check_judge

    check_ks(args.k, args.n)
    _check_planner(args)
    problems = load_problems(
        args.problems,
        mapping=options.parse_pairs(args.map, "--map"),
        limit=args.limit or 0,
        seed=args.seed,
        kind=args.kind,
        where=args.where,
    )
    references = _read_references(args, problems)
    _check_out(args)
    models, trained = _load_models(args)
    role_models = solver.load_role_models(args)
    if args.solver:
        # A mistake in roles or values is said before a model is asked.
        solver.make_solver(args, _student_and(role_models, models))
    asked = trained_prompt.choose_prompt(trained, args.prompt, problems)
    traces = pose_all(problems, asked.template, recorded=args.model.startswith("recorded:"))
    check_judge(traces, models["judge"], "--judge SPEC")
    answering = models["model"]
    assert answering is not None
    traces, missing_note = recorded_problems(answering, traces, args.n, spec=args.model)
    announce = announcer(args.quiet)
    if missing_note:
        announce(missing_note)
    announce(f"asks {len(traces):,} problems x {args.n} answers: {len(traces) * args.n:,} answers")
    if args.solver:
        announce(f"then the same with {args.solver}, which may take many calls an answer")
    with _cache_folder(args.out) as folder, Store.open(folder) as store:
        budget = options.open_budget(args, store, {**role_models, **models})
        sees = args.planner_sees or ("editorial" if trained is None else "problem")
        if args.planner:
            announce(f"the planner sees {PLANNER_SEES[sees]}")
        measure = partial(_measure, args, store, budget, models=models, role_models=role_models)
        replies = ReplyCounter()
        evaluations = measure(is_trained=sees == "problem", traces=traces, replies=replies)
        failures = failure_notes(store, is_stored=args.out is not None)
    if args.out:
        _store_evaluations(args.out, evaluations)
    # What is stored knows no other evaluation.
    evaluations = [mark_evaluation(evaluation, references) for evaluation in evaluations]
    evaluation = evaluations[0]
    args.by = metadata_names(args.by, references)

    notes = [*quality_notes(evaluations), *solver.reply_notes(replies)]
    notes += [*failures, *files.notes(), *budget.notes()]
    if asked.note:
        notes.append(f"{evaluation.name}: {asked.note}")
    if missing_note:
        notes.append(missing_note)
    if args.json:
        prompts = list_templates(traces)
        show.print_json(_document(args, evaluations) | {"prompts": prompts, "notes": notes})
        return
    _print_evaluations(args, evaluations, notes)


def _store_evaluations(out: Path, evaluations: Sequence[Evaluation]) -> None:
    from potstill.runs import manifest

    for evaluation, file in zip(evaluations, solver.files_of(out), strict=False):
        manifest.write(file, evaluation.to_json())
    files.save_beside(out)


def _document(args: argparse.Namespace, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What `--json` says of the evaluation, and of the control of a solver."""
    evaluation = evaluations[0]
    document = summarise(evaluation, args.k)
    document |= instruments.instruments_document(args, evaluation)
    document["strata"] = {by: strata_to_json(evaluations, by) for by in args.by}
    document["out"] = str(args.out) if args.out else None
    for control in evaluations[1:]:
        document["control"] = summarise(control, args.k)
        document["comparison"] = compare(evaluation, control).to_json()
    return document


def _read_references(
    args: argparse.Namespace, problems: Sequence[Problem]
) -> dict[str, Evaluation]:
    """The evaluations that `--by` names, and all of it checked against the problems."""
    references = read_references(args.by)
    check_names([name for name in args.by if name not in references], problems)
    check_references(references, [problem.id for problem in problems])
    return references


def _load_models(
    args: argparse.Namespace,
) -> tuple[dict[str, Model | None], TrainedPrompt | None]:
    """The models by role, and how the one that sees the bare problems was asked in its training."""
    from potstill.runs import trained_prompt
    from potstill.runs.sources import load_model

    specs = {"model": args.model, "planner": args.planner, "judge": args.judge}
    # With a planner it is the planner who sees the problem as it was trained to.
    asked_role = "planner" if args.planner else "model"
    trained = trained_prompt.read_trained_prompt(specs[asked_role])
    specs[asked_role] = trained_prompt.match_spec(specs[asked_role], trained)
    models: dict[str, Model | None] = {}
    for role, spec in specs.items():
        models[role] = load_model(spec, threads=args.threads) if spec else None
    return models, trained


def _print_evaluations(
    args: argparse.Namespace, evaluations: Sequence[Evaluation], notes: Sequence[str]
) -> None:
    """The tables, the difference to the control of a solver, the notes, and what was measured."""
    show.print_arms([table_row(evaluation, args.k) for evaluation in evaluations])
    show.print_table(usage_table(evaluations), may_shorten_names=True)
    instruments.print_instruments(args, evaluations)
    for by in args.by:
        show.print_table(strata_table(evaluations, by), title=f"by {by}")
    for control in evaluations[1:]:
        comparison = compare(evaluations[0], control)
        show.print_line(f"{comparison.sentence}.")
        show.print_line(f"  {comparison.counts_sentence}.")
        show.print_line(f"{solver.price_sentence(evaluations[0], control)}.")
    for note in notes:
        show.print_line(note)
    instruments.print_fingerprints(evaluations)
    if args.out:
        for file, _ in zip(solver.files_of(args.out), evaluations, strict=False):
            show.print_line(f"evaluation {file}")


def _check_planner(args: argparse.Namespace) -> None:
    """Refuse programs without plans, a solver too, and recorded answers, which carry out nobody's plans."""
    solver.check_arguments(args)
    if (args.programs or args.planner_sees) and not args.planner:
        flag = "--programs" if args.programs else "--planner-sees"
        raise ConfigError(f"{flag} without plans", fix="--planner SPEC")
    # A last plan with fewer programs than asked for would shrink the surface solve@(M,T) of all plans.
    if args.programs and args.n % args.programs:
        raise ConfigError(
            f"--n {args.n} answers are no whole number of plans with --programs {args.programs} each",
            fix=f"--n {math.ceil(args.n / args.programs) * args.programs}",
        )
    if args.planner and "recorded:" in (args.model[:9], args.planner[:9]):
        raise ConfigError(
            "recorded answers are to other prompts than a plan's",
            expected="two models that can be asked",
            fix="leave --planner out, or name another model",
        )


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
    models: Mapping[str, Model | None],
    role_models: Mapping[str, Model],
    is_trained: bool,
    traces: list[Trace],
    replies: ReplyCounter,
) -> list[Evaluation]:
    """The evaluation that was asked for; of a method's solver also its control, the student's plain answers."""
    from potstill.evaluation.benchmark import evaluate
    from potstill.store import with_cache
    from potstill.traces import Session, plain, using

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
        behind_store: dict[str, Model] = {}
        for role, model in models.items():
            if model is not None:
                behind_store[role] = cached(model, role=role)
        solver_models = {key: cached(model, role=key) for key, model in role_models.items()}
        judge = behind_store.get("judge")
        session = Session(verdict_cache=store.verdicts, judge=judge, replies=replies)

        def measure(solve: Callable[..., list[Trace]], name: str) -> Evaluation:
            with using(session):
                return evaluate(
                    solve,
                    traces,
                    name=name,
                    n=args.n,
                    sampling=_read_sampling(args),
                    seed=args.seed,
                    threads=args.threads or _torch_threads(),
                )

        name = args.name or " x ".join(filter(None, (args.planner, args.model)))
        if args.planner:
            return [measure(_planning_solver(args, behind_store, is_trained=is_trained), name)]
        # The plain answers come first: what a solver begins with is among them, and is asked once.
        control = measure(partial(plain, behind_store["model"]), name)
        if not args.solver:
            return [control]
        solve = solver.make_solver(args, _student_and(solver_models, behind_store))
        return [measure(solve, solver.solver_name(args)), control]


def _student_and(
    role_models: Mapping[str, Model], models: Mapping[str, Model | None]
) -> dict[str, Model]:
    """The models of a method's roles: the one that is measured is its student."""
    student = models["model"]
    assert student is not None
    return {"student": student, **role_models}


def _planning_solver(
    args: argparse.Namespace, models: Mapping[str, Model], *, is_trained: bool
) -> Callable[..., list[Trace]]:
    """The function that asks a planner, and who carries its plans out."""
    from potstill.methods.roles.explain.settings import Settings
    from potstill.methods.roles.explain.solving import solve_by_plans

    # Plans and programs are sampled alike: the fingerprint has one sampling.
    settings = Settings(
        programs=args.programs or 1, coder_sampling=tuple(_read_sampling(args).changed())
    )

    def plan_and_carry_out(
        planner: Model, coder: Model, problems: Sequence[Trace], *, n: int, **sampling: Any
    ) -> list[Trace]:
        # A student that learned to plan sees the problem alone; any other model is asked for a plan.
        return solve_by_plans(
            planner, coder, settings, problems, n=n, is_trained=is_trained, **sampling
        )

    return partial(plan_and_carry_out, models["planner"], models["model"])


def _read_sampling(args: argparse.Namespace) -> Sampling:
    return dataclasses.replace(
        Sampling(),
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
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
