"""What a call may ask: every field is read, refused with OpenAI's error, or known to change nothing."""

from __future__ import annotations

import pytest

from potstill.models.model import Sampling
from potstill.records import Message
from potstill.serving.api_error import ApiError
from potstill.serving.call import CallLimits, ChatPrompt, TextPrompt, read_call
from potstill.serving.fields import parse_body

LIMITS = CallLimits(max_logprobs=20, max_rows=8, vocabulary=100)


def plain(**fields: object):
    return read_call({"prompt": "Add 3.", **fields}, LIMITS, is_chat=False)


def test_what_is_left_out_changes_nothing() -> None:
    call = plain(min_p=0, logit_bias={}, frequency_penalty=0.0, user="me", seed=None)
    assert call.prompts == [TextPrompt("Add 3.")]
    assert (call.sampling, call.n, call.max_new_tokens) == (Sampling(), 1, 16)
    assert call.top_logprobs is None and call.prompt_logprobs is None


def test_prompts_are_texts_or_token_ids() -> None:
    assert plain(prompt=["a", "b"], add_special_tokens=False).prompts == [
        TextPrompt("a", False),
        TextPrompt("b", False),
    ]
    assert plain(prompt=[5, 6]).prompts == [(5, 6)]
    assert plain(prompt=[[5, 6], [7]]).prompts == [(5, 6), (7,)]


def test_an_answer_that_has_begun_is_continued() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So"}]
    body = {"messages": turns, "continue_final_message": True, "add_generation_prompt": False}
    call = read_call(body, LIMITS, is_chat=True)
    assert call.prompts == [ChatPrompt((Message("user", "Hi"),), prefix="So")]
    assert call.max_new_tokens is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"best_off": 2}, "best_off"),
        ({"temperature": 1e-9}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"prompt": [100]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"prompt": ["a", "b", "c"], "n": 3}, "n"),
        ({"stream": True, "prompt_logprobs": 1}, "stream"),
    ],
)
def test_a_mistake_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as error:
        plain(**fields)
    assert error.value.to_json()["error"]["param"] == param and error.value.status == 400


@pytest.mark.parametrize(
    "data", [b"[" * 10**5, b'{"a":' * 90 + b"1" + b"}" * 90, b'{"prompt":NaN}', b"\xff", b"[]"]
)
def test_a_hostile_body_is_no_json(data: bytes) -> None:
    with pytest.raises(ApiError) as error:
        parse_body(data)
    assert error.value.code == "invalid_json"
