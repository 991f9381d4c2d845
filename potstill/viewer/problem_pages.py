"""The pages Problems and Problem: how often each arm solved each problem, and all that was written about one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.evaluation.flips import SOLVED_SHARE
from potstill.evaluation.results import Results
from potstill.evaluation.table import BASE
from potstill.records import Trace
from potstill.store.store import Store
from potstill.viewer import query as queries
from potstill.viewer.facets import (
    Group,
    arm_of_ledger,
    author_of,
    ledger_of,
    read_groups,
    roles_of_models,
)
from potstill.viewer.query import quote_value
from potstill.viewer.trace_page import (
    describe_problem,
    describe_prompt,
    describe_steps,
    status_of,
)
from potstill.viewer.utf16 import Utf16Offsets

SETS = {"test": "measured on", "train": "trained on"}
EXCERPT = 200
MAX_TEXT = 4000  # characters of an answer on the page of a problem
MAX_DRAWS = 64  # of a column on the page of a problem
STUDENT_ERRS = "student errs, teacher right"


class Column(NamedTuple):
    """A column of the matrix: an arm that was measured, or a role of an arm that makes rows."""

    name: str
    arm: str
    role: str


class Cell(NamedTuple):
    """How many of an arm's answers to a problem are right, and what the others are."""

    right: int = 0
    n: int = 0
    unparsed: int = 0
    errors: int = 0
    cut: int = 0

    @property
    def share(self) -> float:
        """Right answers of all."""
        return self.right / self.n if self.n else 0.0


class MatrixRow(NamedTuple):
    """A problem with its cells, by column name; columns that never met it are left out."""

    problem: str
    question: str
    gold: str | None
    kind: str
    source: str
    metadata: Mapping[str, Any]
    cells: Mapping[str, Cell]

    @property
    def spread(self) -> float:
        """The largest difference of two columns."""
        shares = [cell.share for cell in self.cells.values()]
        return max(shares) - min(shares) if shares else 0.0

    @property
    def disagreement(self) -> float:
        """The mean over columns of 4 p (1 - p): 0 where every draw of a column says the same, 1 at one half."""
        shares = [cell.share for cell in self.cells.values()]
        return sum(4 * share * (1 - share) for share in shares) / max(1, len(shares))


class MatrixRequest(NamedTuple):
    """Which part of the matrix."""

    set: str = "test"
    query: str = ""
    facets: Mapping[str, Sequence[str]] = {}
    sort: str = "problem"
    is_descending: bool = False
    after: str = ""
    limit: int = 500
    base: str = ""
    excerpt: int = EXCERPT  # characters of a question


def describe_problems(store: Store, results: Results, request: MatrixRequest) -> dict[str, Any]:
    """A page of the matrix of problems and arms, with facets."""
    if request.set not in SETS:
        raise InputError(f"there is no set {request.set[:40]!r}", available=SETS)
    columns, rows, origin = (
        read_measured(store, results) if request.set == "test" else read_trained(store)
    )
    # The page offers the other set with its number of problems.
    counts = {"test": 0, "train": 0, request.set: len(rows)}
    if request.set == "test":
        counts["train"] = len(_answered_problems(store, "rows"))
    else:
        counts["test"] = len(_measured_problems(store, results))
    base = request.base or BASE
    if base not in [column.name for column in columns]:
        # Of the roles of a training set a student's: the teacher is no base.
        students_first = sorted(columns, key=lambda column: column.role != "student")
        base = students_first[0].name if columns else ""
    # What is chosen in one facet leaves the counts of its own values alone.
    values = {row.problem: _facet_values(row, columns, base) for row in rows}
    words = queries.fold_words(request.query)
    searched = [row for row in rows if _has_words(row, words)]
    chosen = _choose_rows(searched, values, request.facets)
    ordered = _sort_rows(chosen, request, columns)

    # Pages by the problem that the last one ended with: the order is made anew each time, and is the same.
    start = 0
    if request.after:
        places = {row.problem: place for place, row in enumerate(ordered)}
        start = places.get(request.after, -1) + 1
    part = ordered[start : start + request.limit]
    has_more = start + request.limit < len(ordered)
    return {
        "set": request.set,
        "sets": [{"set": name, "label": SETS[name], "problems": counts[name]} for name in SETS],
        "base": base,
        "count": len(ordered),
        "of": len(rows),
        "columns": [_describe_column(column, rows) for column in columns],
        "facets": _count_facets(searched, chosen, values, request.facets, base),
        "rows": [_describe_row(row, values[row.problem], request.excerpt) for row in part],
        "next": part[-1].problem if part and has_more else None,
        "from": origin,
    }


Matrix = tuple[list[Column], list[MatrixRow], str]


def read_measured(store: Store, results: Results) -> Matrix:
    """The problems that were measured on: as the results have them, and of arms without results as traces have them."""
    problems = _read_problems(store)
    cells: dict[str, dict[str, Cell]] = {}
    columns: list[Column] = []
    for name, evaluation in results.evaluations.items():
        columns.append(Column(name, name, "student"))
        for row in evaluation.rows:
            cell = Cell(
                right=row.right,
                n=row.n,
                unparsed=row.count("unparsed"),
                errors=row.count("error"),
                cut=sum(answer.cut for answer in row.answers),
            )
            cells.setdefault(row.problem, {})[name] = cell
    origin = "results.json" if columns else "traces"
    # What is being measured right now has traces, and no evaluation yet.
    unmeasured = _count_answers(store, "evaluation", without=results.evaluations)
    for (ledger, _), by_problem in unmeasured.items():
        arm = arm_of_ledger(ledger)
        columns.append(Column(arm, arm, "student"))
        for problem, cell in by_problem.items():
            cells.setdefault(problem, {})[arm] = cell
    return columns, _make_rows(cells, problems), origin


def read_trained(store: Store) -> Matrix:
    """The problems that rows were made of, by the answers that each role of each arm gave while they were made."""
    cells: dict[str, dict[str, Cell]] = {}
    columns: list[Column] = []
    for (arm, role), by_problem in _count_answers(store, "rows").items():
        name = f"{arm}: {role}"
        columns.append(Column(name, arm, role))
        for problem, cell in by_problem.items():
            cells.setdefault(problem, {})[name] = cell
    return columns, _make_rows(cells, _read_problems(store)), "traces"


def _measured_problems(store: Store, results: Results) -> set[str]:
    """The problems that `read_measured` has."""
    problems = set(_answered_problems(store, "evaluation", without=results.evaluations))
    for evaluation in results.evaluations.values():
        problems.update(row.problem for row in evaluation.rows)
    return problems


def _sampled_groups(store: Store, ledger: str, without: Container[str]) -> dict[int, Group]:
    """By number, the groups of sampled answers in ledgers of a kind, but for those of some arms."""
    groups: dict[int, Group] = {}
    for group in read_groups(store):
        is_wanted = ledger_of(group.arm) == ledger and arm_of_ledger(group.arm) not in without
        if is_wanted and group.operator == "sample" and group.model:
            groups[group.number] = group
    return groups


def _answered_problems(store: Store, ledger: str, without: Container[str] = ()) -> list[str]:
    numbers = ",".join(map(str, _sampled_groups(store, ledger, without)))
    sql = f"""SELECT DISTINCT q.id FROM view.problems q
        WHERE q.number IN (SELECT problem FROM view.entries WHERE +"group" IN ({numbers}))"""
    return [problem for (problem,) in store.database.read(sql)]


def _count_answers(
    store: Store, ledger: str, without: Container[str] = ()
) -> dict[tuple[str, str], dict[str, Cell]]:
    """By ledger and role, the answers that were sampled for each problem, by what they are."""
    roles = roles_of_models(store)
    groups = _sampled_groups(store, ledger, without)
    # Columns in the order in which they began. A role may have had several models, each in many groups.
    first_sql = """SELECT value, (SELECT min(seq) FROM view.entries WHERE "group" = value) FROM json_each(?)
        ORDER BY 2"""
    numbers: dict[tuple[str, str], dict[str, list[int]]] = {}
    numbers_of_group: dict[int, dict[str, list[int]]] = {}
    for number, _ in store.database.read(first_sql, (json.dumps(list(groups)),)):
        column = (groups[number].arm, author_of(groups[number].model, roles))
        numbers_of_group[number] = numbers.setdefault(column, {})
    # Counted by the index over (problem, group) alone; the sign keeps SQLite from the one over groups.
    sql = f"""SELECT q.id, c.number, c.n FROM (
            SELECT problem, "group" AS number, count(*) AS n FROM view.entries
            WHERE +"group" IN ({",".join(map(str, groups))}) GROUP BY 1, 2) c
        JOIN view.problems q ON q.number = c.problem"""
    for problem, number, n in store.database.read(sql):
        group = groups[number]
        # The fields of a Cell, which can't be added to.
        cell = numbers_of_group[number].setdefault(problem, [0, 0, 0, 0, 0])
        cell[1] += n
        if group.status == "right":
            cell[0] += n
        elif group.status == "unparsed":
            cell[2] += n
        elif group.status == "error":
            cell[3] += n
        if group.finish == "length":
            cell[4] += n
    counts: dict[tuple[str, str], dict[str, Cell]] = {}
    for column, by_problem in numbers.items():
        counts[column] = {problem: Cell(*cell) for problem, cell in by_problem.items()}
    return counts


class KnownProblem(NamedTuple):
    """What the index knows of a problem."""

    question: str
    gold: str | None
    kind: str
    source: str
    metadata: Mapping[str, Any]


def _read_problems(store: Store) -> dict[str, KnownProblem]:
    sql = "SELECT id, question, answer, kind, source, metadata FROM view.problems ORDER BY number"
    problems: dict[str, KnownProblem] = {}
    for problem, question, gold, kind, source, metadata in store.database.read(sql):
        problems[problem] = KnownProblem(question or "", gold, kind, source, json.loads(metadata))
    return problems


def _make_rows(
    cells: Mapping[str, Mapping[str, Cell]], problems: Mapping[str, KnownProblem]
) -> list[MatrixRow]:
    rows = []
    for problem, by_column in cells.items():
        problem_record = problems.get(problem, KnownProblem("", None, "", "", {}))
        rows.append(MatrixRow(problem, *problem_record, by_column))
    return rows


def _has_words(row: MatrixRow, words: Sequence[str]) -> bool:
    if not words:
        return True
    of_row = set(queries.fold_words(f"{row.problem} {row.question}"))
    return of_row.issuperset(words)


def _facet_values(row: MatrixRow, columns: Sequence[Column], base: str) -> dict[str, list[str]]:
    """The values of a row in each facet."""
    shares = {name: cell.share for name, cell in row.cells.items()}
    # By all columns together.
    solved = "sometimes"
    if not any(shares.values()):
        solved = "never"
    elif all(share == 1 for share in shares.values()):
        solved = "always"
    # Against the base: by any column, and by which.
    by_way: dict[str, list[str]] = {"gained": [], "lost": []}
    if base in shares:
        was_solved = shares[base] >= SOLVED_SHARE
        for name, share in shares.items():
            is_solved = share >= SOLVED_SHARE
            if is_solved != was_solved:
                by_way["gained" if is_solved else "lost"].append(name)
    return {
        "solved": [solved],
        "flipped": [way for way, names in by_way.items() if names],
        "lost": by_way["lost"],
        "gained": by_way["gained"],
        "teacher": [STUDENT_ERRS] if _student_errs(shares, columns) else [],
        "kind": [row.kind] if row.kind else [],
        "source": [row.source] if row.source else [],
    }


def _student_errs(shares: Mapping[str, float], columns: Sequence[Column]) -> bool:
    """Whether a student failed in every draw at what a teacher solved at least half of the time."""
    students = [shares[c.name] for c in columns if c.role == "student" and c.name in shares]
    teachers = [shares[c.name] for c in columns if c.role == "teacher" and c.name in shares]
    return 0.0 in students and any(share >= SOLVED_SHARE for share in teachers)


FACET_LABELS = {
    "solved": "solved",
    "flipped": "against {base}",
    "lost": "lost against {base}, by",
    "gained": "gained against {base}, by",
    "teacher": "student and teacher",
    "kind": "kind of problem",
    "source": "source",
}
VALUE_LABELS = {"never": "never solved", "always": "always solved", "sometimes": "sometimes solved"}


def _choose_rows(
    rows: Sequence[MatrixRow],
    values: Mapping[str, Mapping[str, Sequence[str]]],
    facets: Mapping[str, Sequence[str]],
    *,
    without: str = "",
) -> list[MatrixRow]:
    """The rows that fit what is chosen; with `without` one facet's choice is not looked at."""
    chosen = list(rows)
    for name, wanted_values in facets.items():
        if name != without:
            wanted = set(wanted_values)
            chosen = [
                row for row in chosen if wanted.intersection(values[row.problem].get(name, ()))
            ]
    return chosen


def _count_facets(
    searched: Sequence[MatrixRow],
    chosen: Sequence[MatrixRow],
    values: Mapping[str, Mapping[str, Sequence[str]]],
    facets: Mapping[str, Sequence[str]],
    base: str,
) -> list[dict[str, Any]]:
    listed = []
    for name, label in FACET_LABELS.items():
        counts = _count_values(chosen, values, name)
        # Without a choice in this facet the counts are already those without it.
        of_counts = counts
        if name in facets:
            rows = _choose_rows(searched, values, facets, without=name)
            of_counts = _count_values(rows, values, name)
        # What is chosen stays, also where no problem fits it: else the choice could not be taken back.
        chosen_values = facets.get(name, ())
        for value in chosen_values:
            of_counts.setdefault(value, 0)
        facet_values = []
        for value, of_count in sorted(of_counts.items(), key=lambda item: (-item[1], item[0])):
            facet_values.append(
                {
                    "value": value,
                    "label": VALUE_LABELS.get(value, value),
                    "count": counts.get(value, 0),
                    "of": of_count,
                    "is_chosen": value in chosen_values,
                }
            )
        listed.append(
            {
                "name": name,
                "label": label.format(base=base),
                "is_multiple": name in ("flipped", "lost", "gained", "teacher"),
                "values": facet_values,
            }
        )
    return listed


def _count_values(
    rows: Iterable[MatrixRow], values: Mapping[str, Mapping[str, Sequence[str]]], name: str
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(values[row.problem][name])
    return counts


def _sort_rows(
    rows: Sequence[MatrixRow], request: MatrixRequest, columns: Sequence[Column]
) -> list[MatrixRow]:
    """The rows in an order; ties stay in the order of the problems."""
    names = [column.name for column in columns]
    if request.sort == "problem":
        return list(reversed(rows)) if request.is_descending else list(rows)
    if request.sort == "spread":
        keys = [row.spread for row in rows]
    elif request.sort == "disagreement":
        keys = [row.disagreement for row in rows]
    elif request.sort == "length":
        keys = [float(len(row.question)) for row in rows]
    elif request.sort in names:
        keys = [
            row.cells[request.sort].share if request.sort in row.cells else -1.0 for row in rows
        ]
    else:
        available = ["problem", "spread", "disagreement", "length", *names]
        raise InputError(f"there is no order {request.sort[:60]!r}", available=available)
    # Stable, so that ties stay in the order of the problems in both directions.
    sign = -1 if request.is_descending else 1
    places = sorted(range(len(rows)), key=lambda place: (sign * keys[place], place))
    return [rows[place] for place in places]


def _describe_column(column: Column, rows: Sequence[MatrixRow]) -> dict[str, Any]:
    draws = [row.cells[column.name].n for row in rows if column.name in row.cells]
    return {
        "column": column.name,
        "label": column.name,
        "arm": column.arm,
        "role": column.role,
        "n": max(draws, default=0),
    }


def _describe_row(
    row: MatrixRow, facets: Mapping[str, Sequence[str]], excerpt: int
) -> dict[str, Any]:
    return {
        "problem": row.problem,
        "question": row.question[:excerpt],
        "length": len(row.question),
        "gold": row.gold,
        "kind": row.kind,
        "source": row.source,
        "metadata": dict(row.metadata),
        "cells": {name: cell._asdict() for name, cell in row.cells.items()},
        "spread": row.spread,
        "disagreement": row.disagreement,
        "facets": facets,
        "query": f"problem:{quote_value(row.problem)}",
    }


def describe_problem_page(store: Store, results: Results, problem: str) -> dict[str, Any]:
    """All that was written about one problem, in a column for each arm and role, equal answers together.

    Raises:
        InputError: the run has no such problem.
    """
    roles = roles_of_models(store)
    sql = """SELECT g.arm, g.model, g.operator, i.id FROM view.entries e JOIN view.groups g ON g.number = e."group"
        JOIN view.ids i ON i.number = e.trace JOIN view.problems q ON q.number = e.problem
        WHERE q.id = ? AND g.model != '' ORDER BY e.seq"""
    ids_by_column: dict[tuple[str, str, str], list[str]] = {}
    for arm, model, operator, trace_id in store.database.read(sql, (problem,)):
        ids_by_column.setdefault((arm, author_of(model, roles), operator), []).append(trace_id)
    first = next(_traces_of_problem(store, problem), None)
    if first is None:
        raise InputError(
            f"there is no problem {problem[:80]!r}", fix="look for it on the page Problems"
        )
    # A column for each arm, role and operator, in the order in which they came.
    columns = []
    for (arm, role, operator), ids in ids_by_column.items():
        traces = list(store.history.traces_by_id(ids[:MAX_DRAWS], arm))
        columns.append(_describe_answers(results, arm, role, operator, traces))
    # Which of the texts became rows.
    sql = "SELECT DISTINCT r.arm, r.id, r.label, r.position FROM rows r WHERE r.id IN ({})"
    all_ids = list(dict.fromkeys(trace_id for ids in ids_by_column.values() for trace_id in ids))
    rows = []
    for arm, trace_id, label, position in store.database.read_by_keys(sql, all_ids):
        rows.append({"arm": arm, "id": trace_id, "stage": label, "position": position})
    order = [
        problem_id
        for (problem_id,) in store.database.read("SELECT id FROM view.problems ORDER BY number")
    ]
    place = order.index(problem) if problem in order else -1
    return {
        "problem": describe_problem(first),
        "prompt": describe_prompt(first.prompt, "messages")["messages"],
        "columns": columns,
        "rows": rows,
        "previous": order[place - 1] if place > 0 else None,
        "following": order[place + 1] if 0 <= place < len(order) - 1 else None,
    }


def _traces_of_problem(store: Store, problem: str) -> Iterator[Trace]:
    sql = """SELECT i.id FROM view.entries e JOIN view.ids i ON i.number = e.trace
        WHERE e.problem IN (SELECT number FROM view.problems WHERE id = ?) ORDER BY e.seq LIMIT 1"""
    ids = [trace_id for (trace_id,) in store.database.read(sql, (problem,))]
    return store.history.traces_by_id(ids, "")


def _describe_answers(
    results: Results, arm: str, role: str, operator: str, traces: Sequence[Trace]
) -> dict[str, Any]:
    """A column: its answers, those together that are one to the verifier as far as the results say so."""
    ordered = sorted(traces, key=lambda trace: trace.author.sample_index if trace.author else 0)
    ballots = _ballots(results, arm, ordered)
    groups: dict[Any, list[Trace]] = {}
    for trace, ballot in zip(ordered, ballots, strict=True):
        groups.setdefault(ballot, []).append(trace)
    answers = []
    for members in sorted(groups.values(), key=len, reverse=True):
        answers.append(
            {
                "answer": members[0].answer,
                "status": status_of(members[0]),
                "count": len(members),
                "traces": [_describe_draw(trace) for trace in members],
            }
        )
    return {
        "arm": arm_of_ledger(arm),
        "ledger": arm,
        "part": ledger_of(arm),
        "label": f"{arm_of_ledger(arm)}: {role}, {operator}",
        "role": role,
        "operator": operator,
        "n": len(traces),
        "right": sum(trace.verdict.status == "right" for trace in traces),
        "answers": answers,
    }


def _ballots(results: Results, ledger: str, traces: Sequence[Trace]) -> list[Any]:
    """For each trace the class of equal answers that it belongs to."""
    by_text: list[Any] = []
    for place, trace in enumerate(traces):
        # Answers that nobody could read are equal to none.
        by_text.append(trace.answer if trace.answer is not None else ("unread", place))
    # The results know which answers are equal to the verifier: "1/2" and "0.5".
    evaluation = results.evaluations.get(arm_of_ledger(ledger))
    if evaluation is None or ledger_of(ledger) != "evaluation" or not traces:
        return by_text
    for row in evaluation.rows:
        if row.problem == traces[0].problem.id and row.n == len(traces):
            for place, answer in enumerate(row.answers):
                if answer.ballot is not None:
                    by_text[place] = ("ballot", answer.ballot)
    return by_text


def _describe_draw(trace: Trace) -> dict[str, Any]:
    offsets = Utf16Offsets(trace.text)
    steps = describe_steps(trace.spans, offsets)
    wrong = [place for place, step in enumerate(steps, 1) if step["is_right"] is False]
    return {
        "id": trace.id,
        "draw": trace.author.sample_index if trace.author else None,
        "status": status_of(trace),
        "finish": trace.finish_reason,
        "reason": trace.verdict.reason,
        "error": trace.error,
        "tokens": trace.tokens.completion,
        "first_wrong": wrong[0] if wrong else None,
        "text": trace.text[:MAX_TEXT],
        "length": len(trace.text),
        "is_cut": len(trace.text) > MAX_TEXT,
        "steps": steps,
    }
