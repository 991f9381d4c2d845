"""Yes or no and named sections: what is read, what is None, and that every reply is counted once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.records import Stage, blank
from potstill.runs.driver import drive
from potstill.traces import (
    Session,
    Share,
    edit,
    read_conclusion,
    read_sections,
    read_yes_no,
    sample,
    using,
)
from potstill.traces.reading import replies_section
from potstill.traces.reply_counts import ReplyCounter

VERDICTS = {
    "Yes": True,
    "no.": False,
    "**Yes**, the step holds.": True,
    "<answer>No</answer>": False,
    "\n - NO: 3 + 4 is 7": False,
    "<think>Yes? No...</think>Yes": True,
    "The step adds 3.\nVerdict: **no**": False,
    "It looks fine to me.\nThe final answer is yes.": True,
    "": None,
    "Not sure": None,
    "Yes or no?": None,
    "yes/no": None,
    "I would say yes to part of it.": None,
    "Nothing is wrong": None,
    "<think>Yes": None,
}


@pytest.mark.parametrize("text", VERDICTS)
def test_a_verdict_is_read_or_none(text):
    assert read_yes_no(text) is VERDICTS[text]


CAUSE = {"Cause": "slip", "Correction": "7"}
SECTIONS = {
    "<Cause>slip</Cause> <Correction>7</Correction>": "strict",
    "Well.\n<cause>slip</cause>\n<CORRECTION>7</correction>": "strict",
    "<Cause>slip <Correction>7": "tolerant",
    "<Cause: > slip <Cause><Correction:>7<Correction>": "tolerant",
    "<Cause></Cause><Cause>slip</Cause><Correction>7</Correction><Cause>x</Cause>": "strict",
    "## Cause\nslip\n**Correction:** 7": "tolerant",
    "Cause: slip\ncorrection: 7": "tolerant",
    "<think><Cause>x</Cause></think><Cause>slip</Cause><Correction>7</Correction>": "strict",
    "<Cause>slip</Cause>": "unparsed",
    "<Cause> </Cause><Correction>7</Correction>": "unparsed",
    "</Cause>slip<Correction>7": "unparsed",
    "because of a correction": "unparsed",
}


@pytest.mark.parametrize("text", SECTIONS)
def test_sections_are_read_or_none_and_counted(text):
    replies = ReplyCounter()
    with using(Session(replies=replies)):
        sections = read_sections(text, ["Cause", "Correction"])
    reading = SECTIONS[text]
    assert sections == (None if reading == "unparsed" else CAUSE)
    assert replies.counts()["sections Cause, Correction"][reading] == 1


def test_words_of_a_name_may_be_joined_otherwise_and_some_may_be_missing():
    text = "<Key insight>double it</key-insight>"
    assert read_sections(text, ["key_insight"], optional=["pitfalls"]) == {
        "key_insight": "double it",
        "pitfalls": "",
    }
    with pytest.raises(ConfigError, match="each once"):
        read_sections(text, ["key_insight", "Key Insight"])


@given(st.text(alphabet="<>/ab: \n#*", max_size=60))
def test_any_text_is_read_or_none(text):
    sections = read_sections(text, ["a", "b"])
    assert sections is None or all(sections.values())
    assert read_yes_no(text) is None


def test_a_reply_counts_once_however_often_it_is_read():
    replies = ReplyCounter()
    with using(Session(replies=replies)):
        for text in ("yes", "yes", "hm", "**no**"):
            read_yes_no(text)
    assert replies_section(replies).shares == (
        Share("yes or no: unparsed", 1, 3),
        Share("yes or no: not quite in its form", 1, 3),
    )


def reads_verdicts(problems, student):
    """A method that keeps what its student says yes to."""
    drawn = edit(text_of_yes, sample(student, problems))
    yield Stage(student, drawn, "sft")


def text_of_yes(trace):
    return "yes" if read_yes_no(trace.text) else None


def test_the_report_of_a_method_shows_what_it_could_not_read():
    from fakes import sum_problem

    from potstill.models.scripted import ScriptedModel

    sections = []
    answers = iter(["Yes", "hm", "no"])
    student = ScriptedModel(lambda request: next(answers))
    problems = [blank(sum_problem(f"p{i}", [i, i])) for i in range(3)]
    with using(Session(sections=sections.append)):
        drive(reads_verdicts, problems, {"student": student}, {}, lambda stage: stage.model)
    [section] = sections
    assert section.shares == (Share("yes or no: unparsed", 1, 3),)


def test_a_name_in_the_place_of_names_is_refused_and_not_taken_apart_into_letters():
    with pytest.raises(ConfigError, match="'cause' in the place of names"):
        read_sections("<cause>6 for 5</cause>", "cause")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Grounded: yes. 2 + 2 is 4.\nno", False),
        ("<think>no</think>All right.\n**Yes.**", True),
        ('It adds up.\nSo the answer is "yes".', True),
        ("Is it yes or no", None),
        ("no\nAt least I think so.", None),
        ("There are no errors.", None),
        ("", None),
    ],
)
def test_a_conclusion_is_the_last_word_of_the_last_line(reply, verdict):
    assert read_conclusion(reply, reader="check") is verdict
