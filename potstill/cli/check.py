"""Check that a method holds to what every method must, on scripted models, in seconds.

Nothing is trained and no real model is asked. docs/adding-a-method.md says what is checked and why. `potstill check
teacher` is another check: does a teacher on a server read as the student does, and give the loss that its weights give
(docs/servers.md).

examples:
  potstill check orion
  potstill check my_method.py:star
  potstill check my_method.py:lema --poses --set n=2 --role teacher=scripted:teacher.yaml --problems p.jsonl
  potstill check my_method.py:star --json
  potstill check teacher --teacher 'openai:qwen?at=vllm&score=prompt_logprobs' --student transformers:models/qwen-0.6b \
    --rows rows.jsonl --local transformers:models/qwen
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from potstill.cli import check_teacher, options, show
from potstill.errors import StageError
from potstill.methods import catalogue
from potstill.methods.catalogue import MethodEntry
from potstill.models.model import Model

if TYPE_CHECKING:
    from potstill.runs.cast import Cast


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "method", metavar="METHOD", help="a method's name, or FILE.py:NAME; or teacher"
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="a model in the place of a scripted one (scripted:FILE), where a method needs replies of its own kind",
    )
    parser.add_argument(
        "--problems",
        metavar="SPEC",
        help=f"what it is run on, in the place of the world's stories: {options.PROBLEMS}",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value of the method, in the place of its default: a small number makes the check quick",
    )
    parser.add_argument(
        "--poses",
        action="store_true",
        help="rows may be learnt under prompts that no problem has, as the paper poses them",
    )
    check_teacher.add_arguments(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Run the checks, print a line for each, and fail where one does not hold."""
    if args.method == check_teacher.NAME:
        check_teacher.execute(args)
        return
    from potstill.runs import conformance

    method = catalogue.method_entry(args.method)
    findings = conformance.check_method(method, cast=_cast(args, method))
    failed = [finding for finding in findings if not finding.passed]
    if args.json:
        show.print_json(
            {"method": method.name, "findings": [dataclasses.asdict(f) for f in findings]}
        )
    else:
        for finding in findings:
            choice = "".join(f" [{name}={value}]" for name, value in finding.values.items())
            outcome = "holds"
            if finding.left_out:
                outcome = f"left out: {finding.left_out}"
            if finding.problem:
                outcome = f"does not hold: {finding.problem}"
            show.print_line(f"{finding.check}{choice} {outcome}")
    if failed:
        raise StageError(
            f"{method.name} fails {len(failed)} of {len(findings)} checks.",
            expected="every check holds",
            fix="docs/adding-a-method.md says what each is for",
        )


def _cast(args: argparse.Namespace, method: MethodEntry) -> Cast:
    """Who plays the method and on what, from the flags."""
    from potstill.records import Trace, blank
    from potstill.runs.cast import STORIES
    from potstill.runs.recipe import convert_values
    from potstill.runs.run_method import spread_models
    from potstill.runs.sources import load_model, load_problems

    # Models in the place of scripted ones; a role may be a list of them.
    models: dict[str, Model] = {}
    for role, role_specs in options.parse_lists(args.role, "--role").items():
        specs: str | list[str] = role_specs if len(role_specs) > 1 else role_specs[0]
        for key, spec in spread_models(method, {role: specs}).items():
            models[key] = load_model(str(spec))
    cast = dataclasses.replace(STORIES, models=models, poses=args.poses)
    if args.set:
        cast = dataclasses.replace(cast, values=convert_values(method, args.set))
    if not args.problems:
        return cast
    loaded = load_problems(args.problems)

    def first_problems(size: int) -> list[Trace]:
        return [blank(problem) for problem in loaded[:size]]

    return dataclasses.replace(cast, problems=first_problems)
