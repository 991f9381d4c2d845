"""Rows with unknown column names become problems: guessed, or named by `mapping`; kinds follow from the golds."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from potstill.data import program_tests
from potstill.data.files import checked, refuse
from potstill.errors import InputError
from potstill.records import Problem, canonical, digest

# What each field may be called, best first; compared without case.
NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "question": ("problem", "question", "prompt", "instruction", "query"),
        "answer": (
            *("answer", "gold", "ground_truth", "final_answer", "correct"),
            *("reference", "gt", "target", "solution"),
        ),
        "id": ("id", "problem_id", "unique_id"),
        "choices": ("choices", "options"),
        "solution": ("solution", "rationale", "gt_cot", "reference_solution", "cot"),
        "table": ("table", "schema", "database", "create_table_statement"),
        "tests": ("tests", "rubric", "criteria"),
    }
)
_FINAL = re.compile(r"(?:####|^[ \t]*A:)[ \t]*([^\n]+?)[ \t]*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(?:\\?[$€£])?[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?%?")
_LETTERED = re.compile(r"\(?([A-Za-z])[).:]\s*")


Draft: TypeAlias = tuple[str, Mapping[str, Any]]  # ("line 7", columns or fields)


class Loaded(list[Problem]):
    """Problems with the columns that they were read from, and where each stands ("line 7") by its id."""

    def __init__(
        self,
        problems: Iterable[Problem],
        mapping: Mapping[str, str],
        places: Mapping[str, str] | None = None,
    ) -> None:
        """Take the problems, field -> column, and id -> place where the source has places."""
        super().__init__(problems)
        self.mapping = mapping
        self.places = places or {}


def from_rows(
    rows: Sequence[Draft], *, spec: str, source: str, mapping: Mapping[str, str], kind: str | None
) -> Loaded:
    """Problems of rows.

    Args:
        rows: (where it stands, columns).
        spec: what the user named, for messages.
        source: goes into the problems; must not depend on the machine.
    """
    rows, kind = program_tests.known(rows, kind, spec)
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    used = _columns(columns, mapping, spec)
    drafts: list[Draft] = []
    for where, row in rows:
        with checked(spec, where, row):
            drafts.append((where, _draft(row, used, where, spec)))
    found = kind or _kind([draft for _, draft in drafts])
    named = _named(drafts, found, spec)
    places = {key: place for key, (place, _) in named.items()}
    return Loaded(
        (_problem(draft, key, found, source) for key, (_, draft) in named.items()), used, places
    )


def _columns(columns: Sequence[str], mapping: Mapping[str, str], spec: str) -> dict[str, str]:
    """Field -> column; an empty name in `mapping` means that there is none."""
    unknown = [field for field in mapping if field not in NAMES]
    if unknown:
        raise InputError(f"--map names no field {unknown[0]!r}", available=NAMES, wanted=unknown[0])
    used = {
        field: column for field in NAMES if (column := mapping.get(field, _guess(field, columns)))
    }
    for field, column in used.items():
        for part in column.split("+"):
            if part not in columns:
                raise InputError(
                    f"{spec} has no column {part!r}",
                    available=columns,
                    wanted=part,
                    fix=f"--map {field}=COL",
                )
    if used.get("solution") == used.get("answer"):
        used.pop("solution", None)
    for field in ("question", "answer"):
        if field not in used and mapping.get(field) != "":
            raise InputError(
                f"{spec} has no column for the {field}",
                expected=f"one of {', '.join(NAMES[field])}",
                available=columns,
                fix=f"--map {field}=COL"
                + (" (or --map answer= if there are no golds)" * (field == "answer")),
            )
    return used


def _guess(field: str, columns: Sequence[str]) -> str:
    lower: dict[str, str] = {}
    for column in columns:
        lower.setdefault(column.lower(), column)
    if field == "question" and {"body", "question"} <= set(lower):  # SVAMP's layout
        return f"{lower['body']}+{lower['question']}"
    return next((lower[name] for name in NAMES[field] if name in lower), "")


def _draft(
    row: Mapping[str, Any], used: Mapping[str, str], where: str, spec: str
) -> dict[str, Any]:
    """A row's fields: question, answer, solution, choices, id."""
    question = " ".join(
        _string(row.get(part)).strip() for part in used["question"].split("+")
    ).strip()
    if not question:
        raise InputError(
            f"{spec}, {where}: the question is empty",
            expected=f"text in column {used['question']!r}",
            fix="remove the row",
        )
    choices = _choices(row.get(used.get("choices", "")))
    table, gold = _held(row.get(used.get("table", ""))), row.get(used.get("answer", ""))
    answer, solution = (_held(gold), "") if table else _final(_string(gold))
    written = _string(row.get(used.get("solution", ""))) or solution
    answer = _letter(answer, row.get(used.get("answer", "")), choices) if choices else answer
    key = row.get(used.get("id", ""))
    given = None if key is None or key == "" else _string(key)
    return {
        "question": question,
        "answer": answer or None,
        "solution": written or None,
        "choices": choices,
        "table": table or None,
        "tests": _tests(row.get(used.get("tests", ""))),
        "id": given,
    }


def _held(value: Any) -> str:
    """A cell that is text, or data as canonical JSON: tables, rows, tests."""
    return "" if value is None else value if isinstance(value, str) else canonical(value)


def _tests(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(text for item in several if (text := _held(item)))


def _string(value: Any) -> str:
    """A cell as text: 18.0 is "18", a list is joined by commas, nothing is ""."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(map(_string, value))
    return (
        value
        if isinstance(value, str)
        else canonical(value)
        if isinstance(value, Mapping)
        else str(value)
    )


def _final(gold: str) -> tuple[str, str]:
    """The final answer of a text that ends in "#### 72", "A: 18" or a box, and that text ("" where it is no more)."""
    text = gold.strip()
    marks = list(_FINAL.finditer(text))
    if marks and marks[-1].end() == len(text):
        return marks[-1][1], text
    start = text.rfind("\\boxed{")
    depth, begin = 1, start + len("\\boxed{")
    for at in range(begin if start >= 0 else len(text), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at], text
    return text, ""


def _choices(value: Any) -> tuple[str, ...]:
    """Options as texts; letters that number them in order ("A)12", "B)13") are taken off."""
    if isinstance(value, Mapping):  # Hugging Face: {"text": [...], "label": [...]}
        value = value.get("text", list(value.values()))
    if isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    texts = tuple(_string(item).strip() for item in value)
    marks = [_LETTERED.match(text) for text in texts]
    if all(
        mark and mark[1].upper() == letter
        for mark, letter in zip(marks, string.ascii_uppercase, strict=False)
    ):
        return tuple(text[mark.end() :] for text, mark in zip(texts, marks, strict=True) if mark)
    return texts


def _letter(answer: str, raw: Any, choices: Sequence[str]) -> str:
    """The gold option's letter: an index counts from 0; a letter or an option's text stays for the verifier to read."""
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < len(choices):
        return string.ascii_uppercase[raw]
    return answer


def _kind(drafts: Sequence[Mapping[str, Any]]) -> str:
    """Table where each has one, choice where there are options, number where every gold answer is one, else math."""
    if all(draft["table"] for draft in drafts):
        return "table"
    if all(draft["choices"] for draft in drafts):
        return "choice"
    golds = [draft["answer"] for draft in drafts if draft["answer"] is not None]
    numeric = all(_NUMBER.fullmatch(gold) and any(c.isdigit() for c in gold) for gold in golds)
    return "number" if golds and numeric else "math"


def _named(drafts: Sequence[Draft], kind: str, spec: str) -> dict[str, Draft]:
    """Drafts by given ids, or content hashes; two rows of one id are refused, two equal rows without one numbered."""
    seen: dict[str, str] = {}
    repeats: Counter[str] = Counter()
    named: dict[str, Draft] = {}
    for place, draft in drafts:
        key = draft["id"]
        if key is None:
            content = digest(
                "problem", [draft["question"], draft["answer"], kind, draft["choices"]]
            )
            repeats[content] += 1
            key = content if repeats[content] == 1 else f"{content}-{repeats[content]}"
        if key in seen:
            error = InputError(
                f"{spec}: {seen[key]} and {place} have the same id {key!r}",
                expected="ids that occur once",
                fix="--map id= to make ids from the content, --map id=COL for another column, "
                "or --skip-bad to keep the first",
            )
            refuse(error, spec, place, draft["question"])
            continue
        seen[key], named[key] = place, (place, draft)
    return named


def _problem(draft: Mapping[str, Any], key: str, kind: str, source: str) -> Problem:
    return Problem(
        id=key,
        question=draft["question"],
        answer=draft["answer"],
        kind=kind,
        solution=draft["solution"],
        choices=draft["choices"],
        table=draft["table"],
        tests=draft["tests"],
        source=source,
    )
