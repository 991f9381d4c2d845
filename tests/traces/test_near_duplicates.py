"""dedupe_near finds what brute force finds, drops nothing else, and says what each dropped trace resembles."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.records import Problem, Trace
from potstill.traces import dedupe_near
from potstill.traces.minhash import (
    Clusters,
    band_keys,
    choose_banding,
    jaccard,
    text_ngrams,
)
from potstill.traces.word_overlap import split_words_and_signs

pytest.importorskip("rensa", reason="needs the extra potstill[curate]")


def answer(text: str, name: str = "p", error: str = "") -> Trace:
    return Trace(Problem(name, f"Question {name}"), f"Question {name}", text, error=error)


def ngrams(text: str):
    return text_ngrams(split_words_and_signs(text))


def similar_texts(seed: int, count: int = 16) -> list[str]:
    """Texts of which each changes a few words of an earlier one."""
    rng = random.Random(seed)
    texts = [" ".join(f"w{rng.randrange(999)}" for _ in range(40))]
    for _ in range(count - 1):
        words = rng.choice(texts).split()
        for _ in range(rng.choice([0, 1, 2, 8])):
            words[rng.randrange(len(words))] = f"w{rng.randrange(999)}"
        texts.append(" ".join(words))
    return texts


def brute_force(texts: list[str], threshold: float) -> list[int]:
    """The first of each connected component of all similar pairs, by relabelling until nothing changes."""
    labels = list(range(len(texts)))
    contents = [ngrams(text) for text in texts]
    pairs = []
    for one, other in combinations(range(len(texts)), 2):
        if jaccard(contents[one], contents[other]) >= threshold:
            pairs.append((one, other))
    for one, other in pairs * len(texts):
        labels[one] = labels[other] = min(labels[one], labels[other])
    return sorted(set(labels))


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
def test_it_keeps_what_brute_force_keeps(threshold):
    for seed in range(2):
        texts = similar_texts(seed)
        remaining = dedupe_near([answer(text) for text in texts], threshold=threshold, of="text")
        assert [trace.text for trace in remaining] == [
            texts[index] for index in brute_force(texts, threshold)
        ]


def test_who_is_in_a_cluster_does_not_depend_on_the_order():
    traces = [answer(text, f"p{place}") for place, text in enumerate(similar_texts(4, 30))]
    shuffled = random.Random(1).sample(traces, len(traces))
    forward, other = (len(dedupe_near(some, of="text")) for some in (traces, shuffled))
    assert forward == other < len(traces)


def test_each_drop_says_what_it_resembles(book):
    words = [f"w{place}" for place in range(60)]
    chain = [" ".join(words[shift : shift + 50]) for shift in (0, 4, 8)]
    first, middle, last = (answer(text) for text in chain)
    assert jaccard(ngrams(chain[0]), ngrams(chain[2])) < 0.8 < jaccard(*map(ngrams, chain[1:]))
    assert dedupe_near([first, middle, last], of="text") == [first]
    reasons = {drop.trace.id: drop.reason for drop in book.drops}
    assert reasons[middle.id] == f"near-duplicate (0.84) of {first.id}"
    assert reasons[last.id] == f"near-duplicate (0.84) of {middle.id}; {first.id} stays"
    assert book.steps[-1] == ("dedupe_near", "own_text 0.8", 3, 1)


def test_what_is_compared():
    one, other = answer("The answer is 4.", "p"), answer("The answer is 4.", "q")
    assert dedupe_near([one, other]) == [one, other]  # other questions
    assert dedupe_near([one, other], of="text") == [one]
    assert dedupe_near([one, other], of=lambda trace: "same") == [one]
    sums = [answer("3+4"), answer("3-4"), answer("3 + 4")]
    assert dedupe_near(sums, of="text") == sums[:2]  # a sign is no punctuation
    blank, failed = answer(""), answer("3+4", error="timeout")
    assert dedupe_near([blank, blank, sums[0], failed], of="text") == [
        blank,
        blank,
        sums[0],
        failed,
    ]


def test_texts_with_other_numbers_can_be_left_apart():
    story = " ".join(f"w{place}" for place in range(60))
    traces = [
        answer(f"{story} 12 shells"),
        answer(f"{story} 13 shells"),
        answer(f"{story}, 12 shells"),
    ]
    assert dedupe_near(traces, of="text") == traces[:1]
    assert dedupe_near(traces, of="text", same_numbers=True) == traces[:2]


def test_what_can_not_be_asked():
    with pytest.raises(ConfigError, match="threshold"):
        dedupe_near([], threshold=0)
    with pytest.raises(ConfigError, match="prompt"):
        dedupe_near([], of="prompt")


def test_banding_is_the_steepest_that_finds_pairs_at_the_threshold():
    banding = choose_banding(0.8)
    assert (banding.bands, banding.rows) == (21, 6)
    assert banding.recall(0.8) == pytest.approx(1 - (1 - 0.8**6) ** 21)
    for threshold in (0.1, 0.3, 0.5, 0.9, 1.0):
        assert choose_banding(threshold).recall(threshold) >= 0.995


def test_pairs_at_a_similarity_are_found_as_often_as_the_curve_says():
    # At 0.6 the curve of threshold 0.8 is neither 0 nor 1: 0.633 of 400 pairs, within three standard deviations.
    banding = choose_banding(0.8)
    found = 0
    for pair in range(400):
        shared = [("s", str(pair), str(place)) for place in range(60)]
        own = [("o", str(pair), str(place)) for place in range(40)]
        one = frozenset(shared + own[:20])
        other = frozenset(shared + own[20:])
        keys = band_keys([one, other], banding)
        found += any(first == second for first, second in keys)
    expected = banding.recall(0.6)
    assert abs(found / 400 - expected) < 3 * (expected * (1 - expected) / 400) ** 0.5


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_clusters_do_not_depend_on_the_order_of_joins(pairs):
    one, other = Clusters(10), Clusters(10)
    for first, second in pairs:
        one.join(first, second)
    for first, second in reversed(pairs):
        other.join(second, first)
    assert [one.first_of(row) for row in range(10)] == [other.first_of(row) for row in range(10)]
