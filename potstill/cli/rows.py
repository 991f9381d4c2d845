"""Rows to learn from, of any layout: what `train` and `cache-teacher` read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from potstill.cli import options
from potstill.data import hub
from potstill.data.layouts import NoCompletionError
from potstill.data.rows import RowTraces, keep_learnable, read_traces
from potstill.data.shards import MANIFEST_FILE, PARTIAL_FILE
from potstill.data.urls import Location, location_of
from potstill.errors import ConfigError, InputError, StageError
from potstill.records import Trace

LAYOUTS = "messages, prompt/completion, chosen/rejected, ShareGPT, Alpaca, traces"
SPEC = f"a .jsonl, .json, .csv or .parquet file or its URL, or hf:NAME ({LAYOUTS}), or a run's folder with --arm"


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """--rows, --arm, --stage, --limit."""
    parser.add_argument("--rows", required=True, metavar="SPEC", help=SPEC)
    parser.add_argument(
        "--arm", default="", metavar="NAME", help="whose rows, where --rows is a run's folder"
    )
    parser.add_argument(
        "--stage",
        default="",
        metavar="NAME",
        help="which stage of the arm, by name or number (last)",
    )
    parser.add_argument(
        "--limit", type=options.positive_int, default=0, metavar="N", help="the first N rows (all)"
    )


def read_rows(
    spec: str,
    limit: int = 0,
    *,
    arm: str = "",
    stage: str = "",
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    needs_pairs: bool = False,
    keep_wrong: bool = False,
) -> RowTraces:
    """The rows that may be learnt as finished traces, pairs with their rival, and how they were read.

    Args:
        spec: a file or its URL, several with *, hf:NAME, or a run's folder.
        limit: rows at most; 0 is all.
        arm: whose rows, of a run's folder.
        stage: of the arm, by its name or number; "" is the last one.
        mapping: field -> column, where the choice is not to be made.
        kind: the verifier of the problems, where rewards are wanted.
        needs_pairs: refuse rows without a rival.
        keep_wrong: keep completions that the file labels wrong, for objectives that learn from them (kto).
    """
    # The rows of a run were chosen by its method.
    if not hub.is_dataset(spec):
        folder = location_of(spec)
        if isinstance(folder, Path) and is_run_folder(folder):
            return RowTraces(_rows_of_run(folder, arm, stage)[: limit or None], {})
    if stage:
        raise ConfigError(
            f"--stage {stage} is for the folder of a run",
            fix="leave --stage out, or give --rows RUN --arm NAME",
        )
    if arm:
        raise ConfigError(
            f"--arm {arm} is for the folder of a run", fix="leave --arm out, or give --rows RUN"
        )

    # Those of a file are what may be learnt of it.
    try:
        rows = read_traces(
            spec,
            mapping=mapping,
            kind=kind,
            limit=limit,
            what="rows to learn",
            needs_pairs=needs_pairs,
        )
    except NoCompletionError as error:
        hint = (
            "problems alone are for a student that writes every completion, "
            "--set on_policy_fraction=1: a share learns rows too"
        )
        raise InputError(
            error.found,
            expected=error.expected,
            available=error.available,
            fix=f"{error.fix}; {hint}",
        ) from error
    learnable = keep_learnable(rows, keep_wrong=keep_wrong)
    if not learnable.traces:
        raise InputError(
            f"{spec} has no row that may be learnt",
            expected="completions that are whole and not labelled wrong",
            fix="; ".join(learnable.notes) or "give another file",
        )
    return learnable


def is_run_folder(location: Location) -> bool:
    """Whether a location is the folder of a run, and no file, URL or set of shards."""
    if not isinstance(location, Path) or not location.is_dir():
        return False
    return not any((location / name).exists() for name in (MANIFEST_FILE, PARTIAL_FILE))


def pose_problems(
    spec: str,
    limit: int,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    prompt: str = "",
) -> list[Trace]:
    """Blank traces of problems: where the student itself writes, there need be no completions.

    Args:
        spec: the problems.
        limit: how many at most; 0 is all.
        mapping: which column is the question, the answer, …, where it can't be guessed.
        kind: the verifier; guessed where it is not given.
        prompt: what the student sees, with {question} in it; empty is the kind's own.
    """
    from potstill.runs.sources import load_problems, pose_all

    return pose_all(load_problems(spec, mapping=mapping or {}, limit=limit, kind=kind), prompt)


def _rows_of_run(folder: Path, arm: str, stage: str) -> list[Trace]:
    from potstill.runs.stages import stage_rows, why_no_rows
    from potstill.store import Store

    with Store.open(folder, readonly=True) as store:
        known_arms = store.history.arms()
        traces = stage_rows(store, arm, stage)
        if traces:
            return traces
        arms = [name for name in known_arms if store.history.stages(name)]
        message = f"{folder} has no arm {arm!r}"
        if not arm:
            message = f"{folder} is the folder of a run, and no arm is named"
        elif arm in known_arms:
            message = why_no_rows(store, arm)
    raise StageError(message, available=arms, wanted=arm, fix="--arm NAME")
