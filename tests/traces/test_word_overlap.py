"""Overlap of words, against the plain definitions."""

from __future__ import annotations

import itertools
import random

from potstill.traces.word_overlap import (
    common_subsequence,
    longest_common_run,
    mask_shared_runs,
    ngram_containment,
    rouge_l_recall,
    split_words,
    word_ngrams,
)


def is_subsequence(short, text):
    rest = iter(text)
    return all(word in rest for word in short)


def lcs_of_all_subsequences(first, second):
    for size in range(len(first), 0, -1):
        if any(is_subsequence(part, second) for part in itertools.combinations(first, size)):
            return size
    return 0


def run_of_all_runs(first, second):
    for n in range(min(len(first), len(second)), 0, -1):
        if word_ngrams(first, n) & word_ngrams(second, n):
            return n
    return 0


def test_subsequence_and_run_are_those_of_their_definitions():
    rng = random.Random(0)
    for _ in range(60):
        first, second = ([rng.choice("abc") for _ in range(rng.randrange(8))] for _ in range(2))
        assert common_subsequence(first, second) == lcs_of_all_subsequences(first, second)
        assert longest_common_run(first, second) == run_of_all_runs(first, second)


def test_words_are_what_scripts_have():
    assert split_words("It's 5_5 — Straße, 二つの km²!") == [
        *("it", "s", "5", "5", "strasse"),
        *("二", "つ", "の", "km²"),
    ]


def test_what_the_question_says_already_is_no_leak():
    x, y = split_words("Tell of the old red fox."), split_words("The old red fox ran home today.")
    z = split_words("Plan: the old red fox, then it ran home today")
    known = word_ngrams(x, 4)
    assert ngram_containment(y, z, 4) == 1 / 4
    assert ngram_containment(y, z, 4, known) == 0
    assert ngram_containment(y, y, 4, known) == 1
    assert ngram_containment(y, z, 8) is None, "shorter than eight words"
    assert rouge_l_recall(y, z) == 1 and rouge_l_recall([], z) is None


def test_shared_runs_are_masked_and_nothing_else():
    y = "The sea answers the keeper every night."
    z = "Plan: the SEA, answers; the keeper. Then every night he asks. The sea answers!"
    masked = "Plan: .... Then every night he asks. ...!"
    assert mask_shared_runs(z, y, 3) == masked
    assert mask_shared_runs(z, y, 8) == z and mask_shared_runs("", y, 3) == ""
    assert mask_shared_runs(y, y, 1) == "...."
