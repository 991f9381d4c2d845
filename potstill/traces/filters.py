r"""Tests of a text that several methods keep their rows by: named functions for `keep`, each with its reason.

A failed generation that fails a test has its error as the reason; a test need not look at it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from potstill.records import Trace
from potstill.traces.answers import read

Words = Sequence[str]
STRETCH = 32  # words of a stretch that may be repeated


def is_finished(trace: Trace) -> tuple[bool, str]:
    """The author stopped by itself."""
    return trace.finish_reason == "stop" and not trace.error, "not finished"


def has_box(trace: Trace) -> tuple[bool, str]:
    """It has a box for its answer, as its prompt asked."""
    return "\\boxed{" in trace.text, "no box for its answer"


def has_answer(trace: Trace) -> tuple[bool, str]:
    """An answer can be read in it, judged or not, whether or not anybody knows the right one."""
    # A verifier may judge nothing without gold, and still read an answer.
    has_one = trace.verdict.answer is not None or read(trace, trace.text) is not None
    return has_one, "no answer can be read"


def has_length(min_tokens: int, max_new_tokens: int, trace: Trace) -> tuple[bool, str]:
    """Its length in tokens is within the limits: `keep(partial(has_length, 32, 4096), traces)`."""
    is_within = min_tokens <= trace.tokens.completion <= max_new_tokens
    return is_within, f"not {min_tokens} to {max_new_tokens} tokens long"


def repeats_little(max_share: float, trace: Trace) -> tuple[bool, str]:
    """It does not loop: at most this share of its stretches of 32 words stood there before."""
    share = repeated_share(trace.text.split(), STRETCH)
    return share <= max_share, f"repeats more than {max_share:.0%} of its {STRETCH}-word stretches"


def mentions_none(pattern: re.Pattern[str], trace: Trace) -> tuple[bool, str]:
    """It mentions nothing that only its writer was shown; a word that the question itself uses is no leak.

    Args:
        pattern: finds such words, as "the reference".
        trace: what was written.
    """
    question = trace.question.lower()
    for match in pattern.finditer(trace.text):
        words = match[0]
        if words.lower() not in question:
            return False, f"mentions {words!r}"
    return True, ""


def ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    """Every run of n words, repeated ones too."""
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def repeated_share(words: Words, n: int) -> float:
    """Share of n-grams that stood there before: 0 without repetition, near 1 in a loop."""
    grams = ngrams(words, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def frequent_phrases(
    traces: Sequence[Trace], *, size: int = 20, times: int = 20
) -> frozenset[tuple[str, ...]]:
    """The phrases that many texts share: runs of `size` words that stand there more than `times` times in all."""
    counts: Counter[tuple[str, ...]] = Counter()
    for trace in traces:
        counts.update(ngrams(trace.text.split(), size))
    return frozenset(phrase for phrase, count in counts.items() if count > times)


def has_no_phrase(phrases: Collection[tuple[str, ...]], trace: Trace) -> tuple[bool, str]:
    """It says none of the phrases: `keep(partial(has_no_phrase, frequent_phrases(rows)), rows)`."""
    for size in {len(phrase) for phrase in phrases}:
        for phrase in ngrams(trace.text.split(), size):
            if phrase in phrases:
                return False, f"says what many texts say: {' '.join(phrase[:5])} …"
    return True, ""


def is_shorter(texts: Mapping[str, str], trace: Trace) -> tuple[bool, str]:
    """It has fewer words than what it was made from: `partial(is_shorter, {chain.line: chain.text for …})`."""
    length = len(trace.text.split())
    original_length = len(texts[trace.line].split())
    return (
        length < original_length,
        f"not shorter: {length} words, where there were {original_length}",
    )
