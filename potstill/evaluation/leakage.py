"""How much of an answer y stands already in the reasoning z that is to lead to it.

Where z was chosen because it makes y likely (arXiv:2509.06160), or was written by someone who saw y, a low
perplexity may only say that z quotes y. Words are compared, and what stands in the question x is no leak: so a restated
question does not count. A paraphrase is not found by any of these measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from potstill.evaluation.intervals import Estimate, mean_interval
from potstill.records import Trace
from potstill.traces.word_overlap import (
    longest_common_run,
    ngram_containment,
    rouge_l_recall,
    split_words,
    word_ngrams,
)

NGRAMS = (4, 8, 13)  # words in a row; 13 is the custom of contamination tests since GPT-3


class LeakageParts(NamedTuple):
    """The texts between which leakage is measured.

    Args:
        question: x; what it shares with the answer is no leak.
        reasoning: z, where the answer is looked for.
        answer: y.
    """

    question: str
    reasoning: str
    answer: str


@dataclass(frozen=True, slots=True)
class Leakage:
    """How much of an answer stands in the reasoning before it; None where the answer is too short to tell.

    Args:
        rouge_l_recall: words of the answer that the reasoning has in the same order, gaps allowed, as a share of the
            answer's words. The only measure that counts words of the question too.
        containment_4: share of the answer's distinct runs of 4 words, those of the question left out, that stand in
            the reasoning.
        containment_8: the same of 8 words.
        containment_13: the same of 13 words.
        longest_run: words in a row that both share at most.
        longest_run_share: the same, as a share of the answer's words.
    """

    rouge_l_recall: float | None
    containment_4: float | None
    containment_8: float | None
    containment_13: float | None
    longest_run: int
    longest_run_share: float | None


def measure_leakage(parts: LeakageParts) -> Leakage:
    """Measure how much of an answer stands in the reasoning before it."""
    question, reasoning, answer = (split_words(text) for text in parts)
    containment: dict[int, float | None] = {}
    for n in NGRAMS:
        question_ngrams = word_ngrams(question, n)
        containment[n] = ngram_containment(answer, reasoning, n, question_ngrams)
    run = longest_common_run(answer, reasoning)
    run_share = None
    if answer:
        run_share = run / len(answer)
    return Leakage(
        rouge_l_recall=rouge_l_recall(answer, reasoning),
        containment_4=containment[4],
        containment_8=containment[8],
        containment_13=containment[13],
        longest_run=run,
        longest_run_share=run_share,
    )


def summarise_leakage(
    traces: Sequence[Trace], parts_of: Callable[[Trace], LeakageParts]
) -> dict[str, Estimate | None]:
    """The mean of each measure over problems, with its interval; None where no trace has a value.

    Traces of one problem are averaged first: the problem is the unit. Errored traces don't count.

    Args:
        traces: with reasoning.
        parts_of: question, reasoning and answer of a trace.
    """
    values_by_measure: dict[str, dict[str, list[float]]] = {}
    for name in Leakage.__dataclass_fields__:
        values_by_measure[name] = {}
    for trace in traces:
        if trace.error:
            continue
        leakage = measure_leakage(parts_of(trace))
        for name, by_problem in values_by_measure.items():
            value = getattr(leakage, name)
            if value is not None:
                by_problem.setdefault(trace.problem.id, []).append(value)
    summary: dict[str, Estimate | None] = {}
    for name, by_problem in values_by_measure.items():
        means = [math.fsum(values) / len(values) for values in by_problem.values()]
        summary[name] = mean_interval(means) if means else None
    return summary
