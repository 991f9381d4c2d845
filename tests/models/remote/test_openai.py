"""A model behind a server: what is sent, what comes back, how much at once, and what is never asked twice."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import child
import pytest
from openai_server import Reply, Server, process, serving

from potstill.errors import ConfigError, ModelError, PotstillWarning
from potstill.models import identity, load
from potstill.models.model import Attempt, Request, Sampling, Scored, Streamed, Trainable
from potstill.models.remote.openai import OpenAIModel
from potstill.records import Message, digest, split_reasoning

Q = "Ned has 19 shells and sells 14. How many are left?"


def asked(server: Server, request: Request, **options: Any) -> dict[str, Any]:
    """The body that the server got for a request."""
    [completion] = OpenAIModel("m", url=server.url, **options).write([request])
    assert completion.error == ""
    return server.calls[-1]


def test_the_body_says_what_was_asked() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=7, stop=("END",))
    request = Request(
        (Message("system", "Be short."), Message("user", Q)), sampling=sampling, seed=3
    )
    with serving(strict=True) as server:
        body = asked(server, request)
        model = OpenAIModel("m", url=server.url)
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": Q}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": request.random_seed(model.id) % 2**31,
    }


def test_extra_fields_and_settings_beyond_the_protocol_are_sent() -> None:
    with serving() as server:
        body = asked(
            server, Request(Q, sampling=Sampling(top_k=5)), extra={"reasoning_effort": "high"}
        )
        assert (body["top_k"], body["reasoning_effort"]) == (5, "high")
        body = asked(server, Request(Q), at="vllm")
        assert (body["top_k"], body["repetition_penalty"], body["top_p"]) == (-1, 1.0, 1.0)
        assert (
            body["seed"] > 2**31
        )  # a 63-bit seed is that small once in 4e9 times, and this one is fixed


@pytest.mark.parametrize("at", ["llamacpp", "vllm", "sglang"])
def test_a_server_cuts_no_rare_tokens_by_itself(at: str) -> None:
    """llama.cpp's own min_p is 0.05: at temperature 1 that is another distribution than was asked for."""
    with serving() as server:
        assert asked(server, Request(Q), at=at)["min_p"] == 0
        assert asked(server, Request(Q), at=at, extra={"min_p": 0.1})["min_p"] == 0.1
        assert "min_p" not in asked(server, Request(Q))


def test_text_mode_asks_for_plain_completions() -> None:
    with serving() as server:
        body = asked(server, Request(Q, prefix=" We see"), mode="text")
        assert body["prompt"] == Q + " We see"
        assert "messages" not in body


def test_logprobs_are_one_a_drawn_token() -> None:
    with serving() as server:
        sampling = Sampling(logprobs=True, max_new_tokens=6)
        for mode in ("chat", "text"):
            [completion] = OpenAIModel("m", url=server.url, mode=mode).write(
                [Request(Q, sampling=sampling)]
            )
            assert len(completion.logprobs) == completion.tokens.completion == 6
            assert all(value < 0 for value in completion.logprobs)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_name_of_the_limit_is_learned(limit: str) -> None:
    with serving(limit=limit) as server:
        model = OpenAIModel("m", url=server.url, concurrency=1)
        done = model.write(
            [
                Request(Q, sample_index=draw, sampling=Sampling(max_new_tokens=3))
                for draw in range(5)
            ]
        )
        assert [c.tokens.completion for c in done] == [3] * 5
        assert len(server.calls) == (5 if limit == "max_tokens" else 6)


@pytest.mark.parametrize("reasoning", ["none", "think", "content", "field"])
def test_reasoning_apart_and_in_the_text_is_the_same_text(reasoning: str) -> None:
    with serving(reasoning="think") as server:
        [whole] = OpenAIModel("m", url=server.url).write([Request(Q)])
    with serving(reasoning=reasoning) as server:
        [completion] = OpenAIModel("m", url=server.url).write([Request(Q)])
    if reasoning == "none":
        assert split_reasoning(completion.text) == ("", completion.text)
        return
    assert completion.text == whole.text
    thought, reply = split_reasoning(completion.text)
    assert thought.startswith("\nWe see") and reply.startswith("\nThe answer is")


@pytest.mark.parametrize("limit", [3, 400])
def test_lines_bring_back_the_blanks_that_a_server_strips(limit: int) -> None:
    request = Request(Q, sampling=Sampling(temperature=0, max_new_tokens=limit))
    with serving(reasoning="think") as server:
        [whole] = OpenAIModel("m", url=server.url).write([request])
    with serving(reasoning="content", strip=True) as server:
        [completion] = OpenAIModel("m", url=server.url, think="lines").write([request])
    assert completion.text == whole.text
    assert completion.finish_reason == ("length" if limit == 3 else "stop")


def test_usage_has_cached_and_reasoning_tokens() -> None:
    with serving(reasoning="content", cached=5) as server:
        [completion] = OpenAIModel("m", url=server.url).write([Request(Q)])
    tokens = completion.tokens
    assert tokens.prompt == len(Q.split()) + 1 and tokens.cached == 5
    assert 0 < tokens.reasoning < tokens.completion
    assert completion.served == "m-2026" and completion.seconds > 0


@pytest.mark.parametrize("n", ["take", "ignore", "refuse"])
def test_draws_go_in_one_call_and_fan_out_where_they_can_not(n: str) -> None:
    requests = [Request(q, sample_index=draw) for q in ("one", "two") for draw in range(4)]
    with serving(n=n) as server:
        done = OpenAIModel("m", url=server.url, n=4, concurrency=1).write(requests)
        assert all(c.text and not c.error for c in done)
        assert len({c.text for c in done}) == 8
        # taken: one call a prompt; ignored: four; refused: four, and the one that was refused
        assert len(server.calls) == {"take": 2, "ignore": 8, "refuse": 9}[n]
        assert sum("n" in call for call in server.calls) == (
            2 if n == "take" else 1
        )  # it is learned
        assert sum(c.tokens.completion for c in done) == sum(len(c.text.split()) for c in done)


@pytest.mark.parametrize("prefill", ["continue", "prefix", "last"])
@pytest.mark.parametrize("server_says", ["continue", "repeat"])
def test_a_prefix_is_continued(prefill: str, server_says: str) -> None:
    sampling = Sampling(temperature=0)
    with serving(prefill=server_says, reasoning="think") as server:
        model = OpenAIModel("m", url=server.url, prefill=prefill)
        [whole] = model.write([Request(Q, sampling=sampling)])
        prefix = whole.text[:30]
        [rest] = model.write([Request(Q, prefix, sampling)])
        assert prefix + rest.text == whole.text
        last = server.calls[-1]["messages"][-1]
        assert (last["role"], last["content"]) == ("assistant", prefix)
        assert last.get("prefix") == (True if prefill == "prefix" else None)
        assert server.calls[-1].get("continue_final_message") == (
            True if prefill == "continue" else None
        )


@pytest.mark.parametrize(
    ("options", "repeated"),
    [
        ({}, "prefix"),  # nobody knows: a short prefix stays
        ({"at": "llamacpp"}, ""),
        ({"repeats": "yes"}, ""),
        ({"at": "llamacpp", "repeats": "no"}, "prefix"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*say a given prefix again")
def test_what_was_asked_before_does_not_change_an_answer(
    options: dict[str, str], repeated: str
) -> None:
    """A short prefix that comes back is known by preset or option, not by a long one that came back before."""
    sampling = Sampling(temperature=0)
    with serving(prefill="repeat", reasoning="think") as server:
        model = OpenAIModel("m", url=server.url, **{"prefill": "last", **options})
        [whole] = model.write([Request(Q, sampling=sampling)])
        short, long = whole.text[:9], whole.text[:40]
        [before] = model.write([Request(Q, short, sampling)])
        model.write([Request(Q, long, sampling)])
        [after] = model.write([Request(Q, short, sampling)])
    start = short if repeated else ""
    assert start + whole.text[len(short) :] == before.text == after.text


def test_a_short_prefix_at_an_unknown_server_is_said() -> None:
    with serving() as server, pytest.warns(PotstillWarning, match=r"\?repeats=yes or \?repeats=no"):
        OpenAIModel("m", url=server.url, prefill="last").write([Request(Q, "Well,")])


def test_the_ids_of_models_are_those_without_the_new_option() -> None:
    url = "http://h/v1"
    assert OpenAIModel("m", url=url).id == digest("openai", ["h", "m", "chat", {}, ""])
    assert OpenAIModel("m", url=url, repeats="yes").id != OpenAIModel("m", url=url).id


def test_a_thought_that_the_prefix_began_is_not_opened_again() -> None:
    sampling = Sampling(temperature=0)
    with serving(reasoning="think") as server:
        [whole] = OpenAIModel("m", url=server.url).write([Request(Q, sampling=sampling)])
    with serving() as server:
        message = {"role": "assistant", "reasoning_content": " b\n", "content": "\nThe answer."}
        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
        server.next.append(reply(body))
        [rest] = OpenAIModel("m", url=server.url, prefill="last").write([Request(Q, "<think>\na")])
    assert rest.text == " b\n</think>\nThe answer."
    assert whole.text.startswith("<think>\n")


def reply(body: Any) -> Reply:
    return Reply(200, json.dumps(body).encode())


def test_a_server_that_can_not_continue_says_what_can() -> None:
    with serving() as server, pytest.raises(ModelError) as error:
        OpenAIModel("m", url=server.url).write([Request(Q, "We ")])
    assert "prefill=continue" in str(error.value) and "transformers:PATH" in str(error.value)
    with serving() as server, pytest.raises(ModelError, match="ban_first"):
        OpenAIModel("m", url=server.url).write([Request(Q, sampling=Sampling(ban_first=("a",)))])


def test_a_template_is_rendered_here(tiny_checkpoint: Any) -> None:
    with serving() as server:
        model = OpenAIModel("m", url=server.url, mode="template", weights=tiny_checkpoint)
        model.write([Request(Q, "We")])
        assert server.calls[-1]["prompt"] == model.encoder.render_prompt(Q) + "We"
        assert isinstance(model, Trainable) and model.weights == tiny_checkpoint
        chat = OpenAIModel(
            "m", url=server.url, weights=tiny_checkpoint
        )  # a prefix goes the same way by itself
        chat.write([Request(Q, "We")])
        assert server.calls[-1]["prompt"] == model.encoder.render_prompt(Q) + "We"


def test_prompts_beyond_the_context_are_not_sent(tiny_checkpoint: Any) -> None:
    with serving() as server:
        model = OpenAIModel("m", url=server.url, weights=tiny_checkpoint, context=30)
        long, short = model.write(
            [Request("many words " * 60), Request("a", sampling=Sampling(max_new_tokens=500))]
        )
        assert long.error.startswith("context: ") and not short.error
        assert len(server.calls) == 1 and server.calls[0]["max_tokens"] < 30


def test_what_it_can_do_is_what_was_asked_for() -> None:
    with serving() as server:
        plain, scored = (
            OpenAIModel("m", url=server.url),
            OpenAIModel("m", url=server.url, score="echo"),
        )
    assert (
        isinstance(plain, Streamed)
        and not isinstance(plain, Scored)
        and not isinstance(plain, Trainable)
    )
    assert isinstance(scored, Scored) and plain.id == scored.id


@pytest.mark.parametrize(
    ("score", "mode"), [("echo", "text"), ("prompt_logprobs", "text"), ("prompt_logprobs", "chat")]
)
def test_a_given_completion_is_scored(score: str, mode: str) -> None:
    with serving(scoring=score) as server:
        model = OpenAIModel("m", url=server.url, score=score, mode=mode)
        pairs = [(Q, " It is 5 shells."), (Q, ""), (Q, " No."), (Q, " It is 5 shells.")]
        values = model.likelihood(pairs)
    assert [len(v) for v in values] == [4, 0, 1, 4]
    assert values[0] == values[3] and all(value < 0 for row in values for value in row)


@pytest.mark.parametrize("score", ["echo", "prompt_logprobs"])
def test_a_server_that_can_not_score_says_what_can(score: str) -> None:
    with serving(scoring="none") as server, pytest.raises(ModelError) as error:
        OpenAIModel("m", url=server.url, score=score, mode="text").likelihood([(Q, " It is 5.")])
    assert "transformers:PATH" in str(error.value) and "weights=PATH" in str(error.value)
    with serving() as server, pytest.raises(ModelError, match="no log-probabilities"):
        server.next += [reply({"choices": [{"text": "x"}]})] * 2
        OpenAIModel("m", url=server.url, score=score, mode="text").likelihood([(Q, " It is 5.")])


@pytest.mark.slow
def test_requests_are_drawn_as_there_is_room() -> None:
    drawn = itertools.count()

    def endless() -> Any:
        for i in drawn:
            yield Request(f"question {i}")

    with serving(latency=0.02) as server:
        stream = OpenAIModel("m", url=server.url, concurrency=8).stream(endless())
        seen: set[int] = set()
        while len(seen) < 100:
            seen |= {place for place, _ in next(stream)}
        stream.close()
        assert next(drawn) < 100 + 8 * 20
        assert server.most_under_way <= 8
        time.sleep(0.1)
        calls = len(server.calls)
        time.sleep(0.1)
        assert len(server.calls) == calls  # closing ended it


def test_completions_come_in_portions_with_their_places() -> None:
    requests = [Request(f"question {i}") for i in range(300)]
    with serving(latency=0.005, jitter=0.02) as server:
        portions = list(OpenAIModel("m", url=server.url).stream(requests))
        made = dict(itertools.chain.from_iterable(portions))
        assert sorted(made) == list(range(300)) and len(portions) < 200
        assert [made[i].text for i in range(300)] == [
            c.text for c in OpenAIModel("m", url=server.url).write(requests)
        ]
        assert set(server.served.values()) == {2}


def test_many_threads_share_one_limit() -> None:
    with serving(latency=0.02) as server:
        model = OpenAIModel("m", url=server.url, concurrency=5)
        work = [
            threading.Thread(target=model.write, args=([Request(f"{t} {i}") for i in range(20)],))
            for t in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert server.choices == 80 and server.most_under_way <= 5


class Purse:
    """A permit with a number of calls to give."""

    def __init__(self, calls: int, together: int = 1000) -> None:
        self.left, self.together, self.out = calls, together, set[Request]()
        self.attempts: list[Attempt] = []

    def reserve(self, request: Request) -> Any:
        if request in self.out:
            return "go"
        if not self.left:
            return "stop"
        if len(self.out) >= self.together:
            return "wait"
        self.left -= 1
        self.out.add(request)
        return "go"

    def record_failed_try(self, request: Request, attempt: Attempt) -> None:
        self.attempts.append(attempt)


def test_the_permit_stops_what_can_not_be_paid() -> None:
    requests = [Request(f"question {i}") for i in range(50)]
    with serving(latency=0.005) as server:
        done = list(
            itertools.chain.from_iterable(
                OpenAIModel("m", url=server.url).stream(requests, Purse(7))
            )
        )
        assert len(done) == 7 == server.choices


@pytest.mark.slow
def test_a_permit_that_waits_is_asked_again() -> None:
    requests = [Request(f"question {i}") for i in range(20)]
    purse = Purse(100, together=2)
    with serving(latency=0.005) as server:
        made = {}
        for portion in OpenAIModel("m", url=server.url).stream(requests, purse):
            made.update(portion)
            purse.out -= {requests[place] for place, _ in portion}
        assert len(made) == 20 and server.most_under_way <= 2


def test_what_is_in_flight_when_the_stream_is_closed_is_recorded() -> None:
    purse = Purse(100)
    with serving(latency=0.3) as server:
        stream = OpenAIModel("m", url=server.url, concurrency=3).stream(
            (Request(f"{i}") for i in range(9)), purse
        )
        server.next += [reply({"choices": [{"text": "x"}]})]
        feeder = threading.Thread(target=lambda: next(stream, None))
        feeder.start()
        feeder.join()
        stream.close()
        deadline = time.monotonic() + 2
        while not purse.attempts and time.monotonic() < deadline:
            time.sleep(0.01)
    assert purse.attempts and all(attempt.billed for attempt in purse.attempts)


@pytest.mark.slow
def test_an_interrupt_ends_it_at_once() -> None:
    code = """if True:
        import itertools, sys
        from potstill.models.model import Request
        from potstill.models.remote.openai import OpenAIModel
        stream = OpenAIModel("m", url=sys.argv[1]).stream(Request(str(i)) for i in itertools.count())
        print(len(next(stream)) > 0, flush=True)
        list(stream)
    """
    with process("--latency", "0.3") as url:
        command = [sys.executable, "-c", code, url]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with child.started(command, deadline=30, **pipes) as asking:
            assert asking.stdout.readline() == "True\n"
            asking.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = asking.communicate()
        assert time.monotonic() - began < 5 and asking.returncode != 0
        assert said.rstrip().endswith("KeyboardInterrupt") and "Unclosed" not in said


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    with process("--latency", "0.001") as url:
        model = OpenAIModel("m", url=url)
        [mine] = model.write([Request(Q)])
        forked = os.fork()
        if not forked:  # what the child finds goes into its exit status
            os._exit(0 if model.write([Request(Q)])[0].text == mine.text else 1)
        assert child.reap(forked) == 0


ASKING = """
import atexit, sys
atexit.register(lambda: print("closed:", event_loop._session.closed))  # the first of all, so it is called last
from potstill.models.remote import event_loop
from potstill.models.model import Request
from potstill.models.remote.openai import OpenAIModel
portions = OpenAIModel("m", url=sys.argv[1]).stream(Request(str(i)) for i in range(200))
print(len(next(portions)) > 0)  # and ends with calls under way
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        pytest.param("portions.close()", marks=pytest.mark.slow),
        pytest.param("list(portions)", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_process_leaves_nothing_open(end: str) -> None:
    program = [sys.executable, "-W", "error::ResourceWarning", "-X", "dev", "-c", ASKING + end]
    with process("--latency", "0.01") as url:
        done = child.run([*program, url])
    assert done.stdout == "True\nclosed: True\n"
    for word in ("ResourceWarning", "nclosed", "never", "destroyed", "Traceback"):
        assert word not in done.stderr


def test_an_id_is_host_model_mode_and_extras() -> None:
    one = OpenAIModel("m", url="http://127.0.0.1:1/v1").id
    assert one == OpenAIModel("m", url="http://localhost:2/v1/", concurrency=3, timeout=4, rpm=3).id
    others = [
        OpenAIModel("n", url="http://127.0.0.1:1/v1"),
        OpenAIModel("m", url="http://far.example/v1"),
        OpenAIModel("m", url="http://127.0.0.1:1/v1", mode="text"),
        OpenAIModel("m", url="http://127.0.0.1:1/v1", extra={"reasoning_effort": "high"}),
        OpenAIModel("m", url="http://127.0.0.1:1/v1", name="mine"),
    ]
    assert len({one, *(model.id for model in others)}) == 6
    assert OpenAIModel("x", url="http://a.example/v1", name="mine").id == others[-1].id


def test_identity_leaves_out_what_moves_no_sample() -> None:
    one = identity("openai:m?url=http://127.0.0.1:1/v1&concurrency=3&key=A_KEY&extra.x=1&timeout=3")
    assert (
        one
        == identity("openai:m?extra.x=1&url=http://localhost:9999/v1")
        == "openai:m?extra.x=1&host=local"
    )
    assert one != identity("openai:m?url=http://far.example/v1&extra.x=1")
    assert identity("transformers:x?threads=3&dtype=float32") == "transformers:x?dtype=float32"
    assert identity("world:student") == "world:student"


def test_a_spec_makes_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-something-secret")
    model: Any = load(
        'openai:deepseek-chat?at=deepseek&concurrency=9&extra.thinking={"type":"on"}&n=2'
    )
    assert (model.model, model.options.concurrency, model.options.n) == ("deepseek-chat", 9, 2)
    assert model.options.extra == {"thinking": {"type": "on"}} and model.priced.endswith(
        "deepseek-chat"
    )
    assert "something" not in repr(model) + repr(model.options)
    with pytest.raises(ConfigError, match="unknown option 'concurency'"):
        load("openai:m?at=vllm&concurency=3")


def test_which_servers_go_on_with_a_given_text(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, "none")

    def continues(**options: Any) -> bool:
        return OpenAIModel("m", **options).continues

    url = "http://127.0.0.1:1/v1"
    assert continues(at="vllm") and continues(at="deepseek") and continues(at="ollama")
    assert (
        not continues(at="openai") and not continues(url=url) and not continues(at="transformers")
    )
    assert continues(url=url, prefill="last") and continues(url=url, mode="text")
    assert continues(at="transformers", weights=tiny_checkpoint)


@pytest.mark.parametrize(("name", "protocol"), [("likelihood", Scored), ("weights", Trainable)])
def test_an_ability_that_was_not_given_is_told_with_its_option(name: str, protocol: Any) -> None:
    model = OpenAIModel("m", at="vllm")
    with pytest.raises(ModelError) as caught:
        getattr(model, name)
    assert "weights=" in caught.value.fix and ("score=" in caught.value.fix) == (
        name == "likelihood"
    )
    assert not isinstance(model, protocol) and not hasattr(model, name)
    with pytest.raises(AttributeError, match="no attribute 'likelyhood'"):
        _ = model.likelyhood
    assert copy.copy(model).id == model.id
