"""DLCoT, exactly: how a chain is taken apart, what is marked, and what its editor's replies must be."""

from __future__ import annotations

import pytest
from scripted_world import number, prompts, run, script, student

from potstill.methods.rewriting.dlcot import prompts as asked
from potstill.methods.rewriting.dlcot.structure import (
    Label,
    Structure,
    erroneous_texts,
    is_verbatim,
    read_clusters,
    read_completion,
    read_headed,
    read_labels,
    redundant_members,
)

P1 = number("p1", "What is 2 + 3 + 4?", "9")
REPEATED, PLAN = "<think>\nSo 2 + 3 + 4 is asked.", "I add in turn."
FIRST, SECOND = "2 + 3 = 5, 5 + 4 = 9.", "Alternatively 4 + 3 = 7, 7 + 2 = 9."
CHECK, AGAIN = "Check: 9 - 4 = 5.", "Once more: 9 - 4 = 5."
END = "</think>\nIt is \\boxed{9}."
CHAIN = "\n".join((REPEATED, PLAN, FIRST, SECOND, CHECK, AGAIN, END))
SHORT = "\n".join((REPEATED, PLAN, FIRST, SECOND, CHECK, END))


def headed(*sections):
    return "\n".join(f"## {name}\n{text}" for name, text in sections)


CONTENTS = (REPEATED, PLAN, f"{FIRST}\n{SECOND}", f"{CHECK}\n{AGAIN}", END)
LABELS = "Solution 1: Correct\nError: no\nQuote: -\nSolution 2: Correct\nError: no\nQuote: -"
CLUSTERS = "cluster1 [Solution 1] in turn\ncluster2 [Solution 2] backwards\ncluster3 [Solution 3, Solution 4] take away"
REPLIES = {
    "into these five parts": headed(*zip(asked.PARTS, CONTENTS, strict=True)),
    "the approaches that it tries": headed(("Solution 1", FIRST), ("Solution 2", SECOND)),
    "single checks": headed(("Check 1", CHECK), ("Check 2", AGAIN)),
    "smallest number of checks": "Complete",
    "Judge each solution": LABELS,
    "Group the solutions": CLUSTERS,
    "Take the parts named below out": SHORT,
}


def dlcot(changes=(), **values):
    teacher, editor = script({"": CHAIN}), script({**REPLIES, **dict(changes)})
    roles = {"teacher": teacher, "editor": editor, "student": student(["-"])}
    return run("dlcot", [P1], roles, **values), editor


def test_what_repeats_an_approach_is_taken_out_of_the_chain():
    ran, editor = dlcot()
    assert ran.texts() == {"p1": [SHORT]} and ran.prompts_learnt() == [P1.prompt]
    assert ran.rows[0].author.model == editor.id and not ran.rows[0].saw_gold
    assert len(editor.calls) == 7
    shown = prompts(editor)
    assert shown[0].endswith(CHAIN)
    assert f"Text that checks it:\n{CHECK}\n{AGAIN}" in shown[2]
    assert f"First part:\n{SECOND}\n\nCheck 1:" in shown[3]
    assert f"Solution 3:\n{CHECK}\n\nSolution 4:\n{AGAIN}" in shown[5]
    assert shown[6].endswith(f"Parts to take out:\n{AGAIN}")


@pytest.mark.parametrize(
    ("asking", "reply", "calls"),
    [
        ("into these five parts", headed(("Exploration", FIRST)), 1),
        ("into these five parts", "I can't split it.", 1),
        ("the approaches that it tries", headed(("Solution 1", FIRST)), 2),
        ("single checks", headed(("Check 1", "Check: 9 - 4 = 6.")), 3),
        ("smallest number of checks", "I can't say.", 4),
        ("Judge each solution", LABELS.replace("Solution 2", "Solution 3"), 5),
        ("Group the solutions", CLUSTERS.replace(", Solution 4", ""), 6),
        ("Group the solutions", {"error": "down"}, 6),
        ("Take the parts named below out", {"text": SHORT, "finish": "length"}, 7),
        ("Take the parts named below out", SHORT.replace("{9}", "{8}"), 7),
        ("Take the parts named below out", CHAIN + " Yes.", 7),
        ("Take the parts named below out", "It is \\boxed{9}.", 7),
    ],
)
def test_a_reply_that_says_something_else_leaves_the_chain_whole(asking, reply, calls):
    ran, editor = dlcot({asking: reply})
    assert ran.texts() == {"p1": [CHAIN]} and len(editor.calls) == calls


def test_the_first_checks_complete_an_approach():
    _, editor = dlcot(
        {
            "smallest number of checks": "Needs 1",
            "Group the solutions": "cluster1 [Solution 1, 2, 3]",
        }
    )
    assert f"{SECOND}\n{CHECK}" in prompts(editor)[4]
    assert prompts(editor)[6].endswith(f"Parts to take out:\n{SECOND}\n{CHECK}\n\n{AGAIN}")
    assert read_completion("needs 3.", 2) is None and read_completion("It is complete", 2) is None
    assert read_completion("Incomplete", 2) == 0  # no check completes it, so none is moved


def test_the_controls_take_out_errors_or_members_by_chance_or_nothing():
    labels = LABELS.replace(
        "Solution 2: Correct\nError: no\nQuote: -",
        "Solution 2: Incorrect\nError: yes\nQuote: 4 + 3",
    )
    _, editor = dlcot({"Judge each solution": labels}, arm="errors")
    assert prompts(editor)[6].endswith(f"Parts to take out:\n{AGAIN}\n\n{SECOND}")
    # Without a correct approach there is no main path to keep, and the chain stays whole.
    ran, editor = dlcot(
        {"Judge each solution": labels.replace(": Correct", ": Incorrect")}, arm="errors"
    )
    assert ran.texts() == {"p1": [CHAIN]} and len(editor.calls) == 6
    _, editor = dlcot(arm="random")
    assert any(prompts(editor)[6].endswith(text) for text in (SECOND, CHECK, AGAIN))
    ran, editor = dlcot(arm="whole")
    assert ran.texts() == {"p1": [CHAIN]} and not editor.calls


def test_of_what_repeats_only_the_last_members_may_go():
    clusters = {
        "Group the solutions": "cluster1 [Solution 1, Solution 2]\ncluster2 [Solution 3, Solution 4]"
    }
    for delete, removed in (
        ("last", AGAIN),
        ("last-two", f"{SECOND}\n\n{AGAIN}"),
        ("all", f"{SECOND}\n\n{AGAIN}"),
    ):
        _, editor = dlcot(clusters, delete=delete)
        assert prompts(editor)[6].endswith(f"Parts to take out:\n{removed}")


def test_wrong_parts_go_whole_off_the_main_path_and_quoted_on_it():
    labels = (
        Label("incorrect", "2 + 2 = 5"),
        Label("correct", "no quotation"),
        Label("incorrect", "x"),
    )
    one = Structure(("First 2 + 2 = 5.", "Right.", "Wrong."), ("Check.",), labels, ((1, 4), (2, 3)))
    assert erroneous_texts(one) == ["2 + 2 = 5", "Wrong."]
    assert redundant_members(one) == [3, 4]


def test_replies_are_read_word_for_word_or_not_at_all():
    assert read_headed("before\n## A\none\n## B\n") == [("A", "one"), ("B", "")]
    assert is_verbatim(["a b", "c"], "a  b\n c") and not is_verbatim(["a"], "a b")
    assert read_labels("Solution 1: Fine", 1) is None
    [label] = read_labels('Solution 1: Incorrect\nError: yes\nQuote: "-3 + 4 = 7"', 1)
    assert label.wrong_part == "-3 + 4 = 7"
    assert read_clusters("cluster1 [Solution 1]\ncluster2 [Solution 1]", 1) is None


def test_what_the_editor_thinks_is_not_read():
    thought = "<think>\n## Solution 1\nPerhaps.\n</think>\n"
    changes = {"approaches that it tries": thought + REPLIES["the approaches that it tries"]}
    assert dlcot(changes)[0].texts() == {"p1": [SHORT]}
