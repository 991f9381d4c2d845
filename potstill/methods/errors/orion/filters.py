"""What a text must be to become an ORION row, or to be shown as an error (inferred); how much of a row is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from potstill.errors import StageError
from potstill.methods.errors.orion.prompts import LEAKS
from potstill.records import Trace
from potstill.traces import score

Words = Sequence[str]


def finished(trace: Trace) -> bool:
    """The author stopped by itself."""
    return not trace.error and trace.finish == "stop"


def boxed(trace: Trace) -> bool:
    """It has a box for its answer, as its prompt asked."""
    return "\\boxed{" in trace.text


def self_contained(trace: Trace) -> tuple[bool, str]:
    """It does not mention what only the writer was shown; a word that the question itself uses is no leak."""
    found, question = (match[0] for match in LEAKS.finditer(trace.text)), trace.question.lower()
    leak = next((words for words in found if words.lower() not in question), "")
    return not leak, f"mentions {leak!r}"


def long_enough(least: int, most: int, trace: Trace) -> bool:
    """Its length in tokens is within the limits."""
    return least <= trace.tokens.completion <= most


def steady(most: float, trace: Trace) -> bool:
    """It does not loop: at most this share of its stretches of 32 words stood there before."""
    return repeated(trace.text.split(), 32) <= most


def alike(a: Trace, b: Trace) -> float:
    """Jaccard similarity of the two texts' word sets."""
    one, two = set(a.text.split()), set(b.text.split())
    return len(one & two) / max(1, len(one | two))


def grams(words: Words, n: int) -> list[tuple[str, ...]]:
    """Every run of n words."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def repeated(words: Words, n: int) -> float:
    """Share of n-grams that stood there before: 0 without repetition, near 1 in a loop."""
    found = grams(words, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def overlap(words: Words, sources: Iterable[Words], n: int) -> float:
    """Share of the n-grams of a text that stand in one of the sources; 0 for a text shorter than n words."""
    found, there = grams(words, n), {gram for source in sources for gram in grams(source, n)}
    return sum(gram in there for gram in found) / len(found) if found else 0.0


def longest_run(words: Words, other: Words) -> int:
    """How many words in a row two texts share at most; 0 where it is fewer than 8."""
    places: dict[tuple[str, ...], list[int]] = {}
    for at, gram in enumerate(grams(other, 8)):
        places.setdefault(gram, []).append(at)
    longest, running = (
        0,
        dict[int, int](),
    )  # length, in grams, of the run that ends at each place of `other`
    for gram in grams(words, 8):
        running = {at: running.get(at - 1, 0) + 1 for at in places.get(gram, ())}
        longest = max(longest, *running.values(), 0)
    return longest and longest + 7


def copied(
    rows: Sequence[Trace], chains: Sequence[Trace], mistakes: Sequence[Trace]
) -> list[Trace]:
    """Rows with scores run_teacher (words), overlap8_teacher and overlap8_errors: logged, not a filter.

    Args:
        chains: the teacher's; a row is compared with that of its problem.
        mistakes: a row is compared with those its writer was shown; None where it was shown none.
    """
    teacher = {t.problem.id: t for t in chains}
    shown = {t.id: t for t in mistakes}

    def reference(trace: Trace) -> list[Trace]:
        return [teacher[trace.problem.id]] if trace.problem.id in teacher else []

    ours, runs = partial(overlaps, reference), partial(longest_runs, reference)
    theirs = partial(overlaps, lambda t: [shown[parent] for parent in t.parents if parent in shown])
    return score(
        "overlap8_errors", theirs, score("overlap8_teacher", ours, score("run_teacher", runs, rows))
    )


def overlaps(
    sources: Callable[[Trace], list[Trace]], traces: Sequence[Trace]
) -> list[float | None]:
    """The overlap in runs of 8 words of each trace with its sources; None without sources."""
    beside = [(t, sources(t)) for t in traces]
    return [
        overlap(t.text.split(), [s.text.split() for s in held], 8) if held else None
        for t, held in beside
    ]


def longest_runs(
    sources: Callable[[Trace], list[Trace]], traces: Sequence[Trace]
) -> list[float | None]:
    """The longest run of words that each trace shares with one of its sources; None without sources."""
    return [
        max((longest_run(t.text.split(), s.text.split()) for s in sources(t)), default=None)
        for t in traces
    ]


def rotated(mistakes: Sequence[Trace]) -> Callable[[Trace], str]:
    """A key that shows each problem the mistakes of the next one (the shuffled arm)."""
    ids = sorted({t.problem.id for t in mistakes})
    if len(ids) == 1:
        raise StageError(
            f"the student erred on one problem only ({ids[0]!r}): its errors can't be shuffled",
            expected="errors on two problems at least",
            fix="more problems (--limit) or more attempts a problem (--set n=8)",
        )
    before = dict(zip(ids[1:] + ids[:1], ids, strict=True))
    moved = {t.id for t in mistakes}
    return lambda t: before[t.problem.id] if t.id in moved else t.problem.id
