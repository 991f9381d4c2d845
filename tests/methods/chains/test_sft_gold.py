"""SFT on the problems' own solutions, exactly."""

from __future__ import annotations

import dataclasses

import pytest
from scripted_world import number, run, stories, student

from potstill.errors import StageError
from potstill.methods.chains.sft_gold import sft_gold
from potstill.records import learns_end, learnt_stretches
from potstill.traces import Session, Share, using


def solved(name, solution, answer="4"):
    trace = number(name, f"What is {name}?", answer)
    problem = dataclasses.replace(trace.problem, solution=solution)
    return dataclasses.replace(trace, problem=problem)


GOOD = solved("good", "Two and two make four.\n#### 4")
PROBLEMS = [
    GOOD,
    solved("none", None),
    solved("differs", "Two and three make five.\n#### 5"),
    solved("prose", "It is plain to see."),
]


def test_a_right_solution_is_a_row_word_for_word_and_nobody_is_asked():
    pupil = student(["never asked"])
    ran = run("sft_gold", PROBLEMS, {"student": pupil})
    [row] = ran.rows
    assert (row.text, row.prompt, row.parents) == (
        GOOD.problem.solution,
        GOOD.prompt,
        (GOOD.id,),
    )
    # All of it is learnt, its end too; no model wrote it, and it shows the gold answer.
    assert learnt_stretches(row) == [(0, len(row.text))] and learns_end(row)
    assert row.author is None and row.saw_gold and not pupil.calls
    assert ran.stages[0].model is pupil and ran.stages[0].objective == "sft"


def test_what_is_missing_unreadable_or_differs_is_dropped_with_its_reason():
    ran = run("sft_gold", PROBLEMS, {"student": student(["-"])})
    assert ran.dropped("has_solution") == [("", "the problem has no solution")]
    assert ran.dropped("right") == [
        ("It is plain to see.", "unparsed: no number (last line)"),
        ("Two and three make five.\n#### 5", "wrong: 5 is not 4 (####)"),
    ]


def test_the_report_counts_them_and_a_note_names_the_solutions_that_differ():
    sections, notes = [], []
    with using(Session(sections=sections.append, on_note=notes.append)):
        list(sft_gold(PROBLEMS, student(["-"])))
    assert sections[0].shares == (
        Share("no solution", 1, 4),
        Share("answer can't be read", 1, 4),
        Share("another answer than the gold answer", 1, 4),
        Share("no verdict", 0, 4),
        Share("right", 1, 4),
    )
    [said] = notes
    assert said.startswith("1 of 3 gold solutions come to another answer")
    assert said.endswith("and are no rows: differs")


def test_problems_without_solutions_stop_it_with_the_fix():
    with pytest.raises(StageError, match="none of 1 problems has one") as stopped:
        run("sft_gold", [PROBLEMS[1]], {"student": student(["-"])})
    assert "--map solution=" in str(stopped.value)


def test_the_worlds_stories_have_solutions_that_are_right_in_every_step():
    ran = run("sft_gold", stories(3), {"student": student(["-"])}, steps=True)
    assert [row.text for row in ran.rows] == [trace.problem.solution for trace in ran.problems]
