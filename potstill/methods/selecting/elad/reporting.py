"""What a report shows of ELAD: who was chosen, what the teacher found, and what nobody could read or judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from potstill.methods.selecting.elad.claer import Annotations
from potstill.methods.selecting.elad.selection import count_ties
from potstill.methods.selecting.elad.settings import Settings
from potstill.records import Trace
from potstill.traces import Share, report_shares, right, share_of, verify, wrong

JUDGED = ("right", "wrong")  # verdicts that a gold answer made possible


class Round(NamedTuple):
    """One round of selecting and annotating.

    Args:
        label: what the report calls it.
        candidates: a chain for each problem that was scored.
        chosen: those that were given to the teacher.
        annotations: what the teacher made of them.
    """

    label: str
    candidates: list[Trace]
    chosen: list[Trace]
    annotations: Annotations


def report_rounds(rounds: Sequence[Round], settings: Settings) -> None:
    """Add a section about the choice and one about the annotations to the report."""
    report_selection(rounds, settings)
    report_annotations(rounds)


def report_selection(rounds: Sequence[Round], settings: Settings) -> None:
    """Report of each round: problems without an answer, choices by chance among equals, and the student's accuracy."""
    shares: list[Share] = []
    for one in rounds:
        unscored = [chain for chain in one.candidates if chain.scores.get("inter") is None]
        judged = judged_only(verify(without_model_judges(one.chosen)))
        label = one.label
        shares += [
            Share(f"{label}: no chain with an answer", len(unscored), len(one.candidates)),
            Share(
                f"{label}: chosen by chance among equals",
                count_ties(one.candidates, one.chosen),
                len(one.chosen),
            ),
            share_of(f"{label}: the student's own answer is right", right, judged),
        ]
    hint = (
        f"Equal scores were decided by a hash with the seed {settings.selection_seed}. Where the student's own "
        "answer is right the annotation may still mend a wrong step."
    )
    report_shares("Chosen problems", shares, hint=hint)


def report_annotations(rounds: Sequence[Round]) -> None:
    """Report what became of the chosen chains: read, revised, right; and the accepted steps that are wrong."""
    chains: list[Trace] = []
    rows: list[Trace] = []
    for one in rounds:
        chains += one.annotations.chains
        rows += one.annotations.rows
    # Verdicts first; a fresh chain of the teacher has none.
    read = [chain for chain in chains if isinstance(chain.scores.get("first_error"), float)]
    judged_chains = judged_only(verify(without_model_judges(read)))
    right_chains = [chain for chain in judged_chains if right(chain)]
    wrong_chains = [chain for chain in judged_chains if wrong(chain)]

    # Then the rows: the share that is right says how far the teacher can be trusted on these problems.
    judged_rows = judged_only(rows)
    audited = [row for row in rows if accepted_steps(row)]
    misled = [row for row in audited if 0.0 in accepted_steps(row)]

    checked = [chain for chain in chains if "first_error" in chain.scores]
    shares = [
        Share("annotations that became rows", len(rows), len(chains)),
        Share("verdicts that could not be read", len(checked) - len(read), len(checked)),
        share_of("chains that were revised", is_revised, read),
        share_of("revised although the answer was right", is_revised, right_chains),
        share_of("accepted although the answer was wrong", is_accepted, wrong_chains),
        Share("rows with an accepted step that is wrong", len(misled), len(audited)),
        share_of("rows with the right answer", right, judged_rows),
        Share(
            "rows that nobody could judge: no gold answer", len(rows) - len(judged_rows), len(rows)
        ),
    ]
    hint = (
        "Rows are not chosen by gold answers unless settings.check_answers says so: where a problem has none, the "
        "teacher's word is all there is. Accepted steps are audited where the problems have a step verifier."
    )
    report_shares("Annotations", shares, hint=hint)


def is_revised(chain: Trace) -> bool:
    """The teacher found a wrong step, or there was no answer to accept."""
    return chain.scores.get("first_error") != 0


def is_accepted(chain: Trace) -> bool:
    """The teacher found no wrong step, and an answer to accept."""
    return not is_revised(chain)


def judged_only(traces: Sequence[Trace]) -> list[Trace]:
    """The traces that a gold answer judged."""
    return [trace for trace in traces if trace.verdict.status in JUDGED]


def without_model_judges(traces: Sequence[Trace]) -> list[Trace]:
    """The traces that a verifier judges for nothing: a report pays no judge."""
    return [trace for trace in traces if trace.problem.kind != "judge"]


def accepted_steps(row: Trace) -> list[float]:
    """The step verifier's scores of the steps that the teacher accepted."""
    accepted_stop = max((span.stop for span in row.spans if span.kind == "accepted"), default=0)
    scores: list[float] = []
    for span in row.spans:
        if span.kind == "step" and span.score is not None and span.stop <= accepted_stop:
            scores.append(span.score)
    return scores
