"""The instruments' flags and tables, for the commands that show evaluations (docs/instruments.md)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from potstill.cli import options, show
from potstill.errors import ConfigError
from potstill.evaluation.instrument_tables import (
    agreement_notes,
    curve_json,
    curve_rows,
    diversity_note,
    fingerprint_line,
    iso_cost_rows,
    score_rows,
    scores_json,
    surface_json,
    surface_rows,
)
from potstill.evaluation.nested import is_nested
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.total_cost import run_roles

FRONT_NOTE = (
    "* nothing in this table is at least as good for no more tokens ($: for no more money)."
)
MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}  # of a number of parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--curve and --scores."""
    parser.add_argument(
        "--curve",
        action="store_true",
        help="pass@k and maj@k over k (powers of two, or --k), with the tokens and the money that k answers take",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="how well the answers' entropy, disagreement and length detect wrong answers: AUROC, AUPRC, calibration",
    )


def print_instruments(args: argparse.Namespace, evaluations: Sequence[Evaluation]) -> None:
    """The tables that were asked for; the surface solve@(M,T) of every arm whose answers descend from several plans."""
    nested = [evaluation for evaluation in evaluations if is_nested(evaluation)]
    for evaluation in nested:
        show.print_table(surface_rows(evaluation), title="solve@(M,T): M plans, T programs of each")
        show.print_table(iso_cost_rows(evaluation), title="For the same tokens")
        show.print_line(diversity_note(evaluation))
    if nested:
        names = ", ".join(evaluation.name for evaluation in nested)
        show.print_line(
            f"{names}: pass@k and maj@k take all programs as equal, whatever their plan; solve@(M,T) does not. "
            f"{FRONT_NOTE}"
        )
    if args.curve:
        show.print_table(
            curve_rows(evaluations, args.k), title="With k answers", may_shorten_names=True
        )
        show.print_line(FRONT_NOTE)
    if args.scores:
        show.print_table(
            score_rows(evaluations), title="Scores as detectors", may_shorten_names=True
        )
        for note in agreement_notes(evaluations):
            show.print_line(note)


def print_fingerprints(evaluations: Sequence[Evaluation]) -> None:
    """What each evaluation measured, in a line."""
    for evaluation in evaluations:
        show.print_line(f"{evaluation.name}: {fingerprint_line(evaluation.fingerprint)}")


def instruments_document(args: argparse.Namespace, evaluation: Evaluation) -> dict[str, Any]:
    """The same figures of one arm, for its JSON document."""
    document: dict[str, Any] = {}
    if is_nested(evaluation):
        document["surface"] = surface_json(evaluation)
    if args.curve:
        document["curve"] = curve_json(evaluation, args.k)
    if args.scores:
        document |= scores_json(evaluation)
    return document


def count_local_parameters(results: Results) -> dict[str, float]:
    """How many parameters the models of a run's roles have, where they are checkpoints on this machine."""
    from potstill.runs.sources import checkpoint_of
    from potstill.training.memory_estimate import read_shapes

    counts: dict[str, float] = {}
    roles_with_calls = run_roles(results)
    for role, spec in results.recipe.get("roles", {}).items():
        # A role of several models has no one size; a server's model has none that anybody knows here.
        folder = checkpoint_of(spec) if isinstance(spec, str) else None
        if folder is not None and role in roles_with_calls:
            count = sum(math.prod(shape) for shape in read_shapes(folder).values())
            if count:
                counts[role] = float(count)
    return counts


def parse_parameters(texts: Sequence[str]) -> dict[str, float]:
    """`role=1.7B` texts as numbers of parameters."""
    parameters: dict[str, float] = {}
    for role, text in options.parse_pairs(texts, "--parameters").items():
        # As model cards write it: 1.7B, 350M.
        number, unit = text, 1.0
        if text[-1:].upper() in MULTIPLES:
            number, unit = text[:-1], MULTIPLES[text[-1].upper()]
        try:
            count = float(number) * unit
        except ValueError:
            count = math.nan
        if not 0 < count < math.inf:
            raise ConfigError(
                f"--parameters {role}={text}",
                expected="a number of parameters",
                fix=f"--parameters {role}=1.7B",
            )
        parameters[role] = count
    return parameters
