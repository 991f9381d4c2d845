"""`potstill serve` on a tiny checkpoint: what it answers is what the checkpoint says here, whoever asks beside."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from aiohttp.test_utils import make_mocked_request
from serving_thread import Served, serving

from potstill.models import load
from potstill.models.local.running_batch import Row
from potstill.models.model import Request, Sampling
from potstill.serving.api_error import ApiError
from potstill.serving.server import CompletionServer

pytestmark = pytest.mark.slow  # a server, and a model behind it

GREEDY = Sampling(temperature=0, max_new_tokens=24, logprobs=True)
PREFIXES = ("", "So", " 19 - 14 = 5.  So the total is, I think,")


@pytest.fixture(scope="module")
def served(tiny_checkpoint: Path) -> Iterator[Served]:
    with serving(tiny_checkpoint) as running:
        yield running


def test_our_client_gets_what_the_checkpoint_writes_here(served: Served) -> None:
    requests = []
    for index in range(8):
        requests += [Request(f"Add {index}.", prefix, GREEDY) for prefix in PREFIXES]
    there = load(f"openai:tiny?at=potstill&url={served.url}").write(requests)
    for request, one, other in zip(requests, there, served.model.write(requests), strict=True):
        assert not one.error and (one.text, one.tokens) == (other.text, other.tokens), request
        assert one.finish_reason == other.finish_reason
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_likelihoods_are_those_of_the_checkpoint(served: Served) -> None:
    passages = [("How many?", "Let us see."), ("Two", "3 + 4 = 7"), ("Two", "\\boxed{7}")]
    here = served.model.likelihood(passages)
    for options in ("score=prompt_logprobs", "score=echo&mode=text"):
        there = load(f"openai:tiny?at=potstill&url={served.url}&{options}")
        if "mode=text" in options:
            plain = load(f"transformers:{served.model.weights}?chat=plain")
            here = plain.likelihood(passages)
        for one, other in zip(there.likelihood(passages), here, strict=True):
            assert one == pytest.approx(other, abs=1e-4)


def test_a_sample_is_that_of_its_seed_alone(served: Served) -> None:
    settings = [
        Sampling(max_new_tokens=40),
        Sampling(max_new_tokens=70, temperature=0.7, top_p=0.9),
        Sampling(max_new_tokens=30, temperature=1.2, top_k=20, repetition_penalty=1.3),
    ]
    requests = [Request(f"{'Add 3. ' * (i % 5)}", sampling=settings[i % 3]) for i in range(18)]
    texts: dict[int, str] = {}

    def ask(index: int) -> None:
        sampling = requests[index].sampling
        body = {"messages": [{"role": "user", "content": requests[index].prompt}]}
        body |= {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        body |= {"top_p": sampling.top_p, "top_k": sampling.top_k or -1}
        body |= {"repetition_penalty": sampling.repetition_penalty}
        body["seed"] = requests[index].random_seed(served.model.id)
        _, answer = served.post("/v1/chat/completions", body)
        texts[index] = answer["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index, request in enumerate(requests):
        assert texts[index] == served.model.write([request])[0].text


def test_prompt_logprobs_in_the_form_of_vllm(served: Served) -> None:
    ids = served.model.encoder.tokenizer.encode("Ned has 19 shells.")
    body = {"prompt": ids, "max_tokens": 1, "prompt_logprobs": 3, "return_token_ids": True}
    _, answer = served.post("/v1/completions", body)
    [choice] = answer["choices"]
    first, *entries = choice["prompt_logprobs"]
    scores = served.model.score_tokens([ids])[0]
    assert first is None and choice["prompt_token_ids"] == ids and len(choice["token_ids"]) == 1
    for token, entry, logprob, rank in zip(ids[1:], entries, scores.logprobs, scores.ranks):
        assert next(iter(entry)) == str(token)  # the prompt's own token stands first
        assert entry[str(token)]["logprob"] == pytest.approx(logprob, abs=1e-4)
        assert entry[str(token)]["rank"] == rank + 1
        assert {1, 2, 3} <= {candidate["rank"] for candidate in entry.values()}
        assert len(entry) == (3 if rank < 3 else 4)
    assert answer["usage"] == {
        "prompt_tokens": len(ids),
        "completion_tokens": 1,
        "total_tokens": len(ids) + 1,
    }


def test_samples_stops_and_streams(served: Served) -> None:
    body = {"prompt": "Add 3.", "max_tokens": 24, "seed": 7, "n": 3, "logprobs": 0}
    _, whole = served.post("/v1/completions", body)
    texts = [choice["text"] for choice in whole["choices"]]
    assert len(set(texts)) == 3 and whole["seed"] == 7
    # The next sample has the next seed.
    _, second = served.post("/v1/completions", body | {"n": 1, "seed": 8})
    assert second["choices"][0]["text"] == texts[1]
    # A stop string ends a text before it, and is named.
    stop = texts[0][3:6]
    _, stopped = served.post("/v1/completions", body | {"n": 1, "stop": [stop]})
    [choice] = stopped["choices"]
    assert choice["text"] == texts[0][: texts[0].index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)

    for extra, expected in (({}, texts), ({"stop": [stop]}, [choice["text"], *texts[1:]])):
        parts = stream(served, body | extra | {"stream": True})
        joined, logprobs = ["", "", ""], [[], [], []]
        for part in parts:
            for entry in part["choices"]:
                joined[entry["index"]] += entry["text"]
                logprobs[entry["index"]] += entry["logprobs"]["token_logprobs"]
        assert joined[0] == expected[0]
        if not extra:
            assert joined == expected and len(parts) > 6
            assert logprobs == [c["logprobs"]["token_logprobs"] for c in whole["choices"]]


def stream(served: Served, body: object) -> list[dict]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{served.url}/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        events = answer.read().decode().strip().split("\n\n")
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_the_openai_package(served: Served) -> None:
    openai = pytest.importorskip("openai", reason="needs openai's own client")
    client = openai.OpenAI(base_url=served.url, api_key="none")
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "seed": 3}
    whole = client.chat.completions.create(**chat, max_tokens=12, logprobs=True, top_logprobs=2)
    parts = client.chat.completions.create(**chat, max_tokens=12, stream=True)
    texts = [part.choices[0].delta.content for part in parts]
    assert "".join(texts) == whole.choices[0].message.content and len(texts) > 3
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.completions.create(model="tiny", prompt="x " * 600)


def test_tokens_and_texts(served: Served) -> None:
    _, tokens = served.post("/tokenize", {"prompt": "Ned has"})
    assert served.post("/detokenize", {"tokens": tokens["tokens"]})[1] == {"prompt": "Ned has"}
    messages = [{"role": "user", "content": "Hi"}]
    _, chat = served.post("/tokenize", {"messages": messages})
    assert chat["tokens"] == served.model.encoder.encode_prompt("Hi") and chat["count"]


def test_an_error_of_ours_fails_its_rows_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: Row) -> float:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(Row, "uniform", fail)
        status, answer = served.post("/v1/completions", {"prompt": "Add 3."})
    assert status == 500 and "ZeroDivisionError" in answer["error"]["message"]
    assert served.post("/v1/completions", {"prompt": "Add 3."})[0] == 200


def test_who_hangs_up_is_written_no_more(served: Served) -> None:
    body = {"prompt": "Add 3.", "max_tokens": 480, "ignore_eos": True, "stream": True, "n": 8}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{served.url}/completions", json.dumps(body).encode(), headers
    )
    before = served.server.engine.counts.cancelled_rows
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.readline()
    # Calls after it show that the server has noticed.
    for _ in range(200):
        served.post("/v1/completions", {"prompt": "Add 3.", "max_tokens": 2})
        if served.server.engine.counts.cancelled_rows > before:
            break
    assert served.server.engine.counts.cancelled_rows == before + 8
    assert served.server.engine.running_rows == 0


def test_other_hosts_and_types_are_refused(served: Served) -> None:
    url = f"{served.url}/models"
    rebound = urllib.request.Request(url, headers={"Host": "evil.example:80"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(rebound, timeout=60)
    page = urllib.request.Request(
        f"{served.url}/completions", b"{}", {"Content-Type": "text/plain"}
    )
    with pytest.raises(urllib.error.HTTPError, match="415"):
        urllib.request.urlopen(page, timeout=60)


def test_weights_are_updated_from_the_folder_that_was_allowed(
    tiny_checkpoint: Path, tmp_path: Path, served: Served
) -> None:
    from tiny import tiny_checkpoint as make_checkpoint

    path = make_checkpoint(tmp_path / "steps" / "1", seed=1)
    body = {"prompt": "Add 3.", "temperature": 0}
    assert served.post("/update_weights", {"model_path": str(path)})[0] == 403
    with serving(tiny_checkpoint, updates_folder=tmp_path / "steps") as updated:
        _, before = updated.post("/v1/completions", body)
        for outside in (str(tiny_checkpoint), f"{tmp_path}/steps/../other", "/etc"):
            assert updated.post("/update_weights", {"model_path": outside})[0] == 403
        broken = tmp_path / "steps" / "2"
        broken.mkdir()
        assert updated.post("/update_weights", {"model_path": str(broken)})[0] == 400
        status, answer = updated.post("/update_weights", {"model_path": str(path)})
        assert (status, answer["success"], answer["weight_updates"]) == (200, True, 1)
        _, after = updated.post("/v1/completions", body)
    there = load(f"transformers:{path}?chat=plain")
    [expected] = there.write(
        [Request("Add 3.", sampling=Sampling(temperature=0, max_new_tokens=16))]
    )
    assert after["choices"][0]["text"] == expected.text != before["choices"][0]["text"]
    assert after["system_fingerprint"] == answer["id"] != before["system_fingerprint"]


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Bearer secret"])
def test_a_key_is_asked_for(served: Served, header: str) -> None:
    guarded = replace(served.server.served, api_key="secret")
    server = CompletionServer(served.server.engine, guarded)
    headers = {"Host": "127.0.0.1:1", "Authorization": header}
    server._refuse_strangers(make_mocked_request("GET", "/health", headers=headers))
    call = make_mocked_request("GET", "/v1/models", headers=headers)
    if header == "Bearer secret":
        server._refuse_strangers(call)
        return
    with pytest.raises(ApiError) as error:
        server._refuse_strangers(call)
    assert error.value.status == 401 and "secret" not in error.value.message
