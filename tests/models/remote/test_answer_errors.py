"""Errors inside an answer with status 200: what each shape stands for, and that half an answer stays half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai_server import Reply, serving

from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.errors import BudgetSpent, ModelError
from potstill.models.model import Completion, Request, Sampling
from potstill.models.remote import flow_control
from potstill.models.remote.answer_errors import failure_in_answer
from potstill.models.remote.errors import Failure
from potstill.models.remote.openai import OpenAIModel
from potstill.records import Tokens
from potstill.store import Store, with_cache

CHOICE = {"message": {"content": "Seven and nine are"}, "finish_reason": "stop"}


def failure_of(answer: Any) -> Failure:
    failure = failure_in_answer(json.dumps(answer).encode(), "", {})
    assert failure is not None
    return failure


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        ({"error": {"code": 429, "message": "wait"}}, "rate", 429),
        ({"error": {"code": "429", "message": "wait"}}, "rate", 429),
        ({"error": {"code": 429.0}}, "rate", 429),
        ({"error": {"type": "rate_limit_exceeded"}}, "rate", 429),
        ({"error": {"code": "rate-limit-exceeded", "type": "invalid_request_error"}}, "rate", 429),
        ({"error": {"status": "RESOURCE_EXHAUSTED"}}, "rate", 429),
        ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], "rate", 429),
        ({"error": {"error": {"status_code": 429}}}, "rate", 429),
        ({"error": ["Too many requests"]}, "rate", 429),
        ({"errors": [{"status": "429", "title": "x"}]}, "rate", 429),
        ({"error": "Rate limit reached for m"}, "rate", 429),
        ({"error": "429"}, "rate", 429),
        ({"error": {"message": "Error code: 429 - {'error': 'wait'}"}}, "rate", 429),
        ({"error": "HTTP 503: no upstream"}, "server", 503),
        ({"error": "all 500 problems are done"}, "server", 0),
        ({"object": "error", "message": "slow", "code": 429}, "rate", 429),
        ({"code": 429, "msg": "busy", "choices": None}, "rate", 429),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": []}, "rate", 429),
        ({"error": {"message": "x"}, "status": 503}, "server", 503),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "server", 503),
        ({"error": "The server is overloaded"}, "server", 503),
        ({"error": {"code": "server_error"}}, "server", 500),
        ({"error": {"code": 408}}, "server", 408),
        ({"error": {"code": 20012, "message": "?"}}, "server", 0),
        ({"error": True}, "server", 0),
        ({"detail": "something broke"}, "server", 0),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_what_may_pass_is_waited_for(answer: Any, kind: str, status: int) -> None:
    failure = failure_of(answer)
    assert (failure.kind, failure.status) == (kind, status)
    assert failure.may_retry and not failure.stops_run and not failure.billed


@pytest.mark.parametrize(
    ("answer", "subject"),
    [
        ({"error": {"code": 401, "message": "No auth credentials found"}}, "key"),
        ({"error": {"code": "401"}}, "key"),
        ({"error": {"code": "invalid_api_key", "type": "invalid_request_error"}}, "key"),
        ({"error": {"status": "UNAUTHENTICATED"}}, "key"),
        ({"error": "Invalid API key"}, "key"),
        ({"error": {"code": 402, "message": "pay"}}, "quota"),
        ({"error": {"type": "insufficient_quota"}}, "quota"),
        ({"error": "Insufficient credits"}, "quota"),
        ({"error": {"code": 429, "message": "You exceeded your current quota"}}, "quota"),
        ({"error": {"code": 404, "message": "no"}}, "model"),
        ({"error": "model 'm' not found, try pulling it first"}, "model"),
    ],
    ids=json.dumps,
)
def test_what_would_fail_for_every_request_stops_the_run(answer: Any, subject: str) -> None:
    failure = failure_of(answer)
    assert failure.stops_run and failure.detail.startswith(f"{subject}: ")


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": 400, "message": "maximum context length is 4096 tokens"}},
        {"error": "the prompt is too long"},
    ],
    ids=json.dumps,
)
def test_a_prompt_that_is_too_long_fails_alone(answer: Any) -> None:
    failure = failure_of(answer)
    assert failure.kind == "context" and not failure.may_retry and not failure.stops_run


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"error": None},
        {"error": {}},
        {"error": {"code": None, "message": ""}},
        {"error": ""},
        {"errors": []},
        {"code": 0, "msg": "ok"},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"status": "completed", "type": "chat"},
    ],
    ids=json.dumps,
)
def test_an_answer_without_an_error_is_one(extra: dict[str, Any]) -> None:
    assert failure_in_answer(json.dumps({"choices": [CHOICE], **extra}).encode(), "", {}) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [CHOICE], "error": {"code": 502, "message": "upstream broke"}},
        {"choices": [CHOICE], "error": "upstream broke"},
        {"choices": [CHOICE], "error": ["upstream broke"]},
        {"choices": [CHOICE | {"error": {"code": 502}}]},
        {"choices": [CHOICE | {"error": "upstream broke"}]},
        {"choices": [{**CHOICE, "message": {"content": "Seven", "error": "broke"}}]},
    ],
    ids=json.dumps,
)
def test_a_text_beside_an_error_is_half_an_answer(answer: Any) -> None:
    answer["usage"] = {"prompt_tokens": 5, "completion_tokens": 7}
    completion = ask([Reply(200, json.dumps(answer).encode())] * 20, deadline=0.1)
    assert completion.error.startswith("server: ") and completion.finish_reason == ""
    assert all(t.billed and t.text and t.tokens == Tokens(5, 7) for t in completion.tries)


def test_a_choice_that_broke_off_beside_a_whole_one_is_asked_for_again() -> None:
    broken = {"message": {"content": "Sev"}, "finish_reason": "error"}
    answer = {"choices": [broken, CHOICE], "usage": {"prompt_tokens": 4, "completion_tokens": 9}}
    with serving() as server:
        server.next.append(Reply(200, json.dumps(answer).encode()))
        requests = [Request("7 + 9?", sample_index=index) for index in range(2)]
        first, second = OpenAIModel("m", url=server.url, n=2).write(requests)
    assert first.text == "Seven and nine are" and not first.error
    assert second.text and not second.error and second.text != first.text
    assert [attempt.text for attempt in first.tries] == ["Sev"]
    assert first.tries[0].tokens.completion + first.tokens.completion == 9


@pytest.mark.parametrize(
    "bad",
    [
        Reply(200, b'{"error": {"code": 429, "message": "wait"}}'),
        Reply(200, b'{"choices": []}'),
        Reply(200, b'{"choices": null}'),
        Reply(200, b'{"choices": [{"message": {"content": "a\xff\xfe"}, "finish_reason": "stop"}]}'),
        Reply(200, b'{"choices": [{"message": {"content": "\\ud83d"}, "finish_reason": "stop"}]}'),
        Reply(200, b""),
        Reply(204, b""),
        Reply(500, b"{}"),
        Reply(501, b""),
        Reply(520, b"<html>"),
        Reply(424, b"{}"),
        Reply(499, b"{}"),
        Reply(200, None),
    ],
    ids=str,
)  # fmt: skip
def test_whatever_may_pass_is_tried_more_than_three_times(
    bad: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_control, "FIRST_DELAY", (0.001, 0.002))
    completion = ask([bad] * 5, deadline=60)
    assert completion.text and not completion.error and len(completion.tries) == 5


def test_when_to_come_back_is_read_beside_an_error_inside_an_answer() -> None:
    body = b'{"error": {"code": 429, "message": "wait"}}'
    failure = failure_in_answer(body, "", {"retry-after": "7"})
    assert failure is not None and failure.retry_after == 7.0


def test_tries_that_may_have_to_be_paid_end_at_the_option() -> None:
    completion = ask([Reply(200, b'{"choices": []}')] * 9, deadline=60, max_paid_tries=2)
    assert completion.error.startswith("malformed: ") and len(completion.tries) == 2


def test_a_key_that_is_refused_inside_an_answer_stops_the_run() -> None:
    with pytest.raises(ModelError, match="refuses the key"):
        ask([Reply(200, b'{"error": {"code": 401, "message": "No auth credentials"}}')])


def ask(replies: list[Reply], **options: Any) -> Completion:
    """The completion of a server that begins with these replies."""
    with serving() as server:
        server.next += replies
        [completion] = OpenAIModel("m", url=server.url, **options).write([Request("7 + 9?")])
    return completion


def test_tries_that_cost_money_are_limited_by_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_control, "FIRST_DELAY", (0.001, 0.002))
    with serving() as server, Store.open(tmp_path / "run") as store:
        server.next += [Reply(200, b'{"choices": []}')] * 500
        limit = Limit(tokens=2000)
        budget = Budget({"": limit}, call_log=store.attempts)
        model = with_cache(
            OpenAIModel("m", url=server.url), store, role="teacher", arm="a", seed=0, budget=budget
        )
        request = Request("7 + 9?", sampling=Sampling(max_new_tokens=100))
        with pytest.raises(BudgetSpent):
            model.write([request])
        spent = budget.spent_by_role()["teacher"].tokens
        tries = len(server.calls)
    # Each try may have used all that it was allowed: it is counted so, and the limit holds.
    assert 3 < tries < 20 and limit.tokens - spent < spent / tries <= spent <= limit.tokens


@pytest.mark.parametrize(
    "answer",
    [
        '{"error":' * 900 + "1" + "}" * 900,
        '{"choices":[{"message":{"content":"16"},"finish_reason":"stop","error":%s}]}',
        '{"choices":[{"message":{"content":"x","reasoning_details":%s},"finish_reason":"stop"}]}',
    ],
)
def test_an_answer_nested_without_end_is_malformed(answer: str) -> None:
    answer = answer.replace("%s", '{"a":' * 900 + "1" + "}" * 900)
    with serving() as server:
        server.next += [Reply(200, answer.encode())] * 50
        model = OpenAIModel("m", url=server.url, deadline=0.05)
        [completion] = model.write([Request("q")])
    assert completion.error.startswith("malformed: no JSON object")
