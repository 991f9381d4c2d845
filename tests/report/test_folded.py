"""Further tries of a method are one line of the funnel: nothing is lost or counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potstill.evaluation.results import FunnelStep
from potstill.report.funnels import fold_repeats


def steps(*names: str) -> list[FunnelStep]:
    return [FunnelStep(name, "", 10 - i, 9 - i) for i, name in enumerate(names)]


def test_repeated_stretches_become_one() -> None:
    found = fold_repeats(steps("sample", "rewrite", "keep", "rewrite", "keep", "train"))
    assert [(s.operator, s.taken, s.returned, times) for s, times in found] == [
        ("sample", 10, 9, 1),
        ("rewrite", 9 + 7, 8 + 6, 2),
        ("keep", 8 + 6, 7 + 5, 2),
        ("train", 5, 4, 1),
    ]


def test_what_does_not_repeat_at_once_stays() -> None:
    apart = steps("keep", "verify", "keep", "train")
    assert fold_repeats(apart) == [(step, 1) for step in apart]


@given(st.lists(st.sampled_from(["rewrite", "keep", "verify"]), max_size=30))
def test_counts_are_kept(names: list[str]) -> None:
    told = steps(*names)
    found = fold_repeats(told)
    assert sum(times for _, times in found) == len(told)
    assert sum(s.taken for s, _ in found) == sum(s.taken for s in told)
    assert {s.operator for s, _ in found} == set(names)
