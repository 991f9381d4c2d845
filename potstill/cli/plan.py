"""Say what a run will ask and cost before anything is paid: calls, tokens and money by role, disk, memory, steps.

Takes the flags of `potstill run` and makes every check that it makes: what would stop the run stops the plan. Without
--pilot no model is asked: stand-ins answer right, wrong or unreadably, at shares that are printed and can be set, and
are driven through every stage and measurement. What could not be reached stands in the first line. With --pilot N the
real models answer N problems in the run's own folder up to the first training, and stand-ins answer as they did after
it; the run that follows does not pay for them again. Times are those of what local models write and train, from the
slowest to the fastest rate that was measured: in the run's folder, or now with --probe. --scale says how many replicas
of what there would be, --scale-from takes their speed from a smaller run: hours, money, and what binds (docs/scale.md).

examples:
  potstill plan orion --problems train.jsonl --teacher openai:gpt-4.1-mini?at=openai --student transformers:qwen
  potstill plan recipes/orion-qwen3-0.6b.yaml --problems train.jsonl --assume teacher.completion=3000 --assume right=0.7
  potstill plan recipe.yaml --pilot 20 --budget 1usd
  potstill plan recipe.yaml --scale-from runs/small --scale teacher.replicas=8 --scale teacher.usd_per_hour=2.5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.cli import options, run, show
from potstill.cli.progress import show_progress
from potstill.cli.results import noting_kept_work
from potstill.cli.retry import failure_notes_of_folder
from potstill.data import files
from potstill.runs.run_log import format_duration

if TYPE_CHECKING:
    from potstill.runs.estimate import Need, Plan
    from potstill.runs.local_time import Range
    from potstill.runs.recipe import Recipe
    from potstill.runs.scale import ScaledPlan
    from potstill.runs.scale_rates import MeasuredRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    run.add_recipe_arguments(parser)
    run.add_measuring_arguments(parser)
    parser.add_argument(
        "--pilot",
        type=options.positive_int,
        metavar="N",
        help="let the real models answer N problems first (default: stand-ins answer, and nothing is paid)",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="let local models write and train for some seconds each, to say how long the run takes; nothing of it is "
        "kept (default: the rates of earlier calls in the run's folder, where there are any)",
    )
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="right and unparsed (shares of completions), completion (tokens of one), chars (characters of a token); "
        "teacher.right for one role, student/evaluation.right for one phase of it (may be given again)",
    )
    parser.add_argument(
        "--scale",
        action="append",
        default=[],
        metavar="NAME.SETTING=VALUE|FILE",
        help="what there would be: replicas, tokens_per_second, usd_per_hour, start_seconds, requests_per_minute, "
        "tokens_per_minute of a role (teacher.replicas=8), of train or verify (rows_per_second), disk.gb; or a YAML "
        "file (may be given again)",
    )
    parser.add_argument(
        "--scale-from",
        type=options.expand_path,
        metavar="RUN",
        help="the folder of a smaller run, for speeds, lengths, shares of right answers (default: --scale, --assume)",
    )
    options.add_retry_errors(parser)
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Print the plan."""
    from potstill.runs.dry_run import parse_assumptions
    from potstill.runs.estimate import make_plan
    from potstill.runs.scale_rates import measure_run

    recipe = run.read_recipe(args)
    assumptions = parse_assumptions(options.parse_pairs(args.assume, "--assume"))
    measured = None
    if args.scale_from:
        measured = measure_run(args.scale_from, assumptions)
        assumptions = dict(measured.assumptions)
    out = args.out or Path("runs") / Path(args.what).stem
    with (
        noting_kept_work(out),
        show_progress(args.quiet) as progress,
        files.skipping(args.skip_bad),
    ):
        plan = make_plan(
            recipe,
            out,
            assumptions,
            pilot=args.pilot or 0,
            probe=args.probe,
            rows_only=args.rows_only,
            threads=args.threads,
            retry_errors=args.retry_errors,
            progress=progress,
        )
        notes = files.notes()
        if args.pilot:
            notes += failure_notes_of_folder(out)
    scaled = None
    if args.scale or measured is not None:
        scaled, scale_notes = _scale(args, plan, recipe, measured)
        notes += scale_notes
    if args.json:
        document = plan.to_json() | {"notes": [*plan.notes, *notes]}
        if scaled is not None:
            document["scale"] = scaled.to_json()
        show.print_json(document)
        return
    # What was not counted comes first: the figures below it are too low.
    for sentence in plan.unreached:
        show.print_line(f"incomplete: {sentence}")
    for sentence in plan.notes:
        show.print_line(sentence)
    _print_plan(plan)
    student = recipe.roles.get("student", "")
    if any(plan.rows.values()) and not plan.training and not args.rows_only:
        show.print_line(f"steps and memory are not known: there is no checkpoint of {student} here")
    if scaled is not None:
        _print_scaled(scaled)
    for note in notes:
        show.print_line(note)


def _scale(
    args: argparse.Namespace, plan: Plan, recipe: Recipe, measured: MeasuredRun | None
) -> tuple[ScaledPlan, list[str]]:
    """The plan on the machines of --scale, and what people should know of it."""
    from potstill.methods.role_annotations import role_of
    from potstill.runs.results import deciding_settings
    from potstill.runs.scale import read_cluster, refuse_unknown_sections, scale_plan
    from potstill.runs.scale_rates import extrapolate, load_measurements

    cluster = read_cluster(args.scale, measured.cluster if measured else None)
    refuse_unknown_sections(cluster, {role_of(key) for key in recipe.roles})
    notes: list[str] = []
    # A run of the same recipe knows more than stand-ins do.
    if measured is not None:
        plan, sentence = extrapolate(plan, measured, deciding_settings(recipe))
        notes.append(sentence)
    scaled = scale_plan(plan, cluster)
    notes += [f"the time is too low: {sentence}" for sentence in scaled.unknown]
    notes += scaled.warnings
    measurements = load_measurements()
    if measurements is not None:
        notes.append(measurements.error_sentence())
    return scaled, notes


def _print_scaled(scaled: ScaledPlan) -> None:
    """The parts of the run, its time with more replicas, and how far to believe it."""
    # What happens after what, each with what would have to grow.
    lines = []
    for part in scaled.parts:
        lines.append(
            {
                "part": part.name,
                "replicas": f"{part.replicas:g}" if part.replicas else show.NONE,
                "tokens": f"{part.tokens:,.0f}" if part.tokens else show.NONE,
                "time": format_duration(part.seconds),
                "not shortened": format_duration(part.serial_seconds),
                "binds": part.kind,
                "USD": f"{part.money:,.4g}",
            }
        )
    show.print_table(lines, title=f"scale: {format_duration(scaled.seconds)} in all")
    by_factor = {}
    for factor, seconds in scaled.seconds_by_factor.items():
        by_factor[f"{factor} x"] = format_duration(seconds)
    by_factor["without end"] = format_duration(scaled.serial_seconds)
    show.print_table([by_factor], title="time with so many times the replicas")
    kind, share = scaled.binding()
    if kind:
        show.print_line(f"what binds: {kind}, {share:.0%} of the time")
    money = f"replicas {scaled.replica_money:,.4g} USD while they work"
    money += f", {scaled.held_money:,.4g} USD if all are held from start to end"
    if scaled.api_money is not None:
        money += f"; calls paid by tokens {scaled.api_money:,.4g} USD"
    show.print_line(money)


def _print_plan(plan: Plan) -> None:
    is_paid = any(need.money != 0 for need in plan.needs)
    is_timed = any(need.seconds is not None for need in plan.needs)
    lines = []
    for need in plan.needs:
        line = _need_line(need, is_paid=is_paid)
        if is_timed:
            line["time"] = format_range(need.seconds) if need.seconds else show.NONE
        lines.append(line)
    show.print_table(lines, title=f"calls for {plan.problems:,} problems, by role")

    # Size and memory are known of a checkpoint that is here.
    trainings = []
    for arm, row_count in plan.rows.items():
        line = {"arm": arm, "rows": f"{row_count:,}"}
        size = plan.training.get(arm)
        if size is not None:
            line["steps"] = f"{size.steps:,}"
            line["trained"] = f"{size.trained:,}"
            line["memory"] = format_bytes(size.memory)
        seconds = plan.training_seconds.get(arm)
        if seconds is not None:
            line["time"] = format_range(seconds)
        trainings.append(line)
    show.print_table(trainings, title="training")
    disk = {name: format_bytes(size) for name, size in plan.disk.items()}
    show.print_table([disk], title="disk")

    # What a pilot measured, and what is assumed where it did not.
    measured = []
    for name, estimate in plan.measured.items():
        value = f"{estimate.value:.4g}"
        interval = f"{estimate.low:.4g} to {estimate.high:.4g}"
        measured.append({"measured": name, "value": value, "95 % interval": interval})
    show.print_table(measured, title=f"measured on {plan.tried} problems")
    assumptions = []
    for name, value in plan.assumptions.items():
        assumptions.append({"assumed": name, "value": str(value)})
    show.print_table(assumptions)
    if plan.paid:
        show.print_line(
            f"the pilot cost {plan.paid:.4g} USD; the run with the same flags does not pay for it again"
        )


def _need_line(need: Need, *, is_paid: bool) -> dict[str, str]:
    line = {
        "role": need.role,
        "model": show.keep_start(need.model, 36),
        "calls": f"{need.calls:,}",
        "prompt": f"{need.prompt:,}",
        "completion": f"{need.completion:,}",
        "at most": f"{need.max_completion:,}",
    }
    if not is_paid:
        return line
    if need.money is None:
        return line | {"USD": "no price", "interval": show.NONE, "USD at most": show.NONE}
    interval = show.NONE
    if need.high != need.low:
        interval = f"{need.low:.4g} to {need.high:.4g}"
    return line | {
        "USD": f"{need.money:.4g}",
        "interval": interval,
        "USD at most": f"{need.limit:.4g}",
    }


def format_range(seconds: Range) -> str:
    """A range of seconds as people read it: `8 s to 4:05`."""
    low, high = format_duration(seconds.low), format_duration(seconds.high)
    return f"about {low}" if low == high else f"{low} to {high}"


def format_bytes(count: float) -> str:
    """A number of bytes as people read it: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
