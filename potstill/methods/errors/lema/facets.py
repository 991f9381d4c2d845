"""Which mistakes are learnt from: where each came from, how deep in the chain it is, how hard its question was.

Kept as scores of the rows: `source_model`, `incorrect_step`, `step_depth` (k/n), `solve_rate` of the question, and
where a step verifier judged the attempt `first_error`, its first wrong step. The kind of error (calculation, misread,
logic, omission) is not told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from potstill.methods.errors.lema.corrections import Correction, read_correction
from potstill.methods.errors.lema.steps import find_steps
from potstill.records import Trace
from potstill.traces import ReportSection, Score, Share, line, look_up, score

DEPTHS = ("first third", "middle third", "last third")


def score_facets(
    rows: list[Trace], corrections: Sequence[Trace], attempts: Sequence[Trace]
) -> list[Trace]:
    """Rows with the facets of the mistake that each was made from.

    Args:
        rows: each descends from a correction and its attempt.
        corrections: those that can be read.
        attempts: scored with `solve_rate`.
    """
    facets_by_line = facets_of(corrections, attempts)
    names = next(iter(facets_by_line.values()), {})
    for name in names:
        values = {mistake: facets[name] for mistake, facets in facets_by_line.items()}
        rows = score(name, look_up(values, by=line), rows)
    return rows


def facets_of(
    corrections: Sequence[Trace], attempts: Sequence[Trace]
) -> dict[str, dict[str, Score]]:
    """The facets of each corrected attempt, by the attempt's line."""
    attempt_by_line = {attempt.line: attempt for attempt in attempts}
    facets: dict[str, dict[str, Score]] = {}
    for trace in corrections:
        attempt = attempt_by_line[trace.line]
        correction = read_correction(trace.reply, has_options=bool(trace.problem.choices))
        assert isinstance(correction, Correction) and attempt.author is not None
        step_count = len(find_steps(attempt.text))
        facets[trace.line] = {
            "source_model": attempt.author.model,
            "incorrect_step": correction.step,
            "step_depth": correction.step / step_count if correction.step else None,
            "solve_rate": attempt.scores.get("solve_rate"),
            "first_error": first_error(attempt),
        }
    return facets


def first_error(attempt: Trace) -> int | None:
    """The number of the first step that the step verifier found wrong; None where none was judged wrong."""
    wrong_places = [s.start for s in attempt.spans if s.kind == "step" and s.score == 0]
    # The verifier's steps are claims; the step of the chain is the one in which the first wrong claim stands.
    for number, step in enumerate(find_steps(attempt.text), 1):
        if wrong_places and step.start <= wrong_places[0] < step.stop:
            return number
    return None


def corrections_section(
    answers: Sequence[Trace],
    readable: Sequence[Trace],
    corrections: Sequence[Trace],
    attempts: Sequence[Trace],
) -> ReportSection:
    """What the report shows of the corrector: what can be used, and of which mistakes, by source and depth."""
    facets_by_line = facets_of(corrections, attempts)
    # What the corrector can do.
    shares = [
        Share("can be read", len(readable), len(answers)),
        Share("come to the gold answer", len(corrections), len(answers)),
    ]
    judged = [facets for facets in facets_by_line.values() if facets["first_error"] is not None]
    found = [facets for facets in judged if facets["first_error"] == facets["incorrect_step"]]
    if judged:
        shares.append(Share("of these, name the first wrong step", len(found), len(judged)))

    # By source and depth, so that one sees which mistakes are learnt from.
    wrong_of_source = Counter(attempt.author.model for attempt in attempts if attempt.author)
    used_of_source = Counter(str(facets["source_model"]) for facets in facets_by_line.values())
    for source, count in sorted(wrong_of_source.items()):
        shares.append(Share(f"mistakes of {source}", used_of_source[source], count))
    used_of_depth: Counter[str] = Counter()
    for facets in facets_by_line.values():
        depth = facets["step_depth"]
        if isinstance(depth, float):
            used_of_depth[DEPTHS[min(2, int(3 * depth))]] += 1
    for depth_name in DEPTHS:
        if used_of_depth:
            shares.append(
                Share(f"in the {depth_name}", used_of_depth[depth_name], used_of_depth.total())
            )
    return ReportSection(
        title="Corrections",
        hint=(
            "Of the corrector's answers: how many could be read, how many came to the gold answer, and whether "
            "they name the first wrong step where a step verifier can tell. Then how many mistakes of each model "
            "became rows, and where in their chains the incorrect steps stand."
        ),
        shares=tuple(shares),
    )
