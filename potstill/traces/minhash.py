"""Which of many texts share most of their n-grams: MinHash and locality-sensitive hashing, then the true Jaccard index.

A text's signature is the least hash of its n-grams under each of 128 permutations (Broder, 1997). Its places are parted
into bands of `rows` places; two texts are compared where all places of a band agree, which happens to a pair of Jaccard
index s with the probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4). What
is compared is the true index of the two sets of n-grams: a chance agreement makes no near-duplicate.

A band's keys are one array of 64-bit numbers, sorted when it is its turn, so a million texts need about 30 MB.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from potstill.errors import ConfigError
from potstill.extras import require_extra
from potstill.records import Progress, no_progress

NGRAM = 5  # words in a row, as FineWeb (arXiv:2406.17557) and datatrove take
PERMUTATIONS = 128
MIN_RECALL = (
    0.995  # of pairs that are exactly at the threshold; more similar ones are met more often
)
MIN_THRESHOLD = 0.1  # below it nearly every pair of texts would be compared
SEED = 1  # of the permutations: the same texts give the same bands everywhere
_CACHED_CONTENTS = 512
_PLACE_BYTES = 4


class TextContent(NamedTuple):
    """What is compared of a text: its distinct n-grams, and each number in it with how often it occurs there.

    The numbers are left out where texts with other numbers may be near-duplicates.
    """

    ngrams: frozenset[tuple[str, ...]]
    numbers: frozenset[tuple[str, int]] = frozenset()


class NearDuplicate(NamedTuple):
    """A text that is not the first of its cluster.

    Args:
        row: its place among all texts.
        first: the place of the first text of the cluster.
        resembles: the place of a text of the cluster whose index with this one reaches the threshold.
        similarity: that index.
    """

    row: int
    first: int
    resembles: int
    similarity: float


@dataclass(slots=True)
class NearDuplicates:
    """The near-duplicates in the order of their rows; columns of numbers, as there may be many.

    Args:
        rows: their places.
        firsts: of each the first text of its cluster.
        resembles: of each a text of the cluster that it resembles.
        similarities: to that one.
        compared: how many pairs were compared.
        other_numbers: how many of these were alike, and were spared for their numbers.
    """

    rows: array[int] = field(default_factory=lambda: array("q"))
    firsts: array[int] = field(default_factory=lambda: array("q"))
    resembles: array[int] = field(default_factory=lambda: array("q"))
    similarities: array[float] = field(default_factory=lambda: array("d"))
    compared: int = 0
    other_numbers: int = 0

    def add(self, duplicate: NearDuplicate) -> None:
        """Add one."""
        self.rows.append(duplicate.row)
        self.firsts.append(duplicate.first)
        self.resembles.append(duplicate.resembles)
        self.similarities.append(duplicate.similarity)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[NearDuplicate]:
        for values in zip(self.rows, self.firsts, self.resembles, self.similarities, strict=True):
            yield NearDuplicate(*values)


@dataclass(frozen=True, slots=True)
class Banding:
    """How signatures are parted into bands for a threshold of the Jaccard index."""

    threshold: float
    bands: int
    rows: int

    def recall(self, similarity: float) -> float:
        """The probability that a pair of this Jaccard index is compared: 1 - (1 - s^rows)^bands."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


def choose_banding(threshold: float) -> Banding:
    """The most rows a band with which a pair at the threshold is still compared with the probability MIN_RECALL."""
    if not MIN_THRESHOLD <= threshold <= 1:
        raise ConfigError(
            f"the threshold of near-duplicates is {threshold:g}",
            expected=f"a share of common n-grams from {MIN_THRESHOLD} to 1",
            fix="0.8",
        )
    for rows in range(PERMUTATIONS, 1, -1):
        banding = Banding(threshold, PERMUTATIONS // rows, rows)
        if banding.recall(threshold) >= MIN_RECALL:
            return banding
    return Banding(threshold, PERMUTATIONS, 1)


def text_ngrams(words: Sequence[str], n: int = NGRAM) -> frozenset[tuple[str, ...]]:
    """The distinct n-grams of a text; of fewer than `n` words all of them as one, of none nothing."""
    if not words:
        return frozenset()
    shifted = [words[start:] for start in range(min(n, len(words)))]
    return frozenset(zip(*shifted, strict=False))


def band_keys(contents: Sequence[frozenset[tuple[str, ...]]], banding: Banding) -> list[array[int]]:
    """For each band the keys of all texts, each with an n-gram at least: 64-bit hashes of a band's places."""
    require_extra("curate", "finding near-duplicates")
    from rensa import RMinHash

    # A space can't stand in a word, so different n-grams are different tokens.
    token_sets = [list(map(" ".join, ngrams)) for ngrams in contents]
    matrix = RMinHash.digest_matrix_from_token_sets(token_sets, PERMUTATIONS, SEED)
    keys = [array("Q") for _ in range(banding.bands)]
    band_bytes = banding.rows * _PLACE_BYTES
    for signature in matrix.to_rows():
        # A band's key is a hash of its places: 8 bytes in the place of 4 a row of the band.
        places = array("I", signature).tobytes()
        for band, keys_of_band in enumerate(keys):
            band_places = places[band * band_bytes : (band + 1) * band_bytes]
            key = hashlib.blake2b(band_places, digest_size=8).digest()
            keys_of_band.append(int.from_bytes(key, "big"))
    return keys


def jaccard(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    """How many of the n-grams of two texts both have: |A ∩ B| / |A ∪ B|; 0 where both have none."""
    shared = len(first & second)
    return shared / max(1, len(first) + len(second) - shared)


class Clusters:
    """Disjoint sets of rows (union-find); a set is known by its first row, in whatever order it was joined."""

    def __init__(self, size: int) -> None:
        """Every row is alone."""
        self._parents = array("q", range(size))

    def first_of(self, row: int) -> int:
        """The first row of a row's set."""
        parents = self._parents
        while parents[row] != row:
            # Halve the path on the way up.
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(self, row: int, other: int) -> None:
        """Make one set of two."""
        # The earlier one leads: so who leads does not depend on the order of the joins.
        first, second = self.first_of(row), self.first_of(other)
        self._parents[max(first, second)] = min(first, second)


def find_near_duplicates(
    size: int,
    keys_of_band: Callable[[int], tuple[Sequence[int], Any]],
    content_of: Callable[[int], TextContent],
    banding: Banding,
    progress: Progress = no_progress,
) -> NearDuplicates:
    """The texts that reach the threshold with an earlier text of their cluster, directly or over others.

    Clusters are the connected components of the pairs that were compared and reach the threshold; of each the first
    text stays. So the order of the bands and of the comparisons changes nothing.

    Args:
        size: how many rows there are.
        keys_of_band: gives the rows that take part, in ascending order, and their keys (a list, or an Arrow array).
        content_of: what is compared of a row; the latest are kept.
        banding: of the signatures.
        progress: called with the bands that are done.
    """
    # Neighbours in a bucket are compared one after another: the latest contents are worth keeping.
    comparison = _Comparison(size, lru_cache(_CACHED_CONTENTS)(content_of), banding.threshold)
    for band in range(banding.bands):
        progress("bands", band, banding.bands)
        rows, keys = keys_of_band(band)
        for places in _equal_keys(keys):
            comparison.compare_all([rows[place] for place in places])
    progress("bands", banding.bands, banding.bands)

    duplicates = NearDuplicates(
        compared=comparison.compared, other_numbers=comparison.other_numbers
    )
    for row in range(size):
        first = comparison.clusters.first_of(row)
        if first == row:
            continue
        # The one that stays says most, where the row resembles it itself.
        other, similarity = comparison.partners[row], comparison.similarities[row]
        to_first = similarity if other == first else comparison.similarity(first, row)
        if to_first >= banding.threshold:
            other, similarity = first, to_first
        duplicates.add(NearDuplicate(row, first, other, similarity))
    return duplicates


class _Comparison:
    """Compares the rows of one bucket after another; pairs of one cluster, and those that failed, only once."""

    def __init__(
        self, size: int, content_of: Callable[[int], TextContent], threshold: float
    ) -> None:
        self.clusters = Clusters(size)
        # Of each row another that it resembles, -1 without one, and how much.
        self.partners = array("q", [-1]) * size
        self.similarities = array("d", [0.0]) * size
        self.compared = self.other_numbers = 0
        self._content_of = content_of
        self._threshold = threshold
        self._different: set[tuple[int, int]] = set()

    def compare_all(self, rows: Sequence[int]) -> None:
        """Join the clusters of every two rows that reach the threshold; rows in ascending order."""
        # The rows of each cluster: what is in one already need not be compared.
        members: dict[int, list[int]] = {}
        for row in rows:
            own_first = self.clusters.first_of(row)
            for first in list(members):
                if first != own_first and self._is_like_one_of(row, members[first]):
                    self.clusters.join(row, first)
                    joined = members.pop(first) + members.pop(own_first, [])
                    own_first = self.clusters.first_of(row)
                    members[own_first] = joined
            members.setdefault(own_first, []).append(row)

    def similarity(self, row: int, other: int) -> float:
        """The Jaccard index of two rows; 0 where only texts with the same numbers count, and theirs differ."""
        one, another = self._content_of(row), self._content_of(other)
        return jaccard(one.ngrams, another.ngrams) if one.numbers == another.numbers else 0.0

    def _is_like_one_of(self, row: int, others: Sequence[int]) -> bool:
        return any(self._is_like(other, row) for other in others)

    def _is_like(self, row: int, later_row: int) -> bool:
        # The same two may meet in another band.
        pair = (row, later_row)
        if pair in self._different:
            return False
        self.compared += 1
        one, other = self._content_of(row), self._content_of(later_row)
        similarity = jaccard(one.ngrams, other.ngrams)
        is_similar = similarity >= self._threshold
        if not is_similar or one.numbers != other.numbers:
            self.other_numbers += is_similar
            self._different.add(pair)
            return False
        # Of the rows that one resembles, an earlier one is named before a later one.
        if self.partners[row] < 0:
            self._note_partner(row, later_row, similarity)
        if self.partners[later_row] < 0 or self.partners[later_row] > later_row:
            self._note_partner(later_row, row, similarity)
        return True

    def _note_partner(self, row: int, partner: int, similarity: float) -> None:
        self.partners[row] = partner
        self.similarities[row] = similarity


def _equal_keys(keys: Any) -> Iterator[list[int]]:
    """The places of each key that stands at two places or more, in ascending order."""
    import pyarrow
    import pyarrow.compute

    if len(keys) < 2:
        return
    column = pyarrow.array(keys, pyarrow.uint64())
    order = pyarrow.compute.sort_indices(column)  # stable: equal keys stay in the order of the rows
    ascending = column.take(order)
    is_repeat = pyarrow.compute.equal(ascending[1:], ascending[:-1])
    bucket: list[int] = []
    for index in pyarrow.compute.indices_nonzero(is_repeat).to_pylist():
        # `index` and the place behind it have one key.
        place = order[index].as_py()
        if not bucket or bucket[-1] != place:
            if bucket:
                yield bucket
            bucket = [place]
        bucket.append(order[index + 1].as_py())
    if bucket:
        yield bucket
