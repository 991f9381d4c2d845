"""Paired differences between evaluations, problem by problem, with intervals and an exact test.

The interval is of the mean difference in avg@n. The exact test counts only on how many problems each side is better:
McNemar's test where each problem has one answer, the sign test where it has several.

Each argument is a file of `potstill evaluate --out`, a run folder (all its arms) or RUN:ARM. The first is compared with
the second; one run folder alone compares all its arms with the untrained student.

examples:
  potstill compare after.json before.json
  potstill compare runs/quickstart
  potstill compare runs/a:orion runs/b:orion
  potstill compare runs/quickstart --curve --total-cost --parameters teacher=70B
  potstill compare runs/seed-0 runs/seed-1 runs/seed-2 --over-seeds
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.cli import instruments, options, show
from potstill.cli.evaluate import summarise, table_row
from potstill.cli.evaluations import (
    add_by,
    mark_evaluation,
    metadata_names,
    read_evaluations,
    read_references,
    split_arm,
)
from potstill.errors import ConfigError
from potstill.evaluation.compare import compare
from potstill.evaluation.instrument_tables import flops_notes, total_cost_json, total_cost_rows
from potstill.evaluation.metrics import check_ks
from potstill.evaluation.paired import SeedComparison, compare_seeds
from potstill.evaluation.results import Results, load
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.strata import UNCORRECTED, strata_table, strata_to_json
from potstill.evaluation.table import BASE, quality_notes, usage_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "what",
        nargs="+",
        metavar="FILE.json|RUN|RUN:ARM",
        help="one run, or two evaluations or runs",
    )
    parser.add_argument(
        "--force", action="store_true", help="compare though they were not asked the same"
    )
    options.add_ks(parser)
    instruments.add_arguments(parser)
    _add_cost_arguments(parser)
    parser.add_argument(
        "--over-seeds",
        action="store_true",
        help="the arguments are runs of one recipe with several seeds: each arm against the untrained student, "
        "with an interval over problems and seeds",
    )
    add_by(parser)
    options.add_json(parser)


def _add_cost_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--total-cost",
        action="store_true",
        help="of each run: what selection, generation and training of its arms took, in tokens, money and FLOPs",
    )
    parser.add_argument(
        "--parameters",
        action="append",
        default=[],
        metavar="ROLE=N",
        help="how many parameters the model of a role has, such as teacher=70B, for FLOPs; those of checkpoints on "
        "this machine are counted (may be given again)",
    )
    parser.add_argument(
        "--selecting",
        action="append",
        default=[],
        metavar="ROLE",
        help="a role whose calls before the training choose what is annotated (may be given again)",
    )


def execute(args: argparse.Namespace) -> None:
    """Compare and print."""
    if args.over_seeds:
        _compare_seeds(args)
        return
    if len(args.what) > 2:
        raise ConfigError(
            f"{len(args.what)} things to compare",
            expected="one run, or two evaluations or runs",
            fix="potstill compare A B",
        )
    costs = _read_costs(args)
    references = read_references(args.by)
    args.by = metadata_names(args.by, references)
    sides: list[list[Evaluation]] = []
    for text in args.what:
        evaluations_of_side = read_evaluations(text)
        sides.append([mark_evaluation(item, references) for item in evaluations_of_side])
    if len(sides) == 1:
        pairs = pair_with_base(sides[0], args.what[0])
    else:
        pairs = pair_sides(sides[0], sides[1])
    comparisons = [compare(arm, base, force=args.force) for arm, base in pairs]

    # Each evaluation once, in the order in which it is first compared.
    evaluations: dict[str, Evaluation] = {}
    for arm, base in pairs:
        evaluations.setdefault(arm.name, arm)
        evaluations.setdefault(base.name, base)
    for evaluation in evaluations.values():
        check_ks(args.k, evaluation.n)
    if args.json:
        documents = []
        for evaluation in evaluations.values():
            summary = summarise(evaluation, args.k)
            documents.append(summary | instruments.instruments_document(args, evaluation))
        show.print_json(
            {
                "evaluations": documents,
                "comparisons": [comparison.to_json() for comparison in comparisons],
                **_cost_document(costs, args.selecting),
                "strata": {by: strata_of_pairs(pairs, by) for by in args.by},
            }
        )
        return
    show.print_arms([table_row(evaluation, args.k) for evaluation in evaluations.values()])
    show.print_table(usage_table(evaluations.values()), may_shorten_names=True)
    instruments.print_instruments(args, list(evaluations.values()))
    _print_costs(costs, args.selecting)
    for comparison in comparisons:
        show.print_line(f"{comparison.sentence}.")
        show.print_line(f"  {comparison.counts_sentence}.")
    print_strata(pairs, args.by)
    for note in quality_notes(evaluations.values()):
        show.print_line(note)


def _compare_seeds(args: argparse.Namespace) -> None:
    """Compare the arms of several runs of one recipe, a seed each."""
    if len(args.what) < 2:
        raise ConfigError(
            "--over-seeds of one run",
            expected="the runs of several seeds",
            fix="potstill compare RUN RUN … --over-seeds",
        )
    if args.by:
        raise ConfigError(
            "--by with --over-seeds: the strata of one run are compared, not those of several",
            expected="one of the two",
            fix=f"potstill compare {args.what[0]} --by {args.by[0]}",
        )
    # A run is a seed; its arms have the same names in each.
    by_arm: dict[str, list[Evaluation]] = {}
    for text in args.what:
        for evaluation in read_evaluations(text):
            arm = evaluation.name.rpartition(":")[2]
            by_arm.setdefault(arm, []).append(evaluation)
    base_name = BASE if BASE in by_arm else next(iter(by_arm))
    comparisons: list[SeedComparison] = []
    for arm, evaluations in by_arm.items():
        if len(evaluations) != len(args.what):
            raise ConfigError(
                f"the arm {arm!r} is in {len(evaluations)} of {len(args.what)} runs",
                expected="runs of one recipe",
                fix="name the arm in each: RUN:ARM",
            )
        if arm != base_name:
            comparisons.append(
                compare_seeds(
                    evaluations,
                    by_arm[base_name],
                    arm_name=arm,
                    base_name=base_name,
                    force=args.force,
                )
            )
    if not comparisons:
        raise ConfigError(
            f"the runs have one arm, {base_name!r}",
            expected="an arm and what it is compared with",
            fix="give whole runs, or potstill compare A B",
        )
    if args.json:
        show.print_json({"comparisons": [comparison.to_json() for comparison in comparisons]})
        return
    for comparison in comparisons:
        show.print_line(f"{comparison.sentence}.")
        seeds = ", ".join(f"{100 * value:+.1f}" for value in comparison.by_seed)
        show.print_line(f"  by seed: {seeds}.")


class _RunCosts(NamedTuple):
    """A run whose costs are shown, and how many parameters the models of its roles have."""

    path: str
    results: Results
    parameters: dict[str, float]


def _read_costs(args: argparse.Namespace) -> list[_RunCosts]:
    """The arguments that are runs, where costs were asked for."""
    if not args.total_cost:
        if args.parameters or args.selecting:
            raise ConfigError(
                "--parameters and --selecting are for --total-cost", fix="--total-cost"
            )
        return []
    given_parameters = instruments.parse_parameters(args.parameters)
    costs: list[_RunCosts] = []
    for text in args.what:
        path, _ = split_arm(text)
        file = path / "results.json" if path.is_dir() else path
        # A file of one evaluation has no costs of a training beside it.
        if file.name == "results.json":
            results = load(file)
            # Parameters of local checkpoints are counted; what was said on the command line wins.
            counted = instruments.count_local_parameters(results)
            costs.append(_RunCosts(str(path), results, {**counted, **given_parameters}))
    if not costs:
        raise ConfigError(
            "--total-cost of an evaluation alone: it does not know what its student cost",
            expected="a run folder",
            fix="potstill compare RUN --total-cost",
        )
    return costs


def _print_costs(costs: Sequence[_RunCosts], selecting: Sequence[str]) -> None:
    """A table for each run, and why a sum of FLOPs is missing."""
    for run in costs:
        rows = total_cost_rows(run.results, run.parameters, selecting)
        show.print_table(rows, title=f"What the arms of {run.path} cost, measuring left out")
        show.print_line(instruments.FRONT_NOTE)
        for note in flops_notes(run.results, run.parameters):
            show.print_line(note)


def _cost_document(costs: Sequence[_RunCosts], selecting: Sequence[str]) -> dict[str, Any]:
    """The costs of the runs for the JSON document; nothing where none were asked for."""
    documents: dict[str, Any] = {}
    for run in costs:
        arms = total_cost_json(run.results, run.parameters, selecting)
        documents[run.path] = {"parameters": run.parameters, "arms": arms}
    return {"total_cost": documents} if documents else {}


def print_strata(pairs: Sequence[tuple[Evaluation, Evaluation]], names: Sequence[str]) -> None:
    """The table of strata of each metadata and base."""
    for by in names:
        for base, arms in group_by_base(pairs):
            show.print_table(strata_table([base, *arms], by, base=base), title=f"by {by}")
    if names:
        show.print_line(UNCORRECTED)


def strata_of_pairs(
    pairs: Sequence[tuple[Evaluation, Evaluation]], by: str
) -> list[dict[str, Any]]:
    """The scores of strata of one metadata as plain data, base after base."""
    rows: list[dict[str, Any]] = []
    for base, arms in group_by_base(pairs):
        rows += strata_to_json([base, *arms], by, base=base)
    return rows


def group_by_base(
    pairs: Sequence[tuple[Evaluation, Evaluation]],
) -> list[tuple[Evaluation, list[Evaluation]]]:
    """Each base with the arms that are compared with it, in the order of the pairs."""
    # By name: the same base may have been read once for each arm.
    groups: dict[str, tuple[Evaluation, list[Evaluation]]] = {}
    for arm, base in pairs:
        groups.setdefault(base.name, (base, []))[1].append(arm)
    return list(groups.values())


def pair_with_base(
    evaluations: list[Evaluation], argument: str
) -> list[tuple[Evaluation, Evaluation]]:
    """All arms of a run, each with the untrained student; with the first arm where that was not measured."""
    if len(evaluations) < 2:
        raise ConfigError(
            f"{argument} is one evaluation",
            expected="two, or a run with arms",
            fix=f"potstill compare {argument} OTHER",
        )
    base = evaluations[0]
    for evaluation in evaluations:
        if evaluation.name.endswith(f":{BASE}"):
            base = evaluation
    return [(evaluation, base) for evaluation in evaluations if evaluation is not base]


def pair_sides(
    first: list[Evaluation], second: list[Evaluation]
) -> list[tuple[Evaluation, Evaluation]]:
    """One with one, one with many, or arms of the same name with each other."""
    pairs = []
    if len(first) == 1 or len(second) == 1:
        for arm in first:
            for base in second:
                pairs.append((_rename_equal(arm, base), base))
        return pairs
    arms_of_second = {evaluation.name.rpartition(":")[2]: evaluation for evaluation in second}
    for arm in first:
        arm_name = arm.name.rpartition(":")[2]
        if arm_name in arms_of_second:
            pairs.append((arm, arms_of_second[arm_name]))
    if not pairs:
        raise ConfigError(
            "the runs have no arm of the same name",
            available=[evaluation.name for evaluation in (*first, *second)],
            fix="name the arms: potstill compare RUN:ARM RUN:ARM",
        )
    return pairs


def _rename_equal(arm: Evaluation, base: Evaluation) -> Evaluation:
    """The arm under a name of its own: two of one name would be shown as one."""
    if arm.name != base.name:
        return arm
    return dataclasses.replace(arm, name=f"{arm.name} (first)")
