"""Turn recorded answers into traces: for `potstill train`, `potstill export`, and as `recorded:FILE`.

The layout is guessed (messages, ShareGPT, prompt/completion, question/reasoning/answer, chosen/rejected, Open-R1,
OpenThoughts, s1K, a column a model) and shown; --map says otherwise. With --judge the answers are judged.

examples:
  potstill import answers.jsonl --out traces.jsonl --judge --keep right
  potstill import hf:open-r1/OpenR1-Math-220k:train --out runs/openr1 --limit 1000
  potstill import rows.parquet --map reasoning=thoughts --map answer=reply --map gold=target --out traces.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import watching
from potstill.data import files
from potstill.errors import ConfigError, InputError
from potstill.records import Trace, digest
from potstill.runs import importing

ARM = "import"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "file", metavar="FILE", help="a .jsonl, .json, .csv or .parquet file, or hf:NAME"
    )
    parser.add_argument(
        "--out", type=options.folder, metavar="FILE.jsonl|RUN", help="a trace file, or a run folder"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"which column is what: {', '.join(importing.FIELDS)} (may be given again)",
    )
    parser.add_argument("--kind", default="", help=f"verifier: {options.KINDS} (default: guessed)")
    parser.add_argument(
        "--judge", action="store_true", help="judge the answers that have a gold answer"
    )
    parser.add_argument(
        "--keep",
        choices=("all", "right"),
        default="all",
        help="right: only what is judged right, or, not judged, is not labelled wrong (all)",
    )
    parser.add_argument(
        "--limit", type=options.count, default=0, metavar="N", help="the first N rows (all)"
    )
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Read, judge, write, and print what was found."""
    with files.skipping(args.skip_bad) as bad, watching(args.quiet) as progress:
        mapping = options.pairs(args.map, "--map")
        found = importing.read(
            args.file, mapping=mapping, kind=args.kind, limit=args.limit, progress=progress
        )
        traces = importing.judged(found.traces, progress) if args.judge else found.traces
        kept = [trace for trace in traces if args.keep == "all" or importing.good(trace)]
        if not kept:
            raise InputError(
                f"none of {len(traces)} answers in {args.file} is right",
                fix="leave --keep right out",
            )
        if args.out:
            _write(args, traces, kept, mapping)
    said: dict[str, Any] = {
        "file": args.file,
        "mapping": found.mapping,
        "rows": found.rows,
        "problems": len({trace.problem.id for trace in traces}),
        "traces": len(traces),
        "kept": len(kept),
        "bad": [item._asdict() for item in bad],
        "answers": importing.counts(traces),
        "out": str(args.out) if args.out else None,
    }
    show.document(said) if args.json else _print(said)


def _write(
    args: argparse.Namespace,
    traces: Sequence[Trace],
    kept: Sequence[Trace],
    mapping: dict[str, str],
) -> None:
    out: Path = args.out
    if out.suffix == ".jsonl":
        importing.write(kept, out)
        files.save_beside(out)
        return
    if out.suffix:
        raise ConfigError(
            f"--out {out} is neither a .jsonl file nor a folder",
            expected="FILE.jsonl for a trace file, or a folder without a suffix for a run",
            fix=f"--out {out.with_suffix('.jsonl')}",
        )
    from potstill.runs import dataset_card, manifest
    from potstill.store import Store

    with Store.open(out) as store:
        source = {"file": files.name(args.file), "licence": dataset_card.licence(args.file, {})}
        settings = {
            "import": {
                **source,
                "map": mapping,
                "kind": args.kind,
                "judge": args.judge,
                "keep": args.keep,
            }
        }
        manifest.start(out, settings, empty=store.is_empty())
        ledger = store.ledger(ARM)
        ledger.add_traces(traces)
        ledger.add_step("import", files.name(args.file), len(traces), len(traces))
        ledger.add_step("keep", args.keep, len(traces), len(kept))
        ledger.rows(digest("import", [trace.id for trace in kept]), kept)
        ledger.finish()
        files.save(out)
    manifest.finish(out)


def _print(said: dict[str, Any]) -> None:
    columns = ", ".join(
        f"{field}={column}" for field, column in said["mapping"].items() if field != "layout"
    )
    show.say(
        f"{said['rows']:,} rows of {said['file']}, read as {said['mapping'].get('layout', '')}: {columns}"
    )
    show.table([{k: "–" if v is None else v for k, v in row.items()} for row in said["answers"]])
    if said["kept"] != said["traces"]:
        show.say(f"kept {said['kept']:,} of {said['traces']:,} traces")
    show.bad(said["bad"])
    if said["out"]:
        show.say(f"traces {said['out']}")
