"""`potstill check teacher` against `potstill serve`: the loss of the weights, and a server of others is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
from serving_thread import serving
from tiny import tiny_checkpoint as make_checkpoint

pytestmark = pytest.mark.slow  # a server, and two models


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("teacher"), seed=7)


@pytest.fixture(scope="module")
def url(teacher: Path) -> Iterator[str]:
    with serving(teacher, max_logprobs=1024) as running:
        yield running.url


@pytest.fixture
def words(url: str, tiny_checkpoint: Path, tmp_path: Path) -> list[str]:
    rows = []
    for number in range(12):
        completion = f"So {number} and 4 are {number + 4}."
        rows.append(json.dumps({"prompt": f"Add {number} and 4.", "completion": completion}))
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows))
    served = f"openai:tiny?url={url}&score=prompt_logprobs"
    words = ["check", "teacher", "--teacher", served, "--student", str(tiny_checkpoint)]
    return [*words, "--rows", str(file), "--threads", "1", "--quiet"]


@pytest.mark.parametrize("preset", ["", "at=potstill&"])
def test_the_served_loss_is_the_local_one(potstill, words, teacher, preset, tmp_path) -> None:
    words[3] = words[3].replace("url=", f"{preset}url=")
    words += ["--local", str(teacher), "--out", str(tmp_path / "answers"), "--json"]
    covered = potstill(*words, "--loss-top-k", "1000").json
    assert covered["rows"] == 12 and covered["k"] == covered["vocabulary"]
    for loss in covered["losses"]:
        assert loss["served"] == pytest.approx(loss["local"], abs=1e-4)
    cut = potstill(*words, "--loss-top-k", "8").json
    for loss in cut["losses"]:
        assert loss["served"] == pytest.approx(loss["local_top_k"], abs=1e-4)
        assert loss["served"] <= loss["local"] + 1e-5
    # What was answered is not asked again.
    assert potstill(*words, "--loss-top-k", "8").json == cut


def test_a_server_of_other_weights_is_told(potstill, words, tiny_checkpoint) -> None:
    result = potstill(*words, "--local", str(tiny_checkpoint))
    assert result.code and "served and local teacher differ by" in result.err


def test_a_k_that_the_server_does_not_give_is_told(potstill, words) -> None:
    result = potstill(*words, "--loss-top-k", "2000")
    assert result.code and "prompt_logprobs" in result.err
