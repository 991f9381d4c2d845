"""Paired differences between evaluations, problem by problem, with intervals.

Each argument is a file of `potstill evaluate --out`, a run folder (all its arms) or RUN:ARM. The first is compared with
the second; one run folder alone compares all its arms with the untrained student.

examples:
  potstill compare after.json before.json
  potstill compare runs/quickstart
  potstill compare runs/a:orion runs/b:orion
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from potstill.cli import options, show
from potstill.cli.evaluate import row, summary
from potstill.errors import ConfigError, InputError
from potstill.evaluation.compare import compare
from potstill.evaluation.results import load
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import BASE


def arguments(parser: argparse.ArgumentParser) -> None:
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
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Compare and print."""
    if len(args.what) > 2:
        raise ConfigError(
            f"{len(args.what)} things to compare",
            expected="one run, or two evaluations or runs",
            fix="potstill compare A B",
        )
    sides = [read(text) for text in args.what]
    pairs = _within(sides[0], args.what[0]) if len(sides) == 1 else _between(sides[0], sides[1])
    compared = [compare(arm, base, force=args.force) for arm, base in pairs]
    shown = list(dict.fromkeys(e.name for pair in pairs for e in pair))
    by_name = {e.name: e for pair in pairs for e in pair}
    if args.json:
        told = {"evaluations": [summary(by_name[name]) for name in shown]}
        show.document({**told, "comparisons": [comparison.to_json() for comparison in compared]})
        return
    show.arms([row(by_name[name]) for name in shown])
    for comparison in compared:
        show.say(f"{comparison.sentence}.")


def read(text: str) -> list[Evaluation]:
    """The evaluations that an argument names, a run's named RUN:ARM."""
    path, arm = _split(text)
    if path.is_dir() or path.name == "results.json":
        results = path / "results.json" if path.is_dir() else path
        found = load(results).evaluations
        wanted = [arm] if arm else list(found)
        if arm and arm not in found:
            raise ConfigError(
                f"{path} measured no arm {arm!r}",
                available=found,
                wanted=arm,
                fix=f"{path}:{next(iter(found), 'ARM')}",
            )
        if not wanted:
            raise InputError(
                f"{path} measured nothing",
                expected="a run with evaluation problems",
                fix="potstill run … --evaluate SPEC --out ANOTHER_FOLDER (what --evaluate measures is part of a run)",
            )
        folder = path if path.is_dir() else path.parent
        return [dataclasses.replace(found[name], name=f"{folder}:{name}") for name in wanted]
    return [_evaluation(path)]


def _split(text: str) -> tuple[Path, str]:
    """RUN:ARM as its parts; a path that is there is taken as it stands."""
    whole = Path(text).expanduser()
    head, colon, arm = text.rpartition(":")
    if whole.exists() or not colon or not Path(head).expanduser().exists():
        return whole, ""
    return Path(head).expanduser(), arm


def _evaluation(path: Path) -> Evaluation:
    expected = "a file of `potstill evaluate --out`, a run folder, or RUN:ARM"
    fix = "potstill evaluate --model SPEC --problems SPEC --out FILE.json"
    try:
        return Evaluation.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"there is no {path}", expected=expected, fix=fix) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is no evaluation ({what})", expected=expected, fix=fix) from error


def _within(evaluations: list[Evaluation], what: str) -> list[tuple[Evaluation, Evaluation]]:
    """All arms of a run against the untrained student."""
    if len(evaluations) < 2:
        raise ConfigError(
            f"{what} is one evaluation",
            expected="two, or a run with arms",
            fix=f"potstill compare {what} OTHER",
        )
    base = next((e for e in evaluations if e.name.endswith(f":{BASE}")), evaluations[0])
    return [(e, base) for e in evaluations if e is not base]


def _between(
    first: list[Evaluation], second: list[Evaluation]
) -> list[tuple[Evaluation, Evaluation]]:
    """One with one, one with many, or arms of the same name with each other."""
    if len(first) == 1 or len(second) == 1:
        return [(_apart(arm, base), base) for arm in first for base in second]
    arms = {e.name.rpartition(":")[2]: e for e in second}
    pairs = [(e, arms[name]) for e in first if (name := e.name.rpartition(":")[2]) in arms]
    if not pairs:
        raise ConfigError(
            "the runs have no arm of the same name",
            available=[e.name for e in (*first, *second)],
            fix="name the arms: potstill compare RUN:ARM RUN:ARM",
        )
    return pairs


def _apart(arm: Evaluation, base: Evaluation) -> Evaluation:
    """The same name twice would be told of as one."""
    return dataclasses.replace(arm, name=f"{arm.name} (first)") if arm.name == base.name else arm
