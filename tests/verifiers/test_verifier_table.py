"""The table of kinds: dispatch, versions, steps, gold answers; importing it loads nothing heavy."""

from __future__ import annotations

import json
import sys

import child
import pytest

from potstill import verifiers
from potstill.errors import ConfigError
from potstill.records import Problem

GOLD = {
    "math": Problem("m", "?", "\\frac{1}{2}", "math"),
    "number": Problem("n", "?", "1,250", "number"),
    "choice": Problem("c", "?", "B", "choice", choices=("1", "2")),
    "exact": Problem("e", "?", "a  b.", "exact"),
    "regex": Problem("r", "?", r"\d+ km", "regex", solution="It is\n12 km"),
}


def test_items_of_many_kinds_come_back_in_order() -> None:
    items = [
        (p, f"The answer is {p.answer}.")
        for p in (GOLD["number"], GOLD["math"], GOLD["choice"], GOLD["number"])
    ]
    found = verifiers.judge([*items, (GOLD["number"], "A: 3")])
    assert [v.verifier for v in found] == ["number@4", "math@4", "choice@5", "number@4", "number@4"]
    assert [v.status for v in found] == ["right"] * 4 + ["wrong"]
    assert verifiers.judge([]) == []


def test_versions_name_the_kind() -> None:
    for kind in verifiers.KINDS:
        assert verifiers.version(kind).split("@")[0] == kind


def test_gold_answers_pass_and_bad_ones_are_returned_with_their_verdict() -> None:
    assert verifiers.check_gold(list(GOLD.values())) == []
    bad = [
        Problem("1", "?", "about ten", "number"),
        Problem("2", "?", "E", "choice", choices=("1", "2")),
        Problem("3", "?", "(", "regex"),
        Problem("4", "?", "x" * 400, "math"),
    ]
    failing = verifiers.check_gold([GOLD["math"], *bad, Problem("5", "?", None, "math")])
    assert [(problem.id, verdict.status) for problem, verdict in failing] == [
        (n, "unjudged") for n in "1234"
    ]


def test_only_stories_have_steps() -> None:
    assert verifiers.steps([(GOLD["number"], "A: 3"), (GOLD["math"], "3")]) == [None, None]


def test_an_unknown_kind_says_which_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        verifiers.judge([(Problem("p", "?", "1", "nmber"), "1")])
    assert raised.value.nearest == ("number",)
    assert "choice" in raised.value.available


def test_importing_the_table_is_quick_and_loads_no_algebra() -> None:
    code = """
import json, sys, time
start = time.process_time()
import potstill.verifiers
print(json.dumps([time.process_time() - start, sorted({"sympy", "math_verify", "torch"} & set(sys.modules))]))
from potstill.records import Problem
from potstill import verifiers
verifiers.judge([(Problem("p", "?", "18", "math"), "A: 18"), (Problem("p", "?", "18", "number"), "A: 18")])
print(json.dumps(sorted({"sympy", "math_verify", "torch"} & set(sys.modules))))
"""
    runs = [child.run([sys.executable, "-c", code]) for _ in range(3)]
    lines = [[json.loads(line) for line in run.stdout.splitlines()] for run in runs]
    assert (
        min(seconds for (seconds, _), _ in lines) < 0.05
    )  # the best of three: the machine may be busy
    assert [loaded for (_, loaded), _ in lines] == [after for _, after in lines] == [[], [], []]
