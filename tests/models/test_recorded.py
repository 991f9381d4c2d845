"""A recording answers what was recorded, and says clearly what was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill.data.trace_json import to_record
from potstill.errors import ConfigError, InputError, ModelError
from potstill.models import load
from potstill.models.model import Request
from potstill.models.recorded import Recorded
from potstill.records import Message, Problem, Trace

COLUMNS = [
    {
        "question": f"How many  are {n} and {n}?",
        "ground_truth": f"A: {2 * n}",
        "small": {"is_correct": n % 2 == 0, "solution": f"{n} + {n} = 0\nA: 0"},
        "large": {"is_correct": True, "solution": f"{n} + {n} = {2 * n}\nA: {2 * n}"},
    }
    for n in range(20)
]


def test_one_column_a_model_and_all_of_them_as_draws() -> None:
    model = Recorded(COLUMNS)
    assert model.columns == ("small", "large")
    a, b = model.write([Request("How many are 3 and 3?", sample_index=d) for d in (0, 1)])
    assert (a.text, b.text) == ("3 + 3 = 0\nA: 0", "3 + 3 = 6\nA: 6")
    assert [model.label("How many are 3 and 3?", d) for d in (0, 1)] == [False, True]


def test_the_spec_chooses_columns(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in COLUMNS))
    large, both = load(f"recorded:{file}?model=large"), load(f"recorded:{file}?models=large,small")
    assert large.write([Request("How many are 3 and 3?")])[0].text == "3 + 3 = 6\nA: 6"
    assert (
        both.write([Request("How many are 3 and 3?", sample_index=1)])[0].text == "3 + 3 = 0\nA: 0"
    )
    assert large.id != both.id
    with pytest.raises(ConfigError) as caught:
        load(f"recorded:{file}?model=larg")
    assert "has no column 'larg'" in caught.value.found and caught.value.nearest == ("large",)
    assert "recorded:FILE?columns=COLUMN" in caught.value.fix


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"problem": "q", "response": "a"}, ["a"]),
        ({"instruction": "q", "output": "a", "answer": "1"}, ["a"]),
        ({"query": "q", "completions": ["a", "b"]}, ["a", "b"]),
        ({"prompt": "q", "completions": [{"text": "a"}, {"solution": "b"}]}, ["a", "b"]),
        (
            {"question": "q", "solution": "gold", "code": ["a", "b"], "score": [True, False]},
            ["a", "b"],
        ),
        ({"question": "q", "solution": "a", "answer": "1"}, ["a"]),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            ["a"],
        ),
        (
            {
                "prompt": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
            ["a"],
        ),
    ],
)
def test_layouts(row: dict[str, object], texts: list[str]) -> None:
    model = Recorded([row])
    assert model.draws("q") == len(texts)
    assert [
        c.text for c in model.write([Request("q", sample_index=d) for d in range(len(texts))])
    ] == texts


def test_labels_of_a_list_stand_at_the_same_place() -> None:
    model = Recorded([{"question": "q", "code": ["a", "b", "c"], "score": [True, False, None]}])
    assert [model.label("q", d) for d in range(3)] == [True, False, None]


def test_rows_with_the_same_question_are_further_draws() -> None:
    model = Recorded(
        [{"question": "q", "completion": "a"}, {"question": " q\n", "completion": "b"}]
    )
    assert len(model) == 1 and model.draws("q") == 2


def test_a_prompt_that_was_not_recorded() -> None:
    with pytest.raises(ModelError) as caught:
        Recorded(COLUMNS, source="r.jsonl").write([Request("How many are 33 and 33 apples?")])
    assert caught.value.found.startswith(
        "the recorded model has no completion for this prompt: 'How many are 33 and 33"
    )
    assert (
        "20 questions of r.jsonl; the nearest is 'How many are 3 and 3?'" in caught.value.expected
    )
    assert caught.value.fix == (
        "use a model that writes for this role, or ?missing=drop to leave out what is not recorded"
    )


def test_a_request_to_rewrite_a_recorded_solution_is_not_answered_with_a_recording() -> None:
    prompt = "Problem: How many are 3 and 3?\nReference: 3 + 3 = 6\nRewrite the reference."
    with pytest.raises(
        ModelError, match="the recorded model has no completion for this prompt"
    ) as caught:
        Recorded(COLUMNS).write([Request(prompt)])
    assert "match=contained" in caught.value.fix


def test_contained_matches_the_one_question_inside_a_template(tmp_path: Path) -> None:
    model = Recorded(COLUMNS, contained=True)
    messages = (
        Message("system", "be brief"),
        Message("user", "Solve.\nHow many are 3 and 3?\nAnswer:"),
    )
    assert model.write([Request(messages, sample_index=1)])[0].text == "3 + 3 = 6\nA: 6"
    with pytest.raises(ModelError, match="it contains 2 recorded questions"):
        model.write([Request("How many are 3 and 3? How many are 4 and 4?")])
    (tmp_path / "r.jsonl").write_text(json.dumps(COLUMNS[3]))
    spec = f"recorded:{tmp_path / 'r.jsonl'}?model=large&match=contained"
    assert load(spec).write([Request("Q: How many are 3 and 3?")])[0].text == "3 + 3 = 6\nA: 6"


def test_a_question_inside_a_longer_one_is_not_ambiguous() -> None:
    rows = [
        {"question": "How many?", "completion": "a"},
        {"question": "Two pears. How many?", "completion": "b"},
    ]
    assert (
        Recorded(rows, contained=True).write([Request("Q: Two pears. How many? A:")])[0].text == "b"
    )


def test_a_draw_beyond_the_recording() -> None:
    with pytest.raises(ModelError) as caught:
        Recorded(COLUMNS).write([Request("How many are 3 and 3?", sample_index=2)])
    assert "only 2 completions for this prompt, and sample 2 was wanted" in caught.value.found
    assert caught.value.fix.startswith("ask for n=2 or less")
    with pytest.raises(
        ModelError, match=r"sample 0 when asked again \(sample_index=1\) was wanted"
    ):
        Recorded(COLUMNS).write([Request("How many are 3 and 3?", sample_index=1_000_000)])


def test_what_is_missing_is_a_failure_where_it_is_to_be_dropped() -> None:
    model = Recorded(COLUMNS, missing="drop")
    there, absent, beyond = model.write(
        [
            Request("How many are 3 and 3?"),
            Request("How many are 33 and 33?"),
            Request("How many are 3 and 3?", sample_index=2),
        ]
    )
    assert there.text and not there.error
    for completion in (absent, beyond):
        assert completion.text == completion.finish_reason == ""
        assert completion.error.startswith("missing: the recorded model has ")
    assert model.draws("How many are 33 and 33?") == 0
    assert model.id != Recorded(COLUMNS).id  # failures are stored under it


def test_a_prompt_of_two_recordings_is_refused_also_where_gaps_are_dropped() -> None:
    rows = [
        {"question": "Which?", "options": [text, "salt"], "completion": "A"}
        for text in ("iron", "zinc")
    ]
    with pytest.raises(ModelError, match="knows 2 prompts"):
        Recorded(rows, missing="drop").write([Request("Which?")])


def test_traces_of_equal_questions_with_other_options_stay_apart() -> None:
    records = []
    for text, answer in (("iron", "A"), ("zinc", "B")):
        problem = Problem(text, "Which?", "A", "choice", choices=(text, "salt"))
        records.append(to_record(Trace(problem, f"Which?\nA. {text}\nB. salt", answer)))
    model = Recorded(records)
    prompts = ["Which?\n\nA. iron\nB. salt", "Which?\n\nA. zinc\nB. salt"]
    assert [c.text for c in model.write([Request(prompt) for prompt in prompts])] == ["A", "B"]


def test_a_prefix_must_begin_the_recording() -> None:
    model = Recorded(COLUMNS)
    assert model.write([Request("How many are 3 and 3?", prefix="3 + 3")])[0].text == " = 0\nA: 0"
    with pytest.raises(ModelError, match="can't continue 'So'"):
        model.write([Request("How many are 3 and 3?", prefix="So")])


def test_labels_do_not_move_the_id() -> None:
    without = [{**row, "small": {"solution": row["small"]["solution"]}} for row in COLUMNS]  # type: ignore[index]
    assert Recorded(COLUMNS).id == Recorded(without).id
    assert Recorded(COLUMNS).id != Recorded(COLUMNS[:19]).id


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"text": "a"}, "row 1: no question"),
        ({"question": "  ", "completion": "a"}, "row 1: no question"),
        ({"question": "q", "answer": "1"}, "row 1: no completion"),
        ({"question": "q", "completion": 5}, "no completion: completion is 5"),
        ([1], "row 1: a list"),
    ],
)
def test_rows_that_are_none(row: dict[str, object], found: str) -> None:
    with pytest.raises(InputError, match=found) as caught:
        Recorded([row])
    assert caught.value.fix


def test_missing_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "solutions.jsonl").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        load(f"recorded:{tmp_path / 'solutions.jsonl'}")
    with pytest.raises(InputError, match="no file") as caught:
        load(f"recorded:{tmp_path / 'solution.jsonl'}")
    assert caught.value.nearest == ("solutions.jsonl",)


def test_gsm8k_recordings(shared_data: Path) -> None:
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    names = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    questions = [
        json.loads(line)["question"] for line in file.read_text("utf-8").split("\n") if line
    ]
    model = Recorded.load(file)
    assert list(model.columns) == names
    right = [
        sum(model.label(question, draw) is True for question in questions) for draw in range(4)
    ]
    assert right == [286, 515, 458, 742]
    one = load(f"recorded:{file}?model=175b_verification")
    assert len(one.write([Request(question) for question in questions])) == 1319


def test_equal_questions_with_other_options_are_told_apart_by_the_prompt() -> None:
    row = {"question": "Which?"}
    model = Recorded(
        [
            {**row, "completion": "A", "choices": ["iron", "salt"]},
            {**row, "completion": "B", "choices": ["salt", "iron ore"]},
        ]
    )
    assert model.write([Request("Which?\n\nA. salt\nB. iron ore")])[0].text == "B"
    with pytest.raises(ModelError, match="knows 2 prompts that end with 'Which"):
        model.write([Request("Which?")])


def test_an_end_that_nobody_knows_is_a_failed_completion() -> None:
    model = Recorded([{"question": "q", "completion": "a", "finish_reason": "banana"}])
    [completion] = model.write([Request("q")])
    assert completion.error == "unfinished: the file says 'banana' of its end"
