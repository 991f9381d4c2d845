"""How much of one text stands in another, in words: common subsequence, n-grams, longest run.

Words are lower-case runs of letters and digits; of scripts without spaces each character is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TypeAlias

Words: TypeAlias = Sequence[str]

# A character of Chinese, Japanese or Korean script is a word; elsewhere letters and digits in a row are one.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)

_WORD_OR_SIGN = re.compile(_WORD.pattern + r"|[^\w\s.,;:!?'\"“”‘’`]")


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return [match[0].casefold() for match in _WORD.finditer(text)]


def split_words_and_signs(text: str) -> list[str]:
    """The words of a text and the signs between them, without punctuation: "3-4" is not "3+4"."""
    return _WORD_OR_SIGN.findall(text.casefold())


def word_ngrams(words: Words, n: int) -> set[tuple[str, ...]]:
    """The distinct runs of `n` words."""
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def word_jaccard(one: str, other: str) -> float:
    """Jaccard index of two texts' sets of words, split at white space: 1 where they are equal."""
    one_words, other_words = set(one.split()), set(other.split())
    return len(one_words & other_words) / max(1, len(one_words | other_words))


def common_subsequence(first: Words, second: Words) -> int:
    """The length of the longest sequence of words that both have in this order, with gaps: LCS.

    Bit-parallel (Hyyrö, 2004): bit i of the row is 0 where the subsequence grows at word i of the first text.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    all_ones = (1 << len(first)) - 1
    row = all_ones
    for word in second:
        # The addition carries each match to the next place that has not grown yet.
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & all_ones
    return len(first) - row.bit_count()


def rouge_l_recall(reference: Words, text: Words) -> float | None:
    """LCS(reference, text) / |reference| (Lin, 2004); None for a reference without words."""
    if not reference:
        return None
    return common_subsequence(reference, text) / len(reference)


def ngram_containment(
    reference: Words, text: Words, n: int, known: Collection[tuple[str, ...]] = frozenset()
) -> float | None:
    """The share of the reference's distinct n-grams that stand in the text, those in `known` left out.

    Args:
        reference: whose n-grams are looked for.
        text: where.
        n: words in a row.
        known: n-grams that do not count, such as those of the question.

    Returns:
        A share; None where the reference has no n-gram that counts.
    """
    wanted = word_ngrams(reference, n).difference(known)
    if not wanted:
        return None
    return len(wanted & word_ngrams(text, n)) / len(wanted)


def longest_common_run(first: Words, second: Words) -> int:
    """How many words in a row two texts share at most."""
    # A common run of n words holds one of n - 1, so the longest is found by bisection.
    shared, too_long = 0, min(len(first), len(second)) + 1
    while too_long - shared > 1:
        n = (shared + too_long) // 2
        if word_ngrams(first, n) & word_ngrams(second, n):
            shared = n
        else:
            too_long = n
    return shared


def mask_shared_runs(text: str, reference: str, n: int, mask: str = "...") -> str:
    """The text with a mask in the place of each run of words that stands in the reference too.

    What a thought is worth without the words that it shares with a response is the response's likelihood behind the
    masked thought.

    Args:
        text: what is masked.
        reference: whose runs are looked for.
        n: words in a row that count as shared; longer runs are masked as one.
        mask: what stands in the place of a run.
    """
    places = [match.span() for match in _WORD.finditer(text)]
    words = split_words(text)
    reference_ngrams = word_ngrams(split_words(reference), n)
    is_shared = [False] * len(words)
    for start in range(len(words) - n + 1):
        if tuple(words[start : start + n]) in reference_ngrams:
            is_shared[start : start + n] = [True] * n

    # Neighbours that are shared are one run, from the first word's beginning to the last one's end.
    pieces: list[str] = []
    position = 0
    for index, (start, stop) in enumerate(places):
        if not is_shared[index]:
            continue
        begins_run = index == 0 or not is_shared[index - 1]
        if begins_run:
            pieces += [text[position:start], mask]
        position = stop
    pieces.append(text[position:])
    return "".join(pieces)
