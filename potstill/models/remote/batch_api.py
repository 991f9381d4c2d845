"""OpenAI's Batch API: many calls as one file, answered within a day at a lower price.

Nothing about a batch is kept here: it carries a digest of what it asks in its metadata, so a process that starts again
finds the batches of the one that died on the server, and collects them instead of paying for them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

from potstill.models.model import Gate, Request
from potstill.models.remote.errors import Failure
from potstill.models.remote.http import Wire
from potstill.models.remote.request import Call
from potstill.models.remote.response import error_message, parse_json

MOST = 10_000  # calls a batch
RATE = 0.5  # the share of the price that is paid
BEAT = 5.0  # seconds after which a sign of life is given while a batch is worked on
WAIT = 0.25  # seconds after which a gate that said "wait" is asked again
POLL = (1.0, 60.0)  # seconds between looks: the first, the longest
PATIENCE = 30  # looks in a row that may fail before the run stops
OVER = ("completed", "failed", "expired", "cancelled")
_TAG = "potstill"


class Beat(list[Any]):
    """A portion in which nothing lands: a sign of life, with how many calls the server says it is through with."""

    def __init__(self, done: int) -> None:
        super().__init__()
        self.done = done


def beats(work: Future[Any], seen: Mapping[str, int]) -> Iterator[Beat]:
    """A sign of life now and then, for as long as the work is not done."""
    while not wait([work], BEAT).done:
        yield Beat(sum(seen.values()))


def digest(lines: Sequence[bytes]) -> str:
    """What a batch is known by: everything that it asks, in order."""
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:40]


def chunks(
    requests: Iterator[tuple[int, Request]], gate: Gate | None
) -> Iterator[list[tuple[int, Request]]]:
    """Requests that may be paid for, as many together as go in a batch."""
    chunk: list[tuple[int, Request]] = []
    for place, request in requests:
        while (leave := gate.enter(request) if gate else "go") == "wait":
            if chunk:
                yield chunk
                chunk = []
            else:
                time.sleep(WAIT)  # another thread's calls have to land first
        if leave == "go":
            chunk.append((place, request))
        if len(chunk) == MOST:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def collected(
    wire: Wire, calls: Mapping[str, Call], seen: MutableMapping[str, int]
) -> dict[str, bytes | Failure]:
    """What the server answered, by the name of each call; a batch for each path of the server.

    Args:
        seen: told, by path, how many calls the server says it is through with.
    """
    paths = sorted({call.path for call in calls.values()})
    if elsewhere := [path for path in paths if not path.startswith("/")]:
        raise Failure(
            "refused",
            f"field: batch, prefixes are continued at {elsewhere[0]}, not in batches",
            stop=True,
        )
    parts = await asyncio.gather(
        *(
            answers(wire, path, {name: c.body for name, c in calls.items() if c.path == path}, seen)
            for path in paths
        )
    )
    return {name: answer for part in parts for name, answer in part.items()}


async def answers(
    wire: Wire, path: str, bodies: Mapping[str, Mapping[str, Any]], seen: MutableMapping[str, int]
) -> dict[str, bytes | Failure]:
    """What a batch answered, by the name of each call; a name that is missing was not answered."""
    endpoint = f"/v1{path}"
    lines = [
        json.dumps({"custom_id": name, "method": "POST", "url": endpoint, "body": body}).encode()
        for name, body in bodies.items()
    ]
    tag = digest(lines)
    batch = await _found(wire, tag) or await _submitted(wire, endpoint, lines, tag)
    batch = await _finished(wire, batch, lambda count: seen.update({path: min(count, len(bodies))}))
    if batch.get("status") == "failed":
        raise Failure(
            "refused",
            f"field: the batch was refused: {error_message(batch.get('errors'))}",
            stop=True,
        )
    made: dict[str, bytes | Failure] = {}
    for name in ("output_file_id", "error_file_id"):
        if isinstance(batch.get(name), str):
            made |= _read(await wire.get(f"/files/{batch[name]}/content"), wire)
    return {name: answer for name, answer in made.items() if name in bodies}


async def _found(wire: Wire, tag: str) -> dict[str, Any] | None:
    """A batch that an earlier process submitted and that is under way or done."""
    after = ""
    while True:
        try:
            page = parse_json(await wire.get(f"/batches?limit=100{after}"))
        except Failure as failure:
            if failure.status not in (404, 405):
                raise
            raise Failure(
                "refused", f"field: batch, no Batch API there ({failure.detail})", stop=True
            ) from None
        rows = page.get("data") if isinstance(page, dict) else None
        rows = (
            [row for row in rows if isinstance(row, dict)]
            if isinstance(rows, list)
            else list[dict[str, Any]]()
        )
        for row in rows:
            metadata = row.get("metadata")
            mine = isinstance(metadata, Mapping) and metadata.get(_TAG) == tag
            if (
                mine
                and isinstance(row.get("id"), str)
                and row.get("status") not in ("failed", "expired", "cancelled")
            ):
                return row
        if (
            not rows
            or not isinstance(page, dict)
            or not page.get("has_more")
            or after.endswith(str(rows[-1].get("id")))
        ):
            return None
        after = f"&after={rows[-1].get('id')}"


async def _submitted(wire: Wire, endpoint: str, lines: Sequence[bytes], tag: str) -> dict[str, Any]:
    file = parse_json(
        await wire.upload("/files", b"\n".join(lines) + b"\n", f"potstill-{tag}.jsonl")
    )
    wanted = {
        "input_file_id": file.get("id") if isinstance(file, dict) else None,
        "endpoint": endpoint,
    }
    wanted |= {"completion_window": "24h", "metadata": {_TAG: tag}}
    batch = parse_json(await wire.post("/batches", json.dumps(wanted).encode()))
    if not isinstance(batch, dict) or not isinstance(batch.get("id"), str):
        raise Failure(
            "refused", "url: the server answers no batch (does it have a Batch API?)", stop=True
        )
    return batch


async def _finished(
    wire: Wire, batch: dict[str, Any], tell: Callable[[int], None]
) -> dict[str, Any]:
    """The batch when it is over; looks again and again, through failures of the server too."""
    delay, missed = POLL[0], 0
    while batch.get("status") not in OVER:
        tell(_through(batch))
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, POLL[1])
        try:
            found = parse_json(await wire.get(f"/batches/{batch['id']}"))
        except Failure as failure:
            missed += 1
            if failure.stop or not failure.retry or missed > PATIENCE:
                raise
            continue
        missed = 0
        batch = found if isinstance(found, dict) and found.get("id") == batch["id"] else batch
    return batch


def _through(batch: Mapping[str, Any]) -> int:
    """How many calls of a batch the server says it is through with."""
    counts = batch.get("request_counts")
    told = (
        [counts.get(name) for name in ("completed", "failed")]
        if isinstance(counts, Mapping)
        else []
    )
    return sum(count for count in told if type(count) is int and count > 0)


def _read(data: bytes, wire: Wire) -> dict[str, bytes | Failure]:
    made: dict[str, bytes | Failure] = {}
    for line in data.splitlines():
        row = parse_json(line)
        name = row.get("custom_id") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(name, str):
            continue
        answer = row.get("response")
        if not isinstance(answer, dict):
            made[name] = Failure("server", f"in a batch: {error_message(row.get('error'))}")
            continue
        status, body = answer.get("status_code"), json.dumps(answer.get("body")).encode()
        fine = status == 200
        made[name] = (
            body if fine else wire.failure(status if isinstance(status, int) else 500, body)
        )
    return made
