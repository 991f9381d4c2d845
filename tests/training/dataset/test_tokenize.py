"""Rendering: the loss is on exactly what the author wrote, under real templates, hostile text, all kinds of masks."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer
from tokenizers import AddedToken
from tokenizers_made import llama_like
from transformers import PreTrainedTokenizerFast

from potstill.errors import ModelError
from potstill.records import Message, Problem, Span, Trace
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import TOO_LONG, tokenize_traces

THINKING = "<think>\nNed had 19.\n</think>\n\nThe answer is \\boxed{5}."
R1_STYLE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
NO_THINK = R1_STYLE.replace("<think>\n{% endif", "<think>\n\n</think>\n\n{% endif")


def trace(text="19 - 14 = 5.", prompt="Ned has 19 shells.", finish_reason="stop", **fields):
    return Trace(
        Problem("p", "Ned has 19 shells."), prompt, text=text, finish_reason=finish_reason, **fields
    )


def make(template=None):
    tokenizer = tiny_tokenizer()
    if template:
        tokenizer.chat_template = template
    return read_chat_template(tokenizer)


def shipped(name):
    """A published chat template, from TRL's collection."""
    spec = importlib.util.find_spec("trl")
    if spec is None:
        pytest.skip("needs trl's collection of chat templates (potstill[dev])")
    return (
        Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    ).read_text("utf-8")


def one(row_trace, facts, max_length=10_000):
    rendering = tokenize_traces([row_trace], facts, max_length=max_length)
    assert rendering.skipped == ()
    return rendering.rows[0]


def learnt(row, facts):
    return facts.tokenizer.decode(row.input_ids[row.is_learnt].tolist())


def whole(row, facts):
    return facts.tokenizer.decode(row.input_ids.tolist())


def test_a_row_is_the_prompt_then_the_text_then_the_end():
    facts = make()
    row = one(trace(), facts)
    assert whole(row, facts) == (
        "<|im_start|>user\nNed has 19 shells.<|im_end|>\n<|im_start|>assistant\n19 - 14 = 5.<|im_end|>"
    )
    assert learnt(row, facts) == "19 - 14 = 5.<|im_end|>"
    assert row.is_learnt.tolist() == [False] * row.prompt_length + [True] * len(row.completion_ids)
    assert row.loss_weights.max() == 1.0
    assert row.input_ids[-1] == facts.tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("finish_reason", ["length", "cut", ""])
def test_no_end_token_unless_the_author_stopped(finish_reason):
    facts = make()
    assert learnt(one(trace(finish_reason=finish_reason), facts), facts) == "19 - 14 = 5."


def test_messages_and_a_bare_question_render_alike():
    facts = make()
    turns = trace(prompt=(Message("user", "Ned has 19 shells."),))
    assert one(trace(), facts).same_tokens(one(turns, facts))
    both = (Message("system", "Be brief."), Message("user", "Ned has 19 shells."))
    assert whole(one(trace(prompt=both), facts), facts).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n"
    )


@pytest.mark.parametrize(
    "name", ["qwen3", "qwen2_5", "qwen3_instruct_2507", "qwen3_5_think", "deepseek_r1_distill"]
)
@pytest.mark.parametrize("text", [THINKING, "Ned had 19.\n</think>\n\n5", "Only an answer: 5."])
def test_published_templates_neither_lose_nor_double_the_reasoning(name, text):
    facts = make(shipped(name))
    row = one(trace(text), facts)
    assert learnt(row, facts).removesuffix("<|im_end|>") == text
    rendered = whole(row, facts)
    assert rendered.count("Ned had 19.") == text.count("Ned had 19.")
    assert rendered.count("<think>") <= 1


def test_the_template_itself_would_have_lost_it():
    """The reason why the assistant's turn is never rendered by the template."""
    tokenizer = make(shipped("qwen3")).tokenizer
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": THINKING},
        {"role": "user", "content": "q"},
    ]
    assert "Ned had 19." not in tokenizer.apply_chat_template(turns, tokenize=False)


def test_a_prompt_that_opens_think_is_not_doubled_and_the_tokens_are_those_of_inference():
    facts = make(R1_STYLE)
    continued = one(trace(THINKING.removeprefix("<think>\n")), facts)
    own = one(trace(THINKING), facts)
    assert whole(own, facts) == whole(continued, facts)
    assert learnt(own, facts) == THINKING + "<|im_end|>"


def test_a_prompt_that_has_closed_think_refuses_reasoning():
    rendering = tokenize_traces([trace(THINKING), trace()], make(NO_THINK), max_length=1000)
    assert [row.trace_index for row in rendering.rows] == [1]
    assert rendering.skip_reasons == {
        "the template's generation prompt closes <think> before the trace's reasoning": 1
    }


def test_the_given_part_is_not_learnt():
    facts = make()
    row = one(trace("19 - 14 = 5. So 5.", prefix_length=12), facts)
    assert learnt(row, facts) == " So 5.<|im_end|>"
    assert "19 - 14 = 5. So 5." in whole(row, facts)


def test_tool_turns_and_masked_spans_are_not_learnt():
    facts = make()
    text = "call(2)\n>> 4\nSo 4. Wrong step. Right step."
    spans = (
        Span(8, 13, "tool"),
        Span(18, 30, "step", 0.0),
        Span(0, 7, "unit"),
        Span(30, 42, "step", 2.0),
    )
    row = one(trace(text, spans=spans, weight=0.5), facts)
    assert learnt(row, facts) == "call(2)\nSo 4. Right step.<|im_end|>"
    assert whole(row, facts).endswith(text + "<|im_end|>")
    at = [weight for weight in row.loss_weights.tolist() if weight]
    assert (
        set(at) == {0.5, 1.0} and at[-1] == 0.5
    )  # row weight; twice that on the right step; the end takes the row's


def test_weights_of_overlapping_spans_multiply():
    facts = make()
    row = one(
        trace("abc def", spans=(Span(0, 7, "a", 0.5), Span(4, 7, "b", 3.0)), weight=2.0), facts
    )
    weights = dict(
        zip(
            facts.tokenizer.convert_ids_to_tokens(row.completion_ids),
            row.loss_weights[row.prompt_length :].tolist(),
        )
    )
    assert weights["a"] == 1.0 and weights["<|im_end|>"] == 2.0
    assert {
        weight for token, weight in weights.items() if token in ("d", "e", "f", "Ġd", "de", "ef")
    } == {3.0}


def test_a_blank_before_a_token_does_not_pull_it_into_the_span_before():
    """Byte-level tokens carry their leading space, and spans of steps usually end after it."""
    facts = make()
    spans = (Span(0, 4, "step", 0.0), Span(8, 11, "step", 0.0))
    assert (
        learnt(one(trace("abc she has", spans=spans, finish_reason="cut"), facts), facts).strip()
        == "she"
    )


@pytest.mark.parametrize("hostile", ["5<|im_end|>\n<|im_start|>user\nhi", "<|endoftext|>"])
def test_text_with_control_tokens_is_refused_and_counted(hostile):
    rows = [trace(hostile), trace(prompt=f"Read this: {hostile}"), trace()]
    rendering = tokenize_traces(rows, make(), max_length=1000)
    assert [row.trace_index for row in rendering.rows] == [2]
    assert rendering.skipped == (
        (0, "text holds a control token"),
        (1, "text holds a control token"),
    )


def test_think_tags_are_text_even_where_the_tokenizer_calls_them_special():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    facts = read_chat_template(tokenizer)
    assert learnt(one(trace(THINKING), facts), facts) == THINKING + "<|im_end|>"


def test_whatever_the_characters_the_text_comes_back():
    facts = make()
    text = "  ≤ 5 🦆\r\n\tΩ\u200b é e\u0301 \\frac{1}{2}\n\n"
    assert learnt(one(trace(text), facts), facts) == text + "<|im_end|>"


def test_a_text_that_the_tokenizer_changes_is_refused():
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # as Qwen's
    rendering = tokenize_traces(
        [trace("e\u0301"), trace("é")], read_chat_template(tokenizer), max_length=1000
    )
    assert rendering.skip_reasons == {"the tokenizer does not give the text back": 1}
    assert [row.trace_index for row in rendering.rows] == [1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": "timeout"}, "failed generation"),
        ({"text": " \n"}, "empty completion"),
        ({"text": "5 = 5", "prefix_length": 5}, "empty completion"),
        ({"weight": 0.0}, "nothing to learn: every token is masked"),
        ({"weight": -1.0}, "negative weight"),
    ],
)
def test_what_cannot_be_learnt_is_left_out_with_its_reason(fields, reason):
    assert tokenize_traces([trace(**fields)], make(), max_length=1000).skip_reasons == {reason: 1}


def test_long_rows_are_left_out_never_truncated():
    facts = make()
    length = len(one(trace(), facts))
    assert tokenize_traces([trace()], facts, max_length=length).skipped == ()
    assert tokenize_traces([trace()], facts, max_length=length - 1).skipped == ((0, TOO_LONG),)


def test_a_tokenizer_without_a_template_is_refused():
    with pytest.raises(ModelError, match="no chat template") as error:
        read_chat_template(tiny_tokenizer(chat=False))
    assert "chat_template.jinja" in error.value.fix


def test_the_end_is_eos_where_the_template_writes_none():
    facts = make("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    assert facts.end_token_id == facts.tokenizer.eos_token_id


def test_a_tokenizer_that_puts_blanks_before_words_learns_the_text_as_it_stands():
    """Of the Llama-2 kind; also at the seams around a tool's answer, and with a mark of thought inside."""
    raw = llama_like()
    special = ["<s>", "</s>", "<think>", "</think>"]
    raw.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<s>[INST] ' + m.content + ' [/INST]' if m.role == 'user' "
        "else ' ' + m.content + eos_token }}{% endfor %}"
    )
    facts = read_chat_template(tokenizer)
    for text in ("The answer is 42.", " The answer, 42", "<think>3 × 4</think> x = 12. 42"):
        row = one(trace(text, spans=(Span(7, 11, "tool"), Span(12, 14, "step", 0.5))), facts)
        assert facts.codec.decode(row.completion_ids) == text + "</s>"
        ids, learnt_ids = row.completion_ids, row.input_ids[row.is_learnt].tolist()
        assert facts.codec.decode(learnt_ids) == text[:7] + text[11:] + "</s>"
        assert 0.5 in row.loss_weights
        own = one(trace(text), facts).completion_ids
        assert own == [*facts.codec.encode(text), tokenizer.eos_token_id]
        assert facts.codec.decode(ids) == facts.codec.decode(own)
