"""Rows to learn from, of any layout: what `train` and `keep` read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.cli import options
from potstill.data import files, layouts
from potstill.errors import ConfigError, InputError, StageError
from potstill.records import Message, Problem, Prompt, Span, Trace, digest
from potstill.runs.importing import from_row

LAYOUTS = "messages, prompt/completion, chosen/rejected, ShareGPT, Alpaca, traces"
SPEC = (
    f"a .jsonl, .json, .csv or .parquet file or hf:NAME ({LAYOUTS}), or a run's folder with --arm"
)
_ROLES = {"human": "user", "gpt": "assistant"}
ROLES = ("system", "developer", "user", "assistant", "tool")


def add(parser: argparse.ArgumentParser) -> None:
    """--rows, --arm, --limit."""
    parser.add_argument("--rows", required=True, metavar="SPEC", help=SPEC)
    parser.add_argument(
        "--arm", default="", metavar="NAME", help="whose rows, where --rows is a run's folder"
    )
    parser.add_argument(
        "--limit", type=options.count, default=0, metavar="N", help="the first N rows (all)"
    )


def read(spec: str, limit: int = 0, *, arm: str = "", pairs: bool = False) -> list[Trace]:
    """The rows as finished traces, pairs with their rival; those whose generation failed are left out.

    Args:
        pairs: refuse rows without a rival.
    """
    folder = Path(spec).expanduser()
    if not spec.startswith("hf:") and folder.is_dir():
        return _of_run(folder, arm)[: limit or None]
    if arm:
        raise ConfigError(
            f"--arm {arm} is for the folder of a run", fix="leave --arm out, or give --rows RUN"
        )
    found: list[Trace] = []
    for where, row in files.rows(spec, "rows to learn"):
        with files.checked(spec, where, row):
            made = [trace for trace in traces(row, f"{spec}, {where}") if not trace.error]
            if pairs and not all(trace.rival for trace in made):
                raise _unpaired(row, f"{spec}, {where}")
            found += made
        if limit and len(found) >= limit:
            break
    return found


def asked(
    spec: str,
    limit: int,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    prompt: str = "",
) -> list[Trace]:
    """Blank traces of problems: where the student itself writes, there need be no completions.

    Args:
        mapping: which column is the question, the answer, …, where it can't be guessed.
        prompt: what the student sees, with {question} in it; empty is the kind's own.
    """
    from potstill.runs.sources import load_problems, pose_all

    return pose_all(load_problems(spec, mapping=mapping or {}, limit=limit, kind=kind), prompt)


def traces(row: Mapping[str, Any], where: str) -> list[Trace]:
    """A row as finished traces: one, or for lists of completions several."""
    if layouts.is_trace(row):
        return [from_row(row, where)]
    if row.get("chosen") and row.get("rejected"):
        _unweighted(row, where)
        sides = [trace(_chosen(row, side), where) for side in ("chosen", "rejected")]
        return [sides[0].annotate(rival=sides[1])]
    told = _turns(row)
    if told and told[-1].role == "assistant":
        return [trace(row, where)]
    return _recorded(row, where) or [trace(row, where)]


def trace(row: Mapping[str, Any], where: str) -> Trace:
    """A row as a finished trace: what the learner sees, and what it learns to say."""
    told = _turns(row)
    if not told or told[-1].role != "assistant" or len(told) < 2:
        raise InputError(
            f"{where} is no row to learn from: {_found(row, told)}",
            expected="prompt and completion (texts, or lists of {role, content}), or messages that end with assistant",
            available=list(row),
            fix=_remedy(row),
        )
    strange = [turn.role for turn in told if turn.role not in ROLES]
    if strange:
        raise InputError(
            f"{where}: a turn's role is {strange[0]!r}",
            available=(*ROLES, *_ROLES),
            wanted=strange[0],
            fix="correct the role, or leave the row out with --skip-bad",
        )
    *before, said = told
    alone = len(before) == 1 and before[0].role == "user"
    prompt: Prompt = before[0].content if alone else tuple(before)
    question = next(
        (turn.content for turn in reversed(before) if turn.role == "user"), before[-1].content
    )
    key = str(row.get("problem_id") or row.get("id") or digest("problem", [question]))
    finish = "length" if row.get("finish") == "length" else "stop"
    before_it = _prefix(row, where)
    problem, text = Problem(key, question, source="rows"), before_it + said.content
    made = Trace(problem, prompt, text, given=len(before_it), finish=finish, operator="rows")
    label = row.get("label")  # of single completions (KTO)
    made = made.annotate(
        weight=_weight(row, where), spans=_spans(row, said.content, where, len(before_it))
    )
    return made.annotate(scores={"label": float(label)}) if isinstance(label, bool) else made


def _unweighted(row: Mapping[str, Any], where: str) -> None:
    """Refuse weights of a pair."""
    given = [name for name in ("weight", "spans") if row.get(name) and row[name] != 1]
    if given:
        raise InputError(
            f"{where}: a pair with {' and '.join(given)}",
            expected="pairs without: they are compared by sums of log-probabilities, which weights would bend",
            fix=f"leave the column out, or rename it: {', '.join(given)}",
        )


def _unpaired(row: Mapping[str, Any], where: str) -> InputError:
    return InputError(
        f"{where}: no pair of a better and a worse completion",
        expected="prompt, chosen and rejected",
        available=list(row),
        fix="give rows of pairs, leave the row out with --skip-bad, or learn by another objective (likelihood)",
    )


def _weight(row: Mapping[str, Any], where: str) -> float:
    """How much a row counts, 1 where it doesn't say."""
    value = row.get("weight")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{where}: weight is {value!r}",
            expected="a number",
            fix="correct it, or rename the column",
        )
    return float(value)


def _prefix(row: Mapping[str, Any], where: str) -> str:
    """How the answer begins: text that both sides of a pair go on from, and that nobody learns (Step-DPO)."""
    value = row.get("prefix")
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"{where}: prefix is {value!r:.40}",
            expected="a text",
            fix="correct it, or rename the column",
        )
    return value or ""


def _spans(row: Mapping[str, Any], text: str, where: str, start: int) -> tuple[Span, ...]:
    """Stretches of the completion that count more or less than the rest, as `[start, stop, weight]` in characters.

    Args:
        start: where the completion begins in the trace's text.
    """
    found = []
    for span in row.get("spans") or ():
        numbers = (
            isinstance(span, list | tuple)
            and len(span) == 3
            and all(type(v) in (int, float) for v in span)
        )
        if not numbers or not 0 <= span[0] < span[1] <= len(text) or not 0 <= span[2] < math.inf:
            raise InputError(
                f"{where}: the span {span!r} of a completion of {len(text)} characters",
                expected="[start, stop, weight], with 0 <= start < stop <= its length and a weight of 0 or more",
                fix="correct it, or rename the column spans",
            )
        found.append(Span(start + int(span[0]), start + int(span[1]), "weight", float(span[2])))
    return tuple(found)


def _of_run(folder: Path, arm: str) -> list[Trace]:
    from potstill.runs.results import last_stage_rows
    from potstill.store import Store

    with Store.open(folder, readonly=True) as store:
        found = last_stage_rows(store, arm)
    if not found:
        raise StageError(
            f"{folder} has no rows of an arm {arm!r}", fix="--arm NAME, as potstill report shows it"
        )
    return found


def _recorded(row: Mapping[str, Any], where: str) -> list[Trace]:
    """Rows of the other known layouts; what their file calls wrong is not learnt. Empty where the layout is unknown."""
    try:
        columns = layouts.guess(row, {}, where)
        made = layouts.recordings(row, columns, where)
        prompt = layouts.prompt(row, columns.question)
        said = [one for one in made if one.label is not False]
    except InputError:
        return []
    question = prompt if isinstance(prompt, str) else prompt[-1].content
    if not question.strip():
        return []
    problem = Problem(str(row.get("id") or digest("problem", [question])), question, source="rows")
    return [Trace(problem, prompt, one.text, finish=one.finish, operator="rows") for one in said]


def _chosen(row: Mapping[str, Any], side: str) -> dict[str, Any]:
    """One side of a preference row as a row of its own: with a prompt, or a whole conversation."""
    rest = {name: row[name] for name in ("id", "problem_id", "prefix", "finish") if row.get(name)}
    if row.get("prompt"):
        return {**rest, "prompt": row["prompt"], "completion": row[side]}
    return {**rest, "messages": row[side]}


def _turns(row: Mapping[str, Any]) -> list[Message]:
    chat = row.get("messages", row.get("conversations"))
    if chat is None and {"prompt", "completion"} <= set(row):
        return _side(row["prompt"], "user") + _side(row["completion"], "assistant")
    return _side(chat, "")


def _side(value: Any, role: str) -> list[Message]:
    """Turns of a text, or of a list of {role, content} or {from, value}; nothing where it is neither."""
    if isinstance(value, str):
        return [Message(role, value)] if role else []
    turns = []
    for turn in value if isinstance(value, list) else ():
        who = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
        if not isinstance(who, str) or not isinstance(content, str):
            return []
        turns.append(Message(_ROLES.get(who, who), content))
    return turns


def _remedy(row: Mapping[str, Any]) -> str:
    if "prompt" in row and "completion" in row:
        return "correct the row: both sides are text, or lists of {role, content}; or leave it out with --skip-bad"
    if "messages" in row or "conversations" in row:
        return "end the turns with the assistant's; or leave the row out with --skip-bad"
    fix = "rename the columns to prompt and completion"
    if row.get("question") and not {"prompt", "completion"} & set(row):
        fix += (
            "; problems alone are for a student that writes every completion, --set on_policy_fraction=1: "
            "a share learns rows too"
        )
    return fix


def _found(row: Mapping[str, Any], told: Sequence[Message]) -> str:
    wrong = [
        name
        for name in ("prompt", "completion")
        if name in row and not isinstance(row[name], str | list)
    ]
    if "completion" in row and wrong:
        return " and ".join(f"{name} is {row[name]!r:.40}" for name in wrong)
    if told:
        return f"turns of {', '.join(turn.role for turn in told)}"
    return f"columns {', '.join(row)}"
