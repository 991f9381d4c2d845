"""The prefix of a teacher's reasoning: its sentences, the bisection for the shortest sufficient one, and its length.

Sufficiency is not monotone in the prefix, so that the bisection finds a boundary, and not always the shortest prefix
of all. Every beginning that was judged is a trace of the ledger, with the verdict as its score `enough`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from potstill.methods.rewriting.p_align.prompts import ENOUGH, NOT_ENOUGH
from potstill.methods.rewriting.p_align.settings import Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import Score, ask, edit, read_word, rewrite, right, score, segment, verify
from potstill.traces.scores import Scorer

READER = "enough or not"


@dataclass(frozen=True, slots=True)
class Bisection:
    """A search for the shortest sufficient prefix, in numbers of sentences; both ends are included.

    Args:
        low: no shorter prefix is looked at any more.
        high: no longer one is.
        shortest: the shortest prefix that was found sufficient; None while none was.
    """

    low: int
    high: int
    shortest: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a prefix left to look at."""
        return self.low <= self.high

    @property
    def middle(self) -> int:
        """The prefix to look at next."""
        return (self.low + self.high) // 2

    def narrow(self, *, is_enough: bool) -> Bisection:
        """The search after a verdict on the middle."""
        if is_enough:
            return replace(self, high=self.middle - 1, shortest=self.middle)
        return replace(self, low=self.middle + 1)


def split_sentences(settings: Settings, chains: Sequence[Trace]) -> list[Trace]:
    """The thought of each chain in sentences, which are its units; of a chain without a thought the whole text."""
    return segment(settings.sentence_end, edit(thought_alone, chains))


def thought_alone(trace: Trace) -> str:
    """What stands between the tags of a thought, or the text where there is no thought."""
    return (trace.reasoning or trace.text).strip()


def search_prefixes(judge: Scorer, thoughts: Sequence[Trace]) -> dict[str, Bisection]:
    """Bisect for the shortest sufficient prefix of each thought, all of them at once, a round of verdicts at a time.

    Args:
        judge: a scorer of beginnings: 1 is enough, 0 not, None where nobody can tell, which counts as not enough.
        thoughts: with their sentences as units.

    Returns:
        The finished search of each thought, by its id.
    """
    searches = {thought.id: Bisection(1, len(thought.units)) for thought in thoughts}
    while True:
        open_thoughts = [thought for thought in thoughts if searches[thought.id].is_open]
        if not open_thoughts:
            return searches
        lengths = {thought.id: searches[thought.id].middle for thought in open_thoughts}
        beginnings = edit(partial(first_sentences, lengths), open_thoughts)
        beginnings = score("enough", judge, beginnings)
        for thought, beginning in zip(open_thoughts, beginnings, strict=True):
            is_enough = beginning.scores["enough"] == 1
            searches[thought.id] = searches[thought.id].narrow(is_enough=is_enough)


def first_sentences(lengths: Mapping[str, int], trace: Trace) -> dict[str, str]:
    """So many sentences of a thought as its length says, by its id."""
    text = "".join(trace.units[: lengths[trace.id]])
    return {"text": text.rstrip(), "finish_reason": "cut"}


def prefix_lengths(
    thoughts: Sequence[Trace], searches: Mapping[str, Bisection], settings: Settings
) -> dict[str, int]:
    """How many sentences the prefix of each thought has, by the thought's id: one at least.

    Args:
        thoughts: with their sentences as units.
        searches: by the thought's id; a fixed length needs none.
        settings: whether the length was searched for, comes from another problem's search, or is fixed.
    """
    lengths: dict[str, int] = {}
    if settings.prefix == "fixed":
        for thought in thoughts:
            lengths[thought.id] = share_of_sentences(settings.fixed_share, thought)
        return lengths

    # Where no prefix was enough, the whole thought is.
    for thought in thoughts:
        lengths[thought.id] = searches[thought.id].shortest or len(thought.units)
    if settings.prefix == "searched":
        return lengths

    # In the order of ids each thought takes the share that was found for the next one.
    ordered = sorted(thoughts, key=lambda thought: thought.problem.id)
    shuffled: dict[str, int] = {}
    for thought, other in zip(ordered, [*ordered[1:], *ordered[:1]], strict=True):
        share = lengths[other.id] / len(other.units)
        shuffled[thought.id] = share_of_sentences(share, thought)
    return shuffled


def share_of_sentences(share: float, thought: Trace) -> int:
    """A share of a thought's sentences, rounded, one at least."""
    return max(1, math.floor(share * len(thought.units) + 0.5))


# Who says whether a beginning is enough.


def judge_by_verdict(judge: Model, settings: Settings) -> Scorer:
    """A scorer that asks a model."""
    return ask(judge, settings.judge_prompt, read_verdict, **dict(settings.judge_sampling))


def read_verdict(text: str) -> float | None:
    """1 for enough, 0 for not enough; None where the reply has neither of the bracketed words, or both.

    A reply that is one of the words without its brackets is read too, as not quite in its form.
    """
    word = read_word(text, [ENOUGH, NOT_ENOUGH], reader=READER)
    return None if word is None else float(word == ENOUGH)


def judge_by_outcome(student: Model, settings: Settings) -> Scorer:
    """A scorer that lets the student go on: 1 where its continuation comes to the right answer."""
    return partial(score_outcomes, student, settings)


def score_outcomes(student: Model, settings: Settings, beginnings: Sequence[Trace]) -> list[Score]:
    """Whether the student's continuation of each beginning is right; None where its generation failed."""
    sampling = {**dict(settings.judge_sampling), "max_new_tokens": settings.max_new_tokens}
    continuations = rewrite(
        student, beginnings, prompt=settings.align_prompt, guard=False, **sampling
    )
    outcomes: list[Score] = []
    for continuation in verify(continuations):
        outcomes.append(None if continuation.error else float(right(continuation)))
    return outcomes
