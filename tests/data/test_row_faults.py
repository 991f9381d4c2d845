"""The collected faults of reading rows, where their folder lies beside the repository: each with its right value."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from potstill.cli import main
from potstill.cli.rows import read_rows
from potstill.data import problems
from potstill.data.rows import is_good, judge_traces, read_traces
from potstill.errors import PotstillError
from potstill.records import Message, Prompt, Trace
from potstill.verifiers.choice import gold_letter

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("POTSTILL_SHARED", REPOSITORY.parent / "shared")) / "faults" / "cases"


def is_of_rows(folder: Path) -> bool:
    """Whether a case is one of reading rows; those of servers are tested with the servers."""
    kind = json.loads((folder / "expected.json").read_text("utf-8"))["kind"]
    return kind == "house 2" and not folder.name.startswith("wire-")


def case_names() -> list[Any]:
    if not CASES.is_dir():
        reason = f"no collected faults: {CASES} is absent (set POTSTILL_SHARED to a folder with faults/cases)"
        return [pytest.param("", marks=pytest.mark.skip(reason=reason))]
    return sorted(folder.name for folder in CASES.iterdir() if is_of_rows(folder))


@pytest.mark.parametrize("name", case_names())
def test_case(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CASES / name
    case = json.loads((folder / "expected.json").read_text("utf-8"))
    check = case.get("check", case["how"])
    if check == "command":
        monkeypatch.chdir(folder)
        check_command(case, capsys)
        return
    tries = {"import": try_import, "problems": try_problems, "rows": try_rows}
    expected = case["expected"]
    try:
        tries[check](folder / "in.jsonl", case.get("args", []), expected)
    except PotstillError as refusal:
        assert isinstance(expected, dict) and expected.get("or_refused"), refusal
        assert refusal.fix, "a refusal says what to do"


def check_command(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    status = 0
    for words in case["args"]:
        status = main(words)
    output = capsys.readouterr()
    expected = case["expected"]
    assert (status != 0) == bool(expected["rc"])
    for pattern in expected["out_has"]:
        assert re.search(pattern, output.out + output.err)


def try_import(file: Path, args: list[str], expected: dict[str, Any]) -> None:
    flags = dict(zip(args[::2], args[1::2], strict=True))
    mapping = dict([flags["--map"].split("=")]) if "--map" in flags else {}
    imported = read_traces(str(file), mapping=mapping).traces
    traces = judge_traces(imported)
    if flags.get("--keep") == "right":
        traces = [trace for trace in traces if is_good(trace)]
    found = {
        "texts": [tidy(trace.text) for trace in traces],
        "prompts": [
            plain(trace.prompt) for trace in traces if trace.rejected or not is_rival(trace, traces)
        ],
        "finishes": [trace.finish_reason for trace in traces],
        "verdicts": [trace.verdict.status for trace in traces],
        "labels": [trace.scores.get("label") for trace in traces],
    }
    for key, value in expected.items():
        if key == "texts":
            value = [tidy(text) for text in value]
        if key != "or_refused":
            assert found[key] == value


def try_problems(file: Path, args: list[str], expected: list[dict[str, Any]]) -> None:
    loaded = problems.load(str(file))
    for problem, wanted in zip(loaded, expected, strict=True):
        letter = gold_letter(problem) or "A"
        found = {
            "question": problem.question,
            "choices": list(problem.choices),
            "answer": problem.answer,
            "kind": problem.kind,
            "gold_text": problem.choices[ord(letter) - ord("A")] if problem.choices else "",
        }
        for key, value in wanted.items():
            if key == "question_has":
                assert value in problem.question
            else:
                assert found[key] == value


def try_rows(file: Path, args: list[str], expected: dict[str, Any]) -> None:
    traces = read_rows(str(file)).traces
    if "rows" in expected:
        check_rows(traces, expected["rows"])
    if "any_rows" in expected:
        assert len(traces) in {len(rows) for rows in expected["any_rows"]}
        assert all(trace.weight == 0.0 for trace in traces)
    for trace in traces:
        assert trace.finish_reason == expected.get("finish", trace.finish_reason)
        assert expected.get("text_has", "") in trace.text
        assert expected.get("prompt_has", "") in json.dumps(plain(trace.prompt))


def check_rows(traces: list[Trace], wanted_rows: list[dict[str, Any]]) -> None:
    assert len(traces) == len(wanted_rows)
    for trace, wanted in zip(traces, wanted_rows, strict=True):
        check_row(trace, {key: value for key, value in wanted.items() if key != "rival"})
        if "rival" in wanted:
            assert trace.rejected
            check_row(trace.rejected, wanted["rival"])


def check_row(trace: Trace, wanted: dict[str, Any]) -> None:
    found = {
        "prompt": plain(trace.prompt),
        "text": tidy(trace.text),
        "given": trace.text[: trace.prefix_length],
        "finish": trace.finish_reason,
        "weight": trace.weight,
    }
    for key, value in wanted.items():
        assert found[key] == (tidy(value) if key == "text" else value)


def is_rival(trace: Trace, traces: list[Trace]) -> bool:
    return any(other.rejected is not None and other.rejected.id == trace.id for other in traces)


def tidy(text: str) -> str:
    """A text without blanks around the tags of its thought."""
    return re.sub(r"\s*(</?think>)\s*", r"\1", text)


def plain(prompt: Prompt) -> Any:
    if isinstance(prompt, str):
        return prompt
    return [list(turn) for turn in prompt if isinstance(turn, Message)]
