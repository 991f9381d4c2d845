"""A server that fails in every way: what is tried again, what is recorded, what stops the run, and what is said."""

from __future__ import annotations

import itertools
import json
import socket
import time
from typing import Any

import pytest
from openai_server import Reply, Server, serving

from potstill.errors import ModelError
from potstill.models.model import FAILURES, Attempt, Completion, Request, Sampling
from potstill.models.remote import error_messages
from potstill.models.remote.errors import Failure
from potstill.models.remote.openai import OpenAIModel

KEY = "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"


def one(server: Server, prompt: str, **options: Any) -> Completion:
    """The completion of a prompt."""
    [completion] = OpenAIModel("m", url=server.url, **options).write([Request(prompt)])
    return completion


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("empty", "empty: "),
        ("null", "empty: "),
        ("filter", "filter: "),
        ("refusal", "refused: I can't help"),
        ("tool", "refused: the model called a tool"),
        ("400", "refused: 400"),
        ("json", "malformed: "),
        ("shape", "malformed: "),
        ("half", "unreachable: "),
        ("drop", "unreachable: "),
    ],
)
def test_a_failure_is_a_completion_with_its_kind(fault: str, error: str) -> None:
    with serving() as server:
        fine, failed, other = OpenAIModel("m", url=server.url, deadline=0.15).write(
            [Request("a"), Request(f"b [[{fault}]]"), Request("c")]
        )
        assert failed.error.startswith(error) and failed.finish_reason == ""
        assert failed.error.partition(":")[0] in FAILURES
        assert fine.text and other.text and not fine.error and not other.error


@pytest.mark.parametrize("fault", ["429", "503", "500", "json", "shape", "drop", "half", "nan"])
def test_what_may_pass_is_tried_again(fault: str) -> None:
    with serving() as server:
        OpenAIModel("m", url=server.url).write([Request("first")])
        server.next.append(fault)
        completion = one(server, "q")
        assert completion.text and not completion.error
        [attempt] = completion.tries if fault != "nan" else [Attempt("malformed: ", billed=True)]
        assert attempt.billed == (fault not in ("429", "503", "500"))
        assert attempt.error.partition(":")[0] in FAILURES


def test_a_server_that_is_busy_is_waited_for() -> None:
    with serving(retry_after=0.3) as server:
        server.next.append("429")
        began = time.monotonic()
        assert one(server, "q").text
        assert time.monotonic() - began >= 0.3


def test_random_faults_lose_nothing() -> None:
    fail = {"429": 0.1, "503": 0.05, "drop": 0.01, "json": 0.01}
    requests = [Request(f"question {i}") for i in range(300)]
    with serving(fail=fail, latency=0.002) as server:
        done = OpenAIModel("m", url=server.url).write(requests)
        assert [c.error for c in done if c.error] == []
        assert server.choices == server.statuses[200] - sum(
            a.error.startswith(("malformed", "unreachable")) for c in done for a in c.tries
        )
        assert sum(len(c.tries) for c in done) > 15


@pytest.mark.slow
def test_a_slow_answer_is_a_timeout() -> None:
    with serving(slow=5) as server:
        began = time.monotonic()
        completion = one(server, "[[slow]]", timeout=0.1, deadline=0.5)
        assert completion.error.startswith("timeout: ") and time.monotonic() - began < 3
        assert completion.tries and all(attempt.billed for attempt in completion.tries)


def test_a_prompt_beyond_the_context_fails_alone() -> None:
    with serving(context=50) as server:
        long, short = OpenAIModel("m", url=server.url).write(
            [Request("word " * 90), Request("short")]
        )
        assert long.error.startswith("context: 400") and short.text
        assert server.statuses == {200: 1, 400: 1}  # not tried again


def stopped(server: Server, *requests: Request, **options: Any) -> str:
    """The error that stops the run."""
    with pytest.raises(ModelError) as error:
        OpenAIModel("m", url=server.url, **options).write(requests or [Request("a")])
    return str(error.value)


def test_a_wrong_key_names_the_variable_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    with serving(key="sk-right") as server:
        said = stopped(server, key="MY_API_KEY")
    assert "MY_API_KEY" in said and "Incorrect API key provided" in said
    assert not any(KEY[i : i + 6] in said for i in range(len(KEY) - 6))
    monkeypatch.delenv("MY_API_KEY")
    with pytest.raises(ModelError, match="MY_API_KEY is not set"):
        OpenAIModel("m", url="http://127.0.0.1:1/v1", key="MY_API_KEY")


@pytest.mark.parametrize(
    "shown",
    [KEY, KEY[:8] + "*" * 20 + KEY[-4:], KEY[:7] + "..." + KEY[-4:], f"…{KEY[-12:]}", KEY[5:25]],
)
def test_keys_are_redacted_in_whole_and_in_part(shown: str) -> None:
    text = error_messages.redact_key(f'Incorrect key "{shown}", try another.', KEY)
    assert not any(KEY[i : i + 4] in text.replace("sk-", "") for i in range(3, len(KEY) - 4)), text
    assert text.startswith("Incorrect key ") and text.endswith("try another.")


def test_a_key_of_any_letters_is_redacted() -> None:
    key = "ab.cd/ef+gh==ij:kl"
    assert error_messages.redact_key(f"no {key}!", key) == "no [key]!"


def test_a_key_in_an_answer_does_not_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    with serving() as server:
        answer = {
            "choices": [{"message": {"content": f"the key is {KEY}"}, "finish_reason": "stop"}],
            "model": KEY,
        }
        server.next.append(Reply(200, json.dumps(answer).encode()))
        completion = one(server, "q", key="MY_API_KEY")
        assert completion.text == "the key is [key]" and KEY not in repr(completion)
        server.next.append(Reply(400, json.dumps({"error": {"message": f"bad {KEY}"}}).encode()))
        assert "bad [key]" in one(server, "r", key="MY_API_KEY").error


@pytest.mark.parametrize("key", ["EMPTY", "none", "message", "7", "sk-no-key-required"])
def test_a_placeholder_for_a_key_is_no_secret(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_API_KEY", key)
    text = f"The set is {key}, so 17."
    answer = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    with serving() as server:
        server.next.append(Reply(200, json.dumps(answer).encode()))
        assert one(server, "q", key="MY_API_KEY").text == text


@pytest.mark.parametrize("proxy", ["junk", "http://[bad", "http://h:99999", "socks5://u:pass@h:1"])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ModelError, match="http_proxy can't be used") as refusal:
        OpenAIModel("m", url="http://teacher.example/v1")
    assert proxy not in str(refusal.value)


def test_an_unknown_model_lists_what_there_is() -> None:
    with serving(model="small-model,large-model") as server, pytest.raises(ModelError) as error:
        OpenAIModel("smal-model", url=server.url).write([Request("a")])
    assert error.value.nearest == ("small-model",) and error.value.available == (
        "large-model",
        "small-model",
    )


def test_a_web_page_asks_for_v1() -> None:
    with serving() as server:
        said = stopped(server, Request("a [[html]]"))
        assert "web page" in said and "Welcome" in said
        with pytest.raises(ModelError) as error:
            OpenAIModel("m", url=server.url.removesuffix("/v1")).write([Request("a")])
    assert "does the URL lack /v1?" in str(error.value)


def test_a_web_page_between_answers_is_tried_again() -> None:
    with serving() as server:
        model = OpenAIModel("m", url=server.url)
        model.write([Request("first")])
        server.next.append("html")
        [completion] = model.write([Request("second")])
        assert completion.text and completion.tries[0].error.startswith("malformed: ")


def test_a_redirect_is_said_and_not_followed() -> None:
    with serving() as server:
        server.next.append(Reply(301, b"", headers=(("location", "https://elsewhere.example/v1"),)))
        assert "elsewhere.example" in stopped(server)


def test_a_field_that_the_server_does_not_know_stops_the_run() -> None:
    with serving(strict=True) as server:
        assert "reasoning_effort" in stopped(server, extra={"reasoning_effort": "high"})


def test_no_quota_stops_the_run_and_keeps_what_is_paid() -> None:
    requests = [Request(f"q {i}" + (" [[quota]]" if i == 10 else "")) for i in range(40)]
    with serving(latency=0.05) as server:
        made: dict[int, Completion] = {}
        with pytest.raises(ModelError, match="quota"):
            for portion in OpenAIModel("m", url=server.url, concurrency=8).stream(requests):
                made.update(portion)
        assert 7 <= len(made) == server.choices < 40  # everything that was answered was handed over
        assert not any(c.error for c in made.values())


@pytest.mark.slow
def test_an_unreachable_server_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_messages, "CONNECTION_PATIENCE", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    began = time.monotonic()
    with pytest.raises(ModelError) as error:
        OpenAIModel("m", url=url).write([Request("a"), Request("b")])
    assert time.monotonic() - began < 5
    assert url in str(error.value) and "tries within" in str(error.value)


@pytest.mark.slow
def test_a_server_that_dies_stops_the_run_before_its_calls_fail_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(error_messages, "OUTAGE_FAILURES", 4)
    with serving() as server:
        model = OpenAIModel("m", url=server.url, concurrency=4, deadline=0.4)
        model.write([Request("a")])
        server.settings.fail["drop"] = 1.0
        with pytest.raises(ModelError, match="can't be reached"):
            list(model.stream(Request(f"q {i}") for i in range(10_000)))


def test_a_server_that_fails_every_call_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_messages, "MIN_BREAKDOWN_SECONDS", 0.2)
    with serving() as server:
        server.settings.fail["500"] = 1.0
        model = OpenAIModel("m", url=server.url, concurrency=4, deadline=0.1)
        made: dict[int, Completion] = {}
        with pytest.raises(ModelError, match=r"fails every call.*500") as error:
            for portion in model.stream(Request(f"q {i}") for i in range(10_000)):
                made.update(portion)
    assert "--retry-errors" in str(error.value)
    assert made and all(completion.error.startswith("server: 500") for completion in made.values())


def test_a_refusal_is_no_breakdown() -> None:
    breaker = error_messages.CircuitBreaker(deadline=100)
    broken, refused = Failure("server", "x", may_retry=True), Failure("refused", "400", status=400)
    for second in range(0, 1000, 10):
        breaker.record_failure(refused if second % 190 == 0 else broken, second, second)
        assert breaker.breakdown(second) is None
    for second in range(1000, 1250, 10):
        breaker.record_failure(broken, second, second)
    breakdown = breaker.breakdown(1250)
    assert breakdown is not None and breakdown.stops_run
    breaker.record_success()
    assert breaker.breakdown(2000) is None


def test_a_fault_of_the_caller_comes_through() -> None:
    def broken() -> Any:
        yield Request("a")
        raise KeyError("mine")

    with serving() as server, pytest.raises(KeyError, match="mine"):
        list(OpenAIModel("m", url=server.url).stream(broken()))


def test_a_limit_reached_is_marked() -> None:
    with serving() as server:
        sampling = Sampling(max_new_tokens=3)
        [completion] = OpenAIModel("m", url=server.url).write([Request("q", sampling=sampling)])
        assert (completion.finish_reason, completion.tokens.completion) == ("length", 3)


def test_a_group_that_fails_and_comes_back_is_told_once() -> None:
    with serving() as server:
        server.next += ["429", "json"]
        done = OpenAIModel("m", url=server.url, n=3, concurrency=1).write(
            [Request("q", sample_index=i) for i in range(3)]
        )
        assert all(c.text and not c.error for c in done)
        kinds = [[a.error.partition(":")[0] for a in c.tries] for c in done]
        assert kinds == [["rate", "malformed"]] * 3
        assert (
            list(itertools.chain(*([a.billed for a in c.tries] for c in done))) == [False, True] * 3
        )
