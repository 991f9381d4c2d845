"""What every model must keep: scripted, recorded and local ones, servers, vendors, and a real server (slow)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from litellm_stand_in import StandIn
from openai_server import serving
from real_server import installed, real_server

from potstill.models import KINDS as LOADED_KINDS
from potstill.models import load
from potstill.models.model import FAILURES, Completion, Model, Request, Sampling, Scored
from potstill.records import Message

Q, OTHER = "Ned has 19 shells and sells 14. How many are left?", "What is 6 times 7?"
RECORDED = [
    {"question": Q, "completion": "He has 19 - 14 = 5 shells left.", "is_correct": True},
    {"question": Q, "completion": "The answer is 4.", "is_correct": False},
    {"question": Q, "completion": "Well, 19 minus", "finish_reason": "length"},
    {"question": OTHER, "completion": "6 * 7 = 42."},
    {"question": OTHER, "completion": "It is 41."},
]
RULES = [{"pattern": "Ned", "answers": ["He has 19 - 14 = 5 shells left.", "The answer is 4."]},
         {"pattern": "", "answers": ["6 * 7 = 42.", "It is 41."]}]  # fmt: skip


class Case(NamedTuple):
    """A model, how to make it again elsewhere, a request that it cuts at its limit, and what it promises."""

    model: Model
    again: Callable[[Path], Model]
    cut: Request
    real: bool = False  # a language model, which may tokenise the text before a cut in another way
    samples: bool = True  # it obeys the settings, not only the limit
    scores: bool = True
    failing: Request | None = None  # a request that can have no answer, where there is one


CUT = Request(Q, sampling=Sampling(max_new_tokens=3))
KINDS = [
    "scripted",
    "recorded",
    "transformers",
    "openai",
    "litellm",
    "vllm",
    pytest.param("serve", marks=pytest.mark.slow),
    pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.xdist_group("ray")]),
]


@pytest.fixture(params=KINDS)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    kind = request.param
    if kind in ("openai", "litellm"):
        if kind == "litellm" and importlib.util.find_spec("litellm") is None:
            monkeypatch.setitem(sys.modules, "litellm", StandIn())
        name, more = (
            ("openai:m", "&score=prompt_logprobs") if kind == "openai" else ("litellm:openai/m", "")
        )
        with serving() as server, serving() as other:
            spec = f"{name}?prefill=last{more}&url="
            refused = Request("[[400]]")
            yield Case(
                load(spec + server.url),
                lambda _: load(spec + other.url),
                CUT,
                scores=bool(more),
                failing=refused,
            )
    elif kind == "serve":
        yield _served(
            request.getfixturevalue("real_url"), request.getfixturevalue("tiny_checkpoint")
        )
    elif kind == "ray":
        yield request.getfixturevalue("replicated")
    else:
        yield _local(kind, request, tmp_path)


@pytest.fixture(scope="module")
def replicated(ray_cluster: object, tiny_checkpoint: Path) -> Iterator[Case]:
    from potstill.models.local.replicas import ReplicatedModel

    model = load(f"ray:transformers:{tiny_checkpoint}?replicas=1&threads=1")
    assert isinstance(model, ReplicatedModel)
    yield Case(
        model,
        lambda to: load(f"ray:transformers:{shutil.copytree(tiny_checkpoint, to / 'c')}"),
        CUT,
        real=True,
        failing=LONG,
    )
    model.release()


@pytest.fixture(scope="module")
def real_url(tiny_checkpoint: Path) -> Iterator[str]:
    if not installed():
        pytest.skip("`transformers serve` needs fastapi, uvicorn, openai and pydantic")
    with real_server(tiny_checkpoint) as url:
        yield url


def _served(url: str, source: Path) -> Case:
    spec = (
        f"openai:{source}?at=transformers&name=tiny&weights={source}&score=weights&context=512&url="
    )
    elsewhere = spec + url.replace("127.0.0.1", "localhost")
    return Case(load(spec + url), lambda _: load(elsewhere), CUT, real=True, failing=LONG)


LONG = Request("many words " * 600, sampling=Sampling(max_new_tokens=4))


def _local(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if kind == "vllm":
        pytest.importorskip(
            "vllm", reason="vLLM is not installed here: it needs a GPU and several gigabytes"
        )
    if kind in ("transformers", "vllm"):
        source = request.getfixturevalue("tiny_checkpoint")
        return Case(
            load(f"{kind}:{source}"),
            lambda to: load(f"{kind}:{shutil.copytree(source, to / 'c')}"),
            CUT,
            real=True,
            failing=LONG,
        )

    def make(folder: Path) -> Model:
        folder.mkdir(exist_ok=True)
        rows = RULES if kind == "scripted" else RECORDED
        (folder / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load(f"{kind}:{folder / 'f.jsonl'}")

    cut = Request(
        Q, sampling=Sampling(max_new_tokens=3), sample_index=2 if kind == "recorded" else 0
    )
    scores = kind == "scripted"
    return Case(make(tmp_path / "first"), make, cut, samples=False, scores=scores)


def _requests(draws: int = 2) -> list[Request]:
    return [
        Request(prompt, sample_index=draw, sampling=Sampling(max_new_tokens=12))
        for draw in range(draws)
        for prompt in (Q, OTHER)
    ]


def test_one_completion_a_request_in_order(case: Case) -> None:
    requests = _requests()
    together = case.model.write(requests)
    assert len(together) == len(requests)
    backwards = case.model.write(requests[::-1])[::-1]
    assert [c.text for c in backwards] == [c.text for c in together]
    assert [c.finish_reason for c in backwards] == [c.finish_reason for c in together]


def test_nothing_asked_nothing_written(case: Case) -> None:
    assert case.model.write([]) == []


def test_the_same_request_gives_the_same_completion(case: Case) -> None:
    [first], [second] = case.model.write([_requests()[0]]), case.model.write([_requests()[0]])
    assert (first.text, first.finish_reason, first.tokens) == (
        second.text,
        second.finish_reason,
        second.tokens,
    )
    assert first.error == "" and first.text


def test_equal_keys_in_one_call_give_equal_texts(case: Case) -> None:
    request = _requests()[0]
    first, _, third = case.model.write([request, _requests()[1], request])
    assert first.text == third.text


def test_another_draw_is_another_completion(case: Case) -> None:
    a, b = case.model.write([Request(Q, sample_index=0), Request(Q, sample_index=1)])
    assert a.text != b.text


def test_a_bare_prompt_is_one_user_turn(case: Case) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=8)
    bare, turn = case.model.write(
        [Request(Q, sampling=sampling), Request((Message("user", Q),), sampling=sampling)]
    )
    assert bare.text == turn.text


def test_the_limit_finishes_with_length(case: Case) -> None:
    [completion] = case.model.write([case.cut])
    assert completion.finish_reason == "length"
    assert completion.tokens.completion == 3


def test_a_prefix_is_continued_and_not_repeated(case: Case) -> None:
    sampling = Sampling(temperature=0, max_new_tokens=40)
    [whole] = case.model.write([Request(Q, sampling=sampling)])
    prefix = whole.text[: len(whole.text) // 2]
    [rest] = case.model.write([Request(Q, prefix=prefix, sampling=sampling)])
    assert rest.error == ""
    assert not rest.text.startswith(prefix)
    if not case.real:
        assert prefix + rest.text == whole.text


def test_the_id_is_the_content_and_not_the_place(case: Case, tmp_path: Path) -> None:
    again = case.again(tmp_path / "second")
    assert case.model.id == case.model.id == again.id
    assert case.model.id.split("-")[0] in ("hf", *LOADED_KINDS)


def test_likelihoods_are_one_list_of_negative_numbers_a_pair(case: Case) -> None:
    assert isinstance(case.model, Scored) is case.scores
    if not isinstance(case.model, Scored):
        return
    pairs = [(Q, "The answer is 4."), (OTHER, "42"), (Q, "The answer is 4."), (Q, "")]
    values = case.model.likelihood(pairs)
    assert values[0] == pytest.approx(values[2], abs=1e-6)
    assert values[3] == []
    assert len(values[0]) > len(values[1]) >= 1
    assert all(value < 0 for row in values for value in row)


def test_completions_have_one_shape(case: Case) -> None:
    for completion in case.model.write(_requests()):
        assert type(completion) is Completion
        if case.real and completion.error.startswith("empty: "):  # a random model may end at once
            continue
        assert not completion.error
        assert completion.text and Q not in completion.text
        assert completion.finish_reason in ("stop", "length") and not completion.stop_string
        prompt, written, cached, reasoning = completion.tokens
        assert 0 <= cached <= prompt and 0 <= reasoning <= written
        assert completion.seconds >= 0 and completion.tries == ()
        assert completion.cost is None or completion.cost >= 0


def test_settings_are_obeyed(case: Case) -> None:
    if not case.samples:
        return
    greedy = Sampling(temperature=0, max_new_tokens=24)
    first, second = case.model.write(
        [Request(Q, sampling=greedy, sample_index=draw) for draw in range(2)]
    )
    assert first.text == second.text, "at temperature 0 all draws are one"
    stop = first.text[len(first.text) // 2 :][:3]
    [stopped] = case.model.write(
        [Request(Q, sampling=Sampling(temperature=0, max_new_tokens=24, stop=(stop,)))]
    )
    assert stopped.text == first.text[: first.text.index(stop)]
    assert (stopped.finish_reason, stopped.error) == ("stop_string", "")
    assert stopped.stop_string in (stop, ""), "a server need not say which"


def test_a_request_without_an_answer_is_a_typed_failure(case: Case) -> None:
    if case.failing is None:
        return
    failed, made = case.model.write([case.failing, case.cut])
    assert failed.error.split(": ")[0] in FAILURES and (failed.text, failed.finish_reason) == (
        "",
        "",
    )
    assert made.error == "" and made.text


def test_a_failed_generation_is_a_completion(tmp_path: Path, tiny_checkpoint: Path) -> None:
    fine = Request(Q, sampling=Sampling(max_new_tokens=4))
    failed, made = load(f"transformers:{tiny_checkpoint}").write([LONG, fine])
    assert failed.error.startswith("context: a prompt of ") and (
        failed.text,
        failed.finish_reason,
    ) == (
        "",
        "",
    )
    assert made.error == "" and made.text
    script = tmp_path / "s.yaml"
    script.write_text("fail: 0.08\nrules:\n  - answers: [fine]\n")
    completions = load(f"scripted:{script}").write([Request(f"question {i}") for i in range(1000)])
    failures = [c for c in completions if c.error]
    assert 50 < len(failures) < 110
    assert {(c.text, c.finish_reason, c.error) for c in failures} == {("", "", "scripted failure")}
