"""Check that a method holds to what every method must, on scripted models, in seconds.

Nothing is trained and no real model is asked. docs/adding-a-method.md says what is checked and why.

examples:
  potstill check orion
  potstill check my_method.py:star
  potstill check my_method.py:star --json
"""

from __future__ import annotations

import argparse
import dataclasses

from potstill.cli import options, show
from potstill.errors import StageError
from potstill.methods import catalogue
from potstill.models.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("method", metavar="METHOD", help="a method's name, or FILE.py:NAME")
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="a model in the place of a scripted one (scripted:FILE), where a method needs replies of its own kind",
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Run the checks, print a line for each, and fail where one does not hold."""
    from potstill.runs import conformance
    from potstill.runs.run_method import spread_models
    from potstill.runs.sources import load_model

    method = catalogue.method_entry(args.method)
    specs = options.parse_lists(args.role, "--role")
    models: dict[str, Model] = {}
    if specs:
        models = {**conformance.scripted_roles(method)}
        for role, role_specs in specs.items():
            given: str | list[str] = role_specs if len(role_specs) > 1 else role_specs[0]
            for key, spec in spread_models(method, {role: given}).items():
                models[key] = load_model(str(spec))
    findings = conformance.check_method(method, models=models)
    failed = [finding for finding in findings if not finding.passed]
    if args.json:
        show.print_json(
            {"method": method.name, "findings": [dataclasses.asdict(f) for f in findings]}
        )
    else:
        for finding in findings:
            choice = "".join(f" [{name}={value}]" for name, value in finding.values.items())
            outcome = f"does not hold: {finding.problem}" if finding.problem else "holds"
            show.print_line(f"{finding.check}{choice} {outcome}")
    if failed:
        raise StageError(
            f"{method.name} fails {len(failed)} of {len(findings)} checks.",
            expected="every check holds",
            fix="docs/adding-a-method.md says what each is for",
        )
