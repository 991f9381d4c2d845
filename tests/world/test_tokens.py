"""The world's tokenizer: nothing is lost in it, a digit is one token, chats look as in the build."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")

from hypothesis import given
from hypothesis import strategies as st

from potstill.world import lessons
from potstill.world import tokenizer as tokens
from potstill.world.families import FAMILIES

STORIES = FAMILIES["story"]


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.make_tokenizer(lessons.corpus(STORIES, 30, 1))


@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(st.sampled_from("012 9\n\t<|im_end|>think/boxed{}\\Ａé中 \u00a0٣")))
def test_control_words_digits_and_white_space_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(seed=st.integers(0, 2**32))
def test_world_texts_come_back_and_are_short(tokenizer, seed):
    rng = Random(seed)
    question, task = STORIES.draw(rng)
    for text in (question, STORIES.brief_solution(task), STORIES.long_solution(task, rng)):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        digits = sum(c.isdigit() for c in text)
        assert len(ids) <= digits + (len(text) - digits) / 1.4


@pytest.mark.parametrize("number", ["7", "42", "1234567890"])
def test_a_digit_is_one_token_with_its_space(tokenizer, number):
    assert len(tokenizer.encode(number)) == len(number)
    assert len(tokenizer.encode(f"= {number}")) == 1 + len(number)
    assert tokenizer.tokenize(f" {number}")[0] == f"Ġ{number[0]}"


def test_control_tokens_and_marks_are_one_token_each(tokenizer):
    for word in (*tokens.CONTROL, *tokens.MARKS):
        assert len(tokenizer.encode(word)) == 1, word
        assert tokenizer.decode(tokenizer.encode(f"a{word}b")) == f"a{word}b"
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|im_end|>",
        "<|endoftext|>",
        None,
    )
    assert len(tokenizer) <= tokens.VOCABULARY
    assert len({tokenizer.convert_tokens_to_ids(word) for word in tokens.CONTROL}) == 3


def test_reasoning_marks_survive_decoding_without_control_tokens(tokenizer):
    text = "<think>\n1 + 1 = 2.\n</think>\nThe answer is \\boxed{2}."
    assert tokenizer.decode(tokenizer.encode(text + "<|im_end|>"), skip_special_tokens=True) == text


def test_the_chat_template_is_what_the_build_trains_on(tokenizer):
    from potstill.world.learn import encode_row

    row = lessons.Row("Ned has 2 pens.", "2 + 1 = 3.")
    ids, counted = encode_row(tokenizer, row)
    begin = counted.index(True)
    asked = [{"role": "user", "content": row[0]}]
    head = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert (
        tokenizer.decode(ids[:begin])
        == head
        == "<|im_start|>user\nNed has 2 pens.<|im_end|>\n<|im_start|>assistant\n"
    )
    whole = tokenizer.apply_chat_template(
        [*asked, {"role": "assistant", "content": row[1]}], tokenize=False
    )
    assert whole == tokenizer.decode(ids) + "\n"


def test_the_generation_marks_cover_the_answer_and_its_end(tokenizer):
    chat = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    made = tokenizer.apply_chat_template(
        chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    counted = [
        i for i, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask
    ]
    assert tokenizer.decode(counted) == "2.<|im_end|>"


def test_the_same_texts_make_the_same_tokenizer(tokenizer):
    again = tokens.make_tokenizer(lessons.corpus(STORIES, 30, 1))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.encode("12 shells") == tokenizer.encode("12 shells")
