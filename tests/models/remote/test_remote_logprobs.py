"""Likelihoods from a server equal those of the checkpoint: all three ways, with a server whose numbers are real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from openai_server import Reply, serving

from potstill.errors import ModelError
from potstill.models import load
from potstill.models.local.logprobs import completion_logprobs
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Scored
from potstill.models.scoring import Passage
from potstill.records import Message

Q = "Ned has 19 shells and sells 14. How many are left?"
PAIRS = [
    (Q, "He has 19 - 14 = 5 shells left."),
    (Q, "No."),
    ("Why is it so?", "Wait, that is wrong; 42."),
    (Q, ""),
]
TURNS = ((Message("system", "Be short."), Message("user", Q)), "The answer is 4.")


class Numbers:
    """Puts a checkpoint's log-probabilities into answers, in the forms that vLLM's documentation gives."""

    def __init__(self, local: TransformersModel) -> None:
        self.local = local

    def __call__(
        self, body: dict[str, Any], chat: bool, crowded: bool
    ) -> tuple[float, Reply, list[Any]]:
        ids = self.ids(body, chat)
        [values] = completion_logprobs(self.local.model, [(ids, 1)])
        pieces = [self.local.encoder.tokenizer.decode([token]) for token in ids]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice |= {"message": {"role": "assistant", "content": "x"}} if chat else {"text": "x"}
        answer = {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}
        if body.get("echo"):
            starts = [sum(map(len, pieces[:at])) for at in range(len(ids))]
            choice["logprobs"] = {
                "tokens": pieces,
                "token_logprobs": [None, *values],
                "text_offset": starts,
            }
        elif body.get("prompt_logprobs") is not None:
            entries = [
                {str(t): {"logprob": v, "rank": 3, "decoded_token": piece}}
                for t, v, piece in zip(ids[1:], values, pieces[1:], strict=True)
            ]
            (answer if chat else choice)["prompt_logprobs"] = [None, *entries]
        return 0.0, Reply(200, json.dumps(answer).encode()), []

    def ids(self, body: dict[str, Any], chat: bool) -> list[int]:
        """The prompt of a body as the checkpoint reads it."""
        encoder = self.local.encoder
        if not chat:
            shown = body["prompt"]
            return (
                list(encoder.tokenizer.encode(shown, add_special_tokens=False))
                if isinstance(shown, str)
                else shown
            )
        turns = [Message(turn["role"], turn["content"]) for turn in body["messages"]]
        if not body.get("continue_final_message"):
            return encoder.encode_prompt(tuple(turns))
        return encoder.encode_completion(tuple(turns[:-1]), turns[-1].content)[0]


@pytest.fixture(scope="module")
def local(tiny_checkpoint: Path) -> TransformersModel:
    return TransformersModel(tiny_checkpoint, device="cpu")


@pytest.fixture
def url(local: TransformersModel) -> Iterator[str]:
    with serving() as server:
        server.completion = Numbers(local)  # type: ignore[method-assign]
        yield server.url


WAYS = {
    "prompt_logprobs of a chat": "at=vllm&score=prompt_logprobs",
    "prompt_logprobs of token ids": "at=vllm&score=prompt_logprobs&weights={0}",
    "echo of a rendered prompt": "score=echo&mode=template&weights={0}",
    "the weights": "score=weights&weights={0}",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_numbers_are_those_of_the_checkpoint(
    way: str, url: str, local: TransformersModel, tiny_checkpoint: Path
) -> None:
    model = load(f"openai:m?{WAYS[way].format(tiny_checkpoint)}&url={url}")
    assert isinstance(model, Scored)
    pairs = [*PAIRS, TURNS]
    for (_, text), there, here in zip(
        pairs, model.likelihood(pairs), local.likelihood(pairs), strict=True
    ):
        assert there == pytest.approx(here, abs=1e-4), text
    assert model.likelihood([]) == []


PASSAGES = [
    Passage(Q, "He has 5 left.", prefix="<think>19 - 14 = 5</think>\n\n"),
    Passage(Q, "4 = 5 shells.", prefix="He has 19 - 1"),
]


@pytest.mark.parametrize("way", WAYS)
def test_behind_a_prefix_the_numbers_are_those_of_the_checkpoint_too(
    way: str, url: str, local: TransformersModel, tiny_checkpoint: Path
) -> None:
    model = load(f"openai:m?{WAYS[way].format(tiny_checkpoint)}&url={url}")
    assert isinstance(model, Scored)
    values = local.likelihood(PASSAGES)
    for there, here in zip(model.likelihood(PASSAGES), values, strict=True):
        assert there == pytest.approx(here, abs=1e-4)


def test_where_nobody_knows_where_the_text_begins_nothing_is_guessed(url: str) -> None:
    model = load(f"openai:m?at=vllm&score=prompt_logprobs&url={url}")
    assert isinstance(model, Scored)
    with pytest.raises(ModelError, match="do not say where the scored text begins"):
        model.likelihood([Passage(Q, "five", prefix="Ähm 😀 ")])


def test_plain_text_is_scored_without_a_template(url: str, tiny_checkpoint: Path) -> None:
    plain = TransformersModel(tiny_checkpoint, device="cpu", chat="plain")
    for way in ("prompt_logprobs", "echo"):
        model = load(f"openai:m?mode=text&score={way}&url={url}")
        assert isinstance(model, Scored)
        for there, here in zip(
            model.likelihood(PAIRS[:3]), plain.likelihood(PAIRS[:3]), strict=True
        ):
            assert there == pytest.approx(here, abs=1e-4), way


def test_the_comparison_can_fail(url: str, local: TransformersModel) -> None:
    model = load(f"openai:m?at=vllm&score=prompt_logprobs&url={url}")
    assert isinstance(model, Scored)
    [there], [here] = model.likelihood([(Q, "Seven.")]), local.likelihood([(Q, "Eight.")])
    assert there != pytest.approx(here, abs=1e-2)


def test_a_server_that_cannot_score_says_who_can(tiny_checkpoint: Path) -> None:
    with serving(scoring="none") as server:
        for way in ("prompt_logprobs", "echo&mode=text"):
            model = load(f"openai:m?score={way}&url={server.url}")
            assert isinstance(model, Scored)
            with pytest.raises(ModelError, match="transformers:PATH"):
                model.likelihood([(Q, "5")])
        assert not isinstance(load(f"openai:m?url={server.url}"), Scored)
