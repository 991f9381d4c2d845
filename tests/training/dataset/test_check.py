"""The guard finds what a careless rendering would have done; each bad row here is what some renderer really makes."""

import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.errors import StageError
from potstill.records import Problem, Span, Trace
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import Tokenized, check_rows, tokenize_traces
from potstill.training.dataset.training_dataset import TokenizedRow, TokenizedRows

THINKING = "<think>\nNed had 19.\n</think>\n\nSo \\boxed{5}."


@pytest.fixture(scope="module")
def facts():
    return read_chat_template(tiny_tokenizer())


def trace(text=THINKING, finish_reason="stop", **fields):
    return Trace(
        Problem("p", "How many?"), "How many?", text=text, finish_reason=finish_reason, **fields
    )


def by_hand(facts, completion, *, learnt=True, end=True):
    prompt = facts.tokenizer(facts.render_prompt("How many?"))["input_ids"]
    text = facts.tokenizer(completion)["input_ids"]
    tail = [facts.end_token_id] if end else []
    row = TokenizedRow.of(
        0,
        (*prompt, *text, *tail),
        (0.0,) * len(prompt) + (float(learnt),) * (len(text) + len(tail)),
        len(prompt),
    )
    return tokenized(row)


def tokenized(*rows):
    return Tokenized(TokenizedRows.from_rows(rows), ())


def complaint(trace_, rendering, facts):
    with pytest.raises(StageError) as error:
        check_rows([trace_], rendering, facts, max_length=1000)
    assert error.value.expected and error.value.fix
    return error.value.found


def test_good_rows_pass(facts):
    rows = [
        trace(),
        trace("19 - 14 = 5.", "length"),
        trace("19 - 14 = 5. So 5.", prefix_length=12),
        trace("a >> 4\nb c", spans=(Span(2, 7, "tool"), Span(8, 10, "step", 0.0))),
        trace("x", spans=(Span(0, 1, "step", 0.5),)),
    ]
    rendering = tokenize_traces(rows, facts, max_length=1000)
    assert len(rendering.rows) == 5
    check_rows(rows, rendering, facts, max_length=1000)


def test_reasoning_that_a_template_cut_out(facts):
    found = complaint(trace(), by_hand(facts, "So \\boxed{5}."), facts)
    assert "vanished" in found and "1 of 1 rows" in found


def test_reasoning_in_two_think_blocks(facts):
    assert "doubled" in complaint(
        trace(), by_hand(facts, "<think>\n\n</think>\n\n" + THINKING), facts
    )
    assert "doubled" in complaint(trace("So 5."), by_hand(facts, "So 5.So 5."), facts)


def test_reasoning_outside_the_loss(facts):
    rendering = by_hand(facts, THINKING)
    row = rendering.rows[0]
    answer = len(facts.tokenizer("So \\boxed{5}.")["input_ids"]) + 1
    weights = [0.0] * (len(row) - answer) + [1.0] * answer
    masked = TokenizedRow.of(0, row.input_ids, weights, row.prompt_length)
    assert "does not cover" in complaint(trace(), tokenized(masked), facts)


def test_loss_on_the_given_part_or_a_tool(facts):
    assert "covers more" in complaint(
        trace("19. So 5.", prefix_length=3), by_hand(facts, "19. So 5."), facts
    )
    tool = trace("19. So 5.", spans=(Span(0, 3, "tool"),))
    assert "covers more" in complaint(tool, by_hand(facts, "19. So 5."), facts)


def test_an_end_of_turn_where_the_author_was_cut_off(facts):
    assert "end of turn" in complaint(
        trace(finish_reason="length"), by_hand(facts, THINKING), facts
    )
    assert "end of turn" in complaint(trace(), by_hand(facts, THINKING, end=False), facts)


def test_answers_cut_off_by_the_limit(facts):
    rows = [trace(), trace(THINKING * 50), trace(THINKING * 60)]
    rendering = tokenize_traces(rows, facts, max_length=200)
    with pytest.raises(StageError) as error:
        check_rows(rows, rendering, facts, max_length=200)
    assert (
        error.value.found
        == "2 of 3 rows longer than max_length=200: their answers would be cut off"
    )
    assert "max_dropped_share=0.67" in error.value.fix
    check_rows(rows, rendering, facts, max_length=200, max_dropped_share=0.67)


def test_nothing_to_learn(facts):
    rows = [trace(weight=0.0), trace(error="timeout", text="")]
    with pytest.raises(StageError, match="none of 2 rows") as error:
        check_rows(rows, tokenize_traces(rows, facts, max_length=1000), facts, max_length=1000)
    assert "1: failed generation; 1: nothing to learn" in error.value.found
    with pytest.raises(StageError, match="the stage is empty"):
        check_rows([], tokenized(), facts, max_length=1000)
