"""A text of another author is learnt as the template would write it: behind the blank before an answer."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer
from tokenizers import AddedToken
from tokenizers_made import llama_like
from transformers import PreTrainedTokenizerFast

from potstill.models.local.text_codec import begin_answer
from potstill.records import Problem, Span, Trace, learnt_stretches
from potstill.training.dataset.answer_blank import begin_answers
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import check_rows, tokenize_traces

LLAMA_2 = (
    "{% for m in messages %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' if m.role == 'user' "
    "else ' ' + m.content + ' ' + eos_token }}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer_of(chat_template: str):
    raw = llama_like()
    special = [AddedToken(text, special=True, normalized=False) for text in ("<s>", "</s>")]
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_template
    return tokenizer


def answer(text: str, **fields) -> Trace:
    return Trace(Problem("p", "1+1?"), "1+1?", text=text, finish_reason="stop", **fields)


def test_the_blank_is_what_the_template_writes_between_prompt_and_answer():
    assert read_chat_template(tokenizer_of(LLAMA_2)).answer_blank == " "
    assert read_chat_template(tokenizer_of(ZEPHYR)).answer_blank == "\n"
    assert read_chat_template(tokenizer_of(CHATML)).answer_blank == ""
    assert read_chat_template(tiny_tokenizer()).answer_blank == ""


@pytest.mark.parametrize("text", ["The answer is 42.", "42", "\\boxed{7}"])
def test_the_row_has_the_tokens_of_the_whole_conversation(text):
    tokenizer = tokenizer_of(LLAMA_2)
    template = read_chat_template(tokenizer)
    traces = begin_answers([answer(text)], template.answer_blank)
    tokenized = tokenize_traces(traces, template, max_length=1000)
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False).removesuffix(" </s>") + "</s>"
    assert tokenized.rows[0].input_ids.tolist() == tokenizer.encode(whole, add_special_tokens=False)
    check_rows(traces, tokenized, template, max_length=1000)


def test_what_brings_its_own_white_space_stays_as_it_is():
    for text in (" 42", "\n42", "", "<think>so</think>42"):
        assert begin_answer(text, " ") == text
    traces = [answer("42")]
    assert begin_answers(traces, "") is traces


def test_spans_and_rivals_move_with_the_text():
    spans = (Span(0, 3, "written", author="m"), Span(4, 6, "tool"))
    [moved] = begin_answers(
        [answer("so 4 42", prefix_length=4, spans=spans, rejected=answer("41"))], "\n\n"
    )
    assert moved.text == "\n\nso 4 42" and moved.prefix_length == 6
    assert [(span.start, span.stop) for span in moved.spans] == [(0, 5), (6, 8)]
    assert [moved.text[start:stop] for start, stop in learnt_stretches(moved)] == ["\n\nso ", "2"]
    assert moved.rejected is not None and moved.rejected.text == "\n\n41"
