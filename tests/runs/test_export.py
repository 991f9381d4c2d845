"""Other trainers' layouts: text unchanged, whatever is in it; what a layout can't say is refused."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data import trace_files
from potstill.data.row_files import row_lines, write_file
from potstill.data.rows import read_traces
from potstill.errors import StageError
from potstill.models.model import Request
from potstill.models.recorded import Recorded
from potstill.records import Message, Problem, Span, Trace, Verdict
from potstill.runs.export import (
    LAYOUTS,
    alpaca,
    export_rows,
    make_pairs,
    sharegpt,
    trl,
    unfinished_note,
    write_json_lines,
)

HOSTILE = "<think>\r\n\u2028 a\ud800 \x1b[31m \x00</think>\n\\boxed{1} \u202e"


def trace(text: str = HOSTILE, **more: object) -> Trace:
    return Trace(Problem("p1", "2 - 1?"), "2 - 1?", text, finish_reason="stop", **more)  # type: ignore[arg-type]


def test_trl_layout() -> None:
    row = trace("It is 1.")
    assert trl(row) == {
        "id": row.id,
        "problem_id": "p1",
        "prompt": [{"role": "user", "content": "2 - 1?"}],
        "completion": [{"role": "assistant", "content": "It is 1."}],
    }


def test_sharegpt_layout_with_a_system_turn() -> None:
    row = Trace(Problem("p1", "q"), (Message("system", "Be brief."), Message("user", "q")), "a")
    assert sharegpt(row)["conversations"] == [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
    ]


def said(row: dict[str, Any], layout: str) -> str:
    """What the assistant says in a row."""
    places = {"trl-text": "completion", "alpaca": "output"}
    if layout in places:
        return str(row[places[layout]])
    last = row[
        {
            "trl": "completion",
            "sharegpt": "conversations",
            "messages": "messages",
            "openai": "messages",
            "preference": "chosen",
        }[layout]
    ]
    return str(last[-1].get("content", last[-1].get("value")))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_comes_back_as_it_was(layout: str) -> None:
    file = io.StringIO()
    rival = {"rejected": trace("No.")} if layout == "preference" else {}
    write_json_lines(export_rows([trace(**rival), trace("x\ny", **rival)], layout), file)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2 and file.getvalue().isascii()
    row = json.loads(lines[0])
    assert said(row, layout) == HOSTILE


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"rejected": trace("No.")}, "a rejected trace"),
        ({"spans": (Span(0, 3, "tool"),)}, "masked text"),
        ({"spans": (Span(0, 3, "loss", 0.0),)}, "masked text"),
        ({"prefix_length": 4}, "masked text"),
        ({"weight": 0.5}, "a weight"),
    ],
)
def test_what_a_layout_cannot_say_is_refused(more: dict[str, object], named: str) -> None:
    with pytest.raises(StageError, match=named):
        export_rows([trace(**more)], "trl")


def test_a_grown_chain_is_whole_where_all_of_it_is_learnt() -> None:
    grown = {"prefix_length": 4, "spans": (Span(0, 4, "written", author="m"),)}
    assert export_rows([trace(**grown)], "trl")[0]["completion"][0]["content"] == HOSTILE
    assert "finish_reason" not in export_rows([trace(**grown)], "trl")[0]


@pytest.mark.parametrize("layout", ["trl", "messages", "sharegpt"])
def test_rows_that_are_not_finished_say_so_and_come_back(layout: str, tmp_path: Path) -> None:
    ends = [{"finish_reason": "stop_string", "stop_string": ". "}, {"finish_reason": "length"}]
    rows = [trace("It is 1.").annotate(**end) for end in ends] + [trace("Whole.")]
    write_file(row_lines(export_rows(rows, layout)), tmp_path / "rows.jsonl")
    back = read_traces(str(tmp_path / "rows.jsonl")).traces
    assert [(t.finish_reason, t.stop_string) for t in back] == [
        ("stop_string", ". "),
        ("length", ""),
        ("stop", ""),
    ]
    assert unfinished_note(rows).startswith("2 rows are not finished (1 length, 1 stop_string)")
    assert unfinished_note(rows[2:]) == ""


def test_steps_and_units_are_no_masks() -> None:
    assert export_rows([trace(spans=(Span(0, 3, "step", 1.0, 0.0), Span(0, 3, "unit")))], "trl")


TEXTS = [
    "<think>\nOne \u2028 more.\n</think>\n\nIt is \\boxed{2}.",
    "É\r\n\t2",
    "<b>&amp;",
    "`` ``` 2",
]


def traces() -> list[Trace]:
    """Two problems with two attempts each, one under a system turn; right, wrong, right, unparsed."""
    first, second = Problem("p1", "1 + 1?", "2", "number"), Problem("p2", "2 + 2?", "4", "number")
    system = (Message("system", "Be brief."), Message("user", "2 + 2?"))
    return [
        Trace(first, "1 + 1?", TEXTS[0], finish_reason="stop", verdict=Verdict("right")),
        Trace(first, "1 + 1?", TEXTS[1], finish_reason="stop", verdict=Verdict("wrong")),
        Trace(second, system, TEXTS[2], finish_reason="stop", verdict=Verdict("right")),
        Trace(second, system, TEXTS[3], finish_reason="stop", verdict=Verdict("unparsed")),
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("layout", ["trl", "trl-text", "sharegpt", "alpaca", "messages"])
def test_what_is_exported_is_imported_with_the_same_texts_and_prompts(
    layout: str, suffix: str, tmp_path: Path
) -> None:
    wanted = traces()[:2] if layout == "trl-text" else traces()
    write_file(row_lines(export_rows(wanted, layout)), tmp_path / f"rows{suffix}")
    back = read_traces(str(tmp_path / f"rows{suffix}")).traces
    assert [(t.text, t.problem.id) for t in back] == [(t.text, t.problem.id) for t in wanted]
    assert [t.prompt for t in back] == [t.prompt for t in wanted]
    model = Recorded.load(tmp_path / f"rows{suffix}")
    asked = [Request(t.question, sample_index=at % 2) for at, t in enumerate(wanted)]
    assert [c.text for c in model.write(asked)] == [t.text for t in wanted]


def test_a_trace_file_is_the_same_traces(tmp_path: Path) -> None:
    trace_files.write_traces(traces(), tmp_path / "t.jsonl")
    assert (
        trace_files.load_traces(tmp_path / "t.jsonl")
        == traces()
        == read_traces(str(tmp_path / "t.jsonl")).traces
    )


def test_preference_rows_come_back_with_their_rivals(tmp_path: Path) -> None:
    wanted = make_pairs(traces())
    write_file(row_lines(export_rows(wanted, "preference")), tmp_path / "p.jsonl")
    back = read_traces(str(tmp_path / "p.jsonl")).traces
    assert [(t.text, t.rejected.text) for t in back if t.rejected] == [(TEXTS[0], TEXTS[1])]
    with pytest.raises(StageError, match="has no rejected trace"):
        export_rows(traces(), "preference")


def test_pairs_are_right_and_wrong_attempts_at_one_prompt() -> None:
    assert [(t.text, t.rejected.text) for t in make_pairs(traces()) if t.rejected] == [
        (TEXTS[0], TEXTS[1])
    ]
    posed = dataclasses.replace(traces()[1], prompt="Think. 1 + 1?").annotate(
        verdict=Verdict("wrong")
    )
    assert not make_pairs([traces()[0], posed])  # another prompt is another question to the learner
    cut = traces()[1].annotate(finish_reason="length")
    assert not make_pairs([traces()[0], cut])
    labels = [
        t.annotate(verdict=Verdict("unjudged"), scores={"label": float(at == 0)})
        for at, t in enumerate(traces())
    ]
    assert [t.text for t in make_pairs(labels)] == [TEXTS[0]]


def test_what_has_no_place_in_alpaca_or_plain_text_is_refused() -> None:
    assert alpaca(traces()[2])["system"] == "Be brief."
    with pytest.raises(StageError, match="the turns system, user"):
        export_rows(traces(), "trl-text")
    long = Trace(
        Problem("p", "q"),
        (Message("user", "a"), Message("assistant", "b"), Message("user", "q")),
        "c",
    )
    with pytest.raises(StageError, match="the turns user, assistant, user"):
        export_rows([long], "alpaca")


def test_parquet_refuses_what_utf8_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="can't be written as parquet") as caught:
        write_file(row_lines(export_rows([trace()], "trl")), tmp_path / "x.parquet")
    assert ".jsonl" in caught.value.fix and not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("layout", ["trl", "messages", "preference"])
def test_trl_takes_the_rows(
    layout: str, suffix: str, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """As its trainers do: load with datasets, see that the rows are conversational, apply a chat template."""
    trl_data = pytest.importorskip("trl.data_utils", reason="needs the extra potstill[dev]")
    datasets, transformers = pytest.importorskip("datasets"), pytest.importorskip("transformers")
    wanted = make_pairs(traces()) if layout == "preference" else traces()
    write_file(row_lines(export_rows(wanted, layout)), tmp_path / f"x{suffix}")
    kind = {".jsonl": "json", ".parquet": "parquet"}[suffix]
    data = datasets.load_dataset(
        kind,
        data_files=str(tmp_path / f"x{suffix}"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_checkpoint)
    for row, made in zip(data, wanted, strict=True):
        assert trl_data.is_conversational(row)
        told = trl_data.apply_chat_template(row, tokenizer)
        names = {
            "trl": ("completion",),
            "messages": ("text",),
            "preference": ("chosen", "rejected"),
        }[layout]
        texts = [made.text, made.rejected.text] if made.rejected else [made.text]
        for name, text in zip(names, texts, strict=True):
            assert text.split("</think>")[-1].strip() in told[name]


@pytest.mark.slow
def test_dpo_trainer_prepares_preference_rows(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """TRL's own data processing and one step of its DPO training on what --pairs made."""
    trl = pytest.importorskip("trl", reason="needs the extra potstill[dev]")
    datasets, transformers = pytest.importorskip("datasets"), pytest.importorskip("transformers")
    write_file(row_lines(export_rows(make_pairs(traces()), "preference")), tmp_path / "x.jsonl")
    data = datasets.load_dataset(
        "json",
        data_files=str(tmp_path / "x.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=1,
        use_cpu=True,
        report_to=[],
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_checkpoint)
    trainer = trl.DPOTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer)
    assert len(trainer.train_dataset) == 1
    assert trainer.train().global_step == 1
