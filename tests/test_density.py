"""The code stays as readable as it is: its density, measured, may not get worse."""

from __future__ import annotations

from pathlib import Path

import pytest
from density import Density, measure

pytestmark = pytest.mark.slow  # `make check` runs it

PACKAGE = Path(__file__).resolve().parents[1] / "potstill"

# At most these figures, and of LOWER_BOUNDS at least. They may only be tightened: where code has become clearer, set
# them to what it has reached, with 2 % to spare. The aims are 5, 1, 15, 5.5, 40 and 11.
LIMITS = Density(
    weak_names=2.4,
    nested_comprehensions=0.44,
    conditional_expressions=13.2,
    nodes=6.45,
    comments=28.5,
    function_name=10.7,
)
LOWER_BOUNDS = ("comments", "function_name")


@pytest.fixture(scope="module")
def density() -> Density:
    return measure(PACKAGE)


@pytest.mark.parametrize("figure", Density._fields)
def test_no_figure_gets_worse(density: Density, figure: str) -> None:
    value, limit = getattr(density, figure), getattr(LIMITS, figure)
    if figure in LOWER_BOUNDS:
        assert value >= limit, f"{figure}: {value:.2f}, and {limit} had been reached"
    else:
        assert value <= limit, f"{figure}: {value:.2f}, and {limit} had been reached"


def test_the_measure_sees_what_it_counts(tmp_path: Path) -> None:
    (tmp_path / "dense.py").write_text(
        "found = [x for row in rows for x in row]  # flat\n"
        "kept = {k: [v for v in vs] for k, vs in found}\n"
        "def f(): return 1 if kept else 2\n"
    )
    density = measure(tmp_path)
    assert density.weak_names == pytest.approx(1000 * 2 / 7)
    assert density.nested_comprehensions == pytest.approx(1000 * 2 / 3)
    assert density.conditional_expressions == pytest.approx(1000 / 3)
    assert density.comments == pytest.approx(1000 / 3)
    assert density.function_name == 1
    assert density.nodes > 5
