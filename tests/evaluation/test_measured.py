"""The fingerprint of a figure that no evaluation holds."""

from __future__ import annotations

from dataclasses import replace

from potstill.evaluation.measured import fingerprint_figure
from potstill.records import Problem, blank

RIGHT = replace(blank(Problem("a", "2 + 2?", "4")), text="4")
PAIR = replace(RIGHT, rejected=replace(RIGHT, text="5"))


def test_it_says_what_was_measured_and_with_which_models() -> None:
    fingerprint = fingerprint_figure("delta", [PAIR], models={"student": "m1"}, settings={"k": 2})
    assert fingerprint.task["figure"] == "delta" and fingerprint.task["settings"] == '{"k":2}'
    assert fingerprint.task["verifiers"].startswith("math@")
    assert fingerprint.run["model student"] == "m1" and "potstill" in fingerprint.run


def test_whatever_moves_the_figure_moves_it() -> None:
    first = fingerprint_figure("delta", [PAIR])
    assert first == fingerprint_figure("delta", [PAIR])
    others = {
        "figure": fingerprint_figure("auroc", [PAIR]),
        "texts": fingerprint_figure("delta", [replace(PAIR, rejected=replace(RIGHT, text="6"))]),
        "prompts": fingerprint_figure("delta", [replace(PAIR, prompt="What is 2 + 2?")]),
        "settings": fingerprint_figure("delta", [PAIR], settings={"bins": 5}),
    }
    for name, other in others.items():
        assert name in first.differs(other) and first.id != other.id
    assert first.id != fingerprint_figure("delta", [PAIR], models={"student": "m2"}).id
