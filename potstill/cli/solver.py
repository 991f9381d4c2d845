"""`potstill evaluate --solver METHOD`: a student measured with a method's solver, beside its plain answers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from potstill.cli import options
from potstill.errors import ConfigError
from potstill.evaluation.benchmark import Solver
from potstill.evaluation.metrics import usage_per_answer
from potstill.evaluation.rows import Evaluation
from potstill.models.model import Model
from potstill.traces.reply_counts import ReplyCounter

PLAIN_SUFFIX = ".plain.json"  # beside --out: the evaluation of the plain answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--solver, --set, --role."""
    parser.add_argument(
        "--solver",
        default="",
        metavar="METHOD",
        help="let --model answer with the solver of a method that trains nothing (potstill methods testtime), or of "
        "FILE.py:NAME; its plain answers are measured too, as the control",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="with --solver: a value of the method, such as arm=resample (may be given again)",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="with --solver: the model in another role of the method than the student (may be given again)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse flags of a solver without one, a planner beside it, and recorded answers."""
    if not args.solver:
        for flag in ("set", "role"):
            if getattr(args, flag):
                raise ConfigError(f"--{flag} without a solver", fix="--solver METHOD")
        return
    if args.planner:
        raise ConfigError(
            "--solver and --planner at once", expected="one of the two", fix="leave one out"
        )
    if args.model.startswith("recorded:"):
        raise ConfigError(
            "recorded answers are to other prompts than a solver's",
            expected="a model that can be asked",
            fix="leave --solver out, or name another model",
        )


def load_role_models(args: argparse.Namespace) -> dict[str, Model]:
    """The models of `--role`, by key."""
    from potstill.methods.catalogue import method_entry
    from potstill.runs.run_method import spread_models
    from potstill.runs.sources import load_model

    if not args.solver:
        return {}
    specs: dict[str, str | list[str]] = {}
    for role, role_specs in options.parse_lists(args.role, "--role").items():
        specs[role] = role_specs if len(role_specs) > 1 else role_specs[0]
    models: dict[str, Model] = {}
    for key, spec in spread_models(method_entry(args.solver), specs).items():
        models[key] = load_model(str(spec), threads=args.threads)
    return models


def make_solver(args: argparse.Namespace, models: Mapping[str, Model]) -> Solver:
    """The method's solver with these models, the student among them."""
    from potstill.methods.catalogue import method_entry
    from potstill.runs.recipe import convert_values
    from potstill.runs.solvers import method_solver

    method = method_entry(args.solver)
    return method_solver(method, models, convert_values(method, args.set))


def solver_name(args: argparse.Namespace) -> str:
    """What the solver's evaluation is called: the student, the method, its values."""
    from potstill.methods.catalogue import short_name

    return " ".join([args.name or args.model, short_name(args.solver), *args.set])


def files_of(out: Path) -> list[Path]:
    """Where `--out` stores the solver's evaluation, and that of the plain answers."""
    return [out, out.with_suffix(PLAIN_SUFFIX)]


def reply_notes(replies: ReplyCounter) -> list[str]:
    """A sentence for each reader of replies that met some which it could not read."""
    notes: list[str] = []
    for reader, counts in replies.counts().items():
        total = sum(counts.values())
        if counts["unparsed"]:
            notes.append(
                f"{reader}: {counts['unparsed']:,} of {total:,} different replies could not be read"
            )
    return notes


def price_sentence(evaluation: Evaluation, control: Evaluation) -> str:
    """What an answer takes of all models, against a plain one."""
    calls, tokens = _calls_and_tokens(evaluation)
    plain_calls, plain_tokens = _calls_and_tokens(control)
    return (
        f"An answer of {evaluation.name} takes {calls:.3g} calls and {tokens:,.0f} completion tokens; "
        f"of {control.name} {plain_calls:.3g} and {plain_tokens:,.0f} ({_times(tokens, plain_tokens)} the tokens)"
    )


def _calls_and_tokens(evaluation: Evaluation) -> tuple[float, float]:
    used = usage_per_answer(evaluation).values()
    return sum(usage.calls for usage in used), sum(usage.completion_tokens for usage in used)


def _times(value: float, base: float) -> str:
    return f"{value / base:.3g} times" if base else "no measure of"
