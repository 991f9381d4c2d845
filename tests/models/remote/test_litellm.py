"""Vendors through litellm: against a stand-in with its ways, and against litellm itself where it is installed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from litellm_stand_in import StandIn
from openai_server import Reply, Server, serving

from potstill.cli import main
from potstill.errors import ConfigError, ModelError
from potstill.models import identity, load
from potstill.models.model import Request, Sampling, Scored, Streamed, Trainable
from potstill.models.remote.openai import OpenAIModel
from potstill.records import split_reasoning

Q = "Ned has 19 shells and sells 14. How many are left?"
KEY = "sk-vendor-Key-0123456789abcdef"


@pytest.fixture(params=["stand-in", "litellm"])
def litellm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "litellm":
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        return pytest.importorskip("litellm", reason="needs the extra potstill[vendors]")
    made = StandIn()
    monkeypatch.setitem(sys.modules, "litellm", made)
    return made


def through(server: Server, name: str = "openai/test-model", **options: Any) -> OpenAIModel:
    more = "".join(f"&{option}={value}" for option, value in options.items())
    made = load(f"litellm:{name}?url={server.url}{more}")
    assert isinstance(made, OpenAIModel)
    return made


def test_an_answer_has_text_tokens_and_cost(litellm: Any) -> None:
    with serving(reasoning="content", strip=True, cached=2) as server:
        [made] = through(server, "openai/gpt-4o-mini").write(
            [Request(Q, sampling=Sampling(temperature=0.5, stop=("END",)))]
        )
        body = server.calls[-1]
    assert made.error == "" and made.finish_reason == "stop_string", "the vendor says no more"
    thought, reply = split_reasoning(made.text)
    assert thought.strip().startswith("We see") and reply.strip().startswith("The answer is")
    assert made.tokens.cached == 2 and 0 < made.tokens.reasoning < made.tokens.completion
    assert made.cost is not None and made.cost > 0
    assert (body["model"], body["temperature"], body["stop"], body["max_tokens"]) == (
        "gpt-4o-mini",
        0.5,
        ["END"],
        512,
    )
    assert body["messages"] == [{"role": "user", "content": Q}]
    assert isinstance(body["seed"], int)


def test_what_a_model_behind_litellm_is(litellm: Any) -> None:
    with serving() as server, serving() as other:
        model, again = through(server), through(other, concurrency=3)
        assert isinstance(model, Streamed)
        assert not isinstance(model, Scored | Trainable)
        assert model.id == again.id != through(server, "openai/other").id
        assert (model.priced, model.local) == ("openai/test-model", True)
    vendors = load("litellm:anthropic/claude-big")
    assert not vendors.local and vendors.priced == "anthropic/claude-big"  # type: ignore[attr-defined]
    assert (
        identity("litellm:a/b?concurrency=4&key=MY_KEY") == "litellm:a/b" != identity("litellm:a/c")
    )


def test_draws_of_one_prompt_go_in_one_call_where_the_vendor_takes_n(litellm: Any) -> None:
    with serving() as server:
        requests = [Request(Q, sample_index=draw) for draw in range(4)]
        texts = [c.text for c in through(server, n=4).write(requests)]
        assert len(set(texts)) == 4 and [call.get("n") for call in server.calls] == [4]
        again = [c.text for c in through(server).write(requests)]
        assert len(set(again)) == 4 and len(server.calls) == 5


def test_logprobs_are_one_a_drawn_token(litellm: Any) -> None:
    with serving() as server:
        [made] = through(server).write(
            [Request(Q, sampling=Sampling(logprobs=True, max_new_tokens=6))]
        )
    assert len(made.logprobs) == 6 and made.finish_reason == "length"


@pytest.mark.parametrize("fault", ["429", "503", "json", "html", "shape", "drop", "half"])
def test_what_may_pass_is_tried_again(litellm: Any, fault: str) -> None:
    with serving() as server:
        model = through(server, concurrency=1)
        assert model.write([Request("first")])[0].error == ""
        server.next.append(fault)
        [made] = model.write([Request(Q)])
    assert (made.error, len(made.tries)) == ("", 1)
    kind = {"429": "rate", "503": "server", "drop": "unreachable", "half": "unreachable"}.get(
        fault, "malformed"
    )
    assert made.tries[0].error.startswith(f"{kind}: ")
    assert made.tries[0].billed is (fault not in ("429", "503"))


@pytest.mark.parametrize(
    ("fault", "kind"), [("400", "refused"), ("filter", "filter"), ("refusal", "")]
)
def test_what_stays_refused_is_recorded(litellm: Any, fault: str, kind: str) -> None:
    with serving() as server:
        server.next.append(fault)
        [made, fine] = through(server, concurrency=1).write([Request(Q), Request("other")])
    assert made.error.startswith(f"{kind or 'refused'}: ") or (
        not kind and made.error.startswith("empty: ")
    )
    assert fine.error == ""


def test_a_prompt_beyond_the_context_is_an_error_of_its_own(litellm: Any) -> None:
    with serving(context=5) as server:
        long, short = through(server).write([Request(Q), Request("Hi")])
    assert long.error.startswith("context: ") and short.error == ""


@pytest.mark.slow
def test_retry_after_is_obeyed(litellm: Any) -> None:
    with serving(retry_after=0.6) as server:
        server.next.append("429")
        model, began = through(server), time.perf_counter()
        [made] = model.write([Request(Q)])
    assert made.error == "" and made.tries[0].error.startswith("rate: ")
    assert 0.6 <= time.perf_counter() - began < 5


def test_what_fails_for_all_stops_and_shows_no_key(
    litellm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_VENDOR_KEY", KEY)
    with serving(key="right") as server:
        with pytest.raises(ModelError, match="refuses the key") as refused:
            through(server, key="MY_VENDOR_KEY").write([Request(Q)])
        assert KEY not in str(refused.value) and "MY_VENDOR_KEY" in str(refused.value)
    with serving(model="test-model") as server:
        with pytest.raises(ModelError, match="has no model 'openai/test-modle'"):
            through(server, "openai/test-modle").write([Request(Q)])
        with pytest.raises(ModelError, match="VENDOR/NAME"):
            through(server, "nonsense-x").write([Request(Q)])
        server.next.append("quota")
        with pytest.raises(ModelError, match="no quota left"):
            through(server).write([Request(Q)])


@pytest.mark.slow
def test_a_server_that_is_not_there_stops(litellm: Any) -> None:
    with pytest.raises(ModelError, match="can't be reached"):
        load("litellm:openai/m?url=http://127.0.0.1:9/v1&deadline=1").write([Request(Q)])


def test_a_key_of_the_environment_is_in_no_answer_and_goes_to_no_other_address(
    litellm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(
        key="none"
    ) as server:  # what is sent where the user gives an address and no key for it
        [made] = through(server).write([Request(f"Say {KEY}")])
        assert made.error == ""
        server.settings.key = KEY
        with pytest.raises(ModelError, match="refuses the key"):
            through(server).write([Request(Q)])
    with serving(reasoning="none") as server:
        said = (
            b'{"choices": [{"message": {"role": "assistant", "content": "It is %s."}}]}'
            % KEY.encode()
        )
        server.next.append(Reply(200, said))
        [made] = through(server).write([Request(Q)])
    assert made.text == "It is [key]."


def test_a_prefix_is_refused_unless_the_user_knows_the_way(litellm: Any) -> None:
    request = Request(Q, prefix="We see")
    with serving() as server:
        with pytest.raises(ModelError, match="can't go on with a given text"):
            through(server).write([request])
        [made] = through(server, prefill="last").write([request])
        assert server.calls[-1]["messages"][-1] == {"role": "assistant", "content": "We see"}
    assert made.error == "" and not made.text.startswith("We see")


@pytest.mark.parametrize(
    "option", ["at=openai", "mode=text", "batch=1", "score=echo", "extra.api_key=x", "wrong=1"]
)
def test_options_of_another_protocol_are_refused(litellm: Any, option: str) -> None:
    with pytest.raises(ConfigError):
        load(f"litellm:openai/m?{option}")


def test_a_seed_is_left_out_where_the_vendor_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "litellm", made)
    with serving() as server:
        requests = [Request(Q, sample_index=draw) for draw in range(3)]
        done = through(server, "anthropic/claude-big", n=3).write(requests)
    assert [c.error for c in done] == ["", "", ""]
    assert all("seed" not in call for call in made.asked)
    assert [call.get("n") for call in made.asked] == [3, None, None, None], (
        "that it takes no n is learned once"
    )


@pytest.mark.slow
def test_a_run_with_a_vendor_as_teacher(
    litellm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    from tiny import tiny_checkpoint

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_VENDOR_KEY", KEY)
    tiny_checkpoint(tmp_path / "tiny", positions=128)
    rows = [{"question": f"Say something about {i}.", "answer": "(?s).*"} for i in range(6)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = "run sft --problems train.jsonl --kind regex --student transformers:tiny --set max_new_tokens=40 --out out"
    words = [*told.split(), "--set", "training.max_steps=1", "--threads", "1", "--quiet"]
    with serving(words=6, key=KEY, fail={"429": 0.3}) as server:
        teacher = f"litellm:openai/gpt-4o-mini?url={server.url}&key=MY_VENDOR_KEY"
        assert main([*words, "--teacher", teacher]) == 0
        assert sorted(server.served.values()) == [1] * 6
        Path("out/results.json").unlink()
        assert main([*words, "--teacher", f"{teacher}&concurrency=2"]) == 0
        assert sum(server.served.values()) == 6, "nothing is asked twice"
    costs = json.loads(Path("out/results.json").read_text())["costs"]["sft"]["teacher"]
    assert costs["calls"] == 6 and costs["cost"] > 0
    assert len(Path("out/rows/sft.jsonl").read_text().splitlines()) == 6
    assert not [
        file
        for file in Path("out").rglob("*")
        if file.is_file() and KEY.encode() in file.read_bytes()
    ]


def test_without_litellm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ModelError, match=r"potstill\[vendors\]"):
        load("litellm:anthropic/claude-big")
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True", (
        "importing litellm asks the network for nothing"
    )


@pytest.mark.parametrize(
    ("finish_reason", "finish", "error"),
    [
        ("stop", "stop", ""),
        ("stop_sequence", "stop_string", ""),
        ("MAX_TOKENS", "length", ""),
        ("content_filter", "", "filter: "),
        ("abort", "", "server: the server broke the answer off"),
        ("error", "", "server: the server broke the answer off"),
        ("pause_turn", "", "unfinished: finish_reason 'pause_turn'"),
    ],
)
def test_the_vendors_own_finish_reason_counts(
    litellm: Any, finish_reason: str, finish: str, error: str
) -> None:
    message = {"role": "assistant", "content": "It is 5."}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    with serving() as server:
        server.next += [Reply(200, json.dumps(body).encode())] * 50
        [made] = through(server, deadline=0.2).write([Request(Q)])
    assert made.finish_reason == finish
    assert made.error.startswith(error) and bool(made.error) == bool(error)
