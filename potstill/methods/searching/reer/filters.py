"""What a thought must be to be searched on, or to become a REER row."""

from __future__ import annotations

from collections import Counter

from potstill.methods.searching.reer.prompts import STILL_THINKING
from potstill.methods.searching.reer.reference import read_reference
from potstill.methods.searching.reer.segments import SegmentUnit, split_segments
from potstill.methods.searching.reer.settings import COPIED_RUN, Settings
from potstill.records import Trace
from potstill.traces.word_overlap import ngram_containment, split_words, word_ngrams

TRIGRAM = 3


def is_long_enough(min_tokens: int, trace: Trace) -> tuple[bool, str]:
    """The generator wrote enough tokens."""
    is_long = trace.tokens.completion >= min_tokens
    return is_long, f"a thought of fewer than {min_tokens} tokens"


def has_come_to_an_end(last_share: float, trace: Trace) -> tuple[bool, str]:
    """No word of doubt stands in the last part of the thought."""
    start = int(len(trace.text) * (1 - last_share))
    doubt = STILL_THINKING.search(trace.text, start)
    if doubt is None:
        return True, ""
    return False, f"still thinking at its end: {doubt[0]!r}"


def repeats_little(max_share: float, trace: Trace) -> tuple[bool, str]:
    """No run of three words is too large a share of all such runs."""
    words = split_words(trace.text)
    trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
    if not trigrams:
        return True, ""
    share = max(trigrams.values()) / trigrams.total()
    # A run that comes once is no repetition, however short the text is.
    repeats = share > max_share and max(trigrams.values()) > 1
    return not repeats, f"one run of {TRIGRAM} words is {share:.0%} of all"


def has_segments(min_chars: int, unit: SegmentUnit, trace: Trace) -> tuple[bool, str]:
    """There is more than one segment to search on."""
    segments = split_segments(trace.text, min_chars, unit)
    return len(segments) > 1, "a thought of one segment"


def copies_little(settings: Settings, trace: Trace) -> tuple[bool, str]:
    """The thought holds few runs of words of the response."""
    share = copied_share(settings, trace)
    return share <= settings.max_copied, f"copies {share:.0%} of the response's runs of words"


def copied_share(settings: Settings, trace: Trace) -> float:
    """The share of the response's runs of eight words, those of the question left out, that stand in the thought.

    Of a response of fewer words the run is all of them. 0 where the question says all of it already.
    """
    words = split_words(read_reference(settings, trace.problem))
    n = min(COPIED_RUN, len(words))
    if not n:
        return 0.0
    # What the question says already is no copy of the response.
    question_ngrams = word_ngrams(split_words(trace.question), n)
    return ngram_containment(words, split_words(trace.text), n, question_ngrams) or 0.0
