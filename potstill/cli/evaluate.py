"""Measure a model on problems: n answers each, judged, with intervals that are clustered by problem.

With --out the evaluation is kept for `potstill compare`, its answers in FILE.cache, so that a stopped one goes on.

examples:
  potstill evaluate --model world:student --problems 'world:story?split=test&size=100' --n 4 --out before.json
  potstill evaluate --model transformers:runs/sft/students/stage-1f… --problems test.jsonl --out after.json
  potstill evaluate --model openai:NAME?at=together --problems essays.jsonl --kind judge --judge openai:gpt-4o-mini
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from potstill.cli import options, show
from potstill.cli.progress import watching
from potstill.cli.results import unread
from potstill.data import files
from potstill.errors import ConfigError
from potstill.evaluation.rows import Evaluation
from potstill.models.model import Model, Sampling
from potstill.records import Trace
from potstill.runs.recipe import EvaluationSettings

_USUAL = EvaluationSettings()
ASKED = "what the model sees, with {question} in it (the kind's own, which for math asks for a boxed answer)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    usual = _USUAL.sampling
    parser.add_argument("--model", required=True, metavar="SPEC", help=options.MODELS)
    options.add_problems(parser, required=True)
    parser.add_argument(
        "--judge",
        default="",
        metavar="SPEC",
        help="the model that judges problems of the kind judge",
    )
    parser.add_argument(
        "--n", type=options.count, default=_USUAL.n, help=f"answers a problem ({_USUAL.n})"
    )
    parser.add_argument(
        "--temperature", type=float, default=usual.temperature, help=f"({usual.temperature})"
    )
    parser.add_argument("--top-p", type=float, default=usual.top_p, help=f"({usual.top_p})")
    parser.add_argument(
        "--max-tokens", type=options.count, default=usual.max_tokens, help=f"({usual.max_tokens})"
    )
    parser.add_argument("--prompt", default="", metavar="TEMPLATE", help=ASKED)
    parser.add_argument("--limit", type=options.count, metavar="N", help="problems at most")
    parser.add_argument(
        "--seed", type=options.number, default=0, help="of samples and of --limit's choice (0)"
    )
    parser.add_argument("--name", default="", help="what to call it in tables (default: the model)")
    parser.add_argument(
        "--out", type=options.folder, metavar="FILE.json", help="keep the evaluation here"
    )
    options.add_spending(parser, "evaluation", "judge")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Evaluate, keep and print."""
    with files.skipping(args.skip_bad):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from potstill.runs.sources import load_model, load_problems, pose_all
    from potstill.store import Store, with_cache
    from potstill.traces import Session, using
    from potstill.traces.verification import check_judge

    found = load_problems(
        args.problems,
        mapping=options.pairs(args.map, "--map"),
        limit=args.limit or 0,
        seed=args.seed,
        kind=args.kind,
    )
    _check_out(args)
    model = load_model(args.model, threads=args.threads)
    judge = load_model(args.judge, threads=args.threads) if args.judge else None
    asked = pose_all(found, args.prompt, recorded=args.model.startswith("recorded:"))
    check_judge(asked, judge, "--judge SPEC")
    with _kept(args.out) as folder, watching(args.quiet) as progress, Store.open(folder) as store:
        budget = options.budget(args, store, {"evaluation": model, "judge": judge})
        kept = partial(
            with_cache,
            store=store,
            arm="evaluation",
            seed=args.seed,
            progress=progress,
            budget=budget,
        )
        with using(
            Session(
                verdict_cache=store.verdicts, judge=kept(judge, role="judge") if judge else None
            )
        ):
            measured = _measure(args, kept(model, role="evaluation"), asked)
    if args.out:
        from potstill.runs import manifest

        manifest.write(args.out, measured.to_json())
        files.save_beside(args.out)
    notes = [*unread([measured]), *files.notes(), *budget.notes()]
    if args.json:
        show.document(
            summary(measured) | {"notes": notes, "out": str(args.out) if args.out else None}
        )
        return
    show.arms([row(measured)])
    for sentence in notes:
        show.say(sentence)
    if args.out:
        show.say(f"evaluation {args.out}")


def _check_out(args: argparse.Namespace) -> None:
    """Refuse before hours of measuring what could not be written after them, or paid for and not kept."""
    out: Path | None = args.out
    if args.budget and not out:
        raise ConfigError(
            "--budget without --out: what was paid for would be lost where the limit is reached",
            expected="a file that the evaluation, and its answers beside it, are kept in",
            fix="--out FILE.json",
        )
    if out and (out.is_dir() or out.suffix == ".cache"):
        what = "a folder" if out.is_dir() else "where the answers of an evaluation are kept"
        raise ConfigError(
            f"--out {out} is {what}", expected="a file", fix=f"--out {out.with_suffix('.json')}"
        )


@contextmanager
def _kept(out: Path | None) -> Iterator[Path]:
    """Where the answers are kept: beside the evaluation, or only as long as it takes."""
    if out:
        yield out.with_suffix(".cache")
        return
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        yield Path(folder)


def _measure(args: argparse.Namespace, model: Model, asked: list[Trace]) -> Evaluation:
    from potstill.evaluation.benchmark import evaluate
    from potstill.traces import plain

    sampling = dataclasses.replace(
        Sampling(), temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens
    )
    return evaluate(
        partial(plain, model),
        asked,
        name=args.name or args.model,
        n=args.n,
        sampling=sampling,
        seed=args.seed,
        threads=args.threads or _threads(),
    )


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def row(measured: Evaluation) -> dict[str, str]:
    """The evaluation as a row of the table of arms."""
    from potstill.evaluation.results import Results
    from potstill.evaluation.table import table

    alone = Results("", 0, evaluations={measured.name: measured})
    return {
        name: cell
        for name, cell in table(alone, base=measured.name)[0].items()
        if not name.startswith("vs ")
    }


def summary(measured: Evaluation) -> dict[str, Any]:
    """The measures and the fingerprint, without the draws."""
    from potstill.evaluation.metrics import measures

    told = {k: v._asdict() if isinstance(v, tuple) else v for k, v in measures(measured).items()}
    prints = measured.fingerprint
    return {
        "name": measured.name,
        "measures": told,
        "statuses": measured.statuses(),
        "fingerprint": {"task": dict(prints.task), "run": dict(prints.run)},
    }
