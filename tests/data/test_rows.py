"""Rows become traces: reasoning, ends, labels, prompts and pairs as the file has them, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from potstill.cli.rows import read_rows
from potstill.data import files
from potstill.data.columns import ColumnChooser
from potstill.data.layouts import RowContent, read_row
from potstill.data.rows import RowTraces, judge_traces, read_traces
from potstill.errors import InputError
from potstill.records import FINISH_REASON_KEYS, REASONING_KEYS, Message, Trace

Reader = Callable[..., RowTraces]
QUESTION = "Add 3 and 4."
USER = {"role": "user", "content": QUESTION}
THOUGHT = "3 and 4 is 7."
FULL = f"<think>\n{THOUGHT}\n</think>\n\n7"


@pytest.fixture
def load(tmp_path: Path) -> Reader:
    """Read rows from a file, as import does."""

    def load_rows(*rows: dict[str, Any], **more: Any) -> RowTraces:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_traces(str(file), **more)

    return load_rows


@pytest.fixture
def learn(tmp_path: Path) -> Reader:
    """Read rows from a file, as train does."""

    def learn_rows(*rows: dict[str, Any], **more: Any) -> RowTraces:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_rows(str(file), **more)

    return learn_rows


def content_of(row: dict[str, Any]) -> RowContent:
    return read_row(row, ColumnChooser([row], {}, "answers", "rows").choose(row))


def assistant(text: str = "7", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


# Reasoning


@pytest.mark.parametrize("key", REASONING_KEYS)
@pytest.mark.parametrize(
    "value",
    [
        THOUGHT,
        [THOUGHT],
        [{"type": "thinking", "thinking": THOUGHT}],
        f"<think>\n{THOUGHT}\n</think>",
    ],
)
def test_reasoning_is_read_wherever_it_stands(key: str, value: Any) -> None:
    turn = assistant(**{key: value})
    rows = [
        {"prompt": QUESTION, "completion": "7", key: value},
        {"messages": [USER, turn]},
        {"messages": json.dumps([USER, turn])},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "7", key: value}]},
        {"prompt": [USER], "completion": [turn]},
        {"prompt": QUESTION, "completions": [{"text": "7", key: value}]},
        {"prompt": QUESTION, "chosen": [turn], "rejected": [turn]},
        {"chosen": [USER, turn], "rejected": [USER, turn]},
    ]  # fmt: skip
    for row in rows:
        assert {completion.text for completion in content_of(row).completions} == {FULL}, row


MARKED = f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|><|begin_of_solution|>7<|end_of_solution|>"


@pytest.mark.parametrize("text", [FULL, f"{THOUGHT}\n</think>\n\n7", MARKED])
def test_tags_that_are_there_are_not_doubled(text: str) -> None:
    row = {"prompt": QUESTION, "completion": text, "reasoning_content": THOUGHT}
    [completion] = content_of(row).completions
    assert completion.text.count("</think>") == 1 and completion.text.count(THOUGHT) == 1


def test_thinking_chunks_in_a_content_list() -> None:
    chunks = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "7"}]
    [completion] = content_of({"messages": [USER, assistant(chunks)]}).completions  # type: ignore[arg-type]
    assert completion.text == FULL


def test_two_columns_of_one_thought_are_one_and_of_two_are_refused() -> None:
    row = {"prompt": QUESTION, "completion": "7", "reasoning": THOUGHT}
    [completion] = content_of({**row, "reasoning_content": THOUGHT}).completions
    assert completion.text == FULL
    with pytest.raises(InputError, match="hold different thoughts"):
        content_of({**row, "reasoning_content": "Something else."})


def test_a_thought_beside_several_completions_is_nobodys() -> None:
    for row in (
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "small": {"text": "b"}, "large": {"text": "c"}},
    ):
        with pytest.raises(InputError, match="'reasoning_content' beside"):
            content_of({**row, "reasoning_content": THOUGHT})


def test_a_thought_is_read_beside_a_completion_that_map_names() -> None:
    row = {"prompt": QUESTION, "said": "7", "reasoning_content": THOUGHT}
    columns = ColumnChooser([row], {"completion": "said"}, "answers", "rows").choose(row)
    assert read_row(row, columns).completions[0].text == FULL


# How completions ended


@pytest.mark.parametrize(
    "key", [key for key in FINISH_REASON_KEYS if key != "is_reasoning_complete"]
)
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *(("length", "length"), ("LENGTH", "length"), ("max_tokens", "length"), ("truncated", "length")),
        *(("abort", "length"), ("stop", "stop"), ("end_turn", "stop"), ("content_filter", "content_filter")),
        ("banana", "unknown"),
    ],
)  # fmt: skip
def test_finish_reasons_are_read_under_every_name(key: str, word: str, reason: str) -> None:
    for row in (
        {"prompt": QUESTION, "completion": "7", key: word},
        {"messages": [USER, assistant()], key: [word]},
        {"prompt": QUESTION, "completions": ["7"], key: [word]},
        {"prompt": QUESTION, "completions": [{"text": "7", key: word}]},
    ):
        [completion] = content_of(row).completions
        assert completion.finish_reason == reason


def test_a_column_of_ends_that_says_nothing_in_any_row_is_none() -> None:
    for value in (None, [None], ""):
        row = {"prompt": QUESTION, "completion": "7", "finish_reason": value}
        assert content_of(row).completions[0].finish_reason == "stop"


@pytest.mark.parametrize("value", [False, [False], "False", "false"])
def test_reasoning_that_is_not_complete_was_cut(value: Any) -> None:
    row = {"prompt": QUESTION, "completion": "7", "is_reasoning_complete": value}
    assert content_of(row).completions[0].finish_reason == "length"


def test_of_several_columns_the_worst_counts_but_for_vllms_stop_reason() -> None:
    row = {"prompt": QUESTION, "completion": "7", "finish_reason": "stop"}
    [completion] = content_of({**row, "is_reasoning_complete": False}).completions
    assert completion.finish_reason == "length"
    [completion] = content_of({**row, "stop_reason": 151645}).completions
    assert completion.finish_reason == "stop"


def test_unknown_ends_are_counted_told_and_not_finished(learn: Reader) -> None:
    row = {"prompt": QUESTION, "completion": "7"}
    found = learn(
        {**row, "finish_reason": "banana"},
        {**row, "finish_reason": None},
        {**row, "finish_reason": "stop"},
    )
    assert [trace.finish_reason for trace in found.traces] == ["unknown", "unknown", "stop"]
    assert found.notes == [
        "unknown finish reasons, so these completions count as not finished: 'banana' (1), 'nothing' (1)"
    ]


@pytest.mark.parametrize("word", ["content_filter", "error", "tool_calls"])
def test_what_was_filtered_or_broke_off_is_not_learnt(word: str, learn: Reader) -> None:
    row = {"prompt": QUESTION, "completion": "7"}
    found = learn({**row, "finish_reason": word}, {**row, "finish_reason": "length"})
    assert [trace.finish_reason for trace in found.traces] == ["length"]
    assert found.notes == [f"1 rows are not learnt: they ended with {word}"]


# Labels


@pytest.mark.parametrize("name", ["correct", "is_correct", "label", "score", "reward"])
@pytest.mark.parametrize(
    ("right", "wrong"),
    [(True, False), (1, 0), (1.0, -1.0), ("yes", "no"), ("correct", "incorrect")],
)
def test_labelled_wrong_is_learnt_in_no_layout(
    name: str, right: Any, wrong: Any, learn: Reader
) -> None:
    layouts: list[dict[str, Any]] = [
        {"prompt": QUESTION, "completion": "7"},
        {"messages": [USER, assistant()]},
        {"instruction": QUESTION, "output": "7"},
        {"question": QUESTION, "generations": ["7"]},
    ]
    for layout in layouts:
        lists = "generations" in layout
        found = learn({**layout, name: [wrong] if lists else wrong}, {**layout, name: right})
        assert [trace.scores["label"] for trace in found.traces] == [1.0]
        assert found.notes == ["1 rows are not learnt: the file labels them wrong"]


def test_a_file_of_wrong_rows_alone_is_refused(learn: Reader) -> None:
    with pytest.raises(InputError, match="no row that may be learnt") as error:
        learn({"prompt": QUESTION, "completion": "8", "is_correct": False})
    assert "labels them wrong" in error.value.fix


def test_a_scale_is_no_label_and_is_told(load: Reader) -> None:
    rows = [{"question": QUESTION, "response": "7", "score": score} for score in (1, 5)]
    found = load(*rows)
    assert [dict(trace.scores) for trace in found.traces] == [{}, {}]
    assert found.unread == ["score"] and "score" in found.notes[0]


def test_a_scale_that_shows_itself_late_is_refused(
    load: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.data.rows.SAMPLE_ROWS", 1)
    rows = [{"question": QUESTION, "response": "7", "score": score} for score in (1, 5)]
    with pytest.raises(InputError, match="line 2: the label 5 in 'score' says neither"):
        load(*rows)


def test_labels_of_several_completions_for_one_are_refused() -> None:
    row = {"prompt": QUESTION, "completion": "7", "label": [True, False]}
    with pytest.raises(InputError, match="2 labels in 'label' for one completion"):
        content_of(row)


@pytest.mark.parametrize("labels", [[True], [True, False, True]])
def test_another_number_of_labels_than_of_completions_is_refused(labels: list[bool]) -> None:
    row = {"problem": QUESTION, "generations": ["7", "8"], "correctness_math_verify": labels}
    with pytest.raises(InputError, match=f"{len(labels)} labels in .* for 2 completions"):
        content_of(row)
    padded = content_of({**row, "correctness_math_verify": [True, None, None]})
    assert [completion.label for completion in padded.completions] == [True, None]


def test_several_rejected_beside_one_chosen_are_no_pair(learn: Reader) -> None:
    row = {"prompt": QUESTION, "chosen": "7", "rejected": ["8", "9"]}
    with pytest.raises(InputError, match="line 1: no pair of a better and a worse completion"):
        learn(row, needs_pairs=True)


# What changes the prompt


@pytest.mark.parametrize(
    "layout",
    [
        {"prompt": QUESTION, "completion": "7"},
        {"instruction": QUESTION, "output": "7"},
        {"messages": [USER, assistant()]},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "7"}]},
        {"prompt": QUESTION, "chosen": "7", "rejected": "8"},
        {"chosen": [USER, assistant()], "rejected": [USER, assistant("8")]},
    ],
)
def test_system_and_history_stand_in_the_prompt_of_every_layout(layout: dict[str, Any]) -> None:
    system, user = Message("system", "Digits."), Message("user", QUESTION)
    before = (Message("user", "2+2?"), Message("assistant", "4"))
    assert content_of({**layout, "system": "Digits."}).prompt == (system, user)
    assert content_of({**layout, "system": ""}).prompt == QUESTION
    history = {"history": [["2+2?", "4"]]}
    assert content_of({**layout, **history}).prompt == (*before, user)
    assert content_of({**layout, "system": "Digits.", **history}).prompt == (system, *before, user)


def test_two_texts_for_the_system_are_refused_and_one_twice_is_one() -> None:
    turns = [{"role": "system", "content": "Digits."}, USER, assistant()]
    assert len(content_of({"system": "Digits.", "messages": turns}).prompt) == 2
    with pytest.raises(InputError, match="two texts for the system"):
        content_of({"system": "Words.", "messages": turns})


@pytest.mark.parametrize("name", ["context", "passage", "evidence"])
def test_a_context_is_part_of_the_question(name: str) -> None:
    text = "Ann has 4 pens."
    row = {"question": "How many?", "response": "4", name: text}
    assert content_of(row).question == content_of(row).prompt == f"{text}\n\nHow many?"
    assert content_of({**row, name: [text, "And no more."]}).question.count("\n\n") == 2
    shown = {**row, "question": f"{text} How many?"}
    assert content_of(shown).question == shown["question"], "what is shown already is not doubled"
    with pytest.raises(InputError, match=f"{name}.*belongs to the question"):
        content_of({**row, name: {"title": 1}})
    with pytest.raises(InputError, match="the conversation does not show"):
        content_of({"messages": [USER, assistant()], name: text})


def test_options_stand_in_the_prompt_and_not_in_the_question() -> None:
    row = {"question": "Which?", "response": "B", "choices": {"B": "salt", "A": "iron"}}
    content = content_of(row)
    assert content.prompt == "Which?\n\nA. iron\nB. salt" and content.question == "Which?"
    shown = {**row, "question": "Which of iron and salt?"}
    assert content_of(shown).prompt == shown["question"]


def test_tools_and_tool_calls_are_refused_by_name() -> None:
    row = {"messages": [USER, assistant()], "tools": [{"name": "add"}]}
    with pytest.raises(InputError, match="the column 'tools' offers tools"):
        content_of(row)
    assert content_of({**row, "tools": []}).completions
    assert content_of({**row, "tools": "[]"}).completions
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    with pytest.raises(InputError, match="a call of the tool 'add'"):
        content_of({"messages": [USER, assistant(tool_calls=[call])]})
    with pytest.raises(InputError, match="image_url"):
        content_of(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, assistant()]}
        )


def test_skip_bad_lists_what_is_refused(load: Reader) -> None:
    row = {"messages": [USER, assistant()]}
    with files.skipping() as bad:
        found = load({**row, "tools": [{"name": "add"}]}, {**row, "tools": None})
    assert len(found.traces) == 1
    assert [(item.where, item.reason[:32]) for item in bad] == [
        ("line 1", "the column 'tools' offers tools,")
    ]


# Conversations and pairs


def test_a_prompt_and_a_conversation_that_repeats_it_are_one() -> None:
    turns = [USER, assistant()]
    for prompt in (QUESTION, [USER]):
        assert content_of({"prompt": prompt, "completion": turns}).prompt == QUESTION
        pair = {"prompt": prompt, "chosen": turns, "rejected": [USER, assistant("8")]}
        assert content_of(pair).prompt == QUESTION
    with pytest.raises(InputError, match="answers another prompt"):
        content_of({"prompt": [{"role": "user", "content": "Add 9."}], "completion": turns})


def test_a_question_in_its_own_column_and_a_conversation_that_asks_it_with_more_words() -> None:
    asked = f"{QUESTION} Answer in a box."
    turns = [{"role": "user", "content": asked}, assistant()]
    content = content_of({"problem": QUESTION, "messages": turns})
    assert (content.question, content.prompt) == (QUESTION, asked)


def test_sides_that_answer_different_prompts_are_refused() -> None:
    other = [{"role": "user", "content": "Add 9 and 9."}, assistant("8")]
    with pytest.raises(InputError, match=r"different prompts: 'Add 3 and 4\.' and 'Add 9 and 9\.'"):
        content_of({"chosen": [USER, assistant()], "rejected": other})


def test_a_prompt_that_ends_with_the_assistant_is_continued() -> None:
    prompt = [USER, assistant("The sum")]
    content = content_of({"prompt": prompt, "completion": " is 7.", "prefix": ""})
    [completion] = content.completions
    assert (content.prompt, completion.text, completion.prefix_length) == (
        QUESTION,
        "The sum is 7.",
        7,
    )
    pair = content_of({"prompt": prompt, "chosen": " is 7.", "rejected": " is 8."})
    assert [c.text[c.prefix_length :] for c in pair.completions] == [" is 7.", " is 8."]
    with pytest.raises(InputError, match="two turns of the assistant"):
        content_of({"messages": [*prompt, assistant(" is 7.")]})


def test_pairs_of_transcripts_have_their_shared_beginning_for_a_prompt(load: Reader) -> None:
    begin = "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: Doubled?\n\nAssistant:"
    found = load({"chosen": f"{begin} It is 8.", "rejected": f"{begin} It is 9."})
    chosen, rejected = found.traces
    assert chosen.rejected == rejected and chosen.text == "It is 8."
    assert [turn.content for turn in chosen.prompt if isinstance(turn, Message)] == [
        "2+2?",
        "4",
        "Doubled?",
    ]
    with pytest.raises(InputError, match="the row has no prompt"):
        load({"chosen": "8", "rejected": "9"})


def test_a_turn_of_weight_0_is_not_learnt(learn: Reader) -> None:
    rows = [{"messages": [USER, assistant(weight=weight)]} for weight in (0, 1, 0.5)]
    found = learn(*rows)
    assert [trace.weight for trace in found.traces] == [1.0, 0.5]
    assert found.notes == ["1 rows are not learnt: their weight is 0"]


def test_the_rejected_side_is_no_row_of_its_own(learn: Reader, load: Reader) -> None:
    row = {"prompt": QUESTION, "chosen": "7", "rejected": "8"}
    [trace] = learn(row, needs_pairs=True).traces
    assert trace.rejected and trace.rejected.text == "8"
    assert [t.scores["label"] for t in load(row).traces] == [1.0, 0.0]
    [again] = learn(row, keep_wrong=True).traces
    assert again == trace


# Problems of rows


def verdicts(found: RowTraces) -> list[str]:
    return [trace.verdict.status for trace in judge_traces(found.traces)]


def test_equal_questions_with_other_golds_or_options_are_other_problems(load: Reader) -> None:
    row = {"question": "How many are left?"}
    found = load(
        {**row, "answer": "3", "response": "#### 3"},
        {**row, "answer": "5", "response": "#### 5"},
        {**row, "answer": "B", "response": "(B)", "choices": ["1", "2"]},
        {**row, "answer": "A", "response": "(A)", "choices": ["2", "1"]},
    )
    assert verdicts(found) == ["right"] * 4
    assert len({trace.problem.id for trace in found.traces}) == 4
    assert [trace.problem.kind for trace in found.traces] == [
        "number",
        "number",
        "choice",
        "choice",
    ]


def test_equal_rows_are_samples_of_one_problem(load: Reader) -> None:
    rows = [{"question": f" How  many?{end}", "answer": "3", "response": "3"} for end in ("", "\n")]
    one, two = load(*rows).traces
    assert one.problem == two.problem
    assert (one.author and one.author.sample_index, two.author and two.author.sample_index) == (
        0,
        1,
    )


def test_train_and_import_read_the_same_rows_the_same_way(load: Reader, learn: Reader) -> None:
    row = {"question": QUESTION, "answer": "7", "response": "7", "thinking": THOUGHT, "score": 1}
    assert load(row).traces == learn(row).traces
    trace: Trace = load(row).traces[0]
    assert (trace.text, trace.problem.answer) == (FULL, "7")
