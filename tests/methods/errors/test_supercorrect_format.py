"""The thought template: read as models write it, counted as strict, tolerant or unparsed, and never a surprise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.methods.errors.supercorrect.format import (
    read_solution,
    write_correction,
    write_step_start,
)
from potstill.traces import Session, using
from potstill.traces.reply_counts import ReplyCounter

TWO_STEPS = [("add", "twice"), ("double", "")]  # text and key
FORMS = {
    "<Step1>add<Key>twice</Key></Step1>\n<Step2>double</Step2><Answer>10</Answer>": "strict",
    "Step 1: add\nKey: twice\nStep 2: double\nAnswer: 10": "strict",
    "<think><Step1>no</Step1><Answer>1</Answer></think><Step1>add<Key>twice</Key></Step1>"
    "<Step2>double</Step2><Answer>10</Answer>": "strict",
    "<step 1:>add <key>twice</key></step 1><STEP2>double</STEP2><answer:>10</answer>": "tolerant",
    "<Step1>add<Key>twice<Step2>double<Answer>10": "tolerant",
    "<Step1>add<Key>twice<Key><Step1><Step2>double<Step2><Answer>10<Answer>": "tolerant",
    "<Step1>add</Step1><Key>twice</Key><Step2>double</Step2><Answer>10</Answer>": "tolerant",
    "<Step3>add<Key>twice</Key></Step3><Step7>double</Step7><Answer>10</Answer>": "tolerant",
    "<Step1>add<Key>twice</Key></Step1><Step2>double</Step2>So it is \\boxed{10}": "tolerant",
    "## Step 1: add\n**Key:** twice\n**Step 2**: double\nAnswer: 10": "tolerant",
}


@pytest.mark.parametrize("text", FORMS)
def test_the_forms_that_models_write_are_read_alike_and_counted_apart(text):
    replies = ReplyCounter()
    with using(Session(replies=replies)):
        solution = read_solution(text)
    assert [(step.text, step.key) for step in solution.steps] == TWO_STEPS
    assert solution.answer in ("10", "\\boxed{10}") and solution.first_fault == 0
    counts = replies.counts()["thought template"]
    assert counts[FORMS[text]] == 1, counts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no steps, 10",
        "<Step1>add</Step1>",
        "<Answer>10</Answer>",
        "<Step1>a</Step1><Answer> </Answer>",
        "<think><Step1>a</Step1><Answer>1</Answer>",
    ],
)
def test_without_a_step_or_an_answer_nothing_is_read(text):
    replies = ReplyCounter()
    with using(Session(replies=replies)):
        assert read_solution(text) is None
    assert replies.counts()["thought template"]["unparsed"] == 1


def test_a_step_knows_where_it_stands_and_what_is_wrong_with_it():
    text = "Well.\n<Step1>a</Step1>\n<Step2>b<Cause>c</Cause><Correction>d</Correction></Step2><Answer>1</Answer>"
    first, second = read_solution(text).steps
    assert text[first.start : first.stop] == "<Step1>a</Step1>"
    assert text[second.content_start : second.stop].startswith("b<Cause>")
    assert (second.text, second.cause, second.correction) == ("b", "c", "d")
    assert read_solution(text).first_fault == 2
    thought = f"<think>hm</think>{text}"
    assert read_solution(thought).steps[0].start == first.start + len("<think>hm</think>")


@pytest.mark.parametrize("xml", [True, False])
def test_what_is_written_is_read_back(xml):
    text = write_step_start(1, xml=xml, on_line=True)
    text += write_correction("a slip", "5 * 2 = 10", xml=xml)
    text += "<Answer>10</Answer>" if xml else "Answer: 10"
    [step] = read_solution(text).steps
    assert (step.cause, step.correction) == ("a slip", "5 * 2 = 10")
    assert write_correction("", "x", xml=xml).count("x") == 1
    assert "ause" not in write_correction("", "x", xml=xml)


PIECES = ["<Step1>", "</Step1>", "<step 2:>", "<Key>", "</Key>", "<Cause>", "<Correction>"]
PIECES += ["<Answer>", "</Answer>", "Step 1:", "\nAnswer:", "a", "\n", "<think>", "</think>"]


@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_any_text_is_read_or_none_and_steps_stand_in_order(pieces):
    text = "".join(pieces)
    solution = read_solution(text)
    if solution is None:
        return
    assert solution.answer and solution.steps
    stops = [0]
    for step in solution.steps:
        assert stops[-1] <= step.start < step.content_start <= step.stop <= len(text)
        stops.append(step.stop)
