"""A real server, `transformers serve` on the built-in checkpoint: `openai:` beside `transformers:` in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from real_server import installed, real_server

from potstill.cli import main
from potstill.errors import ModelError
from potstill.models import load
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Completion, Request, Sampling, Trainable
from potstill.records import Message
from potstill.runs.sources import CHECKPOINTS
from potstill.world.story import problems

TEACHER, STUDENT = CHECKPOINTS / "teacher", CHECKPOINTS / "student"
PROMPTS, NEAR = 60, 1e-3
GREEDY = Sampling(temperature=0, max_new_tokens=512)

pytestmark = [
    pytest.mark.slow,  # the server takes many seconds to start
    pytest.mark.skipif(
        not installed(), reason="`transformers serve` needs fastapi, uvicorn, openai and pydantic"
    ),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with real_server(TEACHER) as served:
        yield served


@pytest.fixture(scope="module")
def local() -> TransformersModel:
    return TransformersModel(TEACHER, dtype="float32", device="cpu", threads=1)


def behind(url: str, checkpoint: Path = TEACHER, **options: object) -> Any:
    more = "".join(f"&{name}={value}" for name, value in options.items())
    return load(f"openai:{checkpoint}?at=transformers&url={url}{more}")


def questions(count: int) -> list[str]:
    return [p.question for p in problems("story", size=count, seed=3, split="test")]


def margin(local: TransformersModel, prompt: str, one: str, other: str) -> float:
    """How far apart the two best logits are, by the local model, at the first token in which two answers differ."""
    import torch

    (a, start), (b, _) = (local.encoder.encode_completion(prompt, text) for text in (one, other))
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    assert at >= start
    with torch.inference_mode():
        logits = local.model(torch.tensor([a[:at]])).logits[0, -1].float()
    first, second = logits.topk(2).values.tolist()
    return float(first - second)


def compare(
    local: TransformersModel,
    requests: Sequence[Request],
    here: Sequence[Completion],
    there: Sequence[Completion],
) -> int:
    """How many texts are equal; every other pair parts where the two best logits lie close together."""
    apart = [
        (margin(local, str(r.prompt), r.prefix + a.text, r.prefix + b.text), a.text, b.text)
        for r, a, b in zip(requests, here, there, strict=True)
        if a.text != b.text
    ]
    assert not [row for row in apart if row[0] > NEAR]
    return len(requests) - len(apart)


@pytest.mark.slow
def test_the_text_is_that_of_the_local_model(
    url: str, local: TransformersModel, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = [Request(question, sampling=GREEDY) for question in questions(PROMPTS)]
    began = time.perf_counter()
    here = local.write(requests)
    middle = time.perf_counter()
    there = behind(url).write(requests)
    ended = time.perf_counter()
    equal = compare(local, requests, here, there)
    with capsys.disabled():
        took = f"{middle - began:.1f} s here, {ended - middle:.1f} s through the server"
        print(f"\ntransformers serve: {equal} of {PROMPTS} texts equal at temperature 0; {took}")
    assert len({r.prompt for r in requests}) == PROMPTS
    assert equal >= 0.99 * PROMPTS
    for a, b in zip(here, there, strict=True):
        assert (b.error, b.finish_reason) == ("", a.finish_reason)
        if a.text == b.text:
            assert b.tokens.prompt == a.tokens.prompt
            assert b.tokens.completion == a.tokens.completion
    assert {type(c) for c in there} == {Completion}
    assert all(c.text and not c.tries for c in there)


def test_the_comparison_can_fail(local: TransformersModel) -> None:
    request = Request(questions(1)[0], sampling=GREEDY)
    [made] = local.write([request])
    changed = made._replace(text=made.text[: len(made.text) // 2] + "Zebra")
    assert margin(local, str(request.prompt), made.text, changed.text) > NEAR
    with pytest.raises(AssertionError):
        compare(local, [request], [made], [changed])


def test_limits_stops_and_turns_are_those_of_the_local_model(
    url: str, local: TransformersModel
) -> None:
    [question] = questions(1)
    turns = (Message("system", "Be careful."), Message("user", question))
    [whole] = local.write([Request(question, sampling=GREEDY)])
    stop = whole.text[len(whole.text) // 2 :][:6]
    how = [
        Request(question, sampling=Sampling(temperature=0, max_new_tokens=7)),
        Request(question, sampling=Sampling(temperature=0, stop=(stop,))),
        Request(
            question, sampling=Sampling(temperature=0, repetition_penalty=1.3, max_new_tokens=40)
        ),
        Request(turns, sampling=Sampling(temperature=0, max_new_tokens=30)),
    ]
    here, there = local.write(how), behind(url, weights=TEACHER).write(how)
    assert [c.text for c in there] == [c.text for c in here]
    assert (
        [c.finish_reason for c in there]
        == [c.finish_reason for c in here]
        == ["length", "stop_string", here[2].finish_reason, "length"]
    )
    assert [c.stop_string for c in there] == [c.stop_string for c in here] == ["", stop, "", ""]
    assert there[0].tokens[:2] == here[0].tokens[:2]
    assert stop not in there[1].text


@pytest.mark.slow
def test_a_prefix_is_continued_as_here(url: str, local: TransformersModel) -> None:
    asked = [Request(question, sampling=GREEDY) for question in questions(6)]
    wholes = local.write(asked)
    cut = [
        Request(r.prompt, c.text[: len(c.text) // 2], GREEDY)
        for r, c in zip(asked, wholes, strict=True)
    ]
    here, there = local.write(cut), behind(url, weights=TEACHER).write(cut)
    assert compare(local, cut, here, there) >= 5
    with pytest.raises(ModelError, match=r"can't go on with a given text(.|\n)*weights=PATH"):
        behind(url).write(cut[:1])


@pytest.mark.slow
def test_samples_repeat_and_draws_differ(url: str) -> None:
    """Promised for a server asked for one at a time: the seed of each sample is sent."""
    how = Sampling(temperature=1.0, max_new_tokens=60)
    requests = [
        Request(question, sample_index=draw, sampling=how)
        for question in questions(2)
        for draw in range(3)
    ]
    model = behind(url)
    first, second = model.write(requests), behind(url).write(requests[::-1])[::-1]
    assert [c.text for c in first] == [c.text for c in second]
    assert len({c.text for c in first[:3]}) > 1


@pytest.mark.slow
def test_scores_come_from_the_weights(url: str, local: TransformersModel) -> None:
    [question] = questions(1)
    pairs = [(question, "<think>\nThere are 5.\n</think>\n5"), (question, "")]
    scored = behind(url, weights=TEACHER, score="weights")
    assert isinstance(scored, Trainable)
    for there, here in zip(scored.likelihood(pairs), local.likelihood(pairs), strict=True):
        assert there == pytest.approx(here, abs=1e-4)
    with pytest.raises(ModelError, match="score=weights"):
        behind(url, weights=TEACHER, score="prompt_logprobs").likelihood(pairs)


def test_what_it_refuses_stops_with_the_way_out(url: str) -> None:
    request = Request(questions(1)[0], sampling=Sampling(temperature=0, max_new_tokens=4))
    with pytest.raises(ModelError, match="has no model"):
        load(f"openai:nobody/nothing?at=transformers&url={url}").write([request])
    with pytest.raises(ModelError, match="does not take the request"):
        behind(url, **{"extra.nonsense": 1}).write([request])
    with pytest.raises(ModelError, match="/v1"):
        load(f"openai:{TEACHER}?at=transformers&url={url.removesuffix('/v1')}").write([request])
    [done] = behind(url).write([request])  # and it still answers
    assert done.error == "" and done.tokens.completion == 4


@pytest.fixture(scope="module")
def both() -> Iterator[str]:
    """A server for any checkpoint that a call names: teacher and student."""
    with real_server() as served:
        yield served


@pytest.mark.long
@pytest.mark.parametrize("method", ["orion", "rft"])
def test_the_main_job_runs_whole_behind_servers(
    method: str, both: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    student = f"openai:{STUDENT}?at=transformers&url={both}&weights={STUDENT}"
    roles = (
        ["--teacher", f"openai:{TEACHER}?at=transformers&url={both}"] if method == "orion" else []
    )
    data = ["--problems", "world:story?size=16", "--evaluate", "world:story?split=test&size=8"]
    few = [
        "--set",
        "n=2",
        "--set",
        "training.max_steps=5",
        "--threads",
        "1",
        "--quiet",
        "--out",
        str(folder),
    ]
    began = time.perf_counter()
    assert main(["run", method, *data, *roles, "--student", student, *few]) == 0, (
        capsys.readouterr()
    )
    took = time.perf_counter() - began
    rows = [
        json.loads(line) for line in (folder / "rows" / f"{method}.jsonl").read_text().splitlines()
    ]
    results = json.loads((folder / "results.json").read_text())
    with capsys.disabled():
        print(f"\n{method} behind transformers serve: {len(rows)} rows, {took:.1f} s")
    assert rows
    assert results["training"][method]["steps"] == 5
    for arm in ("untrained", method):
        assert results["measures"][arm]["problems"] == 8
