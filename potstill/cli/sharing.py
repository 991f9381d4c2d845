"""`potstill view RUN --share OUT`: a copy of the pages for others, in a file or a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.errors import ConfigError
from potstill.runs.folder_layout import evaluation_ledger, examples_ledger
from potstill.viewer.notes import MARKS
from potstill.viewer.query import quote_value
from potstill.viewer.run_folders import find_meant_runs

if TYPE_CHECKING:
    from potstill.viewer.share.make import Contents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a copy."""
    group = parser.add_argument_group("a copy for others, which needs no server (docs/viewer.md)")
    group.add_argument(
        "--share",
        type=options.expand_path,
        metavar="OUT",
        help="write the pages of one run to OUT.html, or to a folder OUT if they are over 20 MB, and end",
    )
    group.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="NAME",
        help="only the traces of this arm (may be given again)",
    )
    group.add_argument(
        "--find",
        default="",
        metavar="QUERY",
        help="only the traces that this finds on the page Traces",
    )
    group.add_argument("--marked", choices=MARKS, help="only the traces that are marked so")
    group.add_argument(
        "--yes",
        action="store_true",
        help="also with the gold answers of the benchmark that was measured on",
    )


def check_flags(args: argparse.Namespace) -> None:
    """Refuse flags of a copy where none is made: they would change nothing."""
    for name in ("arm", "find", "marked", "yes"):
        if getattr(args, name):
            raise ConfigError(f"--{name} is for a copy", fix=f"--share OUT.html --{name} …")


def write_share(args: argparse.Namespace) -> None:
    """Write the copy, and say what it holds before and how large it is after."""
    from potstill.viewer.index.index_file import default_index_folder
    from potstill.viewer.reader import RunReader
    from potstill.viewer.share.make import ShareRequest, make_copy

    runs = find_meant_runs(args.runs or [Path("runs")])
    if len(runs) != 1:
        raise ConfigError(
            f"--share copies one run, and there are {len(runs)}",
            available=[run.readable_path for run in runs.values()],
            fix=f"potstill view {next(iter(runs.values())).readable_path} --share {args.share}",
        )
    [run] = runs.values()
    notes = args.notes if isinstance(args.notes, Path) else None
    reader = RunReader(run, args.index or default_index_folder(), notes)
    request = ShareRequest(args.share, make_query(args), args.yes)

    def announce(contents: Contents) -> None:
        if not args.json:
            for line in describe_contents(contents):
                show.print_line(line)

    with show_progress(quiet=args.json) as display:
        report = make_copy(
            reader,
            request,
            announce=announce,
            progress=display,
        )
    if args.json:
        show.print_json(report)
        return
    show.print_line(f"copy     {args.share}  {report['bytes'] / 1e6:.1f} MB")


def make_query(args: argparse.Namespace) -> str:
    """What is looked for: the flags as one query."""
    parts = []
    if args.arm:
        # What an arm made, what its student was measured by, and what it answers to its own rows.
        lists = [
            name for arm in args.arm for name in (arm, evaluation_ledger(arm), examples_ledger(arm))
        ]
        parts.append("arm:" + ",".join(quote_value(name) for name in lists))
    if args.marked:
        parts.append(f"mark:{args.marked}")
    if args.find:
        parts.append(args.find)
    return " ".join(parts)


def describe_contents(contents: Contents) -> list[str]:
    """What the copy will hold, for whoever is about to give it away."""
    traces = f"{contents.traces:,} traces"
    if contents.traces < contents.of:
        traces += f" of {contents.of:,}"
    lines = [
        f"holds    {traces} with {contents.characters / 1e6:.1f} MB of text and the prompts that were sent for them",
        "         results, costs and curves of the run",
        f"         {contents.problems:,} problems, {contents.golds:,} with their gold answer",
    ]
    if contents.notes:
        lines.append(f"         {contents.notes:,} notes, and who wrote them")
    secrets = "keys and passwords"
    if contents.secrets:
        secrets = f"{contents.secrets:,} keys or passwords that stand in its texts"
    lines.append(
        f"without  {secrets}, folders and hosts of this machine, the journal, the run's files"
    )
    return lines
