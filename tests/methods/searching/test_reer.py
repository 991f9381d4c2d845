"""REER's search, exactly: what is asked and scored, which candidate takes a segment's place, and what is learnt."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import ORACLE, run

from potstill.errors import StageError
from potstill.methods.searching.reer.filters import copied_share, has_come_to_an_end, repeats_little
from potstill.methods.searching.reer.reer import choose_opener
from potstill.methods.searching.reer.reference import reference_passage
from potstill.methods.searching.reer.segments import split_segments
from potstill.methods.searching.reer.settings import Settings
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank, learnt_stretches
from potstill.runs.cast import Cast
from potstill.traces import ReferenceGate

# Short stories have short chains: a sentence is a segment, and the answer the response.
CAST = Cast(
    models={"generator": ORACLE},
    values={
        "settings": Settings(
            reference="answer",
            segment="sentence",
            min_tokens=1,
            min_segment_chars=1,
            max_segments=3,
        )
    },
)

SHORT = Settings(min_segment_chars=1, min_tokens=1, asks_reflection=False)
X = "Write of a lighthouse."
Y = "The lamp burns.\n\nThe sea answers the keeper."
TASK = blank(Problem("p1", X, kind="rubric", solution=f"<think>hm</think>\n{Y}"), f"Please: {X}")
Z = "I want a keeper.\n\nIt has a voice.\n\nThen I write."
BETTER, WORSE = "The sea has a voice.", "Nothing."


def foretold(passage):
    """A word of the response that the thought holds is nearly sure; any other costs five nats."""
    return [
        -0.1 if word in passage.prefix.partition("</think>")[0] else -5.0
        for word in re.findall(r"\w+", passage.text)
    ]


def refined(text):
    return f"<analyze>It is for the sea.</analyze>\n<refine>\n{text}\n</refine>"


def generator(**replies):
    """Replies by the marked paragraph, two a paragraph; without one marked the initial thought."""

    def reply(request):
        marked = re.search(r"<paragraph>\n(.*?)\n</paragraph>", request.prompt, re.DOTALL)
        if marked is None:
            return replies.get("initial", f"<think>\n{Z}\n</think>")
        candidates = replies.get(marked[1].split()[0], ("no tags", "<refine></refine>"))
        return candidates[request.sample_index % 2]

    return ScriptedModel(reply)


def student():
    return ScriptedModel(["never asked"], weights=Path("nowhere"), logprobs=foretold)


def search(tasks=(TASK,), settings=SHORT, pupil=None, writer=None, **values):
    roles = {"generator": writer or generator(), "student": pupil or student()}
    return run("reer", list(tasks), roles, settings=settings, **values)


def test_the_candidate_that_lowers_s_most_takes_the_place_and_no_other_does():
    writer = generator(
        It=(refined(WORSE), refined(BETTER)), Then=(refined(WORSE), refined("Then."))
    )
    ran = search(writer=writer)
    [row] = ran.rows
    z = Z.replace("It has a voice.", BETTER)
    assert row.text == f"<think>\n{z}\n</think>\n\n{Y}"
    assert row.prompt == TASK.prompt and row.saw_gold and row.finish_reason == "stop"
    assert learnt_stretches(row) == [(0, len(row.text))], "thought and response, all of it"
    # Of "The sea answers the keeper." the initial thought holds "The" and "keeper", then also "sea"; the clip is at 2.
    assert row.scores["reer_initial"] == pytest.approx((3 * 2.0 + 2 * 0.1) / 5)
    assert row.scores["reer"] == pytest.approx((2 * 2.0 + 3 * 0.1) / 5)
    assert row.scores["reer_unclipped"] == pytest.approx((2 * 5.0 + 3 * 0.1) / 5)
    assert row.scores["reer_stop"] == "last segment"
    assert len(writer.calls) == 1 + 2 * 3, "one thought, two candidates for each of three segments"
    reasons = [reason for text, reason in ran.dropped("is_chosen") if WORSE in text]
    assert len(reasons) == 2 and all("another segment" in reason for reason in reasons)
    assert len(ran.dropped("recompose")) == 2, "replies without the tags are counted, not guessed"


def test_what_the_scorer_reads_is_the_row_up_to_the_response_whose_first_segment_is_given():
    pupil = student()
    search(pupil=pupil, arm="initial")
    passage = pupil.scored[0]
    assert passage.text == "The sea answers the keeper."
    assert passage.prefix == f"<think>\n{Z}\n</think>\n\nThe lamp burns.\n\n"
    assert X in passage.prompt and passage.prompt != TASK.prompt
    own_prompt = reference_passage(replace(SHORT, score_prompt=""), TASK)
    assert own_prompt.prompt == TASK.prompt
    one_segment = blank(Problem("p2", X, kind="rubric", solution="It burns."))
    assert reference_passage(SHORT, one_segment).text == "It burns.", "scored whole"


def test_the_search_ends_where_s_is_low_enough():
    writer = generator(I=(refined("The sea answers the keeper."), refined("I want a sea.")))
    ran = search(writer=writer)
    assert len(writer.calls) == 1 + 2 and ran.rows[0].scores["reer"] == pytest.approx(0.1)
    assert ran.rows[0].scores["copied"] == 0, (
        "the run is of eight words, and Y has eight with its first segment"
    )
    assert ran.rows[0].scores["reer_stop"] == "low S"
    [row] = search(settings=replace(SHORT, max_segments=1)).rows
    assert row.scores["reer_stop"] == "max_segments"
    low = replace(SHORT, stop_score=10.0)
    assert len(search(writer=(again := generator()), settings=low).rows) == len(again.calls) == 1


def test_formatting_alone_does_not_move_s():
    writer = generator(It=(refined("  It has a voice.  "), refined("It has a voice.\n\n\n")))
    ran = search(writer=writer)
    assert ran.rows[0].text.startswith(f"<think>\n{Z}\n</think>")


def test_what_the_generator_is_shown():
    writer = generator()
    search(writer=writer)
    initial, *refining = [request.prompt for request in writer.calls]
    assert X in initial and Y in initial and "hm" not in initial
    assert (
        f"{Y}\n\nThinking:\nI want a keeper.\n\n<paragraph>\nIt has a voice.\n</paragraph>\nThen I write."
        in (refining[2])
    )
    for arm in ("hidden", "forward"):
        search(writer=(blind := generator()), arm=arm)
        assert all(
            Y not in request.prompt and "lamp" not in request.prompt for request in blind.calls
        )
        assert len(blind.calls) == (7 if arm == "hidden" else 1)


def test_replies_begin_with_openers_in_their_shares():
    tasks = [blank(Problem(f"p{n}", X, kind="rubric", solution=Y)) for n in range(200)]
    counts = [choose_opener(task) for task in tasks].count("Alright, the user")
    assert 70 < counts < 125
    writer = generator(initial=f"Alright.\n\n{Z}")
    search([TASK], replace(SHORT, asks_reflection=True), writer=writer, arm="initial")
    [request] = writer.calls
    assert request.prefix.startswith("<think>\n") and "Let me think again" in request.prompt


@pytest.mark.parametrize(
    ("arm", "text"),
    [("no-thought", Y), ("answer-leak", f"<think>\n{Y}\n</think>\n\n{Y}")],
)
def test_controls_that_ask_no_generator(arm, text):
    writer = generator()
    [row] = search(writer=writer, arm=arm).rows
    assert row.text == text and not writer.calls
    assert learnt_stretches(row) == [(0, len(text))]
    assert row.scores["copied"] == (arm == "answer-leak")


def test_the_guard_refuses_copies_of_the_response():
    copy = refined(Y.replace("\n\n", " "))
    writer = generator(It=(copy, copy))
    assert search(writer=writer).rows[0].scores["copied"] == 1
    ran = search(writer=generator(It=(copy, refined(BETTER))), arm="guarded")
    assert BETTER in ran.rows[0].text and ran.rows[0].scores["copied"] == 0
    [(_, reason)] = ran.dropped("copies_little(Settings)")
    assert reason == "copies 100% of the response's runs of words"


def test_by_chance_any_candidate_takes_the_place():
    writer = generator(It=(refined(WORSE), refined(WORSE)))
    assert WORSE in search(writer=writer, arm="random").rows[0].text


def test_best_of_n_takes_the_likeliest_of_many_thoughts():
    def reply(request):
        end = "The sea answers." if request.sample_index == 13 else "No."
        return f"<think>{Z}\n\n{end}</think>"

    ran = search(writer=ScriptedModel(reply), arm="best-of-n")
    assert len(ran.rows) == 1 and "The sea answers.\n</think>" in ran.rows[0].text


def test_problems_and_thoughts_that_are_left_out_say_why():
    bare = blank(Problem("p2", "What?", "4", kind="number"))
    assert (
        search([bare, TASK])
        .dropped("has_reference(Settings)")[0][1]
        .startswith("the problem has no solution")
    )
    assert len(search([bare], replace(SHORT, reference="answer"), arm="no-thought").rows) == 1
    mute = ScriptedModel(["x"], weights=Path("nowhere"), logprobs=lambda passage: ())
    for reason, values in {
        "a thought of one segment": {"writer": generator(initial="<think>One.</think>")},
        "a thought of fewer than 100 tokens": {"settings": replace(SHORT, min_tokens=100)},
        "the scorer gave no likelihood of the response": {"pupil": mute},
    }.items():
        with pytest.raises(StageError, match=reason):
            search(**values)


def test_filters_of_a_finished_thought():
    def thought(text):
        return replace(TASK, text=text)

    late, early = thought(f"{'So it goes. ' * 20}Wait, is it?"), thought(f"Wait. {'So. ' * 80}")
    assert has_come_to_an_end(0.1, late) == (False, "still thinking at its end: 'Wait'")
    assert has_come_to_an_end(0.1, early)[0]
    assert not repeats_little(0.3, thought("the sea again " * 9))[0]
    assert repeats_little(0.3, thought("the sea again"))[0]
    assert copied_share(SHORT, thought(Y)) == 1


def test_segments_are_paragraphs_joined_where_short_and_math_is_whole():
    text = "One.\n\n$$a\n\nb$$\n \nLonger paragraph here.\n\nEnd."
    assert "".join(split_segments(text, 1)) == text
    assert split_segments(text, 1)[:2] == ("One.\n\n", "$$a\n\nb$$\n \n")
    assert split_segments(text, 12) == (
        "One.\n\n$$a\n\nb$$\n \n",
        "Longer paragraph here.\n\nEnd.",
    )
    assert split_segments("a\nb", 1) == ("a\n", "b") and split_segments("a b", 1) == ("a b",)
    assert split_segments("a\n\nb", 100) == ("a\n\nb",) and split_segments("", 1) == ()
    one_line = "5 + 2.5 = 7.5. So it is. Yes!"
    assert split_segments(one_line, 1, "sentence") == ("5 + 2.5 = 7.5. ", "So it is. ", "Yes!")


def test_where_the_response_is_the_answer_the_thought_has_half_of_the_solutions_steps():
    solution = "I add 1. I add 2. I add 3. I add 4. I add 5. I add 6. I add 7."
    task = blank(Problem("p1", X, "28", kind="number", solution=solution), X)
    settings = replace(SHORT, reference="answer", max_segments=0)
    with pytest.raises(StageError, match="too few steps"):
        search([task], settings)
    [row] = search([task], settings, gate=ReferenceGate(min_step_share=0.4)).rows
    assert row.text.endswith("The answer is \\boxed{28}.")
