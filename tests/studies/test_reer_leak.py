"""reer-leak: what its page says of made-up figures, and how thoughts are judged; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.records import Problem, Trace, no_progress
from potstill.studies import reer_leak
from potstill.studies.reer_leak import (
    ARMS,
    BENT,
    NAMES,
    OUTCOMES,
    RIGHT,
    SIZES,
    WRONG,
    correlate_thoughts,
    describe_study,
    kind_of,
    right_share,
)
from potstill.studies.study import StudySettings, run_in_folder

PROBLEMS = [f"p{number}" for number in range(40)]
NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"


def thought(text: str) -> Trace:
    return Trace(Problem("p", NED, "10", kind="story"), NED, text)


def arm_runs(right: int) -> list[dict]:
    """An arm that answers the first so many problems right, with every seed."""
    shares = [float(number < right) for number in range(len(PROBLEMS))]
    run = {"problems": PROBLEMS, "shares": shares, "tokens": 50, "calls": {}, "written_tokens": {}}
    return [run] * 3


def figures(steps: float = 0.5, bent: tuple[int, int] = (20, 10), **right: int) -> dict:
    """Figures of all arms at 20 of 40, but for those that are named (with _ for -); S goes with them."""
    scores = dict.fromkeys(["untrained", *ARMS], 20)
    scores |= {name.replace("_", "-"): value for name, value in right.items()}
    rows = {name: [{"own": 1 - scores[name] / 40, "right": 0.5}] * 3 for name in ARMS}
    found = {"estimate": [steps, steps - 0.1, steps + 0.1], "groups": 30, "left_out": 2}
    correlations = {name: dict.fromkeys(("plain", "partial", "pairs"), found) for name in OUTCOMES}
    offers = {"reer": {BENT: list(bent), RIGHT: [10, 3]}, "random": {}}
    runs = {name: arm_runs(value) for name, value in scores.items()}
    return {
        **{"arms": runs, "rows": rows, "offers": offers, "correlations": correlations},
        **{"compared": {"thoughts": 90, "stories": 32}, "seeds": 3, **SIZES},
    }


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (0.5, "Within a story a lower S goes with a larger share of right steps (+0.50"),
        (-0.5, "Within a story a lower S goes against a larger share of right steps (-0.50"),
        (0.05, "Within a story a lower S is not shown to go with a larger share of right steps"),
    ],
)
def test_the_finding_is_chosen_by_the_intervals(steps, sentence):
    assert sentence in describe_study(figures(steps)).finding


def test_the_finding_says_what_the_search_takes_and_whom_it_beats():
    finding = describe_study(figures(reer=30)).finding
    assert "takes 50% of the candidates that bend a wrong chain" in finding
    assert "`reer` is above `initial`" in finding and "`reer` is above `hidden`" in finding
    assert "(+1.00 " not in finding and "rank correlation of +1.00" in finding
    assert "takes" not in describe_study(figures(bent=(0, 0))).finding


def test_the_tables_have_every_outcome_kind_and_arm():
    page = describe_study(figures())
    tables = page.tables
    assert [row["goes with"] for row in tables["A lower S within a story"]] == list(
        OUTCOMES.values()
    )
    offered = {
        next(iter(row.values())): row for row in tables["What the search is offered and takes"]
    }
    assert offered[BENT]["taken by reer"] == "50.0%" and offered[WRONG]["taken by random"] == "–"
    assert [row["arm"] for row in tables["Rows"]] == list(ARMS)
    assert "world:oracle" in page.setup


@pytest.mark.parametrize(
    ("text", "kind", "share"),
    [
        ("19 - 14 = 5.\n5 * 2 = 10.", RIGHT, 1),
        ("19 - 14 = 6.\n6 * 2 = 10.", BENT, 0),
        ("5 * 2 = 10.", BENT, 0),
        ("19 - 14 = 5. It is to come to 10 in the end.\n5 * 2 = 11.", NAMES, 0.5),
        ("19 - 14 = 5.\n5 * 2 = 11.", WRONG, 0.5),
        ("", WRONG, 0),
    ],
)
def test_kinds_of_thoughts(text, kind, share):
    assert kind_of(thought(text)) == kind
    assert right_share(thought(text).problem, text) == share


def test_correlations_are_within_stories():
    thoughts = []
    for story in range(4):
        for number in range(3):
            value = float(number + 10 * story)
            thoughts.append(
                {"group": story, "own": value, "steps": -number, "answered": 1.0, "second": value}
                | {"length": 1.0, "leak": 0.0}
            )
    found = correlate_thoughts(thoughts)
    assert found["steps"]["plain"]["estimate"][0] == -1
    assert found["second"]["partial"]["estimate"][0] == 1
    assert found["answered"] == {
        name: {"estimate": None, "groups": 0, "left_out": 4} for name in found["answered"]
    }


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    sizes = {"train": 6, "test": 4, "n": 1, "steps": 1, "thoughts": 3}
    settings = StudySettings(tmp_path, seeds=1, sizes=sizes, roles=dict(reer_leak.ROLES))
    made = run_in_folder("reer-leak", reer_leak, settings, no_progress)
    assert run_in_folder("reer-leak", reer_leak, settings, no_progress) == made
    assert describe_study(made).finding and made["compared"]["stories"] == 6
