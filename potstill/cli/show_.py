"""Show one trace of a run with everything that it came from: why is this row in the training set?

TRACE is the id of a trace, or its beginning: of a line of rows/ARM.jsonl, of a drop, or of `potstill cache journal`;
or ARM:N, the row on line N of rows/ARM.jsonl. Without RUN it is looked for in the current folder and in the runs below.
What is shown is what the page of the trace shows (`potstill view RUN`), from the same index in the user's cache.

examples:
  potstill show trace-342b64978a10 runs/quickstart
  potstill show orion:1 runs/quickstart
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.cli import options, show
from potstill.errors import InputError
from potstill.evaluation.row_steps import ANSWER_PROBABILITY, STEP_COUNT
from potstill.records import Trace
from potstill.store import Store, database
from potstill.traces.reference_gate import HIDDEN_END
from potstill.viewer.index.index_file import default_index_folder
from potstill.viewer.index.indexer import build_index
from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import RunFolder
from potstill.viewer.trace_page import TraceRequest, describe_trace

SEARCH_DEPTH = 2  # folders below the current one in which runs are looked for


class Found(NamedTuple):
    """A trace in the store of a run, of an arm."""

    run: Path
    arm: str
    trace_id: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument(
        "trace", metavar="TRACE", help="the id of a trace, its beginning, or ARM:N for a row"
    )
    parser.add_argument(
        "run", nargs="?", type=options.expand_path, metavar="RUN", help="its run folder"
    )
    parser.add_argument("--arm", default="", help="the arm whose verdicts are shown (the first)")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Find the trace and print it."""
    if Path(args.trace).is_dir() and args.run is not None:
        # The folder first, as other commands have it.
        args.trace, args.run = str(args.run), Path(args.trace)
    match = find_trace(args.trace, args.run, args.arm)
    run = RunFolder(match.run.name, match.run.resolve(), str(match.run))
    reader = RunReader(run, default_index_folder())
    # The descent needs neither the words of texts nor who called what.
    build_index(reader, with_words=False, with_calls=False)
    with reader.store() as store:
        page = describe_trace(store, TraceRequest(match.trace_id, match.arm))
        descent = read_descent(store, page, match.arm)
    if args.json:
        ancestors = [member for member in descent if member["id"] != match.trace_id]
        document = {
            "run": str(match.run),
            "arm": match.arm,
            "trace": descent[0],
            "ancestors": ancestors,
        }
        for name in ("rows", "drops", "children"):
            document[name] = page[name]
        document["answers"] = describe_answers(page)
        show.print_json(document)
        return
    show.print_line(f"{match.run}, arm {match.arm}")
    for place, member in enumerate(descent):
        _print_member(member, is_first=place == 0)
    if page["is_lineage_cut"]:
        show.print_line("\nthere are older ancestors: show the last one above")
    _print_outcome(page)


def read_descent(store: Store, page: Mapping[str, Any], arm: str) -> list[dict[str, Any]]:
    """The trace of a page and everything that it came from, nearest first, each with what it is in the descent.

    Args:
        store: of the run.
        page: of the trace, as the viewer shows it.
        arm: whose annotations are shown.
    """
    models = {model: account for account, model in store.completions.first_models().items()}
    drops: dict[str, str] = {}
    for drop in store.history.drops(arm):
        drops.setdefault(drop.id, f"{drop.operator} {drop.test}: {drop.reason}")
    members = []
    # A page has the oldest generation first: a terminal is read from the trace that was asked for.
    for generation in reversed(page["lineage"]):
        ids = [entry["id"] for entry in generation]
        for entry, trace in zip(generation, store.history.traces_by_id(ids, arm), strict=True):
            member = describe_member(trace, models, drops)
            members.append({**member, "part": entry["part"], "title": entry["title"]})
    return members


def describe_answers(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What students that were trained on the trace answer, from its page."""
    answers = []
    for answer in page["answers"]:
        member = page["members"][answer["id"]]
        parts = {
            name: member[name]
            for name in ("question", "gold", "status", "answer", "reason", "text")
        }
        answers.append({**answer, **parts})
    return answers


def _print_outcome(page: Mapping[str, Any]) -> None:
    """What became of a trace: rows, further texts, and the answers of the students that were trained on it."""
    show.print_line()
    # What it was used for here, then what the students that were trained on it make of it.
    for row in page["rows"]:
        show.print_line(
            f"row {row['position'] + 1} of {row['of']} that {row['arm']} was trained on"
        )
    for child in page["children"]:
        show.print_line(f"became {child['id']} ({child['operator']})")
    for answer in describe_answers(page):
        show.print_line()
        show.print_line(f"{answer['title']}: {answer['status']}, {answer['id']}")
        if answer.get("why"):
            show.print_line(f"  {answer['why']}")
            show.print_line(f"  question: {answer['question']}")
        show.print_block(answer["text"])


def find_trace(text: str, run: Path | None, arm: str) -> Found:
    """The trace whose id begins with a text, in a run or in the runs that are near.

    Raises:
        InputError: there is none, or several begin so.
    """
    runs = [run] if run is not None else list(nearby_runs(Path()))
    matches: dict[str, Found] = {}
    rows: list[Found] = []
    for folder in runs:
        with Store.open(folder, readonly=True) as store:
            row = _find_row(store, text)
            if row is not None:
                rows.append(Found(folder, *row))
                continue
            sql = (
                "SELECT m.arm, m.id FROM made m WHERE substr(m.id, 1, ?) = ? AND ? IN ('', m.arm) "
                "ORDER BY m.seq LIMIT 20"
            )
            for of_arm, trace_id in store.database.read(sql, (len(text), text, arm)):
                matches.setdefault(trace_id, Found(folder, of_arm, trace_id))
    if rows:
        return _only_row(text, rows, arm)
    if text in matches:
        return matches[text]
    if len(matches) == 1:
        return next(iter(matches.values()))
    where = str(run) if run is not None else f"{len(runs)} runs at or below this folder"
    if matches:
        raise InputError(
            f"several traces of {where} begin with {text!r}", available=sorted(matches)[:10]
        )
    _, colon, number = text.rpartition(":")
    if colon and number.isdecimal():
        raise InputError(
            f"no row {text} in {where}",
            expected="ARM:N, line N of rows/ARM.jsonl, counted from 1; an arm has rows once all are collected",
            fix="potstill cache journal RUN lists the traces of a run that has not come so far",
        )
    raise InputError(
        f"no trace of {where} begins with {text!r}",
        expected="an id as in rows/ARM.jsonl, such as trace-342b64978a10fdeaa199",
        fix="potstill show TRACE RUN",
    )


def _find_row(store: Store, text: str) -> tuple[str, str] | None:
    """The arm and the id of the row that `ARM:N` names; None where the text is none, or the arm has no such row."""
    arm, colon, number = text.rpartition(":")
    if not colon or not number.isdecimal():
        return None
    stages = store.history.stages(arm)
    row_ids = stages[-1].row_ids if stages else []
    if not 1 <= int(number) <= len(row_ids):
        return None
    return arm, row_ids[int(number) - 1]


def _only_row(text: str, rows: Sequence[Found], arm: str) -> Found:
    """The row that `ARM:N` names, in the one run that has it."""
    row = rows[0]
    if arm not in ("", row.arm):
        raise InputError(
            f"{text} is a row of the arm {row.arm!r}, and --arm says {arm!r}", fix="leave --arm out"
        )
    if len({one.trace_id for one in rows}) > 1:
        raise InputError(
            f"{len(rows)} runs have a row {text}",
            available=[str(one.run) for one in rows],
            fix=f"potstill show {text} {shlex.quote(str(row.run))}",
        )
    return row


def nearby_runs(folder: Path) -> Iterator[Path]:
    """The run folders at a folder and some levels below it."""
    for depth in range(SEARCH_DEPTH + 1):
        for file in sorted(folder.glob("*/" * depth + database.FILE)):
            yield file.parent


def describe_member(
    trace: Trace, models: Mapping[str, str], drops: Mapping[str, str]
) -> dict[str, Any]:
    """What is known of a trace, as plain data.

    Args:
        trace: with the annotations of its arm.
        models: the roles of model ids.
        drops: why traces were dropped, by id.
    """
    author = trace.author
    verdict = trace.verdict
    return {
        "id": trace.id,
        "problem": trace.problem.id,
        "gold": trace.problem.answer,
        "metadata": dict(trace.problem.metadata),
        "problem_parents": list(trace.problem.parents),
        "operator": trace.operator,
        "role": models.get(author.model, "") if author is not None else "",
        "model": author.model if author is not None else "",
        "sample_index": author.sample_index if author is not None else None,
        "settings": dict(author.settings) if author is not None else {},
        "parents": list(trace.parents),
        "verdict": verdict.status,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "finish_reason": trace.finish_reason,
        "error": trace.error,
        "dropped": drops.get(trace.id, ""),
        "saw_gold": trace.saw_gold,
        "tokens": trace.tokens.completion,
        "scores": dict(trace.scores),
        "prompt": trace.prompt,
        "text": trace.text,
    }


def _print_member(member: Mapping[str, Any], *, is_first: bool) -> None:
    show.print_line()
    # "This text" says nothing of the trace that was asked for.
    title = "" if member.get("part", "this") == "this" else f": {member['title'].lower()}"
    show.print_line(f"{'trace' if is_first else 'made from'} {member['id']}{title}")
    facts = {
        "operator": member["operator"],
        "written by": " ".join(part for part in (member["role"], member["model"]) if part),
        "verdict": _verdict_text(member),
        "ended": member["error"] or member["finish_reason"],
        "dropped by": member["dropped"],
        "saw gold": "yes" if member["saw_gold"] else "",
        "gold": member["gold"] or "",
        "steps": _steps_text(member["scores"]),
        "problem": ", ".join(f"{name} {value}" for name, value in member["metadata"].items()),
        "parents": ", ".join(member["parents"]),
    }
    for name, value in facts.items():
        if value:
            show.print_line(f"  {name + ':':<12}{value}")
    hidden = member["scores"].get(HIDDEN_END)
    if hidden:
        show.print_line("  its readers were not shown:")
        show.print_block(str(hidden))
    show.print_line("  prompt:")
    show.print_block(show.format_prompt(member["prompt"]))
    if member["text"]:
        show.print_line("  text:")
        show.print_block(member["text"])


def _steps_text(scores: Mapping[str, Any]) -> str:
    """How many steps a row has, and how probable its answer is behind them, where a run has noted it."""
    count = scores.get(STEP_COUNT)
    if count is None:
        return ""
    text = f"{count:g}"
    probability = scores.get(ANSWER_PROBABILITY)
    if probability is not None:
        text += f"; without the last line the untrained student's P(answer) is {probability:.3f}"
    return text


def _verdict_text(member: Mapping[str, Any]) -> str:
    if not member["text"]:
        return ""
    parts = [member["verdict"]]
    if member["answer"] is not None:
        parts.append(f"read {member['answer']!r}")
    if member["reason"]:
        parts.append(member["reason"])
    return ", ".join(parts)
