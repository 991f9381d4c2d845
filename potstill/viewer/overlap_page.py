"""The longest runs of words that a text shares with what it was made from; ORION's `run_teacher` is the longest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from potstill.store.store import Store
from potstill.traces.word_overlap import split_words
from potstill.viewer.utf16 import Utf16Offsets

MIN_WORDS = 3  # shorter runs are of the language
MAX_RUNS = 20  # with each ancestor
MAX_WORDS = 20_000  # of a text that is compared
MAX_PLACES = 50  # of one run of words in the reference that are followed

# The words of `word_overlap`, with their places.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)


def describe_overlap(store: Store, trace_id: str, arm: str) -> dict[str, Any]:
    """For each ancestor that has a text, the longest runs of words that both share."""
    family = store.history.ancestry(trace_id, arm)
    text = family[0].text
    offsets = Utf16Offsets(text)
    runs: list[dict[str, Any]] = []
    for ancestor in family[1:]:
        if not ancestor.text:
            continue
        for start, stop, words in shared_runs(text, ancestor.text)[:MAX_RUNS]:
            first, last = offsets.pair(start, stop)
            runs.append({"with": ancestor.id, "start": first, "stop": last, "words": words})
    runs.sort(key=lambda run: (-run["words"], run["start"]))
    return {"runs": runs}


def shared_runs(text: str, reference: str) -> list[tuple[int, int, int]]:
    """Stretches of a text that stand in the reference word by word: (start, stop, words), the longest first.

    They do not overlap: the longest is taken first, then the longest of what is left.
    """
    places = [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]
    lengths = _lengths_of_shared(split_words(text)[:MAX_WORDS], split_words(reference)[:MAX_WORDS])
    is_free = [True] * len(lengths)
    runs: list[tuple[int, int, int]] = []
    for first in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        length = lengths[first]
        if length < MIN_WORDS or len(runs) == MAX_RUNS:
            break
        # What was taken is as long or longer: where it overlaps this run, it covers one of its ends.
        if is_free[first] and is_free[first + length - 1]:
            is_free[first : first + length] = [False] * length
            runs.append((places[first][0], places[first + length - 1][1], length))
    return runs


def _lengths_of_shared(words: Sequence[str], reference: Sequence[str]) -> list[int]:
    """From each word on, how many words in a row stand somewhere in the reference; 0 below `MIN_WORDS`."""
    # Where each run of a few words begins in the reference.
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(reference) - MIN_WORDS + 1):
        places.setdefault(tuple(reference[start : start + MIN_WORDS]), []).append(start)

    lengths = [0] * len(words)
    running: dict[
        int, int
    ] = {}  # by the place in the reference, how long the run from this word on is
    for first in range(len(words) - MIN_WORDS + 1):
        # A run that began a word earlier goes on as far as it did. While one goes on no other one is begun: what it
        # covers is shown as shared already, and a text that repeats itself would take quadratic time.
        running = {place + 1: n - 1 for place, n in running.items() if n > MIN_WORDS}
        if not running:
            for place in places.get(tuple(words[first : first + MIN_WORDS]), ())[:MAX_PLACES]:
                running[place] = _common_length(words, first, reference, place)
        lengths[first] = max(running.values(), default=0)
    return lengths


def _common_length(words: Sequence[str], first: int, reference: Sequence[str], place: int) -> int:
    """How many words in a row are equal from two places on."""
    length = 0
    for word, other in zip(
        islice(words, first, None), islice(reference, place, None), strict=False
    ):
        if word != other:
            break
        length += 1
    return length
