"""Have a model judge recorded answers by a rubric, or compare the answers of recorded models in both orders.

Replies are kept in --out, so the same command asks for nothing twice. Where answers carry a label, its agreement with
the judge is told; with --pairs, how the judge leans to the first place and to the longer answer.

examples:
  potstill judge --problems test.jsonl --answers outputs.jsonl --judge openai:gpt-4o-mini --rubric rubric.txt
  potstill judge --problems test.jsonl --answers outputs.jsonl --judge transformers:models/qwen --pairs
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.data import files
from potstill.data import problems as sources
from potstill.data.columns import PROBLEM_FIELDS
from potstill.data.recorded_answers import Answered, read_answers
from potstill.errors import InputError

if TYPE_CHECKING:
    from potstill.models.model import Model

LONGEST = 20_000  # characters of a rubric
STATUSES = ("right", "wrong", "unparsed", "unjudged")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    options.add_problems(parser, required=True)
    parser.add_argument(
        "--answers", required=True, metavar="FILE", help="rows with id or question, and completions"
    )
    parser.add_argument(
        "--judge", required=True, metavar="SPEC", help=f"the model that judges: {options.MODELS}"
    )
    parser.add_argument(
        "--rubric",
        type=options.expand_path,
        metavar="FILE",
        help="by what it judges (default: correctness)",
    )
    parser.add_argument(
        "--pairs", action="store_true", help="compare the recorded models' answers, in both orders"
    )
    parser.add_argument(
        "--out",
        type=options.expand_path,
        default=Path("runs/judge"),
        metavar="DIR",
        help="keeps the replies",
    )
    parser.add_argument("--limit", type=options.positive_int, metavar="N", help="problems at most")
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of the choice that --limit makes (0)",
    )
    options.add_budget(parser, "judge")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Judge and print."""
    with files.skipping(args.skip_bad):
        _judge(args)


def _judge(args: argparse.Namespace) -> None:
    from potstill.runs.sources import load_model, world_problems
    from potstill.store.cached_model import with_cache
    from potstill.store.store import Store

    mapping = options.parse_pairs(args.map, "--map")
    own = {field: column for field, column in mapping.items() if field in PROBLEM_FIELDS}
    known = sources.load(
        args.problems,
        mapping=own,
        limit=args.limit,
        seed=args.seed,
        kind=args.kind or None,
        extra={"world": world_problems},
    )
    recorded = read_answers(args.answers, known, mapping)
    answers = recorded.answers
    rubric = _rubric(args.rubric)
    with Store.open(args.out) as store, show_progress(args.quiet) as progress:
        judge = load_model(args.judge, threads=args.threads)
        budget = options.open_budget(args, store, {"judge": judge})
        model = with_cache(
            judge,
            store,
            role="judge",
            arm="judge",
            seed=args.seed,
            progress=progress,
            budget=budget,
        )
        found = compared(model, answers, rubric) if args.pairs else graded(model, answers, rubric)
    bad = [row._asdict() for row in files.skipped()]
    found |= {"columns": recorded.mapping, "unread": recorded.unread}
    found |= {"strays": recorded.strays, "bad": bad, "notes": budget.notes()}
    show.print_json(found) if args.json else _print(found)


def graded(model: Model, answers: Sequence[Answered], rubric: str) -> dict[str, Any]:
    """A row a recorded model: the judge's verdicts, and how often it agrees with the file's labels."""
    from potstill.traces.llm_judge import judge_answers

    said = judge_answers(model, [_trace(answer) for answer in answers], rubric)
    lines = []
    for name in dict.fromkeys(answer.model for answer in answers):
        mine = [(a, v) for a, v in zip(answers, said, strict=True) if a.model == name]
        counts: Counter[str] = Counter(v.status for _, v in mine)
        told = [
            a.label == (v.status == "right")
            for a, v in mine
            if a.label is not None and v.status in STATUSES[:2]
        ]
        agreement = sum(told) / len(told) if told else None
        row = {
            "model": name,
            "answers": len(mine),
            **{status: counts[status] for status in STATUSES},
        }
        lines.append(row | {"agrees with labels": agreement})
    return {"judge": model.id, "answers": lines}


def compared(model: Model, answers: Sequence[Answered], rubric: str) -> dict[str, Any]:
    """Wins of each recorded model over each other on the problems that both answered, and the judge's bias."""
    from potstill.traces.llm_judge import bias, prefer

    names = list(dict.fromkeys(answer.model for answer in answers))
    first = {(a.model, a.problem.id): _trace(a) for a in reversed(answers)}
    ids = list(dict.fromkeys(answer.problem.id for answer in answers))
    duels = [
        (x, y, i)
        for x, y in combinations(names, 2)
        for i in ids
        if (x, i) in first and (y, i) in first
    ]
    if not duels:
        raise InputError(
            f"no problem is answered by two of the recorded models ({', '.join(names)})",
            expected="answers of at least two models, told apart by a column `model` or by a column each",
            fix="leave --pairs out to judge the answers one by one",
        )
    said = prefer(model, [(first[x, i], first[y, i]) for x, y, i in duels], rubric)
    lines = []
    for x, y in dict.fromkeys((x, y) for x, y, _ in duels):
        mine = [p for p, duel in zip(said, duels, strict=True) if duel[:2] == (x, y)]
        won, lost = sum(p.winner is p.one for p in mine), sum(p.winner is p.other for p in mine)
        lines.append(
            {"model": x, "against": y, "won": won, "lost": lost, "ties": len(mine) - won - lost}
        )
    return {"judge": model.id, "pairs": lines, "bias": bias(said)}


def _trace(answer: Answered) -> Any:
    from potstill.records import Trace

    return Trace(
        answer.problem,
        answer.problem.question,
        text=answer.text,
        finish="stop",
        operator="recorded",
    )


def _rubric(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} can't be read: {error}", expected="a text file with the rubric"
        ) from None
    if not 0 < len(text) <= LONGEST:
        raise InputError(
            f"{path} holds {len(text)} characters",
            expected=f"a rubric of 1 to {LONGEST:,} characters",
        )
    return text


def _print(found: dict[str, Any]) -> None:
    title = "pairs" if "pairs" in found else "answers"
    lines = [
        {name: "–" if value is None else value for name, value in row.items()}
        for row in found[title]
    ]
    show.print_table(lines, title=title)
    if "bias" in found:
        shares = {
            name: "–" if value is None else f"{value:.3g}" for name, value in found["bias"].items()
        }
        show.print_table(
            [shares],
            title="bias of the judge (first_place: 0.5 is fair; agreement: of the two orders)",
        )
    show.print_columns(found["columns"], found["unread"])
    if found["strays"]:
        show.print_line(f"rows that answer none of the problems: {found['strays']:,}")
    show.print_bad_rows(found["bad"])
    for sentence in found["notes"]:
        show.print_line(sentence)
