"""Check that gold answers pass their own verifier; with --answers, judge recorded answers too.

Where the answers carry a label (is_correct, correct, label), the disagreements between verifier and label are listed.

With --again RUN every trace that a run had judged is judged once more by today's verifiers, and no model is asked. The
table says how many verdicts changed, by arm, operator and verifier version. The new verdicts are kept in the run's
store in the place of the old ones: the rows of the finished run stay as they are, and the same `potstill run` on the
folder then chooses rows by the new verdicts, asks models only for what that adds, and trains again only where the rows
have changed. Scores that were measured are computed anew from the stored answers.

examples:
  potstill verify --problems train.jsonl
  potstill verify --problems example_model_solutions.jsonl --answers example_model_solutions.jsonl
  potstill verify --problems test.jsonl --answers outputs.jsonl --map completion=output --map label=correct
  potstill verify --again runs/orion
  potstill verify --again runs/orion --kind math --json
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill import verifiers
from potstill.cli import options, show
from potstill.cli.progress import show_progress
from potstill.data import files
from potstill.data import problems as sources
from potstill.data.columns import PROBLEM_FIELDS
from potstill.data.recorded_answers import Answered, RecordedAnswers, read_answers
from potstill.errors import ConfigError, InputError
from potstill.records import Problem, Verdict

if TYPE_CHECKING:
    from potstill.runs.reverify import Line

SHOWN = 20  # disagreements in the terminal; --json has them all
STATUSES = ("right", "wrong", "unparsed", "unjudged")
_PORTION = 500


class Judged(NamedTuple):
    """A recorded answer and its verdict."""

    answer: Answered
    verdict: Verdict

    @property
    def disagrees(self) -> bool:
        """Whether the file's label and the verifier say different things; no verdict is no agreement with "right"."""
        return self.answer.label is not None and self.answer.label != (
            self.verdict.status == "right"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    options.add_problems(parser, required=False)
    parser.add_argument(
        "--again",
        type=options.expand_path,
        metavar="RUN",
        help="judge the stored traces of a run again",
    )
    parser.add_argument(
        "--answers", metavar="FILE", help="rows with id or question, and a completion or several"
    )
    parser.add_argument("--limit", type=options.positive_int, metavar="N", help="problems at most")
    parser.add_argument(
        "--seed",
        type=options.non_negative_int,
        default=0,
        help="of the choice that --limit makes (0)",
    )
    options.add_skip_bad(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Check, print, and fail where gold answers fail; or judge a run again."""
    if args.again:
        _again(args)
    elif args.problems:
        with files.skipping(args.skip_bad):
            _check(args)
    else:
        raise ConfigError(
            "verify needs --problems or --again",
            expected="problems whose gold answers are checked, or a run folder that is judged again",
            fix="potstill verify --problems train.jsonl, or potstill verify --again runs/sft",
        )


def _again(args: argparse.Namespace) -> None:
    """Judge a run's traces again, and print what changed."""
    from potstill.runs import reverify
    from potstill.store import Store

    if args.problems or args.answers or args.map or args.limit:
        raise ConfigError(
            "--again takes its problems and answers from the run",
            expected="--again RUN with --kind alone",
            fix=f"potstill verify --again {args.again}",
        )
    with Store.open(args.again, create=False) as store, show_progress(args.quiet) as progress:
        found = reverify.judge_again(store, [args.kind] if args.kind else [], progress)
    if args.json:
        show.print_json(dataclasses.asdict(found))
        return
    show.print_table([_line(line) for line in found.lines], title="judged again")
    changed = sum(line.changed for line in found.lines)
    show.print_table(
        [_short(_moved(item)) for item in found.changed[:SHOWN]], title="verdicts that changed"
    )
    if changed > SHOWN:
        show.print_line(f"… and {changed - SHOWN:,} more: --json lists them all")
    judged = sum(line.traces for line in found.lines)
    show.print_line(
        f"{changed:,} of {judged:,} verdicts changed; {found.unasked:,} traces were never judged by the run"
    )
    if changed:
        show.print_line("the next `potstill run` of this folder goes by the new verdicts")


def _line(line: Line) -> dict[str, Any]:
    changes = ", ".join(f"{count:,} {change}" for change, count in sorted(line.changes.items()))
    return {
        "arm": line.arm,
        "operator": line.operator,
        "before": line.before,
        "after": line.after,
        "traces": f"{line.traces:,}",
        "changed": f"{line.changed:,}",
        "of them rows": f"{line.rows:,}",
        "other answer": f"{line.answers:,}",
        "how": changes or "–",
    }


def _moved(item: Mapping[str, Any]) -> dict[str, Any]:
    before, after = item["before"], item["after"]
    return {
        **{name: item[name] for name in ("arm", "trace", "problem", "gold")},
        "before": f"{before['status']}: {before['answer']}",
        "after": f"{after['status']}: {after['answer']}",
        "reason": after["reason"],
    }


def _check(args: argparse.Namespace) -> None:
    from potstill.runs.sources import world_problems

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
    with show_progress(args.quiet) as progress:
        failing = [
            item
            for at in _portions(known, progress, "gold answers")
            for item in verifiers.check_gold(known[at])
        ]
        judged: list[Judged] = []
        recorded = RecordedAnswers([])
        if args.answers:
            recorded = read_answers(args.answers, known, mapping)
            for portion in _portions(recorded.answers, progress, "answers"):
                judged += _judge(recorded.answers[portion])
    bad = [item._asdict() for item in files.skipped()]
    found: dict[str, Any] = {
        "problems": sources.describe(known),
        "gold": _gold(known, failing),
        "bad": bad,
    }
    if args.answers:
        found |= {
            "answers": counted(judged),
            "columns": recorded.mapping,
            "unread": recorded.unread,
            "strays": recorded.strays,
            "disagreements": disagreements(judged),
        }
    show.print_json(found) if args.json else _print(found)
    if failing:
        said = verifiers.failed_gold(len(failing), known, args.problems)
        raise InputError(**said)


def counted(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """A row a recorded model: answers, right by the file's labels (None without labels), the verdicts' counts."""
    models = dict.fromkeys(item.answer.model for item in judged)
    return [
        _counts(model, [item for item in judged if item.answer.model == model]) for model in models
    ]


def disagreements(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The answers whose label and verdict differ."""
    return [
        {
            "model": item.answer.model,
            "problem": item.answer.problem.id,
            "label": "right" if item.answer.label else "wrong",
            "verdict": item.verdict.status,
            "answer": item.verdict.answer,
            "gold": item.answer.problem.answer,
            "reason": item.verdict.reason,
            "text": item.answer.text,
        }
        for item in judged
        if item.disagrees
    ]


def _counts(model: str, mine: Sequence[Judged]) -> dict[str, Any]:
    statuses: Counter[str] = Counter(item.verdict.status for item in mine)
    labels = [item.answer.label for item in mine if item.answer.label is not None]
    return {
        "model": model,
        "answers": len(mine),
        "right by label": sum(labels) if labels else None,
        **{status: statuses[status] for status in STATUSES},
        "disagreements": sum(item.disagrees for item in mine),
    }


def _judge(answers: Sequence[Answered]) -> list[Judged]:
    verdicts = verifiers.judge([(answer.problem, answer.text) for answer in answers])
    return [Judged(answer, verdict) for answer, verdict in zip(answers, verdicts, strict=True)]


def _portions(items: Sequence[Any], progress: Any, label: str) -> Any:
    """Slices of the items, progress reported after each."""
    progress(label, 0, len(items))
    for start in range(0, len(items), _PORTION):
        yield slice(start, start + _PORTION)
        progress(label, min(start + _PORTION, len(items)), len(items))


def _gold(known: Sequence[Problem], failing: Sequence[tuple[Problem, Verdict]]) -> dict[str, Any]:
    checked = sum(map(verifiers.has_gold, known))
    lines = [
        {"problem": p.id, "gold": p.answer, "kind": p.kind, "verdict": v.status, "reason": v.reason}
        for p, v in failing
    ]
    return {"checked": checked, "right": checked - len(failing), "failing": lines}


def _print(found: Mapping[str, Any]) -> None:
    problems, gold = found["problems"], found["gold"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in problems["kinds"].items())
    columns = ", ".join(f"{field}={column}" for field, column in problems["mapping"].items())
    show.print_line(
        f"{problems['count']:,} problems ({kinds})" + (f", columns {columns}" if columns else "")
    )
    if "code" in problems["kinds"]:
        from potstill.verifiers.code import verifier

        show.print_line(verifier.describe_sandbox())
    show.print_line(
        f"gold answers: {gold['right']:,} of {gold['checked']:,} pass their own verifier"
    )
    if problems["without_answer"]:
        show.print_line(f"without a gold answer: {problems['without_answer']:,}")
    show.print_table(
        [_short(line) for line in gold["failing"][:SHOWN]], title="gold answers that fail"
    )
    show.print_bad_rows(found["bad"])
    if problems["unread"]:
        show.print_line(f"columns not read: {', '.join(problems['unread'])}")
    if "answers" not in found:
        return
    show.print_columns(found["columns"], found["unread"])
    show.print_table(
        [{k: "–" if v is None else v for k, v in row.items()} for row in found["answers"]],
        title="answers",
    )
    if found["strays"]:
        show.print_line(f"rows that answer none of the problems: {found['strays']:,}")
    differing = found["disagreements"]
    if not differing and any(row["right by label"] is not None for row in found["answers"]):
        show.print_line("the labels in the file and the verifier agree on every answer")
    show.print_table(
        [_short(line) for line in differing[:SHOWN]], title="label and verifier disagree"
    )
    if len(differing) > SHOWN:
        show.print_line(f"… and {len(differing) - SHOWN:,} more: --json lists them all")


def _short(line: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: "–" if value is None else show.keep_end(str(value)) for name, value in line.items()
    }
