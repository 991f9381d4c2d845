"""Train a student on rows of your own, without a method: {prompt, completion}, {messages}, {conversations}, traces.

examples:
  potstill train --rows rows.jsonl --student transformers:models/qwen --out students/mine --set lr=1e-5 --set epochs=2
  potstill export runs/sft --arm sft --format trl --out rows.jsonl
  potstill train --rows rows.jsonl --student world:student --out students/again --set lora.r=8
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from potstill import reading
from potstill.cli import options, show
from potstill.cli.progress import clock, watching
from potstill.errors import ConfigError, InputError, ModelError
from potstill.importing import from_row
from potstill.models import layouts
from potstill.reading import rows
from potstill.recipe import convert
from potstill.records import Message, Problem, Prompt, Trace, digest
from potstill.training.settings import Fit, Training

_ROLES = {"human": "user", "gpt": "assistant"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--rows", required=True, metavar="FILE", help="rows to learn, as .jsonl")
    parser.add_argument("--student", required=True, metavar="SPEC", help="transformers:PATH or world:student")
    parser.add_argument("--out", required=True, type=options.folder, metavar="DIR", help="where the student is stored")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"a setting: {', '.join(f.name for f in dataclasses.fields(Training))}",
    )
    parser.add_argument("--limit", type=options.count, default=0, metavar="N", help="the first N rows (all)")
    parser.add_argument("--seed", type=options.number, default=0, help="of the order of rows, adapters, dropout (0)")
    options.add_skip_bad(parser)
    options.add_threads(parser)
    options.add_quiet(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> None:
    """Train and print what it did."""
    with reading.skipping(args.skip_bad):
        _train(args)


def _train(args: argparse.Namespace) -> None:
    settings = training([f"seed={args.seed}", *args.set], args.threads)
    traces = read(args.rows, args.limit)
    from potstill.sources import load_model

    student = load_model(args.student, threads=args.threads)
    weights = getattr(student, "weights", None)
    if weights is None:
        raise ModelError(
            f"{args.student} has no weights to train", expected="transformers:PATH or world:student", fix="--student …"
        )
    from potstill.training.supervised import fit

    settings = _as_asked(student, settings, args.student)
    with watching(args.quiet) as progress:
        done = fit(traces, weights, args.out, settings, progress=progress)
    said, bad = _report(done), [item._asdict() for item in reading.save(args.out)]
    if args.json:
        show.document({"out": str(args.out), **said, "losses": done.losses, "bad": bad})
        return
    show.table([{"": name, "value": value} for name, value in said.items() if not isinstance(value, Mapping)])
    show.bad(bad)
    for reason, number in done.refused.items():
        show.say(f"left out {number:,}: {reason}")
    show.say(f"took {clock(done.seconds)}; student {args.out}")


def read(spec: str, limit: int = 0) -> list[Trace]:
    """The rows of a file as finished traces; those of a trace file whose generation failed are left out."""
    found: list[Trace] = []
    for where, row in rows(spec, "rows to learn"):
        with reading.checked(spec, where, row):
            made = from_row(row, f"{spec}, {where}") if layouts.is_trace(row) else trace(row, f"{spec}, {where}")
            found += [] if made.error else [made]
        if limit and len(found) >= limit:
            break
    return found


def _as_asked(student: Any, settings: Training, spec: str) -> Training:
    """A student is trained as it is asked: what its template is told when it writes, it is told here."""
    chat: Any = getattr(getattr(student, "encoder", None), "chat", "auto")
    if chat == "plain":
        raise ModelError(
            f"{spec} is read as plain text; rows are rendered by a chat template",
            expected="a student with a chat template",
            fix="leave ?chat=plain out, and copy a chat_template.jinja into the checkpoint if it has none",
        )
    return dataclasses.replace(settings, chat=chat) if settings.chat == "auto" else settings


def training(sets: Sequence[str], threads: int = 0) -> Training:
    """Training settings from key=value texts, all mistakes reported at once."""
    import yaml

    tree: dict[str, Any] = {"threads": threads} if threads else {}
    wrong: list[str] = []
    for name, text in options.pairs(options.settings(sets), "--set").items():
        *path, last = name.removeprefix("training.").split(".")
        at = tree
        for part in path:
            if not isinstance(at.setdefault(part, {}), dict):
                wrong.append(f"{name}: {part} is given as a value too")
                at[part] = {}
            at = at[part]
        try:
            at[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            wrong.append(f"{name}: {text!r} is not YAML")
    made: Training = convert(Training, tree, "training", wrong)
    if wrong:
        lines = "\n".join(f"  - {line}" for line in wrong)
        raise ConfigError(f"{len(wrong)} mistake(s) in --set:\n{lines}", fix="potstill train --help")
    return made


def trace(row: Mapping[str, Any], where: str) -> Trace:
    """A row as a finished trace: what the learner sees, and what it learns to say."""
    told = _turns(row)
    if not told or told[-1].role != "assistant" or len(told) < 2:
        raise InputError(
            f"{where} is no row to learn from: {_found(row, told)}",
            expected="prompt and completion (texts, or lists of {role, content}), or messages that end with assistant",
            available=list(row),
            fix="rename the columns to prompt and completion",
        )
    *asked, said = told
    alone = len(asked) == 1 and asked[0].role == "user"
    prompt: Prompt = asked[0].content if alone else tuple(asked)
    question = next((turn.content for turn in reversed(asked) if turn.role == "user"), asked[-1].content)
    key = str(row.get("problem_id") or row.get("id") or digest("problem", [question]))
    finish = "length" if row.get("finish") == "length" else "stop"
    return Trace(Problem(key, question, source="rows"), prompt, said.content, finish=finish, operator="rows")


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


def _found(row: Mapping[str, Any], told: Sequence[Message]) -> str:
    if told:
        return f"turns of {', '.join(turn.role for turn in told)}"
    return f"columns {', '.join(row)}"


def _report(done: Fit) -> dict[str, Any]:
    ends = {"first_loss": round(done.losses[0], 4), "last_loss": round(done.losses[-1], 4)} if done.losses else {}
    plain = {name: getattr(done, name) for name in ("rows", "steps", "tokens", "counted", "threads")}
    return {**plain, "refused": dict(done.refused), "seconds": round(done.seconds, 1), **ends}
