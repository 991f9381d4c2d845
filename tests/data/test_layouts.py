"""The layouts of recorded answers, each as its dataset has it, with reasoning and answer as one text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data import layouts
from potstill.data.columns import ColumnChooser
from potstill.data.layouts import RowContent, read_row
from potstill.errors import ConfigError, InputError
from potstill.models import load
from potstill.models.model import Request
from potstill.models.recorded import Recorded
from potstill.records import Message, split_reasoning

THOUGHT = "<think>\nOne more.\n</think>\n\nIt is \\boxed{2}."
OPENTHOUGHTS = (
    "<|begin_of_thought|>\n\nOne more.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{2}.\n\n<|end_of_solution|>"
)
SHAREGPT = [{"from": "user", "value": "1 + 1?"}, {"from": "assistant", "value": OPENTHOUGHTS}]
CHAT = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]

# row -> layout, texts, labels
ROWS: dict[str, tuple[dict[str, Any], str, list[str], list[bool | None]]] = {
    "Open-R1": (
        {
            "problem": "1 + 1?",
            "solution": "gold",
            "answer": "2",
            "generations": [THOUGHT, "<think>\nHm"],
            "correctness_math_verify": [True, False],
            "correctness_llama": None,
            "finish_reasons": None,
            "is_reasoning_complete": [True, False],
            "messages": CHAT,
        },
        "Open-R1",
        [THOUGHT, "<think>\nHm"],
        [True, False],
    ),
    "OpenThoughts": ({"system": "Long.", "conversations": SHAREGPT}, "ShareGPT", [THOUGHT], [None]),
    "OpenThoughts metadata": (
        {
            "problem": "1 + 1?",
            "deepseek_reasoning": "One more.",
            "deepseek_solution": "It is \\boxed{2}.",
            "ground_truth_solution": "gold",
        },
        "OpenThoughts",
        [THOUGHT],
        [None],
    ),
    "OpenThoughts-114k-math": (
        {"problem": "1 + 1?", "solution": "gold", "messages": CHAT, "conversations": SHAREGPT, "correct": True},
        "ShareGPT",
        [THOUGHT],
        [True],
    ),
    "s1K": (
        {"question": "1 + 1?", "solution": "g", "thinking_trajectories": ["One more."], "attempt": "It is \\boxed{2}."},
        "s1K",
        [THOUGHT],
        [None],
    ),
    "s1K-1.1": (
        {
            "question": "1 + 1?",
            "solution": "g",
            "gemini_thinking_trajectory": "Three?",
            "gemini_attempt": "3",
            "deepseek_thinking_trajectory": "One more.",
            "deepseek_attempt": "It is \\boxed{2}.",
            "deepseek_grade": "Yes",
        },
        "s1K-1.1",
        [THOUGHT, "<think>\nThree?\n</think>\n\n3"],
        [True, True],
    ),
    "GSM8K": (
        {"question": "1 + 1?", "ground_truth": "A: 2", "small": {"is_correct": False, "solution": "A: 3"},
         "large": {"is_correct": True, "solution": "A: 2"}},
        "a column a model",
        ["A: 3", "A: 2"],
        [False, True],
    ),
    "question/reasoning/answer": (
        {"question": "1 + 1?", "reasoning": "One more.\n", "answer": "It is \\boxed{2}."},
        "question/reasoning/answer",
        [THOUGHT],
        [None],
    ),
    "reasoning that is in the answer already": (
        {"question": "1 + 1?", "reasoning": "One more.", "response": THOUGHT},
        "question/reasoning/answer",
        [THOUGHT],
        [None],
    ),
    "Alpaca": ({"instruction": "Add.", "input": "1 + 1?", "output": "2"}, "Alpaca", ["2"], [None]),
    "messages with reasoning_content": (
        {
            "messages": [
                CHAT[0],
                {"role": "assistant", "reasoning_content": "One more.", "content": "It is \\boxed{2}."},
            ]
        },
        "messages",
        [THOUGHT],
        [None],
    ),
    "messages in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}, CHAT[1]]},
        "messages",
        ["2"],
        [None],
    ),
    "preference": (
        {"prompt": [CHAT[0]], "chosen": [CHAT[1]], "rejected": [{"role": "assistant", "content": "3"}]},
        "preference",
        ["2", "3"],
        [True, False],
    ),
    "preference without a prompt": ({"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "3"}]},
        "preference", ["2", "3"], [True, False]),
    "KTO": ({"prompt": "1 + 1?", "completion": "3", "label": False}, "prompt/completion", ["3"], [False]),
}  # fmt: skip


def read(row: dict[str, Any]) -> RowContent:
    """What a file of this one row says."""
    return read_row(row, ColumnChooser([row], {}, "answers", "rows").choose(row))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_gives_its_texts_and_labels(name: str) -> None:
    row, layout, texts, labels = ROWS[name]
    completions = read(row).completions
    assert [completion.text for completion in completions] == texts
    assert [completion.label for completion in completions] == labels
    model = Recorded([row])
    asked = "Add.\n\n1 + 1?" if name == "Alpaca" else "1 + 1?"
    assert [
        model.write([Request(asked, sample_index=d)])[0].text for d in range(len(texts))
    ] == texts
    assert model.mapping["layout"] == layout


def test_cut_off_generations_are_marked() -> None:
    row = ROWS["Open-R1"][0]
    assert [c.finish_reason for c in read(row).completions] == ["stop", "length"]
    row = {**row, "finish_reasons": ["length", None]}
    assert [c.finish_reason for c in read(row).completions] == ["length", "length"]


def test_columns_are_given_on_the_command_line(tmp_path: Path) -> None:
    row = {
        "ask": "1 + 1?",
        "why": "One more.",
        "say": "It is \\boxed{2}.",
        "ok": 1,
        "question": "other",
        "output": "x",
    }
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    model = load(f"recorded:{tmp_path}/r.jsonl?question=ask&reasoning=why&answer=say&label=ok")
    assert isinstance(model, Recorded)
    assert model.write([Request("1 + 1?")])[0].text == THOUGHT and model.label("1 + 1?") is True
    assert model.mapping == {
        "layout": "question/reasoning/answer",
        "question": "ask",
        "reasoning": "why",
        "answer": "say",
        "label": "ok",
    }
    plain = load(f"recorded:{tmp_path}/r.jsonl?completion=say")
    assert plain.write([Request("other")])[0].text == "It is \\boxed{2}."
    with pytest.raises(ConfigError) as caught:
        load(f"recorded:{tmp_path}/r.jsonl?reasoning=whi&answer=say")
    assert caught.value.nearest == ("why",)
    with pytest.raises(ConfigError, match="both given"):
        load(f"recorded:{tmp_path}/r.jsonl?completion=say&answer=say")


def test_system_turns_stay_in_the_prompt() -> None:
    row = {"messages": [{"role": "system", "content": "Brief."}, *CHAT]}
    assert read(row).prompt == (Message("system", "Brief."), Message("user", "1 + 1?"))
    assert read(row).question == "1 + 1?"
    assert read({"messages": CHAT}).prompt == "1 + 1?"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (OPENTHOUGHTS, THOUGHT),
        (OPENTHOUGHTS.removesuffix("\n\n<|end_of_solution|>"), THOUGHT),
        ("<|begin_of_thought|>\n\nHm", "<think>\n\nHm"),
        ("a <think>b</think> c", "a <think>b</think> c"),
        ("", ""),
    ],
)
def test_markers_become_think(text: str, wanted: str) -> None:
    assert layouts.normalise_thought(text) == wanted


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (
            {"question": "q", "thinking_trajectories": ["a", "b"], "attempt": ["x", "y", "z"]},
            "2 texts in",
        ),
        ({"question": "q", "generations": ["a", 5]}, "generations is 5"),
        ({"messages": [CHAT[0]]}, "end with the user's"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "row 1: no question"),
    ],
)
def test_rows_that_hold_no_answers(row: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found) as caught:
        Recorded([row])
    assert caught.value.fix


def test_parquet_and_csv_give_the_same_model(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [ROWS["Open-R1"][0], {**ROWS["Open-R1"][0], "problem": "2 + 2?"}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert load(f"recorded:{tmp_path}/r.parquet").id == load(f"recorded:{tmp_path}/r.jsonl").id
    (tmp_path / "s.csv").write_text('prompt,completion\n1 + 1?,"a ""2"""\n')
    assert load(f"recorded:{tmp_path}/s.csv").write([Request("1 + 1?")])[0].text == 'a "2"'


def test_a_dataset_of_the_hub_is_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def local(name: str, config: str | None, **options: object) -> Any:
        asked.append((name, config, options["split"]))
        return datasets.Dataset.from_list([ROWS["Open-R1"][0]])

    monkeypatch.setattr(datasets, "load_dataset", local)
    model = load(
        "recorded:hf:open-r1/OpenR1-Math-220k/default:train?completion=generations&match=contained"
    )
    assert model.write([Request("Solve: 1 + 1?")])[0].text == THOUGHT
    assert asked == [("open-r1/OpenR1-Math-220k", "default", "train")]


# What the reader gives these files under potstill-3: a new layout must not send anybody's run back to the teacher.
IDS = {
    "gsm8k/example_model_solutions.jsonl": "recorded-90d7952d2ef687024be1",
    "gsm8k/example_model_solutions.jsonl?model=175b_verification": "recorded-06318bba3c2db36552f2",
    "math-outputs/qwen2.5-math-cot-100.jsonl": "recorded-6b41e7186b79fc554d95",
    "gsm8k/train.jsonl?column=answer": "recorded-842a797529bde00a4656",
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", IDS)
def test_ids_of_files_that_were_read_before_are_the_same(spec: str, shared_data: Path) -> None:
    assert load(f"recorded:{shared_data}/{spec}").id == IDS[spec]


def test_a_conversation_with_another_answer_than_the_completion_is_refused() -> None:
    row = {"messages": CHAT, "response": "It is 3."}
    with pytest.raises(
        InputError, match="'messages' ends with another answer than 'response'"
    ) as caught:
        read(row)
    assert "--map completion=messages" in caught.value.fix
    # The same answer, also as one of several or without its thought, is no loss.
    answer = CHAT[1]["content"]
    assert read({"messages": CHAT, "response": f" {answer}\n"}).prompt == "1 + 1?"
    assert len(read({"messages": CHAT, "generations": ["It is 3.", answer]}).completions) == 2
    _, reply = split_reasoning(answer)
    assert read(
        {"messages": [CHAT[0], {"role": "assistant", "content": reply}], "response": answer}
    )
    # Who names the column has said which answer is meant.
    chooser = ColumnChooser([row], {"completion": "response"}, "answers", "rows")
    assert layouts.read_row(row, chooser.choose(row)).completions[0].text == "It is 3."


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "thinking": "t2", "response": "<think>other</think>r"},
        {
            "messages": [
                CHAT[0],
                {"role": "assistant", "thinking": "t2", "content": "<think>other</think>r"},
            ]
        },
        {"question": "q", "responses": [{"reasoning": "t2", "text": "<think>other</think>r"}]},
    ],
)
def test_two_thoughts_for_one_reply_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match="two thoughts for one reply: 't2' beside it, 'other'"
    ) as caught:
        read(row)
    assert caught.value.fix


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "prefix": "first step.", "completion": "first step. second"},
        {
            "question": "q",
            "prefix": "first step.",
            "chosen": "first step. second",
            "rejected": "no",
        },
        {
            "prompt": [CHAT[0], {"role": "assistant", "content": "first step.\n"}],
            "completion": "first step. second",
        },
    ],
)
def test_a_completion_that_repeats_its_prefix_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="repeats how the answer begins: 'first step") as caught:
        read(row)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({"finish_reason": "stop_sequence"}, ("stop_string", "")),
        ({"finish_reason": "stop_string", "stop_string": ". "}, ("stop_string", ". ")),
        ({"finish_reason": "stop", "stop_reason": "\n\n"}, ("stop_string", "\n\n")),
        ({"finish_reason": "stop", "stop_reason": 151645}, ("stop", "")),
        ({"finish_reason": "stop", "stop_reason": None}, ("stop", "")),
        ({"finish_reason": "length", "stop_reason": None}, ("length", "")),
        ({"finish_reason": "stop", "stop_reason": ""}, ("stop", "")),
        ({"stop_reason": "end_turn"}, ("stop", "")),
        ({"finish_reason": ["stop_sequence", "length"]}, ("stop_string", "")),
    ],
)
def test_a_stop_string_of_a_file_is_no_end(ends: dict, expected: tuple) -> None:
    completion = "one"
    if isinstance(ends.get("finish_reason"), list):
        completion = ["one", "two"]
    first = read({"prompt": "Add 1.", "completion": completion, **ends}).completions[0]
    assert (first.finish_reason, first.stop_string) == expected
