"""A seeded sample of a training's rows: how trainings on different data are given equally many. No torch in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from potstill.records import Trace, digest


def sample_rows(rows: Sequence[Trace], count: int, seed: int) -> list[Trace]:
    """At most `count` rows, as many problems as possible, in the order in which they stood.

    A problem's first row comes before any second one, and problems come in an order that depends on the seed alone: two
    sets of rows on the same problems are cut down to rows of the same problems, as far as both have them. A larger
    count takes the same rows and more.

    Args:
        rows: to choose from.
        count: how many; 0 is all of them.
        seed: of the choice.
    """
    if not 0 < count < len(rows):
        return list(rows)
    rows_seen: Counter[str] = Counter()
    ranks: list[tuple[int, str, int]] = []
    for place, row in enumerate(rows):
        problem_id = row.problem.id
        ranks.append((rows_seen[problem_id], digest("sample", [seed, problem_id]), place))
        rows_seen[problem_id] += 1
    chosen_places = sorted(place for _, _, place in sorted(ranks)[:count])
    return [rows[place] for place in chosen_places]
