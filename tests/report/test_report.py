"""The report: whole, balanced, without network, and deaf to hostile model text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from demo_results import evaluation, results

from potstill.evaluation.results import (
    Ending,
    Example,
    Funnel,
    FunnelDrop,
    FunnelStep,
    Part,
    Passage,
    Results,
)
from potstill.records import Span
from potstill.report.charts import make_length_scale
from potstill.report.examples import mark_first_error, passage_heading
from potstill.report.markup import tag
from potstill.report.page import render_page, write_report

VOID = {"meta", "br"}
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "</pre></section><h1>owned</h1>",
    "{{7*7}} ${7*7} <%= 7*7 %> {title}",
    '" onmouseover="alert(1)',
    "'><svg/onload=alert(1)>",
    "<!-- comment --><style>body{display:none}</style>",
    "\x1b[31mred\x1b[0m",
    "\u202etxt.exe\u2066",
    "\x00\x08\ud800",
    "<a href=javascript:alert(1)>x</a>",
]


class Reader(HTMLParser):
    """Checks that tags balance; collects elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"unbalanced {tag}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def hostile(text: str) -> Results:
    """A run in which every string that a model or a user can choose is hostile."""
    spans = (Span(0, 2, "step", 1.0, 0.0),)
    passages = []
    for part in get_args(Part):
        passages.append(Passage(part, text, text, spans, text, cut=True, question=text))
    return replace(
        results(),
        title=text,
        note=text,
        notes=[text],
        recipe={text: text},
        evaluations={
            text: evaluation(text, "rw", "ww"),
            "untrained": evaluation("untrained", "rw", "ww"),
        },
        comparisons=[],
        examples=[
            Example(text, text, text, tuple(passages), held_out=is_held_out, note=text)
            for is_held_out in (False, True)
        ],
        funnels={text: Funnel((FunnelStep(text, text, 3, 2),), (FunnelDrop(text, text, text, 1),))},
        training={text: {text: text}},
    )


def test_the_page_is_balanced_and_holds_every_part() -> None:
    reader = read(render_page(results()))
    for heading in (
        "What came out",
        "Arms",
        "Paired differences",
        "Table",
        "From problems to rows",
        "First rewrites that pass",
    ):
        assert heading in reader.text
    for heading in (
        "Training examples",
        "Held-out problems",
        "Cost by role",
        "Lengths",
        "Training",
        "Notes and fingerprints",
    ):
        assert heading in reader.text
    assert "it is no evidence for a paper" in reader.text
    assert reader.text.count("Highest avg@4: orion") == 1


def test_nothing_comes_from_outside_and_nothing_runs() -> None:
    text = render_page(results())
    reader = read(text)
    assert re.search(r"https?:|//[a-z]|url\(|@import|src=|href=(?!\"#[a-z0-9-]+\")", text) is None
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name == "style"]
    [policy] = [
        value
        for name, value in reader.attributes
        if name == "content" and "default-src" in (value or "")
    ]
    [css] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert (
        policy
        == f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.slow
def test_hostile_text_is_shown_and_never_obeyed(text: str) -> None:
    made = render_page(hostile(text))
    made.encode("utf-8")
    reader = read(made)
    harmless = read(render_page(hostile("harmless")))
    assert reader.tags == harmless.tags
    assert [name for name, _ in reader.attributes] == [name for name, _ in harmless.attributes]
    if re.search(r"[<>\"\x00-\x1f\u202e]", text):
        assert text not in made
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)
    assert "49 49" not in reader.text


def test_template_signs_stay_as_they_were_written() -> None:
    assert "{{7*7}} ${7*7} <%= 7*7 %> {title}" in read(render_page(hostile(HOSTILE[2]))).text


def test_every_dropped_trace_has_its_reason_and_count_on_the_page() -> None:
    made = results()
    text = read(render_page(made)).text
    for funnel in made.funnels.values():
        for drop in funnel.drops:
            assert drop.reason in text and f"{drop.count:,}" in text
        for step in funnel.steps:
            assert (
                f"{step.operator}: {step.label}" in text
                and f"{step.taken:,} → {step.returned:,}" in text
            )


def test_every_comparison_has_its_sentence() -> None:
    made = results()
    text = read(render_page(made)).text
    for comparison in made.comparisons:
        assert comparison.sentence in text


def test_the_first_wrong_step_is_marked_and_no_other() -> None:
    spans = (
        Span(8, 10, "step", 1.0, 0.0),
        Span(4, 6, "step", 1.0, 0.0),
        Span(0, 2, "step", 1.0, 1.0),
    )
    assert (
        mark_first_error(Passage("row", "ab, <d, ef", spans=spans))
        == 'ab, <mark title="first wrong step">&lt;d</mark>, ef'
    )
    beyond = (Span(0, 9, "step", 1.0, 0.0),)
    assert mark_first_error(Passage("row", "ab", spans=beyond)) == "ab"
    assert mark_first_error(Passage("row", "")) == "(nothing)"


def test_a_text_is_named_by_what_it_is_and_who_wrote_it() -> None:
    training = Example("q", None, "rft")
    own_sample = Passage("row", "x", "student")
    assert passage_heading(own_sample, training) == "The training row, by the student"
    by_rule = Passage("row", "x")
    assert passage_heading(by_rule, training) == "The training row"
    foreign = Passage("attempt", "x", "student", question="another")
    assert (
        passage_heading(foreign, training) == "A wrong attempt at another problem, by the student"
    )
    answer = Passage("answer", "x", "trained student")
    assert "this training problem" in passage_heading(answer, training)
    assert passage_heading(answer, replace(training, held_out=True)) == "After the training"


def test_a_run_without_anything_still_gives_a_page() -> None:
    reader = read(render_page(Results("Empty", 0)))
    assert "Empty" in reader.text and "Arms" not in reader.text


def test_all_right_or_one_problem_draws_no_broken_chart() -> None:
    for draws in (["rr"] * 3, ["ww"] * 3, ["rw"]):
        made = Results("t", 0, evaluations={n: evaluation(n, *draws) for n in ("untrained", "b")})
        text = render_page(made)
        read(text)
        assert "nan" not in text and "inf" not in re.sub(r"\binformation\b", "", text)


def test_writing_is_atomic_and_repeatable(tmp_path: Path) -> None:
    write_report(results(), tmp_path / "deep" / "report.html")
    first = (tmp_path / "deep" / "report.html").read_bytes()
    write_report(results(), tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_bytes() == first
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_element_and_attribute_names_are_checked() -> None:
    assert tag("p", "<b>", class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;</p>'
    with pytest.raises(ValueError, match="is not an element name"):
        tag("p onload", "x")


def test_an_axis_is_logarithmic_where_values_span_decades() -> None:
    axis = make_length_scale([0, 30, 1200, 45_000])
    assert axis.is_log and axis.ticks == (10, 100, 1000, 10_000, 100_000)
    shares = [axis.share(value) for value in (10, 100, 100_000)]
    assert shares == pytest.approx([0, 0.25, 1]) and axis.share(0) == 0
    near = make_length_scale([30, 1200])
    assert not near.is_log and near.ticks[0] == 0


def test_a_learning_curve_has_a_line_and_a_legend() -> None:
    reader = read(render_page(results()))
    assert reader.tags.count("polyline") == 3
    assert "sft 1.9 → 0.41" in reader.text


def test_there_is_no_raw_json_on_the_page() -> None:
    made = results()
    nested = {"skipped": {"too long": 3}, "other": {"a": [1, 2], "b": {"c": None}}}
    text = read(render_page(replace(made, training={"sft": {"rows": 3, **nested}}))).text
    assert "left out.too long" in text and "other.a" in text and "1, 2" in text
    assert not re.search(r'[{,]\s*"\w+":', text)


def test_reasons_are_counted_together_and_only_the_most_frequent_are_listed() -> None:
    drops = [FunnelDrop("keep", "right", f"wrong: {n}", 1) for n in range(100)]
    drops.append(FunnelDrop("keep", "right", "wrong: 7", 5))
    funnel = Funnel((FunnelStep("keep", "right", 105, 0),), tuple(drops))
    text = read(render_page(replace(results(), funnels={"rft": funnel}))).text
    assert "105 texts dropped, by reason" in text and "And 60 more reasons." in text
    assert "keeps the texts that pass a test" in text


def test_an_arm_that_never_began_has_no_funnel_of_zeros() -> None:
    funnels = {"arm": Funnel((FunnelStep("train", "rows", 0, 0),), ())}
    stopped = replace(results(), funnels=funnels, ending=Ending("stopped"))
    assert "The run ended before this arm began." in render_page(stopped)
    assert "Nothing was dropped." not in render_page(stopped)
    assert "Nothing was dropped." in render_page(replace(stopped, ending=Ending("finished")))


def test_steps_of_the_rows_stand_on_the_page_with_a_warning() -> None:
    page = render_page(results())
    assert "Steps of the rows" in page and "60 (23.9 %)" in page and "0.412 (64 rows)" in page
    assert "orion: 60 of 251 rows (24 %) have no step of reasoning" in page
    assert "Steps of the rows" not in render_page(replace(results(), row_steps={}))
