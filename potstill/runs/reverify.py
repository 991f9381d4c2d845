"""Today's verifiers on the stored traces of a run: what they say now, beside what the run was told. No model is asked.

The new judgements take the place of the old ones under the same keys, so the next run of the folder chooses its rows
by them; the ledger still says what the last run did, until then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import final

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.models.model import Completion, Request
from potstill.records import Progress, Trace, Verdict
from potstill.store.store import Store
from potstill.store.verdicts import Verdicts
from potstill.traces import Session, using, verify
from potstill.traces.session import current_session

PORTION = 500  # traces judged at once


@dataclass(slots=True)
class Line:
    """One arm's traces of one operator whose verdicts came from the verifier `before` and come from `after` now.

    `changes` counts verdicts that are others now, as "right -> wrong"; `answers` those of the same status that read
    another answer; `rows` the changed ones among the rows that the arm trained on.
    """

    arm: str
    operator: str
    before: str
    after: str
    traces: int = 0
    changed: int = 0
    answers: int = 0
    rows: int = 0
    changes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Rejudged:
    """The lines, in the order of the arms; how many traces no verifier had been asked about; the changed ones."""

    lines: list[Line] = field(default_factory=list)
    unasked: int = 0
    changed: list[dict[str, object]] = field(default_factory=list)


def again(store: Store, kinds: Sequence[str] = (), progress: Progress | None = None) -> Rejudged:
    """Judge every trace of a run that it had judged, and keep the new judgements; problems of these kinds, or of all.

    Traces that the run itself never asked a verifier about are only counted.
    """
    for kind in kinds:
        if kind not in verifiers.KINDS:
            raise ConfigError(
                f"there is no verifier of kind {kind!r}", available=verifiers.KINDS, wanted=kind
            )
    found = Rejudged()
    fresh = _Anew(store.verdicts)
    with using(Session(verdict_cache=fresh)):
        for arm in store.history.arms():
            _arm(store, arm, kinds, found, progress or _silent)
    return found


def _arm(store: Store, arm: str, kinds: Sequence[str], found: Rejudged, progress: Progress) -> None:
    trained = {id for ids in store.history.row_ids(arm).values() for id in ids}
    lines: dict[tuple[str, str, str], Line] = {}
    total = store.history.count_traces(arm)
    done = 0
    progress(f"{arm}: judged again", done, total)
    for portion in _portions(store.history.traces(arm)):
        chosen = [
            t for t in portion if t.verdict.verifier and (not kinds or t.problem.kind in kinds)
        ]
        found.unasked += sum(
            1 for t in portion if t.author and not t.error and not t.verdict.verifier
        )
        for old, new in _verified(store, chosen):
            key = (old.operator, old.verdict.verifier, new.verdict.verifier)
            line = lines.setdefault(key, Line(arm, *key))
            _count(line, old, new.verdict, trained, found.changed)
        done += len(portion)
        progress(f"{arm}: judged again", done, total)
    found.lines += lines.values()


def _verified(store: Store, traces: Sequence[Trace]) -> Iterator[tuple[Trace, Trace]]:
    """Each trace beside itself judged again; what a model judged is read anew from that model's stored replies."""
    by_judge: dict[str, list[Trace]] = {}
    for trace in traces:
        name = trace.verdict.verifier.partition(":")[2] if trace.problem.kind == "judge" else ""
        by_judge.setdefault(name, []).append(trace)
    for name, mine in by_judge.items():
        judge = _Replies(store, name) if name else None
        with using(dataclasses.replace(current_session(), judge=judge)):
            judged = verify(mine)
        yield from zip(mine, judged, strict=True)


@final
class _Replies:
    """A judge that can only say again what it said in the run."""

    def __init__(self, store: Store, id: str) -> None:
        self.id, self._store = id, store
        sql = "SELECT json_extract(payload, '$.seed') FROM completions WHERE model = ? LIMIT 1"
        self._seed = int(next((seed for (seed,) in store.database.read(sql, (id,))), 0))

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The stored replies; a question that was never asked is a failed generation."""
        keys = [dataclasses.replace(request, seed=self._seed).key(self.id) for request in requests]
        known = self._store.completions.get(keys)
        never = Completion("", "", error="refused: the judge was not asked this in the run")
        return [known.get(key, never) for key in keys]


def _count(
    line: Line, old: Trace, now: Verdict, trained: set[str], changed: list[dict[str, object]]
) -> None:
    was = old.verdict
    line.traces += 1
    if was.status == now.status:
        line.answers += was.answer != now.answer
        return
    line.changed += 1
    line.rows += old.id in trained
    change = f"{was.status} -> {now.status}"
    line.changes[change] = line.changes.get(change, 0) + 1
    changed.append(
        {
            "arm": line.arm,
            "trace": old.id,
            "operator": old.operator,
            "problem": old.problem.id,
            "gold": old.problem.answer,
            "before": was._asdict(),
            "after": now._asdict(),
            "row": old.id in trained,
        }
    )


def _portions(traces: Iterator[Trace]) -> Iterator[list[Trace]]:
    while portion := list(islice(traces, PORTION)):
        yield portion


def _silent(label: str, done: int, total: int) -> None:
    """Nobody watches."""


@final
class _Anew:
    """Verdicts that know only what was judged since they were made, so that everything else is judged again."""

    def __init__(self, judgements: Verdicts) -> None:
        self._judgements = judgements
        self._since: set[str] = set()

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """What was judged already in this go: arms share traces."""
        return self._judgements.get([key for key in keys if key in self._since])

    def put(self, values: Mapping[str, str]) -> None:
        """Put these in the place of what was there."""
        self._judgements.replace(values)
        self._since.update(values)
