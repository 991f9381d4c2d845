"""`dedupe_near` drops traces whose text is nearly that of an earlier one; `minhash` finds the pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from potstill.errors import ConfigError
from potstill.records import Trace
from potstill.traces import minhash, session
from potstill.traces.keys import function_name
from potstill.traces.prompts import prompt_text
from potstill.traces.word_overlap import split_words_and_signs

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def whole_row(trace: Trace) -> str:
    """What a learner is trained on: the prompt and the text."""
    return f"{prompt_text(trace)}\n{trace.text}"


def own_text(trace: Trace) -> str:
    """The text alone: equal answers to different questions are near-duplicates then."""
    return trace.text


def own_question(trace: Trace) -> str:
    """The problem's question alone: all but one of its answers are near-duplicates then."""
    return trace.problem.question


COMPARED_TEXTS: Mapping[str, Callable[[Trace], str]] = MappingProxyType(
    {"row": whole_row, "text": own_text, "question": own_question}
)


def dedupe_near(
    traces: Sequence[Trace],
    *,
    threshold: float = 0.8,
    of: str | Callable[[Trace], str] = "row",
    ngram: int = minhash.NGRAM,
    same_numbers: bool = False,
) -> list[Trace]:
    """Return the first trace of each cluster of near-duplicates; errored traces pass, and so do texts without words.

    Two traces are near-duplicates where their texts share at least `threshold` of their distinct n-grams (Jaccard
    index). Clusters are closed under that: a trace that resembles a dropped one is dropped too. Pairs are found by
    MinHash LSH and then compared word by word, so no other pair drops a trace; a pair at the threshold is found with a
    probability of at least 0.995 (`minhash.choose_banding(threshold).recall`).

    Args:
        traces: what is looked through, in order.
        threshold: share of common n-grams, from 0.1 to 1.
        of: which text is compared: "row" (the prompt and the text), "text", "question", or a function of a trace.
        ngram: words and signs in a row that make an n-gram; a shorter text is one n-gram.
        same_numbers: whether only texts with the same numbers are near-duplicates, as fits questions made from one
            template.

    Raises:
        ConfigError: the threshold or `of` is unknown, or the extra potstill[curate] is missing.
    """
    # What takes part: errored traces pass, and texts without words resemble nothing.
    banding = minhash.choose_banding(threshold)
    text_of = compared_text(of)
    places: list[int] = []
    contents: list[minhash.TextContent] = []
    for place, trace in enumerate(traces):
        content = read_content(text_of(trace), ngram, same_numbers=same_numbers)
        if not trace.error and content.ngrams:
            places.append(place)
            contents.append(content)
    keys = minhash.band_keys([content.ngrams for content in contents], banding)
    duplicates = minhash.find_near_duplicates(
        len(contents),
        lambda band: (range(len(contents)), keys[band]),
        contents.__getitem__,
        banding,
    )

    # By the place in the input, since equal traces may come twice.
    reasons: dict[int, str] = {}
    for duplicate in duplicates:
        resembled, first = traces[places[duplicate.resembles]], traces[places[duplicate.first]]
        reasons[places[duplicate.row]] = describe_duplicate(duplicate, resembled.id, first.id)
    drops = [(traces[place], reason) for place, reason in reasons.items()]
    remaining = [trace for place, trace in enumerate(traces) if place not in reasons]
    label = f"{function_name(text_of)} {threshold:g}"
    session.record_drops("dedupe_near", label, drops)
    session.record_step("dedupe_near", label, len(traces), len(remaining))
    return remaining


def compared_text(of: str | Callable[[Trace], str]) -> Callable[[Trace], str]:
    """What gives the text of a trace that is compared: a function, or one of COMPARED_TEXTS by its name."""
    if not isinstance(of, str):
        return of
    if of not in COMPARED_TEXTS:
        raise ConfigError(
            f"near-duplicates of {of!r}", available=COMPARED_TEXTS, wanted=of, fix='of="row"'
        )
    return COMPARED_TEXTS[of]


def read_content(text: str, ngram: int, *, same_numbers: bool = False) -> minhash.TextContent:
    """What is compared of a text; its numbers where two texts must have the same."""
    ngrams = minhash.text_ngrams(split_words_and_signs(text), ngram)
    if not same_numbers:
        return minhash.TextContent(ngrams)
    counts = Counter(_NUMBER.findall(text))
    return minhash.TextContent(ngrams, frozenset(counts.items()))


def describe_duplicate(duplicate: minhash.NearDuplicate, resembled: str, first: str) -> str:
    """Why a trace was dropped: which one it resembles, how much, and which one stays where that is another."""
    reason = f"near-duplicate ({duplicate.similarity:.2f}) of {resembled}"
    return reason if resembled == first else f"{reason}; {first} stays"
