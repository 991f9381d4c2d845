"""How little a student expected each token of a row: before its training, after it, and when the row was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from potstill.records import Trace
from potstill.runs.row_logprobs import LOGPROBS_FILE, MOMENTS
from potstill.store.store import Store
from potstill.viewer.row_files import read_rows
from potstill.viewer.trace_page import find_call, plain_number

Logprobs = Sequence[float | None]


def describe_surprise(
    student_folder: Path, row: Mapping[str, Any], drawn: Logprobs, *, command: str
) -> dict[str, Any]:
    """What is known of the log-probabilities of a row's tokens.

    Args:
        student_folder: where `potstill score` writes.
        row: of `tokens.parquet`.
        drawn: of each token when the row was drawn; empty where it is not known.
        command: that scores the row.
    """
    logprobs: dict[str, Logprobs] = {}
    document: dict[str, Any] = {"ranks": None, "no_logprobs": "", "score_fix": ""}
    path = student_folder / LOGPROBS_FILE
    scores = read_rows(path, row["trace"]).get(row["side"]) if path.is_file() else None
    if scores is None:
        document["no_logprobs"] = "not known: its row was not scored yet"
        document["score_fix"] = command
    elif len(scores["before"]) != len(row["ids"]) or scores["before"][-1] is None:
        document["no_logprobs"] = "not known: the row is longer than the model's context"
    else:
        logprobs.update({moment: scores[moment] for moment in MOMENTS})
        document["ranks"] = {moment: scores[f"{moment}_ranks"] for moment in MOMENTS}
    if drawn:
        logprobs["drawn"] = drawn
    weights = chain.from_iterable(map(repeat, row["run_weights"], row["run_lengths"]))
    return {**document, **describe_logprobs(logprobs, is_counted=[w > 0 for w in weights])}


def describe_logprobs(
    logprobs: Mapping[str, Logprobs], *, is_counted: Sequence[bool]
) -> dict[str, Any]:
    """Log-probabilities as the page reads them, with the mean surprise, -log p, over the tokens that count."""
    means: dict[str, float | None] = {}
    for name, values in logprobs.items():
        counted = [
            -value
            for value, counts in zip(values, is_counted, strict=True)
            if counts and value is not None
        ]
        means[name] = sum(counted) / len(counted) if counted else None
    plain = {name: [plain_number(value) for value in values] for name, values in logprobs.items()}
    return {"logprobs": plain or None, "mean_nats": means}


def drawn_completion(store: Store, trace: Trace) -> Sequence[float]:
    """The log-probabilities with which a whole text was drawn, in one call; nothing where they were not kept."""
    call = find_call(store, trace)
    if call is None or call.text != trace.text:
        return ()  # no model wrote it alone: it goes on from a text, or was edited
    return store.completions.get([call.key])[call.key].logprobs


def drawn_logprobs(store: Store, trace_id: str, tokens: Mapping[str, Any]) -> Logprobs:
    """The log-probabilities with which a row's text was drawn, at the row's places; nothing where they do not fit.

    A row is made of text: its tokens are those that were drawn where they are as many and join to the same text.

    Args:
        store: with the index attached.
        trace_id: of the row.
        tokens: the page of its tokens.
    """
    trace = store.history.trace(trace_id)
    if trace is None:
        return []
    logprobs = drawn_completion(store, trace)
    start, stop = tokens["prompt_length"], tokens["prompt_length"] + len(logprobs)
    texts = tokens["texts"][start:stop]
    if not logprobs or len(texts) < len(logprobs) or "".join(texts) != trace.text:
        return []
    before: list[float | None] = [None] * start
    after = [None] * (len(tokens["ids"]) - stop)
    return [*before, *logprobs, *after]
