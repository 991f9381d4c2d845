"""How much of an ORION row is copied from what its writer was shown: logged as scores, no filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from potstill.records import Trace
from potstill.traces import score
from potstill.traces.filters import Words, ngrams

NGRAM = 8  # words in a row that count as copied

Sources = Callable[[Trace], list[Trace]]


def score_copying(
    rows: Sequence[Trace], chains: Sequence[Trace], attempts: Sequence[Trace]
) -> list[Trace]:
    """Rows with the scores run_teacher (words), overlap8_teacher and overlap8_errors.

    Args:
        rows: the rows.
        chains: the teacher's; a row is compared with the chain of its problem.
        attempts: a row is compared with those its writer was shown; the score is None where it was shown none.
    """
    chain_by_problem = {chain.problem.id: chain for chain in chains}
    attempt_by_id = {attempt.id: attempt for attempt in attempts}

    def teacher_chain(row: Trace) -> list[Trace]:
        chain = chain_by_problem.get(row.problem.id)
        return [chain] if chain is not None else []

    def attempts_shown(row: Trace) -> list[Trace]:
        return [attempt_by_id[parent] for parent in row.parents if parent in attempt_by_id]

    scored = score("run_teacher", partial(score_longest_runs, teacher_chain), rows)
    scored = score("overlap8_teacher", partial(score_overlaps, teacher_chain), scored)
    return score("overlap8_errors", partial(score_overlaps, attempts_shown), scored)


def score_overlaps(sources: Sources, traces: Sequence[Trace]) -> list[float | None]:
    """The overlap in runs of 8 words of each trace with its sources; None without sources."""
    scores: list[float | None] = []
    for trace in traces:
        source_words = [source.text.split() for source in sources(trace)]
        if source_words:
            scores.append(overlap_share(trace.text.split(), source_words, NGRAM))
        else:
            scores.append(None)
    return scores


def score_longest_runs(sources: Sources, traces: Sequence[Trace]) -> list[float | None]:
    """The longest run of words that each trace shares with one of its sources; None without sources."""
    scores: list[float | None] = []
    for trace in traces:
        words = trace.text.split()
        runs = [longest_run(words, source.text.split()) for source in sources(trace)]
        scores.append(max(runs, default=None))
    return scores


def overlap_share(words: Words, sources: Iterable[Words], n: int) -> float:
    """Share of the n-grams of a text that stand in one of the sources; 0 for a text shorter than n words."""
    grams = ngrams(words, n)
    if not grams:
        return 0.0
    source_grams: set[tuple[str, ...]] = set()
    for source in sources:
        source_grams.update(ngrams(source, n))
    return sum(gram in source_grams for gram in grams) / len(grams)


def longest_run(words: Words, other: Words) -> int:
    """How many words in a row two texts share at most; 0 where it is fewer than 8."""
    starts: dict[tuple[str, ...], list[int]] = {}
    for start, gram in enumerate(ngrams(other, NGRAM)):
        starts.setdefault(gram, []).append(start)
    longest = 0
    # Length, in n-grams, of the run that ends at each start in `other`.
    run_lengths: dict[int, int] = {}
    for gram in ngrams(words, NGRAM):
        run_lengths = {start: run_lengths.get(start - 1, 0) + 1 for start in starts.get(gram, ())}
        longest = max(longest, *run_lengths.values(), 0)
    return longest + NGRAM - 1 if longest else 0
