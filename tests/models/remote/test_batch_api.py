"""The Batch API: submitted, collected, found again by another process, paid at half the price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai_server import Reply, Server, serving

from potstill.errors import ModelError
from potstill.models import identity
from potstill.models.model import Request
from potstill.models.remote import batch_api, flow_control
from potstill.models.remote.openai import OpenAIModel
from potstill.records import Tokens
from potstill.store import Store, with_cache

REQUESTS = [Request(f"question {i}") for i in range(7)]


def batched(server: Server, **options: Any) -> OpenAIModel:
    return OpenAIModel("m", url=server.url, batch=True, **options)


def test_a_batch_gives_what_calls_give_at_half_the_price() -> None:
    with serving() as server:
        model = batched(server)
        done = model.write(REQUESTS)
        assert len(server.batches) == 1 and server.choices == 7
        plain = OpenAIModel("m", url=server.url)
        assert [c.text for c in done] == [c.text for c in plain.write(REQUESTS)]
        assert {c.rate for c in done} == {0.5} == {model.rate} and plain.rate == 1.0
        assert model.id == plain.id and identity("openai:m?at=vllm&batch=1") == identity(
            "openai:m?at=vllm"
        )


def test_failures_in_a_batch_are_completions() -> None:
    with serving() as server:
        fine, filtered, refused = batched(server).write(
            [Request("a"), Request("b [[filter]]"), Request("c [[400]]")]
        )
        assert (
            fine.text
            and filtered.error.startswith("filter: ")
            and refused.error.startswith("refused: 400")
        )


def test_another_process_collects_the_batch_of_one_that_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_api, "POLL_DELAYS", (0.02, 0.05))
    with serving(batch_seconds=0.3) as server:

        async def dies(*_: Any) -> Any:
            raise KeyError("the process died")

        with monkeypatch.context() as patched, pytest.raises(KeyError):
            patched.setattr(batch_api, "_wait_for_batch", dies)
            batched(server).write(REQUESTS)
        assert len(server.batches) == 1
        done = batched(server).write(REQUESTS)
        assert all(c.text for c in done)
        assert len(server.batches) == 1 and set(server.served.values()) == {
            1
        }  # nothing was asked twice


def test_large_asks_are_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "MAX_CALLS", 3)
    with serving() as server:
        portions = list(batched(server).stream(iter(REQUESTS)))
        assert [len(portion) for portion in portions] == [3, 3, 1] and len(server.batches) == 3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses to speak of between tries and polls."""
    monkeypatch.setattr(batch_api, "POLL_DELAYS", (0.01, 0.01))
    monkeypatch.setattr(flow_control, "FIRST_DELAY", (0.001, 0.002))


@pytest.mark.usefixtures("quick")
def test_steps_that_fail_are_tried_again_and_no_batch_is_paid_for_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as server:
        answer = server.other
        faults = iter([500, None, 429, 503, None, 500])

        def fail_now_and_then(method: str, path: str, body: bytes, kind: str) -> Reply:
            # The answer to what was asked may be lost on its way back, too.
            reply = answer(method, path, body, kind)
            status = next(faults, None)
            return reply if status is None else Reply(status, b"{}")

        monkeypatch.setattr(server, "other", fail_now_and_then)
        assert all(completion.text for completion in batched(server).write(REQUESTS))
        assert len(server.batches) == 1 and set(server.served.values()) == {1}


@pytest.mark.usefixtures("quick")
def test_calls_that_may_pass_go_in_another_batch() -> None:
    with serving() as server:
        server.next += ["", "500", "429", Reply(200, b'{"error": {"code": 503}}')]
        completions = batched(server).write(REQUESTS[:4])
        assert all(completion.text for completion in completions)
        assert len(server.batches) == 2


@pytest.mark.usefixtures("quick")
def test_a_batch_of_which_every_call_failed_is_not_collected_again() -> None:
    with serving() as server:
        server.next += ["500"] * 2
        first = batched(server, deadline=0.001).write(REQUESTS[:2])
        assert all(completion.error.startswith("server: ") for completion in first)
        assert all(completion.text for completion in batched(server).write(REQUESTS[:2]))


@pytest.mark.usefixtures("quick")
def test_half_answers_in_a_batch_are_none() -> None:
    text = {"message": {"content": "half an"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    broken = {"choices": [text], "error": {"code": 502}, "usage": usage}
    half_character = {"choices": [{**text, "message": {"content": "a\ud83d"}}]}
    with serving() as server:
        server.next += [Reply(200, json.dumps(body).encode()) for body in (broken, half_character)]
        beside_error, malformed, whole = batched(server, deadline=0.001).write(REQUESTS[:3])
    assert beside_error.error.startswith("server: 502") and not beside_error.text
    assert [attempt.tokens for attempt in beside_error.tries] == [Tokens(3, 4)]
    assert malformed.error.startswith("malformed: ") and malformed.tries[0].billed
    assert whole.text and not whole.tries


@pytest.mark.usefixtures("quick")
def test_broken_utf8_in_a_file_of_a_batch_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        answer = server.other

        def break_first_answer(method: str, path: str, body: bytes, kind: str) -> Reply:
            reply = answer(method, path, body, kind)
            if not path.endswith("/content") or reply.body is None:
                return reply
            return reply._replace(body=reply.body.replace(b"We see", b"We s\xff", 1))

        monkeypatch.setattr(server, "other", break_first_answer)
        first, second = batched(server, deadline=0.001).write(REQUESTS[:2])
    assert first.error.startswith("malformed: ") and "�" not in second.text and second.text


@pytest.mark.usefixtures("quick")
def test_what_would_fail_for_every_request_stops_the_run_after_the_answers_that_came() -> None:
    with serving() as server:
        server.next += ["", Reply(200, b'{"error": {"code": 401, "message": "no auth"}}')]
        made: dict[int, Any] = {}
        with pytest.raises(ModelError, match="refuses the key"):
            for portion in batched(server).stream(REQUESTS[:3]):
                made.update(portion)
    assert sorted(made) == [0, 2] and all(completion.text for completion in made.values())


class Purse:
    """Gives two leaves, then wants something to land, then two more, then none."""

    def __init__(self) -> None:
        self.answers = iter(["go", "go", "wait", "go", "go"])

    def reserve(self, request: Request) -> Any:
        return next(self.answers, "stop")

    def record_failed_try(self, request: Request, attempt: Any) -> None:
        raise AssertionError("nothing is lost here")


def test_the_permit_decides_what_a_batch_holds() -> None:
    with serving() as server:
        portions = list(batched(server).stream(REQUESTS, Purse()))
        assert [[place for place, _ in portion] for portion in portions] == [[0, 1], [2, 3]]


@pytest.mark.slow
def test_a_batch_gives_signs_of_life_with_what_the_server_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(batch_api, "POLL_DELAYS", (0.02, 0.05))
    monkeypatch.setattr(batch_api, "PROGRESS_SECONDS", 0.05)
    with serving(batch_seconds=0.6) as server:
        plain = server._state
        counts = iter(
            [
                {"completed": 2, "failed": 1},
                {"completed": "9", "failed": None},
                [1],
                {"completed": 10**9},
            ]
        )
        told: list[Any] = []

        def state(batch: dict[str, Any]) -> dict[str, Any]:
            found = plain(batch)
            if found["status"] == "in_progress":  # three looks of each, the last one for good
                told.extend(
                    [next(counts, told[-1] if told else {})] * 3 if len(told) % 3 == 0 else []
                )
                return {**found, "request_counts": told[-1]}
            return found

        monkeypatch.setattr(server, "_state", state)
        portions = list(batched(server).stream(REQUESTS))
        beats = [portion for portion in portions if isinstance(portion, batch_api.BatchProgress)]
        assert len(portions) == len(beats) + 1 and len(portions[-1]) == 7 and len(beats) >= 5
        assert {beat.done for beat in beats} <= {0, 3, 7} and not any(
            beats
        )  # never more than was asked
    # Behind the store they are reports of progress, which never say that all is there before it is.
    seen: list[tuple[str, int, int]] = []
    with serving(batch_seconds=0.3) as server, Store.open(tmp_path) as store:
        monkeypatch.setattr(batch_api, "_count_done_calls", lambda batch: 7)
        model = with_cache(
            batched(server),
            store,
            role="teacher",
            arm="a",
            seed=0,
            progress=lambda *s: seen.append(s),
        )
        assert all(done.text for done in model.write(REQUESTS))
    assert seen.count(("a/teacher", 6, 7)) >= 3 and seen[-1] == ("a/teacher", 7, 7)


def test_a_server_without_batches_says_so() -> None:
    with serving() as server:
        server.other = lambda *_: Reply(404, b"{}")  # type: ignore[method-assign]
        with pytest.raises(ModelError, match="no Batch API there"):
            batched(server).write(REQUESTS)
