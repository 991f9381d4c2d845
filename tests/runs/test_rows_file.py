"""The rows file of a run: read as training rows again, it teaches what the run taught."""

from __future__ import annotations

from pathlib import Path

from potstill.data.rows import read_traces
from potstill.records import Author, Problem, Span, Trace
from potstill.runs.train import write_rows

PROBLEM = Problem("p1", "What is 2 + 2?", "4", "number")


def row(text: str, **fields: object) -> Trace:
    return Trace(PROBLEM, PROBLEM.question, text, author=Author("m", "", (), 0), **fields)  # type: ignore[arg-type]


def read_again(rows: list[Trace], folder: Path, **how: bool) -> list[Trace]:
    write_rows(folder / "sft.jsonl", rows)
    return list(read_traces(str(folder / "sft.jsonl"), **how).traces)


def test_what_is_masked_weighed_or_not_finished_comes_back(tmp_path: Path) -> None:
    spans = (Span(15, 18, "tool"), Span(0, 4, "step", 1.0, 1.0))
    whole = row("It is 4.", finish_reason="stop")
    masked = row(
        "Well, it is 4. [x] done",
        prefix_length=6,
        finish_reason="stop_string",
        stop_string=". ",
        spans=spans,
        weight=0.5,
    )
    first, second = read_again([masked, whole], tmp_path)
    assert (first.prompt, first.problem.question) == (PROBLEM.question, PROBLEM.question)
    assert (first.finish_reason, first.stop_string, first.weight) == ("stop_string", ". ", 0.5)
    assert [span[:2] for span in first.spans if span.weight == 0.0] == [(0, 6), (15, 18)]
    assert (second.text, second.finish_reason, second.spans) == ("It is 4.", "stop", ())


def test_a_chain_that_models_wrote_has_no_masks(tmp_path: Path) -> None:
    grown = row("One. Two.", prefix_length=5, spans=(Span(0, 5, "written", author="m"),))
    [again] = read_again([grown.annotate(finish_reason="stop")], tmp_path)
    assert not again.spans and again.prefix_length == 0


def test_a_pair_is_read_as_a_pair(tmp_path: Path) -> None:
    good, bad = row("It is 4.", finish_reason="stop"), row("It is 5.", finish_reason="stop")
    pairs = read_again([good.annotate(rejected=bad)], tmp_path, needs_pairs=True)
    [pairing] = [trace for trace in pairs if trace.rejected]
    assert (pairing.text, pairing.rejected.text) == ("It is 4.", "It is 5.")
