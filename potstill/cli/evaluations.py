"""Evaluations that arguments name, and the strata that `--by` names: metadata, or how often another one solved them."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from potstill.errors import ConfigError, InputError
from potstill.evaluation.results import load
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.strata import mark_solved, name_of_solved

SOLVED_BY = "solved="


def add_by(parser: argparse.ArgumentParser) -> None:
    """--by."""
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="NAME",
        help="also score the problems apart by this of their metadata: level, rating, date, topic, source, length; or "
        "by how often another evaluation solved them: solved=FILE.json, solved=RUN:ARM "
        "(may be given again; docs/data.md)",
    )


def read_references(names: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations that `solved=…` names in `--by`, by what was given."""
    references: dict[str, Evaluation] = {}
    for text in names:
        if not text.startswith(SOLVED_BY):
            continue
        evaluations = read_evaluations(text.removeprefix(SOLVED_BY))
        if len(evaluations) != 1:
            raise ConfigError(
                f"--by {text} names {len(evaluations)} evaluations",
                available=[evaluation.name for evaluation in evaluations],
                expected="one evaluation",
                fix=f"--by {text}:ARM",
            )
        references[text] = evaluations[0]
    return references


def metadata_names(names: Sequence[str], references: Mapping[str, Evaluation]) -> list[str]:
    """The metadata that `--by` names: of `solved=…` the one that `mark_evaluation` adds."""
    return [name_of_solved(references[name]) if name in references else name for name in names]


def check_references(references: Mapping[str, Evaluation], problem_ids: Sequence[str]) -> None:
    """Refuse references that were asked none of the problems, before anything is measured on them."""
    for text, reference in references.items():
        if not {row.problem for row in reference.rows} & set(problem_ids):
            raise ConfigError(
                f"--by {text}: it was asked none of these problems",
                expected="an evaluation on the same problems",
                fix="potstill evaluate --model SPEC --problems SPEC --out FILE.json measures it on them",
            )


def mark_evaluation(evaluation: Evaluation, references: Mapping[str, Evaluation]) -> Evaluation:
    """The evaluation with how often each reference solved its problems among their metadata."""
    for reference in references.values():
        evaluation = mark_solved(evaluation, reference)
    return evaluation


def read_evaluations(text: str) -> list[Evaluation]:
    """The evaluations that an argument names, a run's named RUN:ARM."""
    # One evaluation, as `potstill evaluate --out` writes it.
    path, arm = split_arm(text)
    if not path.is_dir() and path.name != "results.json":
        return [_read_evaluation(path)]

    # A run's, of one arm or of all.
    results = path / "results.json" if path.is_dir() else path
    evaluations = load(results).evaluations
    if arm and arm not in evaluations:
        raise ConfigError(
            f"{path} measured no arm {arm!r}",
            available=evaluations,
            wanted=arm,
            fix=f"{path}:{next(iter(evaluations), 'ARM')}",
        )
    if not evaluations:
        raise InputError(
            f"{path} measured nothing",
            expected="a run with evaluation problems",
            fix="potstill run … --evaluate SPEC --out ANOTHER_FOLDER (what --evaluate measures is part of a run)",
        )
    folder = path if path.is_dir() else path.parent
    renamed = []
    for name in [arm] if arm else evaluations:
        renamed.append(dataclasses.replace(evaluations[name], name=f"{folder}:{name}"))
    return renamed


def split_arm(text: str) -> tuple[Path, str]:
    """RUN:ARM as its parts; a path that is there is taken as it stands."""
    whole = Path(text).expanduser()
    run, colon, arm = text.rpartition(":")
    if whole.exists() or not colon or not Path(run).expanduser().exists():
        return whole, ""
    return Path(run).expanduser(), arm


def _read_evaluation(path: Path) -> Evaluation:
    expected = "a file of `potstill evaluate --out`, a run folder, or RUN:ARM"
    fix = "potstill evaluate --model SPEC --problems SPEC --out FILE.json"
    try:
        return Evaluation.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"there is no {path}", expected=expected, fix=fix) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} is no evaluation ({cause})", expected=expected, fix=fix
        ) from error
