"""The page Compare: two arms, of one run or of two, problem by problem; what was not asked the same is not compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.evaluation import results as results_file
from potstill.evaluation.compare import compare
from potstill.evaluation.flips import SOLVED_RULE, Flip, count_solved, pair_problems
from potstill.evaluation.metrics import average
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import format_percent
from potstill.runs.manifest import list_differences
from potstill.viewer.overview import describe_comparison
from potstill.viewer.reader import RunReader

EXCERPT = 200


class Side(NamedTuple):
    """One of the two: a run, and an arm of it that was measured."""

    reader: RunReader
    results: Results
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """As addresses name it."""
        return f"{self.reader.run.name}:{self.evaluation.name}"


class CompareRequest(NamedTuple):
    """Which part of the list of problems."""

    facets: Mapping[str, Sequence[str]] = {}
    sort: str = "change"
    after: str = ""
    limit: int = 200


def find_side(reader: RunReader, arm: str) -> Side:
    """An arm of a run.

    Raises:
        InputError: it was not measured.
    """
    results = reader.saved_results()
    if arm not in results.evaluations:
        raise InputError(
            f"no arm {arm[:80]!r} of {reader.run.name} was measured",
            available=list(results.evaluations),
            wanted=arm,
        )
    return Side(reader, results, results.evaluations[arm])


def describe_compare(a: Side, b: Side, request: CompareRequest) -> dict[str, Any]:
    """The comparison of two sides, `b` the base; where they were not asked the same, in what they differ."""
    # Only what was asked must be equal; who answered may differ.
    task_a, task_b = a.evaluation.fingerprint.task, b.evaluation.fingerprint.task
    differs = []
    for name in a.evaluation.fingerprint.differs(b.evaluation.fingerprint):
        differs.append({"name": name, "a": task_a.get(name, ""), "b": task_b.get(name, "")})
    document: dict[str, Any] = {
        "a": _describe_side(a),
        "b": _describe_side(b),
        "is_comparable": not differs,
        "differs": differs,
        "recipe": list_differences(_settings(b), _settings(a)),
        "settings_a": _settings(a),
        "settings_b": _settings(b),
        "costs": {"a": _costs(a), "b": _costs(b)},
    }
    if differs:
        names = ", ".join(one["name"] for one in differs)
        return {
            **document,
            "found": f"{a.name} and {b.name} were not asked the same (unequal: {names})",
            "expected": "one set of problems, prompts, sampling and n",
            "fix": f"evaluate {a.evaluation.name} as {b.evaluation.name} was",
        }
    # Arms of two runs may have one name.
    first, second = a.evaluation, b.evaluation
    if a.reader is not b.reader:
        first = dataclasses.replace(first, name=a.name)
        second = dataclasses.replace(second, name=b.name)
    # By problem, whatever order the two have their rows in.
    pairs = pair_problems(first, second)
    solved = count_solved(pairs)
    table = {
        "both": solved.both,
        "only_a": solved.only_arm,
        "only_b": solved.only_base,
        "neither": solved.neither,
        "rule": SOLVED_RULE,
    }
    return {
        **document,
        "comparison": describe_comparison(compare(first, second)),
        "table": table,
        **_list_flips(a, b, pairs, request),
    }


def _list_flips(a: Side, b: Side, pairs: Sequence[Flip], request: CompareRequest) -> dict[str, Any]:
    """The problems that differ, the largest change first."""
    # Problems on which both did equally well say nothing here.
    flips = [pair for pair in pairs if pair.change and _fits(pair, request.facets)]
    if request.sort == "change":
        flips.sort(key=lambda pair: -abs(pair.change))
    elif request.sort != "problem":
        raise InputError(
            f"there is no order {request.sort[:40]!r}", available=["change", "problem"]
        )
    # The cursor is the last page's problem; one that is no longer in the list begins it anew.
    start = 0
    if request.after:
        places = {pair.problem: place for place, pair in enumerate(flips)}
        start = places.get(request.after, -1) + 1
    part = flips[start : start + request.limit]
    has_more = start + request.limit < len(flips)
    questions = _read_questions([a.reader, b.reader], [pair.problem for pair in part])
    listed = []
    for pair in part:
        question, gold = questions.get(pair.problem, ("", None))
        listed.append(
            {
                "problem": pair.problem,
                "question": question[:EXCERPT],
                "gold": gold,
                "a": {"right": pair.arm.right, "n": pair.arm.n},
                "b": {"right": pair.base.right, "n": pair.base.n},
                "change": pair.change,
                "is_flip": pair.is_flip,
            }
        )
    return {
        "count": len(flips),
        "flips": listed,
        "next": part[-1].problem if part and has_more else None,
    }


def _fits(pair: Flip, facets: Mapping[str, Sequence[str]]) -> bool:
    direction = "gained" if pair.change > 0 else "lost"
    if facets.get("direction") and direction not in facets["direction"]:
        return False
    is_flip = "yes" if pair.is_flip else "no"
    return not facets.get("flip") or is_flip in facets["flip"]


def _read_questions(
    readers: Sequence[RunReader], problems: Sequence[str]
) -> dict[str, tuple[str, str | None]]:
    questions: dict[str, tuple[str, str | None]] = {}
    sql = "SELECT id, question, answer FROM view.problems WHERE id IN ({})"
    for reader in readers:
        # A results.json alone is enough to compare; then there are no questions to show.
        if not reader.has_store:
            continue
        with reader.store() as store:
            for problem, question, gold in store.database.read_by_keys(sql, problems):
                # The sides have equal problems here, so the first store that has one will do.
                questions.setdefault(problem, (question or "", gold))
    return questions


def _describe_side(side: Side) -> dict[str, Any]:
    evaluation = side.evaluation
    return {
        "run": side.reader.run.name,
        "arm": evaluation.name,
        "n": evaluation.n,
        "measures": results_file.measures_to_json(evaluation),
        "shown": format_percent(average(evaluation)),
        "fingerprint": evaluation.fingerprint.to_json(),
    }


def _settings(side: Side) -> dict[str, Any]:
    """What made this arm: the run's settings, and of the arms only this one's."""
    # The other arms of a run are no part of this one.
    settings = dict(side.results.recipe)
    arms = settings.pop("arms", {})
    return {**settings, "arm": arms.get(side.evaluation.name, {})}


def _costs(side: Side) -> dict[str, Any]:
    costs = side.results.costs.get(side.evaluation.name, {})
    return {role: cost._asdict() for role, cost in costs.items()}
