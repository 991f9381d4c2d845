"""What a text must be to become an ORION row, or to be shown as an error (inferred)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from potstill.methods.errors.orion.prompts import LEAKS
from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.traces import ReferenceGate, keep, keep_reasoned, verify

Words = Sequence[str]
STRETCH = 32  # words of a stretch that may be repeated


def filter_rewrites(
    references: Sequence[Trace],
    is_right: Callable[[Trace], bool],
    gate: ReferenceGate,
    settings: Settings,
    rewrites: list[Trace],
) -> list[Trace]:
    """The rewrites that pass every filter.

    Args:
        references: the teacher's whole chains, also where their end was hidden or none was shown.
        is_right: the verifier's test.
        gate: how much of its reference a rewrite must show.
        settings: of length and repetition.
        rewrites: what was written.
    """
    # First the answer and its form, then what costs no verifier: the reasoning, and its length.
    rewrites = keep(is_right, verify(keep(is_finished, rewrites)))
    rewrites = keep(is_self_contained, keep(has_box, rewrites))
    rewrites = keep_reasoned(rewrites, references, gate=gate)
    has_right_length = partial(has_length, settings.min_new_tokens, settings.max_new_tokens)
    rewrites = keep(has_right_length, rewrites)
    return keep(partial(repeats_little, settings.max_repetition), rewrites)


def is_finished(trace: Trace) -> bool | tuple[bool, str]:
    """The author stopped by itself."""
    if trace.error:
        return False  # the ledger's reason is then the error
    return trace.finish_reason == "stop", "not finished"


def has_box(trace: Trace) -> tuple[bool, str]:
    """It has a box for its answer, as its prompt asked."""
    return "\\boxed{" in trace.text, "no box for its answer"


def is_self_contained(trace: Trace) -> tuple[bool, str]:
    """It does not mention what only the writer was shown; a word that the question itself uses is no leak."""
    question = trace.question.lower()
    for match in LEAKS.finditer(trace.text):
        words = match[0]
        if words.lower() not in question:
            return False, f"mentions {words!r}"
    return True, ""


def has_length(min_tokens: int, max_new_tokens: int, trace: Trace) -> tuple[bool, str]:
    """Its length in tokens is within the limits."""
    is_within = min_tokens <= trace.tokens.completion <= max_new_tokens
    return is_within, f"not {min_tokens} to {max_new_tokens} tokens long"


def repeats_little(max_share: float, trace: Trace) -> tuple[bool, str]:
    """It does not loop: at most this share of its stretches of 32 words stood there before."""
    share = repeated_share(trace.text.split(), STRETCH)
    return share <= max_share, f"repeats more than {max_share:.0%} of its {STRETCH}-word stretches"


def word_jaccard(one: Trace, other: Trace) -> float:
    """Jaccard index of the two texts' sets of words."""
    one_words, other_words = set(one.text.split()), set(other.text.split())
    return len(one_words & other_words) / max(1, len(one_words | other_words))


def ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    """Every run of n words."""
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def repeated_share(words: Words, n: int) -> float:
    """Share of n-grams that stood there before: 0 without repetition, near 1 in a loop."""
    grams = ngrams(words, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
