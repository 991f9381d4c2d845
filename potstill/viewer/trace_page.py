"""The page of one trace: what was asked, what was written, where it came from and what became of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from potstill.data.trace_json import to_prompt
from potstill.errors import InputError
from potstill.records import Message, Prompt, Span, Trace, learns_end, learnt_stretches
from potstill.runs.folder_layout import evaluation_ledger, examples_ledger
from potstill.store.database import from_column
from potstill.store.store import Store
from potstill.traces.verification import verdict_key
from potstill.viewer import query as queries
from potstill.viewer.facets import FACETS, author_of, ledger_of, roles_of_models
from potstill.viewer.index.calls import served_name
from potstill.viewer.notes import Note
from potstill.viewer.trace_lists import EXCERPT
from potstill.viewer.utf16 import Utf16Offsets

MAX_SIBLINGS = 200
MAX_CHILDREN = 200
MAX_REMEMBERED = 2000  # traces that are kept for the next page
MAX_GENERATIONS = 50  # of ancestors; a search may be deeper, and its page says so
# What an ancestor is in the descent, in the order within one generation: the errors, then what is right.
PART_TITLES = {
    "blank": "The problem",
    "error": "The student's error",
    "teacher": "The teacher's chain",
    "source": "A right source",
    "text": "A text before",
    "this": "This text",
}


class TraceRequest(NamedTuple):
    """Which trace, with whose annotations, and what is looked for in it."""

    id: str
    arm: str = ""
    query: str = ""


class NoTraceError(InputError):
    """There is no trace of this id, or several begin so."""


def find_trace_id(store: Store, text: str) -> str:
    """The id that is this text, or the only one that begins so.

    Raises:
        NoTraceError: there is none, or there are several.
    """
    sql = "SELECT id FROM traces WHERE id >= ? AND id < ? ORDER BY id LIMIT 3"
    ids = [trace_id for (trace_id,) in store.database.read(sql, (text, text + "z"))]
    if text in ids:
        return text
    if len(ids) == 1 and text.startswith("trace-"):
        return str(ids[0])
    message = f"several traces begin with {text!r}"
    if not ids:
        message = f"there is no trace {text[:60]!r}"
    raise NoTraceError(message, available=ids, fix="look for it in the list of traces")


class RunFacts:
    """What the pages of traces need to know of the whole run: read once for as many pages as share it.

    Args:
        store: with the index attached; nothing writes into it while these facts are used.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.roles = roles_of_models(store)
        self._served: dict[str, str] = {}
        self._questions: dict[str, list[tuple[str, set[str]]]] = {}
        self._traces: dict[tuple[str, str], Trace] = {}

    def traces(self, ids: Iterable[str], arm: str) -> list[Trace]:
        """Those of these traces that are stored, in this order, with the arm's annotations."""
        wanted = list(dict.fromkeys(ids))
        missing = [trace_id for trace_id in wanted if (trace_id, arm) not in self._traces]
        # Pages of one problem name each other's traces, and come one after another.
        if len(self._traces) > MAX_REMEMBERED:
            self._traces.clear()
            missing = wanted
        for trace in self.store.history.traces_by_id(missing, arm):
            self._traces[trace.id, arm] = trace
        return [
            self._traces[key] for trace_id in wanted if (key := (trace_id, arm)) in self._traces
        ]

    def served_name(self, model: str) -> str:
        """What a server calls a model."""
        if model not in self._served:
            self._served[model] = served_name(self.store.database, model)
        return self._served[model]

    def words_of_questions(self, ledger: str) -> list[tuple[str, set[str]]]:
        """The problems of a ledger, each with the words of its question."""
        if ledger not in self._questions:
            sql = """SELECT DISTINCT q.id, q.question FROM view.problems q JOIN view.entries e ON e.problem = q.number
                JOIN view.groups g ON g.number = e."group" WHERE g.arm = ?"""
            problems = self.store.database.read(sql, (ledger,))
            self._questions[ledger] = [
                (problem, set(queries.fold_words(question or ""))) for problem, question in problems
            ]
        return self._questions[ledger]


def describe_trace(
    store: Store,
    request: TraceRequest,
    notes: Sequence[Note] = (),
    facts: RunFacts | None = None,
) -> dict[str, Any]:
    """Everything that the page of a trace shows.

    Args:
        store: with the index attached.
        request: which trace.
        notes: of the run.
        facts: of the run, where many pages are described; else they are read for this one.
    """
    trace_id = find_trace_id(store, request.id)
    # Arm by arm: the ledger's own index begins with the arm.
    sql = """SELECT m.arm, m.seq FROM arms a CROSS JOIN made m ON m.arm = a.arm AND m.id = ? ORDER BY m.seq"""
    arms = [
        {"arm": arm, "ledger": ledger_of(arm), "key": seq}
        for arm, seq in store.database.read(sql, (trace_id,))
    ]
    arm = request.arm or (arms[0]["arm"] if arms else "")
    if request.arm and request.arm not in [one["arm"] for one in arms]:
        raise NoTraceError(
            f"the arm {request.arm!r} made no trace {trace_id}",
            available=[str(a["arm"]) for a in arms],
        )
    facts = facts or RunFacts(store)
    [trace] = facts.traces([trace_id], arm)  # its id was read from the store
    page = TracePage(facts, trace, arm)
    document = page.describe()
    document["arms"] = arms
    document["notes"] = [note.to_json() for note in notes if note.trace == trace_id]
    query = queries.parse_query(request.query, list(FACETS))
    offsets = Utf16Offsets(trace.text)
    document["hits"] = [offsets.pair(*hit) for hit in queries.find_hits(trace.text, query)]
    return document


class Lineage(NamedTuple):
    """The descent of a trace.

    Args:
        generations: by how many steps of descent lie between, the oldest first and the trace itself last; each entry
            has the id, what it is (`PART_TITLES`), and that in words.
        is_cut: whether there are older ancestors, which are not listed.
    """

    generations: list[list[dict[str, str]]]
    is_cut: bool


class TracePage:
    """Collects what the page of a trace shows.

    Args:
        facts: of the run.
        trace: with the annotations of `arm`.
        arm: whose annotations are shown.
    """

    def __init__(self, facts: RunFacts, trace: Trace, arm: str) -> None:
        self.facts, self.store = facts, facts.store
        self.trace, self.arm = trace, arm
        self.roles = facts.roles
        self.members: dict[str, dict[str, Any]] = {}

    def describe(self) -> dict[str, Any]:
        """The page, without what depends on the query and the notes."""
        # Each part adds what it names to `members`, whole or cut.
        trace = self.trace
        offsets = Utf16Offsets(trace.text)
        rows = self._rows()
        lineage = self.lineage(rows)
        call = find_call(self.store, trace)
        document = {
            "id": trace.id,
            "arm": self.arm,
            "operator": trace.operator,
            "status": status_of(trace),
            "finish": trace.finish_reason,
            "stop_string": trace.stop_string,
            "error": trace.error,
            "is_blank": not trace.text and trace.author is None,
            "saw_gold": trace.saw_gold,
            "weight": trace.weight,
            "root": trace.root,
            "problem": describe_problem(trace),
            "prompt": self._prompts(call),
            "text": trace.text,
            "prefix_length": offsets(trace.prefix_length),
            "thought": find_thought(trace.text),
            "author": self._author(trace),
            "tokens": trace.tokens._asdict(),
            "seconds": call.seconds if call is not None else None,
            "cost": call.cost if call is not None else None,
            "created": call.created if call is not None else None,
            "verdict": trace.verdict._asdict(),
            "judged": find_verdict_time(self.store, trace),
            "scores": plain_scores(trace.scores),
            "steps": describe_steps(trace.spans, offsets),
            "spans": [_describe_span(span, offsets) for span in trace.spans],
            "learnt": [offsets.pair(*stretch) for stretch in learnt_stretches(trace)],
            "learns_end": learns_end(trace),
            "drops": self._drops(),
            "rows": rows,
            "lineage": lineage.generations,
            "is_lineage_cut": lineage.is_cut,
            "parents": list(trace.parents),
            "children": self._children(),
            "siblings": {"prompt": self._draws_of_call(), "problem": self._draws_of_problem()},
            "answers": self._answers(rows),
            "rejected": None,
        }
        if trace.rejected is not None:
            document["rejected"] = self._describe_member(trace.rejected, self.arm)
        document["members"] = self.members
        return document

    def _author(self, trace: Trace) -> dict[str, Any] | None:
        author = trace.author
        if author is None:
            return None
        return {
            "role": author_of(author.model, self.roles),
            "model": author.model,
            "name": self.facts.served_name(author.model),
            "draw": author.sample_index,
            "settings": dict(author.settings),
            "prompt_hash": author.prompt_hash,
        }

    def _prompts(self, call: Call | None) -> dict[str, Any]:
        """What the learner sees, and what the writer was shown."""
        prompts: dict[str, Any] = {
            **describe_prompt(self.trace.prompt, "learner"),
            "writer": None,
            "no_writer": "",
        }
        if call is not None:
            payload = json.loads(call.payload)
            prompt = describe_prompt(to_prompt(payload["prompt"]), "messages")
            prompts["writer"] = {
                **prompt,
                "prefix": payload.get("prefix", ""),
                "settings": dict(payload.get("settings", [])),
                "seed": payload.get("seed"),
                "key": call.key,
                "kind": "completion",
            }
        elif self.trace.author is None:
            prompts["no_writer"] = "no model wrote this"
        else:
            prompts["no_writer"] = "the call is not in the store, or not indexed yet"
        return prompts

    def _drops(self) -> list[dict[str, str]]:
        sql = "SELECT operator, test, reason FROM drops WHERE arm = ? AND id = ? ORDER BY seq"
        drops = []
        for operator, test, reason in self.store.database.read(sql, (self.arm, self.trace.id)):
            drops.append({"operator": operator, "test": test, "reason": from_column(reason)})
        return drops

    def _rows(self) -> list[dict[str, Any]]:
        """Where the trace stands among rows that were trained on, of any arm."""
        sql = """SELECT r.arm, r.label, r.stage, r.position,
                (SELECT count(*) FROM rows o WHERE o.arm = r.arm AND o.label = r.label AND o.stage = r.stage)
            FROM rows r WHERE r.id = ? ORDER BY r.rowid"""
        rows = []
        for arm, label, stage, position, count in self.store.database.read(sql, (self.trace.id,)):
            rows.append(
                {"arm": arm, "stage": label, "student": stage, "position": position, "of": count}
            )
        return rows

    def lineage(self, rows: Sequence[Mapping[str, Any]] = ()) -> Lineage:
        """The trace with everything that it came from, for its page and for `potstill show`.

        Args:
            rows: where it stands among rows that were trained on.
        """
        # The trace itself is the last column.
        title = PART_TITLES["this"]
        if rows:
            title = f"The row ({rows[0]['position'] + 1} of {rows[0]['of']})"
        generations = [[{"id": self.trace.id, "part": "this", "title": title}]]
        self._add_member(self.trace)
        # Breadth first, one SELECT a generation; who is reached by two ways stands in the nearer one.
        ids = self.trace.parents
        visited = {self.trace.id}
        while ids and len(generations) <= MAX_GENERATIONS:
            new_ids = [trace_id for trace_id in dict.fromkeys(ids) if trace_id not in visited]
            visited.update(new_ids)
            ancestors = self.facts.traces(new_ids, self.arm)
            ids = tuple(parent for ancestor in ancestors for parent in ancestor.parents)
            generation = []
            for ancestor in ancestors:
                part = self._part_of(ancestor)
                generation.append({"id": ancestor.id, "part": part, "title": PART_TITLES[part]})
                self._add_member(ancestor)
            if generation:
                generations.append(generation)
        order = list(PART_TITLES)
        for generation in generations:
            generation.sort(key=lambda entry: order.index(entry["part"]))
        return Lineage(generations[::-1], is_cut=bool(set(ids) - visited))

    def _part_of(self, trace: Trace) -> str:
        """What an ancestor is in the descent."""
        if not trace.text:
            return "blank"
        if trace.verdict.status == "wrong":
            return "error"
        if trace.author is not None and author_of(trace.author.model, self.roles) == "teacher":
            return "teacher"
        return "source" if trace.verdict.status == "right" else "text"

    def _children(self) -> list[dict[str, str]]:
        sql = """SELECT DISTINCT i.id FROM view.descents d JOIN view.ids i ON i.number = d.child
            WHERE d.parent = (SELECT number FROM view.ids WHERE id = ?) ORDER BY d.child LIMIT ?"""
        ids = [child for (child,) in self.store.database.read(sql, (self.trace.id, MAX_CHILDREN))]
        children = []
        for child in self.facts.traces(ids, self.arm):
            self._add_member(child, is_short=True)
            children.append({"id": child.id, "operator": child.operator})
        return children

    def _draws_of_call(self) -> list[dict[str, Any]]:
        """Other draws of the same call, by sample index."""
        author = self.trace.author
        if author is None:
            return []
        condition = "e.prompt = ? AND g.model = ? AND g.operator = ?"
        prompt_hash = author.prompt_hash.removeprefix("prompt-")
        return self._draws(condition, (prompt_hash, author.model, self.trace.operator))

    def _draws_of_problem(self) -> list[dict[str, Any]]:
        """Other texts of the same operator on the same problem."""
        if self.trace.author is None:
            return []
        condition = "e.problem IN (SELECT number FROM view.problems WHERE id = ?) AND g.model = ? AND g.operator = ?"
        return self._draws(
            condition, (self.trace.problem.id, self.trace.author.model, self.trace.operator)
        )

    def _draws(self, condition: str, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        sql = f"""SELECT i.id, e.draw, g.status, e.tokens FROM view.entries e JOIN view.groups g ON g.number = e."group"
            JOIN view.ids i ON i.number = e.trace WHERE {condition} AND g.arm = ? ORDER BY e.draw, e.seq LIMIT ?"""
        draws = []
        for trace_id, draw, status, tokens in self.store.database.read(
            sql, (*args, self.arm, MAX_SIBLINGS)
        ):
            is_this = trace_id == self.trace.id
            draws.append(
                {
                    "id": trace_id,
                    "draw": draw,
                    "status": status,
                    "tokens": tokens,
                    "is_this": is_this,
                }
            )
        return draws

    def _answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the students that were trained on this row answer to its problem, or to the nearest one measured."""
        # Each student that was trained on the row, once.
        answers: list[dict[str, Any]] = []
        for arm in dict.fromkeys(str(row["arm"]) for row in rows):
            own_answers = []
            for ledger in (examples_ledger(arm), evaluation_ledger(arm)):
                for answer in self._answers_in(ledger, self.trace.problem.id):
                    self._add_member(answer)
                    own_answers.append(
                        {
                            "student": arm,
                            "relation": "own",
                            "title": f"{arm} answers this problem",
                            "id": answer.id,
                            "arm": ledger,
                        }
                    )
            answers += own_answers or self._nearest_answer(arm)
        return answers

    def _answers_in(self, ledger: str, problem: str) -> list[Trace]:
        sql = """SELECT i.id FROM view.entries e JOIN view.groups g ON g.number = e."group"
            JOIN view.ids i ON i.number = e.trace
            WHERE e.problem IN (SELECT number FROM view.problems WHERE id = ?) AND g.arm = ? AND g.status != 'blank'
            ORDER BY e.draw, e.seq LIMIT 8"""
        ids = [trace_id for (trace_id,) in self.store.database.read(sql, (problem, ledger))]
        return self.facts.traces(ids, ledger)

    def _nearest_answer(self, arm: str) -> list[dict[str, Any]]:
        """The student's answer to the test problem whose question shares most words with this one's."""
        ledger = evaluation_ledger(arm)
        # Word overlap as a Jaccard index: good enough to show a neighbour, and no measure of anything.
        own_words = set(queries.fold_words(self.trace.question))
        best_share, best_problem = 0.0, ""
        for problem, words in self.facts.words_of_questions(ledger):
            share = len(words & own_words) / max(1, len(words | own_words))
            if share > best_share:
                best_share, best_problem = share, problem
        answers = []
        for answer in self._answers_in(ledger, best_problem)[:1]:
            self._add_member(answer)
            why = (
                "it was not asked this row's problem (evaluate.rows in a recipe asks more of them); of the test "
                f"problems this one shares most words: {best_share:.0%}"
            )
            answers.append(
                {
                    "student": arm,
                    "relation": "nearest",
                    "title": f"{arm} answers the nearest test problem",
                    "id": answer.id,
                    "arm": ledger,
                    "why": why,
                    "question": answer.question,
                }
            )
        return answers

    def _add_member(self, trace: Trace, *, is_short: bool = False) -> None:
        if trace.id not in self.members or not is_short:
            self.members[trace.id] = self._describe_member(trace, self.arm, is_short=is_short)

    def _describe_member(self, trace: Trace, arm: str, *, is_short: bool = False) -> dict[str, Any]:
        # Offsets are those of the whole text, also where only its beginning is sent.
        text = trace.text[:EXCERPT] if is_short else trace.text
        offsets = Utf16Offsets(trace.text)
        author = trace.author
        return {
            "id": trace.id,
            "arm": arm,
            "operator": trace.operator,
            "status": status_of(trace),
            "finish": trace.finish_reason,
            "role": author_of(author.model, self.roles) if author is not None else "",
            "model": author.model if author is not None else "",
            "draw": author.sample_index if author is not None else None,
            "problem": trace.problem.id,
            "question": trace.question,
            "gold": trace.problem.answer,
            "answer": trace.verdict.answer,
            "reason": trace.verdict.reason,
            "error": trace.error,
            "text": text,
            "length": len(trace.text),
            "is_cut": len(text) < len(trace.text),
            "prefix_length": offsets(trace.prefix_length),
            "steps": describe_steps(trace.spans, offsets),
            "learnt": [offsets.pair(*stretch) for stretch in learnt_stretches(trace)],
            "tokens": trace.tokens.completion,
            "saw_gold": trace.saw_gold,
            "parents": list(trace.parents),
        }


class Call(NamedTuple):
    """A completion as it is stored."""

    key: str
    payload: str
    text: str
    seconds: float
    cost: float | None
    created: float


def find_verdict_time(store: Store, trace: Trace) -> float | None:
    """When a verifier judged a trace, in seconds since 1970; None where that was not noted, or a model judged it.

    A verdict is judged once for equal texts, so it may be older than the trace.
    """
    if not trace.verdict.verifier or trace.problem.kind == "judge":
        return None
    return store.verdicts.created(verdict_key(trace, trace.verdict.verifier))


def find_call(store: Store, trace: Trace) -> Call | None:
    """The call that wrote a trace, where it is in the store and indexed; of a text in parts the last one."""
    if trace.author is None:
        return None
    # An author names its prompt by a digest, and so does the index name each call.
    prompt_hash = trace.author.prompt_hash.removeprefix("prompt-")
    # The index knows calls by what a trace says of its author.
    sql = """SELECT o.key, o.payload, o.text, o.seconds, o.cost, o.created FROM view.calls c
        JOIN completions o ON o.key = c.key WHERE c.prompt = ? AND c.draw = ? AND c.model = ? ORDER BY c.place"""
    args = (prompt_hash, trace.author.sample_index, trace.author.model)
    calls = [Call(*row) for row in store.database.read(sql, args)]
    # Calls of one author differ in settings, and in the text that they continue.
    fitting = [call for call in calls if _settings_of(call) == _plain_settings(trace)]
    ending = [call for call in fitting if call.text == trace.new]
    for candidates in (ending, fitting, calls):
        if candidates:
            return candidates[-1]
    return None


def _settings_of(call: Call) -> Any:
    return json.loads(call.payload).get("settings")


def _plain_settings(trace: Trace) -> Any:
    assert trace.author is not None
    return json.loads(json.dumps(trace.author.settings))


def status_of(trace: Trace) -> str:
    """The verdict's status, "error" where the generation failed, "blank" of a problem that nobody has worked on."""
    if trace.error:
        return "error"
    if not trace.text and trace.author is None:
        return "blank"
    return trace.verdict.status


def describe_problem(trace: Trace) -> dict[str, Any]:
    """A problem with everything that is known of it."""
    problem = trace.problem
    return {
        "id": problem.id,
        "question": problem.question,
        "answer": problem.answer,
        "solution": problem.solution,
        "kind": problem.kind,
        "source": problem.source,
        "choices": list(problem.choices),
        "tests": list(problem.tests),
        "table": problem.table,
        "metadata": dict(problem.metadata),
        "parents": list(problem.parents),
    }


def describe_prompt(prompt: Prompt, name: str) -> dict[str, Any]:
    """A prompt as messages under a name; `is_text` says that it is a bare string, one turn of a user."""
    messages: Iterable[Message] = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return {name: [message._asdict() for message in messages], "is_text": isinstance(prompt, str)}


def find_thought(text: str) -> dict[str, int] | None:
    """Where the thought stands, without its tags (`records.split_reasoning`); None where there is none."""
    # As `split_reasoning` reads it: with the opening tag, or begun inside the thought.
    before, opened, _ = text.partition("<think>")
    begins_with_tag = bool(opened) and not before.strip()
    closes = text.find("</think>")
    if not begins_with_tag and (closes < 0 or "<think>" in text[:closes]):
        return None
    start = len(before) + len(opened) if begins_with_tag else 0
    stop = text.find("</think>", start)
    offsets = Utf16Offsets(text)
    return {"start": offsets(start), "stop": offsets(stop if stop >= 0 else len(text))}


def describe_steps(spans: Iterable[Span], offsets: Utf16Offsets) -> list[dict[str, Any]]:
    """The judged steps of a text in order."""
    # In the order of the text: layers of spans come in any.
    steps = []
    for span in sorted(span for span in spans if span.kind == "step"):
        start, stop = offsets.pair(span.start, span.stop)
        is_right = None if span.score is None else span.score > 0
        steps.append(
            {"start": start, "stop": stop, "is_right": is_right, "score": plain_number(span.score)}
        )
    return steps


def _describe_span(span: Span, offsets: Utf16Offsets) -> dict[str, Any]:
    start, stop = offsets.pair(span.start, span.stop)
    return {**span._asdict(), "start": start, "stop": stop, "score": plain_number(span.score)}


def plain_scores(scores: Mapping[str, float | str | None]) -> dict[str, Any]:
    """Scores as JSON can hold them."""
    return {name: plain_number(value) for name, value in scores.items()}


def plain_number(value: Any) -> Any:
    """A number as JSON can hold it: infinity and NaN as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value
