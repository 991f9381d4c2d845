"""What `run` and `quickstart` say when they have come to their end."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from potstill.cli import show
from potstill.cli.retry import failure_notes_of_folder
from potstill.errors import BudgetSpent, PotstillError, StoreError
from potstill.escape import terminal
from potstill.evaluation.compare import standings
from potstill.evaluation.metrics import average, usage_per_answer
from potstill.evaluation.results import FunnelDrop, Results, sections_by_arm_to_json
from potstill.evaluation.table import format_count, format_usd, quality_notes, table, usage_table
from potstill.report import page
from potstill.runs.drops import kind_of_reason
from potstill.runs.run_journal import Publish
from potstill.runs.run_log import format_duration
from potstill.store import Store, database

REPORT_FILE = "report.html"
MAX_REASONS = 8  # reasons shown an arm; the report has them all


def report_writer(out: Path) -> Publish:
    """A function that writes a run's report.html."""
    return lambda results: page.write_report(results, out / REPORT_FILE)


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what was done is reported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier_handler = signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier_handler)


def _raise_keyboard_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def noting_kept_work(out: Path) -> Iterator[None]:
    """Add to an error that stops a run what becomes of what the run made."""
    try:
        with stopping_on_sigterm():
            yield
    except StoreError:
        raise
    except PotstillError as error:
        if (out / REPORT_FILE).exists():
            error.add_note(f"what it did until then: {out / REPORT_FILE}")
        if _has_completions(out) and not isinstance(error, BudgetSpent):
            error.add_note(
                f"what was generated is kept in {out}: the same command goes on from there; for other settings take "
                f"another --out (potstill cache export and import carry the completions over)"
            )
        raise


def _has_completions(out: Path) -> bool:
    if not (out / database.FILE).exists():
        return False
    with Store.open(out, readonly=True) as store:
        return not store.is_empty()


def print_results(
    args: argparse.Namespace, results: Results, out: Path, seconds: float, *, funnels: bool
) -> None:
    """Print the outcome of a finished run.

    Args:
        args: with `json`.
        results: of the run.
        out: the run folder.
        seconds: that the run took.
        funnels: print how many traces each step dropped; without measurements they are printed anyway.
    """
    if args.json:
        show.print_json(results_document(results, out, seconds))
        return
    row_files = _row_files(out)
    notes = _notes_with_failures(results, out)
    show.print_arms(table(results))
    show.print_table(usage_table(results.evaluations.values()), may_shorten_names=True)
    if funnels or not results.evaluations:
        _print_funnels(results)
    _print_costs(results)
    for note in notes:
        show.print_line(note)
    if results.note:
        show.print_line(results.note)
    show.print_line()
    show.print_line(f"results  {out / 'results.json'}")
    for file in row_files:
        show.print_line(f"rows     {file}")
    students = student_folders(results, out)
    for arm, folder in students.items():
        show.print_line(f"student  {folder}  ({arm})")
    show.print_line(f"report   {out / REPORT_FILE}")
    show.print_line(f"took     {format_duration(seconds)}")
    show.print_line()
    for command in next_commands(results, out, students):
        # In one line however narrow the terminal is: a broken command can't be copied.
        print(terminal(f"next     {command}"))


def results_document(results: Results, out: Path, seconds: float) -> dict[str, Any]:
    """The outcome of a finished run as `--json` prints it."""
    notes = _notes_with_failures(results, out)
    return _to_json(results, out, _row_files(out), seconds) | {"notes": notes}


def _row_files(out: Path) -> list[str]:
    return sorted(str(path) for path in (out / "rows").glob("*.jsonl"))


def _notes_with_failures(results: Results, out: Path) -> list[str]:
    """What the numbers say, and which calls failed."""
    notes = result_notes(results)
    if has_failures(results):  # a large store is not read through for nothing
        notes += failure_notes_of_folder(out)
    return notes


def student_folders(results: Results, out: Path) -> dict[str, Path]:
    """The checkpoint of each arm's last student, where it was trained."""
    folders: dict[str, Path] = {}
    for arm, report in results.training.items():
        folder = out / "students" / str(report.get("key", ""))
        if report.get("key") and folder.is_dir():
            folders[arm] = folder
    return folders


def next_commands(results: Results, out: Path, students: Mapping[str, Path]) -> list[str]:
    """What one may want to do with a finished run, as commands of a shell."""
    commands: list[str] = []
    arms = list(results.recipe.get("arms", ()))
    # Ties by name, as where the table's highest arm is named.
    measured = sorted(arm for arm in students if arm in results.evaluations)
    last = arms[-1] if arms else ""
    best = max(measured, key=lambda arm: average(results.evaluations[arm]).value, default=last)
    if arms:
        commands.append(f"potstill view {shlex.quote(str(out))}")
    if students:
        spec = shlex.quote(f"transformers:{students.get(best, next(iter(students.values())))}")
        commands.append(f"potstill evaluate --model {spec} --problems FILE.jsonl")
    if len(results.evaluations) > 1:
        commands.append(f"potstill compare {shlex.quote(str(out))}")
    if arms:
        name = shlex.quote(best if best in arms else last)
        commands.append(
            f"potstill export {shlex.quote(str(out))} --arm {name} --format trl --out FOLDER"
        )
    return commands


def _to_json(
    results: Results, out: Path, row_files: Sequence[str], seconds: float
) -> dict[str, Any]:
    funnels = {}
    for arm, funnel in results.funnels.items():
        funnels[arm] = {
            "steps": [step._asdict() for step in funnel.steps],
            "drops": [_drop_to_json(drop) for drop in funnel.drops],
        }
    per_answer = {}
    for arm, evaluation in results.evaluations.items():
        usage = usage_per_answer(evaluation)
        per_answer[arm] = {role: used._asdict() for role, used in usage.items()}
    costs = {}
    for arm, roles in results.costs.items():
        costs[arm] = {role: cost._asdict() for role, cost in roles.items()}
    return {
        "out": str(out),
        "results": str(out / "results.json"),
        "report": str(out / REPORT_FILE),
        "rows": row_files,
        "students": {arm: str(folder) for arm, folder in student_folders(results, out).items()},
        "seconds": round(seconds, 1),
        "prompts": list(results.prompts),
        "table": table(results),
        "comparisons": [comparison.to_json() for comparison in results.comparisons],
        "funnels": funnels,
        "training": dict(results.training),
        "costs": costs,
        "per_answer": per_answer,
        "row_steps": {arm: steps._asdict() for arm, steps in results.row_steps.items()},
        "sections": sections_by_arm_to_json(results),
        "note": results.note,
    }


def _drop_to_json(drop: FunnelDrop) -> dict[str, Any]:
    """A group of dropped traces without its examples."""
    return {
        "operator": drop.operator,
        "test": drop.test,
        "reason": drop.reason,
        "count": drop.count,
    }


def has_failures(results: Results) -> bool:
    """Whether calls of the run failed, as its costs say."""
    error_count = 0
    for roles in results.costs.values():
        error_count += sum(cost.errors for cost in roles.values())
    return error_count > 0


def result_notes(results: Results) -> list[str]:
    """What the numbers say, whichever arm is ahead; what the run noted; what makes the numbers say little."""
    evaluations = list(results.evaluations.values())
    notes = standings(evaluations) if len(evaluations) > 1 else []
    return list(dict.fromkeys([*notes, *results.notes, *quality_notes(evaluations)]))


def _print_funnels(results: Results) -> None:
    for arm, funnel in results.funnels.items():
        steps = []
        for step in funnel.steps:
            steps.append(
                {
                    "operator": step.operator,
                    "of": show.keep_end(step.label, 40),
                    "in": step.taken,
                    "out": step.returned,
                }
            )
        show.print_table(steps, title=f"{arm}: from problems to rows")
        reasons = count_by_reason(funnel.drops)
        lines = []
        for (test, reason), count in reasons[:MAX_REASONS]:
            lines.append({"dropped": count, "by": test, "reason": reason})
        show.print_table(lines, title=f"{arm}: why traces were dropped")
        if len(reasons) > MAX_REASONS:
            show.print_line(f"… and {len(reasons) - MAX_REASONS} more reasons, in the report")


def count_by_reason(drops: Sequence[FunnelDrop]) -> list[tuple[tuple[str, str], int]]:
    """((operator and test, kind of reason), traces), most frequent first; what a reason quotes stands after a colon."""
    counts: dict[tuple[str, str], int] = {}
    for drop in drops:
        key = (f"{drop.operator} {drop.test}", kind_of_reason(drop.reason))
        counts[key] = counts.get(key, 0) + drop.count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _print_costs(results: Results) -> None:
    is_paid = False
    for roles in results.costs.values():
        is_paid = is_paid or any(cost.cost or cost.lost for cost in roles.values())
    lines = []
    for arm, roles in results.costs.items():
        for role, cost in roles.items():
            line = {
                "arm": arm,
                "role": role,
                "calls": f"{cost.calls:,}",
                "prompt tokens": format_count(cost.prompt_tokens),
                "completion tokens": format_count(cost.completion_tokens),
                "cut": f"{cost.cut:,}",
                "failed": f"{cost.errors:,}",
            }
            if is_paid:
                line["money"] = format_usd(cost.cost + cost.lost)
            lines.append(line)
    show.print_table(lines, title="what it cost, by role")
