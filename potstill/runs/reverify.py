"""Today's verifiers on the stored traces of a run: what they say now, beside what they said then. No model is asked.

The new verdicts take the place of the old ones under the same keys, so the next run of the folder chooses its rows
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
from potstill.records import Progress, Trace, Verdict, no_progress
from potstill.runs import manifest
from potstill.store.store import Store
from potstill.store.verdicts import Verdicts
from potstill.traces import Session, using, verify
from potstill.traces.session import current_session
from potstill.verifiers import reading_thoughts, reads_thoughts

BATCH = 500  # traces judged at once


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


def judge_again(
    store: Store, kinds: Sequence[str] = (), progress: Progress = no_progress
) -> Rejudged:
    """Judge every trace of a run that it had judged, and keep the new verdicts; problems of these kinds, or of all.

    Traces that the run itself never asked a verifier about are only counted.
    """
    for kind in kinds:
        if kind not in verifiers.KINDS:
            raise ConfigError(
                f"there is no verifier of kind {kind!r}", available=verifiers.KINDS, wanted=kind
            )
    rejudged = Rejudged()
    with (
        reading_thoughts(_counts_thoughts(store)),
        using(Session(verdict_cache=_FreshVerdicts(store.verdicts))),
    ):
        for arm in store.history.arms():
            judge_arm_again(store, arm, kinds, rejudged, progress)
    return rejudged


def _counts_thoughts(store: Store) -> bool:
    """Whether answers inside thoughts count in this run; a session in Python writes no manifest, and says so itself."""
    if not (store.folder / manifest.FILE).exists():
        return reads_thoughts()
    return bool(manifest.read(store.folder).settings.get("answers_in_thoughts", False))


def judge_arm_again(
    store: Store, arm: str, kinds: Sequence[str], rejudged: Rejudged, progress: Progress
) -> None:
    """Judge the traces of one arm again, and count what changed into `rejudged`."""
    row_ids: set[str] = set()
    for stage_row_ids in store.history.row_ids(arm).values():
        row_ids.update(stage_row_ids)
    lines: dict[tuple[str, str, str], Line] = {}
    total = store.history.count_traces(arm)
    done = 0
    progress(f"{arm}: judged again", done, total)
    for batch in _batches(store.history.traces(arm)):
        # Failed generations and blank traces were never judged, and are not now.
        judged: list[Trace] = []
        for trace in batch:
            if not trace.verdict.verifier:
                rejudged.unasked += bool(trace.author and not trace.error)
            elif not kinds or trace.problem.kind in kinds:
                judged.append(trace)
        for old, new in _verify_again(store, judged):
            key = (old.operator, old.verdict.verifier, new.verdict.verifier)
            line = lines.setdefault(key, Line(arm, *key))
            change = _count_change(line, old, new.verdict, is_row=old.id in row_ids)
            if change is not None:
                rejudged.changed.append(change)
        done += len(batch)
        progress(f"{arm}: judged again", done, total)
    rejudged.lines += lines.values()


def _verify_again(store: Store, traces: Sequence[Trace]) -> Iterator[tuple[Trace, Trace]]:
    """Each trace beside itself judged again; what a model judged is read anew from that model's stored replies."""
    by_judge: dict[str, list[Trace]] = {}
    for trace in traces:
        judge_id = ""
        if trace.problem.kind == "judge":
            judge_id = trace.verdict.verifier.partition(":")[2]
        by_judge.setdefault(judge_id, []).append(trace)
    for judge_id, judged in by_judge.items():
        judge = _StoredReplies(store, judge_id) if judge_id else None
        with using(dataclasses.replace(current_session(), judge=judge)):
            judged_again = verify(judged)
        yield from zip(judged, judged_again, strict=True)


@final
class _StoredReplies:
    """A judge that can only say again what it said in the run."""

    def __init__(self, store: Store, id: str) -> None:
        self.id, self._store = id, store
        sql = "SELECT json_extract(payload, '$.seed') FROM completions WHERE model = ? LIMIT 1"
        seeds = [seed for (seed,) in store.database.read(sql, (id,))]
        self._seed = int(seeds[0]) if seeds else 0

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The stored replies; a question that was never asked is a failed generation."""
        keys = [dataclasses.replace(request, seed=self._seed).key(self.id) for request in requests]
        replies = self._store.completions.get(keys)
        not_asked = Completion("", "", error="refused: the judge was not asked this in the run")
        return [replies.get(key, not_asked) for key in keys]


def _count_change(
    line: Line, trace: Trace, verdict: Verdict, *, is_row: bool
) -> dict[str, object] | None:
    """Count a trace and its new verdict into its line; the change as plain data, where the status is another now."""
    before = trace.verdict
    line.traces += 1
    if before.status == verdict.status:
        line.answers += before.answer != verdict.answer
        return None
    line.changed += 1
    line.rows += is_row
    change = f"{before.status} -> {verdict.status}"
    line.changes[change] = line.changes.get(change, 0) + 1
    return {
        "arm": line.arm,
        "trace": trace.id,
        "operator": trace.operator,
        "problem": trace.problem.id,
        "gold": trace.problem.answer,
        "before": before._asdict(),
        "after": verdict._asdict(),
        "row": is_row,
    }


def _batches(traces: Iterator[Trace]) -> Iterator[list[Trace]]:
    while batch := list(islice(traces, BATCH)):
        yield batch


@final
class _FreshVerdicts:
    """A verdict cache that knows only what was judged since it was made, so that everything else is judged again."""

    def __init__(self, verdicts: Verdicts) -> None:
        self._verdicts = verdicts
        self._fresh_keys: set[str] = set()

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """What was judged already in this call: arms share traces."""
        return self._verdicts.get([key for key in keys if key in self._fresh_keys])

    def put(self, values: Mapping[str, str]) -> None:
        """Put these in the place of what was there."""
        self._verdicts.replace(values)
        self._fresh_keys.update(values)
