"""Pages, counts and anchors of lists of traces; API.md has their shapes."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.store.store import Store
from potstill.viewer import query as queries
from potstill.viewer.facets import (
    FACETS,
    MULTIPLE_FACETS,
    NONE,
    author_of,
    choose_groups,
    ledger_of,
)
from potstill.viewer.index.words import NUL_ESCAPE
from potstill.viewer.selection import Selection
from potstill.viewer.utf16 import Utf16Offsets

MAX_LIMIT = 1000
MAX_ANCHORS = 10_000
ROWS_PER_ANCHOR = 100
EXCERPT = 200  # characters
CONTEXT = 60  # characters before the first hit
SCAN_SECONDS = 0.25  # that one request looks for literals
SCAN_PORTION = 200  # texts that are read at once
MAX_FACET_VALUES = 100
ORDERS = ("made", "problem", "id", *queries.NUMBERS)
MORE_COLUMNS = (
    *("question", "gold", "reason", "model", "seconds", "cost", "created", "root", "parents"),
    *("prompt_tokens", "reasoning_tokens", "weight", "position", "kind", "source", "metadata"),
)
RANGES = {
    "tokens": "tokens",
    "length": "characters",
    "steps": "judged steps",
    "wrong_steps": "wrong steps",
    "draw": "sample index",
}


class Order(NamedTuple):
    """How a list is sorted: an expression, and whether it goes down; with what the expression needs beside entries."""

    name: str
    sql: str
    is_descending: bool
    join: str = ""
    args: tuple[Any, ...] = ()  # of the join


def make_order(name: str, direction: str) -> Order:
    """The order of a name; InputError where there is none."""
    is_descending = direction == "desc"
    if name == "made":
        return Order(name, "e.seq", is_descending)
    if name == "problem":
        return Order(name, "e.problem", is_descending)
    if name == "id":
        return Order(name, "i.id", is_descending, "JOIN view.ids i ON i.number = e.trace")
    if name in queries.NUMBERS:
        return Order(name, queries.NUMBERS[name], is_descending)
    if name.startswith(queries.SCORE_PREFIX):
        score = name.removeprefix(queries.SCORE_PREFIX)
        join = "LEFT JOIN view.scores s ON s.seq = e.seq AND s.name = ?"
        return Order(name, "s.value", is_descending, join, (score,))
    raise InputError(f"there is no order {name!r}", available=[*ORDERS, "score.NAME"])


class Place(NamedTuple):
    """A row of a list, by the value that it is sorted by and its number."""

    value: Any
    seq: int

    def to_cursor(self) -> str:
        """As a page names it."""
        value = repr(self.value) if self.value in (float("inf"), float("-inf")) else self.value
        text = json.dumps([value, self.seq])
        return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def read_cursor(cursor: str) -> Place:
    """The place that a cursor names; InputError where it names none."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value, seq = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
        if value in ("inf", "-inf"):
            value = float(value)
        if not isinstance(seq, int) or not isinstance(value, str | int | float | None):
            raise ValueError(cursor)
    except (ValueError, TypeError, binascii.Error) as error:
        raise InputError(f"{cursor[:40]!r} is no cursor", expected="what `next` said") from error
    return Place(value, seq)


class PageRequest(NamedTuple):
    """Which page of a list: after a cursor, before one, or the last one."""

    order: Order
    after: str = ""
    before: str = ""
    limit: int = 100
    columns: tuple[str, ...] = ()


def read_page(selection: Selection, request: PageRequest) -> dict[str, Any]:
    """One page of a list."""
    is_last = request.after == "end" and not request.before
    # A page before a place is read from there backwards, and turned round.
    is_backward = is_last or bool(request.before)
    cursor = request.before or ("" if is_last else request.after)
    start = read_cursor(cursor) if cursor else None
    limit = max(1, min(request.limit, MAX_LIMIT))
    scan: Scan | None = None
    if selection.literals:
        scan = _scan_literals(selection, request.order, start, limit, is_backward=is_backward)
        places = scan.places
        has_more = scan.last is not None
    else:
        places = _read_places(selection, request.order, start, limit + 1, is_backward=is_backward)
        has_more = len(places) > limit
        places = places[:limit]
    count = selection.count() if scan is not None else selection.quick_count()
    if count is None and not cursor and not has_more:
        count = len(places)  # the whole list
    last = scan.last if scan is not None else (places[-1] if places else None)
    first = places[0] if places else None
    if is_backward:
        places.reverse()
        first, last = last, first
        has_next, has_previous = bool(request.before), has_more
    else:
        has_next, has_previous = has_more, bool(cursor)
    return {
        "count": count,
        "is_counted": scan is None,
        "sort": request.order.name,
        "order": "desc" if request.order.is_descending else "asc",
        "messages": [message.to_json() for message in selection.messages],
        "indexed": selection.indexed(),
        "items": describe_entries(selection, [place.seq for place in places], request.columns),
        "next": last.to_cursor() if has_next and last is not None else None,
        "previous": first.to_cursor() if has_previous and first is not None else None,
        "scanned": scan.to_json() if scan is not None else None,
    }


def _read_places(
    selection: Selection, order: Order, start: Place | None, limit: int, *, is_backward: bool
) -> list[Place]:
    """The next places of a list from one place on, in its order or against it."""
    if order.name == "made":
        return _read_places_as_made(selection, order, start, limit, is_backward=is_backward)
    # What has no value comes last, and so first when read backwards: two parts, each in one plain order.
    parts = [False, True] if is_backward else [True, False]
    if start is not None and (start.value is not None) != parts[0]:
        parts.pop(0)  # the start lies in the other one, and this one before it
    places: list[Place] = []
    for has_value in parts:
        places += _read_part(
            selection,
            order,
            start,
            limit - len(places),
            has_value=has_value,
            is_descending=order.is_descending ^ is_backward,
        )
        if len(places) == limit:
            break
        start = None
    return places


def _read_places_as_made(
    selection: Selection, order: Order, start: Place | None, limit: int, *, is_backward: bool
) -> list[Place]:
    where, args = selection.where(prefer_order=True)
    is_descending = order.is_descending ^ is_backward
    if start is not None:
        where += f" AND e.seq {'<' if is_descending else '>'} ?"
        args.append(start.seq)
    direction = "DESC" if is_descending else "ASC"
    sql = f"SELECT e.seq FROM view.entries e WHERE {where} ORDER BY e.seq {direction} LIMIT ?"
    return [Place(seq, seq) for (seq,) in selection.store.database.read(sql, [*args, limit])]


def _read_part(
    selection: Selection,
    order: Order,
    start: Place | None,
    limit: int,
    *,
    has_value: bool,
    is_descending: bool,
) -> list[Place]:
    """The next places among the entries that have a value to be sorted by, or among those that have none."""
    where, args = selection.where()
    sign, direction = ("<", "DESC") if is_descending else (">", "ASC")
    after, after_args = "", []
    if start is not None and has_value:
        after, after_args = f"AND (value, seq) {sign} (?, ?)", [start.value, start.seq]
    elif start is not None:
        after, after_args = f"AND seq {sign} ?", [start.seq]
    sql = f"""SELECT value, seq FROM (
            SELECT {order.sql} AS value, e.seq AS seq FROM view.entries e {order.join} WHERE {where})
        WHERE value IS {"NOT NULL" if has_value else "NULL"} {after}
        ORDER BY value {direction}, seq {direction} LIMIT ?"""
    rows = selection.store.database.read(sql, [*order.args, *args, *after_args, limit])
    return [Place(*row) for row in rows]


class Scan(NamedTuple):
    """What a search for literals found in its time: places, the last one that was looked at, and how many were."""

    places: list[Place]
    last: Place | None
    done: int
    of: int

    def to_json(self) -> dict[str, int]:
        """As the pages read it."""
        return {"done": self.done, "of": self.of}


def _scan_literals(
    selection: Selection, order: Order, start: Place | None, limit: int, *, is_backward: bool
) -> Scan:
    """Look through texts in the list's order until a page is full, the time is up, or there are no more."""
    # Texts are read in portions, so that a page that is full early has read little.
    deadline = time.monotonic() + SCAN_SECONDS
    matches: list[Place] = []
    done = 0
    while True:
        part = _read_places(selection, order, start, SCAN_PORTION, is_backward=is_backward)
        texts = read_texts(selection.store, [place.seq for place in part])
        for place in part:
            done += 1
            start = place
            if _has_literals(selection, texts.get(place.seq, "")):
                matches.append(place)
            if len(matches) == limit:
                return Scan(matches, start, done, selection.count())
        if len(part) < SCAN_PORTION:
            return Scan(matches, None, done, selection.count())
        if time.monotonic() > deadline:
            return Scan(matches, start, done, selection.count())


def _has_literals(selection: Selection, text: str) -> bool:
    return all((literal.text in text) != literal.is_negated for literal in selection.literals)


def read_texts(store: Store, seqs: Sequence[int]) -> dict[int, str]:
    """The whole texts of entries."""
    sql = """SELECT e.seq, t.record FROM view.entries e
        JOIN view.ids i ON i.number = e.trace JOIN traces t ON t.id = i.id
        WHERE e.seq IN (SELECT value FROM json_each(?))"""
    texts: dict[int, str] = {}
    for seq, record in store.database.read(sql, (json.dumps(list(seqs)),)):
        texts[seq] = json.loads(record)["text"]
    return texts


def describe_entries(
    selection: Selection, seqs: Sequence[int], columns: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """What a list says of entries, in this order."""
    store = selection.store
    listed = (json.dumps(list(seqs)),)
    group_by_number = {group.number: group for group in selection.groups}
    sql = """SELECT e.seq, i.id, e."group", q.id, e.answer, e.tokens, e.length, e.steps, e.wrong_steps, e.first_wrong,
            e.draw,
            q.question, q.answer, e.reason, e.root, e.prompt_tokens, e.reasoning_tokens, e.weight, q.metadata,
            e.seconds, e.cost, e.created
        FROM view.entries e
        JOIN view.ids i ON i.number = e.trace JOIN view.problems q ON q.number = e.problem
        WHERE e.seq IN (SELECT value FROM json_each(?))"""
    # One statement for the whole page, then one for each thing that an entry has several of.
    items: dict[int, dict[str, Any]] = {}
    for row in store.database.read(sql, listed):
        seq, trace_id, number, problem, answer, tokens, length, steps, wrong, first_wrong, draw = (
            row[:11]
        )
        question, gold, reason, root, prompt_tokens, reasoning, weight, metadata = row[11:19]
        group = group_by_number[number]
        more = {
            "question": question,
            "gold": gold,
            "reason": reason or "",
            "model": group.model,
            "root": root,
            "prompt_tokens": prompt_tokens,
            "reasoning_tokens": reasoning,
            "weight": weight,
            "kind": group.kind,
            "source": group.source,
            "metadata": json.loads(metadata),
            "seconds": row[19],
            "cost": row[20],
            "created": row[21],
            "position": None,
            "parents": [],
        }
        items[seq] = {
            "key": seq,
            "id": trace_id,
            "arm": group.arm,
            "ledger": ledger_of(group.arm),
            "operator": group.operator,
            "status": group.status,
            "finish": group.finish,
            "author": author_of(group.model, selection.roles),
            "problem": problem,
            "answer": answer,
            "tokens": tokens,
            "length": length,
            "steps": steps,
            "wrong_steps": wrong,
            "first_wrong": first_wrong,
            "draw": draw,
            "row": False,
            "dropped": [],
            "mark": selection.marks.get(trace_id, ""),
            "scores": {},
            **{name: more[name] for name in columns if name in more},
        }
    _add_notes(store, items, listed, columns)
    for seq, excerpt in _excerpts(selection, seqs).items():
        items[seq]["excerpt"] = excerpt
    return [items[seq] for seq in seqs if seq in items]


def _add_notes(
    store: Store, items: dict[int, dict[str, Any]], listed: tuple[str], columns: Sequence[str]
) -> None:
    """Add what an entry has none or several of: drops, its place in the rows, scores, parents."""
    of_listed = "(SELECT value FROM json_each(?))"
    read = store.database.read
    sql = f"SELECT seq, test FROM view.drops WHERE seq IN {of_listed} ORDER BY place"
    for seq, test in read(sql, listed):
        if test not in items[seq]["dropped"]:
            items[seq]["dropped"].append(test)
    for seq, position in read(
        f"SELECT seq, position FROM view.placed WHERE seq IN {of_listed}", listed
    ):
        items[seq]["row"] = True
        if "position" in columns:
            items[seq]["position"] = position
    sql = f"SELECT seq, name, value, text FROM view.scores WHERE seq IN {of_listed} ORDER BY seq, name"
    for seq, name, value, text in read(sql, listed):
        items[seq]["scores"][name] = text if value is None else value
    if "parents" in columns:
        sql = f"""SELECT e.seq, t.parents FROM view.entries e JOIN view.ids i ON i.number = e.trace
            JOIN traces t ON t.id = i.id WHERE e.seq IN {of_listed}"""
        for seq, parents in read(sql, listed):
            items[seq]["parents"] = json.loads(parents)


def _excerpts(selection: Selection, seqs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The beginning of each text, or what stands around its first hit."""
    query = selection.query
    has_hits = any(term.column == "text" and not term.is_negated for term in query.words)
    has_hits |= any(not literal.is_negated for literal in query.literals)
    excerpts: dict[int, dict[str, Any]] = {}
    if has_hits:
        for seq, text in read_texts(selection.store, seqs).items():
            excerpts[seq] = make_excerpt(text, queries.find_hits(text, query))
        return excerpts
    # Nothing to look for: the rest of a long text stays in the file. A NUL, where SQLite's JSON would end, is shown.
    sql = f"""SELECT e.seq, substr(json_extract(replace(t.record, ?, '␀'), '$.text'), 1, {EXCERPT + 1})
        FROM view.entries e JOIN view.ids i ON i.number = e.trace JOIN traces t ON t.id = i.id
        WHERE e.seq IN (SELECT value FROM json_each(?))"""
    listed = json.dumps(list(seqs))
    for seq, text in selection.store.database.read(sql, (NUL_ESCAPE, listed)):
        excerpts[seq] = make_excerpt(text or "", [])
    return excerpts


def make_excerpt(text: str, hits: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """At most `EXCERPT` characters of a text, around its first hit, with the hits that lie in them."""
    # From a little before the first hit, unless it stands in the beginning anyway.
    start = max(0, hits[0][0] - CONTEXT) if hits and hits[0][1] > EXCERPT else 0
    stop = min(len(text), start + EXCERPT)
    part = text[start:stop]
    offsets = Utf16Offsets(part)
    inside = []
    for hit_start, hit_stop in hits:
        if start <= hit_start and hit_stop <= stop:
            inside.append(offsets.pair(hit_start - start, hit_stop - start))
    return {"text": part, "hits": inside, "is_start": start == 0, "is_end": stop == len(text)}


def read_anchors(selection: Selection, order: Order) -> dict[str, Any]:
    """Cursors of rows at equal distances, for a window that jumps."""
    # Twice the distance until there are few enough.
    count = selection.count()
    every = ROWS_PER_ANCHOR
    while count / every > MAX_ANCHORS:
        every *= 2
    where, args = selection.where(prefer_order=True)
    direction = "DESC" if order.is_descending else "ASC"
    sql = f"""SELECT value, seq FROM (
            SELECT {order.sql} AS value, e.seq AS seq,
                row_number() OVER (ORDER BY {order.sql} IS NULL, {order.sql} {direction}, e.seq {direction}) AS number
            FROM view.entries e {order.join} WHERE {where})
        WHERE number % ? = 0 ORDER BY number"""
    rows = selection.store.database.read(sql, [*order.args, *args, every])
    anchors: list[str | None] = [None]
    anchors += [Place(*row).to_cursor() for row in rows]
    # A cursor is of the row before; there is nothing after the last row.
    anchors = anchors[: max(1, -(-count // every))]
    return {
        "count": count,
        "every": every,
        "anchors": anchors,
        "is_counted": not selection.literals,
    }


def read_facets(selection: Selection) -> dict[str, Any]:
    """How many entries of a list have each value of each facet."""
    if selection.literals:
        _choose_by_literals(selection)
    selection.hold_words()
    listed_facets = []
    all_counts = _count_groups(selection, "")
    fitting = {
        group.number
        for group in choose_groups(selection.groups, selection.group_choices, selection.roles)
    }
    count = 0
    for number, entries in all_counts.items():
        count += entries if number in fitting else 0
    for name, facet in FACETS.items():
        if facet.value_of is None:
            listed_facets.append(_count_noted(selection, name, count))
            continue
        # A group's entries count for the facet where the choices in all others fit.
        counts: dict[str, int] = {}
        of_counts: dict[str, int] = {}
        choice = selection.group_choices.get(name)
        for group in choose_groups(
            selection.groups, selection.group_choices, selection.roles, without=name
        ):
            value = facet.value_of(group, selection.roles)
            entries = all_counts.get(group.number, 0)
            of_counts[value] = of_counts.get(value, 0) + entries
            if group.number in fitting:
                counts[value] = counts.get(value, 0) + entries
        chosen = {value for value in of_counts if choice is not None and choice.names(value)}
        listed_facets.append(_facet_json(name, counts, of_counts, chosen))
    return {
        "count": count,
        "is_counted": True,
        "indexed": selection.indexed(),
        "messages": [message.to_json() for message in selection.messages],
        "facets": listed_facets,
        "ranges": _read_ranges(selection),
    }


def _choose_by_literals(selection: Selection) -> None:
    """Turn literals into a condition: the entries that have them, as far as the time allows."""
    order = make_order("made", "asc")
    scan = _scan_literals(selection, order, None, selection.count() + 1, is_backward=False)
    if scan.last is not None:
        text = f"counted in the first {scan.done:,} of {scan.of:,} texts"
        selection.messages.append(queries.Message("info", text))
    selection.choose_entries([place.seq for place in scan.places])


def _count_groups(selection: Selection, without: str) -> dict[int, int]:
    """Entries by group, whatever is chosen of groups."""
    conditions = [c for c in selection.conditions if not c.facet or c.facet != without]
    if not conditions:
        return selection.count_by_group
    where = " AND ".join(condition.sql for condition in conditions)
    args = [value for condition in conditions for value in condition.args]
    sql = f'SELECT e."group", count(*) FROM view.entries e WHERE {where} GROUP BY 1'
    return dict(selection.store.database.read(sql, args))


def _count_noted(selection: Selection, name: str, count: int) -> dict[str, Any]:
    """The values of a facet that is not of groups."""
    chosen: set[str] = set()
    for values in selection.noted_choices.get(name, ()):
        chosen |= set(values)
    counts = _noted_counts(selection, name, count, without="")
    of_counts = counts
    if name in selection.noted_choices:
        where, args = selection.where(without=name)
        sql = f"SELECT count(*) FROM view.entries e WHERE {where}"
        [(of_count,)] = selection.store.database.read(sql, args)
        of_counts = _noted_counts(selection, name, of_count, without=name)
    return _facet_json(name, counts, of_counts, chosen)


def _noted_counts(selection: Selection, name: str, count: int, *, without: str) -> dict[str, int]:
    where, args = selection.where(without=without)
    read = selection.store.database.read
    if name in MULTIPLE_FACETS:
        # From the drops, in the order of an index: nothing is sorted.
        column = "test" if name == "dropped" else "reason"
        dropped = "view.drops d CROSS JOIN view.entries e ON e.seq = d.seq"
        sql = f"""SELECT d.{column}, count(DISTINCT d.seq) FROM {dropped}
            WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_FACET_VALUES}"""
        counts = dict(read(sql, args))
        if name == "dropped":
            [(traces,)] = read(f"SELECT count(DISTINCT d.seq) FROM {dropped} WHERE {where}", args)
            counts[NONE] = count - traces
        return counts
    # In a row or not: both ways are always there.
    if name == "row":
        in_rows = (
            "(SELECT DISTINCT seq FROM view.placed) l CROSS JOIN view.entries e ON e.seq = l.seq"
        )
        [(rows,)] = read(f"SELECT count(*) FROM {in_rows} WHERE {where}", args)
        return {"yes": rows, "no": count - rows}
    # Marks stand in the notes, and are few.
    counts = {}
    for mark in sorted(set(selection.marks.values())):
        ids = json.dumps([trace for trace, its_mark in selection.marks.items() if its_mark == mark])
        marked = (
            "e.trace IN (SELECT number FROM view.ids WHERE id IN (SELECT value FROM json_each(?)))"
        )
        [(counts[mark],)] = read(
            f"SELECT count(*) FROM view.entries e WHERE {marked} AND {where}", [ids, *args]
        )
    counts[NONE] = count - sum(counts.values())
    return counts


def _facet_json(
    name: str, counts: dict[str, int], of_counts: dict[str, int], chosen: set[str]
) -> dict[str, Any]:
    # The most frequent first; what is chosen stays, also where nothing fits it.
    values = []
    for value, of_count in sorted(of_counts.items(), key=lambda item: (-item[1], item[0])):
        is_chosen = value in chosen
        if of_count or is_chosen:
            values.append(
                {
                    "value": value,
                    "label": value,
                    "count": counts.get(value, 0),
                    "of": of_count,
                    "is_chosen": is_chosen,
                }
            )
    facet = FACETS[name]
    return {
        "name": name,
        "label": facet.label,
        "is_multiple": name in MULTIPLE_FACETS,
        "values": values,
    }


def _read_ranges(selection: Selection) -> list[dict[str, Any]]:
    """The least and the largest value of each number and each score in a list."""
    where, args = selection.where()
    read = selection.store.database.read
    # All numbers of entries in one pass.
    columns = ", ".join(f"min(e.{name}), max(e.{name}), count(e.{name})" for name in RANGES)
    [ends] = read(f"SELECT {columns} FROM view.entries e WHERE {where}", args)
    ranges = []
    for place, (name, label) in enumerate(RANGES.items()):
        low, high, count = ends[3 * place : 3 * place + 3]
        if count:
            ranges.append({"name": name, "label": label, "min": low, "max": high, "count": count})
    sql = f"""SELECT s.name, min(s.value), max(s.value), count(s.value)
        FROM view.scores s CROSS JOIN view.entries e ON e.seq = s.seq WHERE {where} GROUP BY 1 ORDER BY 1"""
    for name, low, high, count in read(sql, args):
        if count:
            score = queries.SCORE_PREFIX + name
            ranges.append({"name": score, "label": name, "min": low, "max": high, "count": count})
    return ranges


def iterate_entries(selection: Selection, order: Order) -> Iterator[int]:
    """The numbers of all entries of a list, in its order; literals are looked for without a limit of time."""
    start: Place | None = None
    while True:
        part = _read_places(selection, order, start, MAX_LIMIT, is_backward=False)
        if not part:
            return
        start = part[-1]
        if selection.literals:
            texts = read_texts(selection.store, [place.seq for place in part])
            part = [place for place in part if _has_literals(selection, texts.get(place.seq, ""))]
        for place in part:
            yield place.seq
