"""OpenAI's Batch API: many calls as one file, answered within a day at a lower price.

Nothing about a batch is kept here: it carries a digest of its calls in its metadata, so a process that starts again
finds the batches of the one that died on the server, and collects them instead of paying for them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, NamedTuple, TypeVar

from potstill.models.model import Request, SpendingPermit
from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import FlowControl
from potstill.models.remote.http import HttpClient, is_success
from potstill.models.remote.json_body import (
    as_list,
    as_object,
    error_message,
    parse_json_object,
)
from potstill.models.remote.request import ApiCall
from potstill.models.remote.response import read_usage

MAX_CALLS = 10_000  # of one batch
PRICE_SHARE = 0.5  # of the price of a call that is paid
PROGRESS_SECONDS = 5.0  # after which progress is reported while a batch is worked on
PERMIT_WAIT = 0.25  # seconds after which a permit that said "wait" is asked again
POLL_DELAYS = (1.0, 60.0)  # seconds between polls: the first, the longest
MAX_FAILED_POLLS = 30  # in a row, before the run stops
FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
UNUSABLE_STATUSES = ("failed", "expired", "cancelled")
_METADATA_KEY = "potstill"

_Result = TypeVar("_Result")


class BatchProgress(list[Any]):
    """A portion in which nothing lands: a sign of life, with how many calls the server says it is through with."""

    def __init__(self, done: int) -> None:
        super().__init__()
        self.done = done


def report_progress(
    batches: Future[Any], done_counts: Mapping[str, int]
) -> Iterator[BatchProgress]:
    """Progress now and then, for as long as the batches are not done."""
    while not wait([batches], PROGRESS_SECONDS).done:
        yield BatchProgress(sum(done_counts.values()))


def calls_digest(lines: Sequence[bytes]) -> str:
    """What a batch is known by: all its calls, in order."""
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:40]


def split_requests(
    requests: Iterator[tuple[int, Request]], permit: SpendingPermit | None
) -> Iterator[list[tuple[int, Request]]]:
    """Requests that may be paid for, as many together as go in a batch."""
    chunk: list[tuple[int, Request]] = []
    for place, request in requests:
        answer = "go"
        if permit is not None:
            # Either the calls of this chunk have to land first, or those of another thread.
            while (answer := permit.reserve(request)) == "wait":
                if chunk:
                    yield chunk
                    chunk = []
                else:
                    time.sleep(PERMIT_WAIT)
        if answer == "go":
            chunk.append((place, request))
        if len(chunk) == MAX_CALLS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class BatchServer(NamedTuple):
    """A server with a Batch API, and how long it is asked again for what may pass."""

    client: HttpClient
    flow_control: FlowControl

    async def retry(self, step: Callable[[], Awaitable[_Result]]) -> _Result:
        """What a step brings, tried until the deadline."""
        return await self.flow_control.call(step, on_failure=_ignore_failure)


async def run_until_answered(
    server: BatchServer, calls: Mapping[str, ApiCall], done_counts: MutableMapping[str, int]
) -> dict[str, bytes | Failure]:
    """What the server answered, by the name of each call; calls whose failure may pass go in another batch.

    Args:
        server: that is asked.
        calls: by name.
        done_counts: set, by path, to how many calls the server says it is through with.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + server.flow_control.deadline
    answers: dict[str, bytes | Failure] = {}
    pending = dict(calls)
    delay, longest_delay = POLL_DELAYS
    while True:
        new_answers = await run_batches(server, pending, done_counts)
        answers.update(new_answers)
        failed = {}
        for name, answer in new_answers.items():
            if isinstance(answer, Failure) and answer.may_retry and not answer.stops_run:
                failed[name] = pending[name]
        if not failed or loop.time() + delay > end:
            return answers
        await asyncio.sleep(delay)
        pending, delay = failed, min(delay * 2, longest_delay)


async def run_batches(
    server: BatchServer, calls: Mapping[str, ApiCall], done_counts: MutableMapping[str, int]
) -> dict[str, bytes | Failure]:
    """What the server answered, by the name of each call; a batch for each path of the server."""
    # A batch has one endpoint, and a prefix may be continued at another host, where there are none.
    bodies_of_path: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, call in calls.items():
        bodies_of_path.setdefault(call.path, {})[name] = call.body
    for path in sorted(bodies_of_path):
        if not path.startswith("/"):
            detail = f"field: batch, prefixes are continued at {path}, not in batches"
            raise Failure("refused", detail, stops_run=True)

    batches = []
    for path, bodies in sorted(bodies_of_path.items()):
        batches.append(run_batch(server, path, bodies, done_counts))
    answers: dict[str, bytes | Failure] = {}
    for batch_answers in await asyncio.gather(*batches):
        answers.update(batch_answers)
    return answers


async def run_batch(
    server: BatchServer,
    path: str,
    bodies: Mapping[str, Mapping[str, Any]],
    done_counts: MutableMapping[str, int],
) -> dict[str, bytes | Failure]:
    """What a batch answered, by the name of each call; a name that is missing was not answered."""
    endpoint = f"/v1{path}"
    lines = []
    for name, body in bodies.items():
        line = {"custom_id": name, "method": "POST", "url": endpoint, "body": body}
        lines.append(json.dumps(line).encode())
    digest = calls_digest(lines)

    def set_done_count(count: int) -> None:
        done_counts[path] = min(count, len(bodies))

    client = server.client

    async def find_or_submit() -> dict[str, Any]:
        # The batch may be there already, from an earlier process, or from a try whose answer was lost.
        found_batch = await _find_batch(client, digest)
        if found_batch is not None:
            return found_batch
        return await _submit_batch(client, endpoint, lines, digest)

    batch = await server.retry(find_or_submit)
    batch = await _wait_for_batch(client, batch, set_done_count)
    if batch.get("status") == "failed":
        detail = f"field: the batch was refused: {error_message(batch.get('errors'))}"
        raise Failure("refused", detail, stops_run=True)

    answers: dict[str, bytes | Failure] = {}
    for key in ("output_file_id", "error_file_id"):
        file_id = batch.get(key)
        if isinstance(file_id, str):
            content = await server.retry(partial(client.get, f"/files/{file_id}/content"))
            answers.update(_read_output_file(content, client))
    return {name: answer for name, answer in answers.items() if name in bodies}


async def _find_batch(client: HttpClient, digest: str) -> dict[str, Any] | None:
    """A batch that an earlier process submitted and that is being worked on or done."""
    after = ""
    while True:
        try:
            page = parse_json_object(await client.get(f"/batches?limit=100{after}"))
        except Failure as failure:
            if failure.status not in (404, 405):
                raise
            detail = f"field: batch, no Batch API there ({failure.detail})"
            raise Failure("refused", detail, stops_run=True) from None
        last_id = None
        for row in map(as_object, as_list(page.get("data"))):
            if _is_usable_batch(row, digest):
                return row
            last_id = row.get("id", last_id)

        # The next page begins behind the last row; a server that repeats a page has no next one.
        if last_id is None or not page.get("has_more") or after.endswith(str(last_id)):
            return None
        after = f"&after={last_id}"


def _is_usable_batch(row: Mapping[str, Any], digest: str) -> bool:
    has_digest = as_object(row.get("metadata")).get(_METADATA_KEY) == digest
    has_id = isinstance(row.get("id"), str)
    # One of which every call failed brings nothing but the same failures, when they are asked for again.
    counts = as_object(row.get("request_counts"))
    all_failed = counts.get("completed") == 0 and bool(counts.get("failed"))
    is_over = row.get("status") in UNUSABLE_STATUSES or (
        row.get("status") == "completed" and all_failed
    )
    return has_digest and has_id and not is_over


async def _submit_batch(
    client: HttpClient, endpoint: str, lines: Sequence[bytes], digest: str
) -> dict[str, Any]:
    file_name = f"potstill-{digest}.jsonl"
    content = b"\n".join(lines) + b"\n"
    file = parse_json_object(await client.upload_file("/files", content, file_name))
    body = {
        "input_file_id": file.get("id"),
        "endpoint": endpoint,
        "completion_window": "24h",
        "metadata": {_METADATA_KEY: digest},
    }
    batch = parse_json_object(await client.post("/batches", json.dumps(body).encode()))
    if not isinstance(batch.get("id"), str):
        detail = "url: the server answers no batch (does it have a Batch API?)"
        raise Failure("refused", detail, stops_run=True)
    return batch


async def _wait_for_batch(
    client: HttpClient, batch: dict[str, Any], set_done_count: Callable[[int], None]
) -> dict[str, Any]:
    """The batch when it is over; polls again and again, through failures of the server too."""
    delay, longest_delay = POLL_DELAYS
    failed_polls = 0
    while batch.get("status") not in FINAL_STATUSES:
        set_done_count(_count_done_calls(batch))
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, longest_delay)
        try:
            polled = parse_json_object(await client.get(f"/batches/{batch['id']}"))
        except Failure as failure:
            failed_polls += 1
            if failure.stops_run or not failure.may_retry or failed_polls > MAX_FAILED_POLLS:
                raise
            continue
        failed_polls = 0
        if polled.get("id") == batch["id"]:
            batch = polled
    return batch


def _count_done_calls(batch: Mapping[str, Any]) -> int:
    """How many calls of a batch the server says it is through with."""
    counts = as_object(batch.get("request_counts"))
    done_count = 0
    for name in ("completed", "failed"):
        count = counts.get(name)
        if type(count) is int and count > 0:
            done_count += count
    return done_count


def _read_output_file(content: bytes, client: HttpClient) -> dict[str, bytes | Failure]:
    """The body or the failure of each call in a file of a batch; lines that are none are left out."""
    answers: dict[str, bytes | Failure] = {}
    for line in content.splitlines():
        row = parse_json_object(line)
        name = row.get("custom_id")
        if not isinstance(name, str):
            continue
        response = row.get("response")
        if not isinstance(response, dict):
            answers[name] = Failure("server", f"in a batch: {error_message(row.get('error'))}")
            continue
        answers[name] = _read_output_line(line, response, client)
    return answers


def _read_output_line(
    line: bytes, response: Mapping[str, Any], client: HttpClient
) -> bytes | Failure:
    """The body of a call's answer in a file of a batch, or what went wrong with it."""
    status, body = response.get("status_code"), json.dumps(response.get("body")).encode()
    if not isinstance(status, int):
        status = 500
    if not is_success(status):
        return client.failure_in_file(status, body)
    try:
        line.decode()
        return client.check_answer(body)
    except UnicodeDecodeError:
        tokens = read_usage(as_object(response.get("body")).get("usage"))
        detail = "bytes that are no UTF-8, in a batch"
        return Failure("malformed", detail, may_retry=True, billed=True, tokens=tokens)
    except Failure as failure:
        return failure


def _ignore_failure(failure: Failure, seconds: float) -> None:
    """Nothing is paid for a step that failed: the calls of a batch are paid for as they are answered."""
