"""Text and tokens of completions round-trip on every kind of tokenizer, whole and in pieces."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tokenizers import AddedToken, Tokenizer, decoders, processors
from tokenizers_made import byte_level, llama_like, marks
from transformers import PreTrainedTokenizerFast

from potstill.models.local.text_codec import TextCodec

TEMPLATE = (
    "{% for m in messages %}{{ '<s>user ' if m.role == 'user' else '<s>model ' }}{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>model {% endif %}"
)
SPECIAL = ("<unk>", "<s>", "</s>", "<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>")
ANSWERS = (
    "The answer is 42.",
    " The answer is 42.",
    "  two blanks, then\n\n\ta tab",
    "\nTherefore 3 × 4 = 12",
    "\\boxed{42}",
    "7",
    "<think>x = 7</think>The answer",
    "<think>\nx = 7\n</think>\n\n The answer <tool_call>x</tool_call>",
    "数学の問題 🙂",
)


def sentencepiece_like() -> Tokenizer:
    """Unigram pieces over "▁", with bytes to fall back on."""
    raw = marks()
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return raw


def tokenizer_of(raw: Tokenizer) -> Any:
    raw.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(
    scope="module",
    params=[lambda: byte_level(350), sentencepiece_like, llama_like],
    ids=["byte-level", "sentencepiece", "llama"],
)
def codec(request: pytest.FixtureRequest) -> TextCodec:
    return TextCodec(tokenizer_of(request.param()))


def test_a_lone_surrogate_is_encoded_and_not_given_back(codec: TextCodec) -> None:
    # A server's JSON may hold one; the tokenizer itself ends in a TypeError.
    text = "a \ud800 b"
    assert not codec.restores(text, codec.encode(text))
    assert codec.encode_with_offsets(text).ids and codec.encode_document(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_tokens_give_the_text_back_and_the_text_its_tokens(codec: TextCodec, text: str) -> None:
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert codec.encode(codec.decode(ids)) == ids
    assert codec.encode_all([text, "other"])[0] == ids


@pytest.mark.parametrize("text", ANSWERS)
def test_pieces_that_were_cut_anywhere_are_the_text(codec: TextCodec, text: str) -> None:
    for cut in range(len(text) + 1):
        pieces = [text[:cut], text[cut:]]
        ids = [codec.encode(piece) for piece in pieces]
        assert [codec.decode(piece_ids) for piece_ids in ids] == pieces
        assert codec.decode(ids[0] + ids[1]) == text


@pytest.mark.parametrize("text", ANSWERS)
def test_tokens_know_their_places(codec: TextCodec, text: str) -> None:
    ids, offsets = codec.encode_with_offsets(text)
    assert ids == codec.encode(text)
    covered = {place for start, stop in offsets for place in range(start, stop)}
    assert covered >= {place for place in range(len(text)) if text[place] != " "}
    assert max(stop for _, stop in offsets) == len(text)


def test_marks_with_a_meaning_are_text_and_others_are_none(codec: TextCodec) -> None:
    text = "<think>7</think>[THINK]x[/THINK]<tool_call>42"
    end, begin = codec.tokenizer.eos_token_id, codec.tokenizer.bos_token_id
    assert codec.decode_answer([begin, *codec.encode(text), end]) == text
    assert codec.special_tokens.control == {"<unk>", "<s>", "</s>"}


def test_a_document_keeps_what_stands_before_it_only(codec: TextCodec) -> None:
    tokenizer, ids = codec.tokenizer, codec.tokenizer.encode("The answer")
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    roles = [(text, tokenizer.convert_tokens_to_ids(text)) for text in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=roles)
    try:
        assert codec.encode_document("The answer") == [tokenizer.bos_token_id, *ids]
    finally:
        backend.post_processor = before
