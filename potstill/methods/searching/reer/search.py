"""The search itself: candidates for one segment of each thought, their score S, and which one takes the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from potstill.methods.searching.reer.filters import copies_little
from potstill.methods.searching.reer.prompts import REFINE, REFINE_ALONE, REFLECTION
from potstill.methods.searching.reer.reference import read_reference, reference_passage
from potstill.methods.searching.reer.segments import split_segments
from potstill.methods.searching.reer.settings import Settings
from potstill.models.model import Model, Scored
from potstill.records import Trace
from potstill.traces import (
    edit,
    fill_template,
    is_finished,
    keep,
    nll,
    read_sections,
    rewrite,
    score,
)

# The names of S in a trace's scores, and of the same mean without the clip.
S = "reer"
UNCLIPPED = "reer_unclipped"


@dataclass(frozen=True, slots=True)
class SegmentSearch:
    """The search on one problem.

    Args:
        thought: z, the segments joined; its score `S` is the lowest so far.
        segments: of the thought.
        initial_score: S of the initial thought.
        tried: segments for which candidates were written.
        accepted: segments that a candidate took the place of.
    """

    thought: Trace
    segments: tuple[str, ...]
    initial_score: float
    tried: int = 0
    accepted: int = 0

    @property
    def score(self) -> float:
        """S of the thought."""
        return score_of(self.thought)


def begin_search(thought: Trace, settings: Settings) -> SegmentSearch:
    """The search on a thought, before its first segment."""
    segments = split_segments(thought.text, settings.min_segment_chars, settings.segment)
    return SegmentSearch(thought, segments, initial_score=score_of(thought))


def goes_on(search: SegmentSearch, index: int, settings: Settings) -> bool:
    """Whether this segment is tried: there is one, and S is not yet low enough."""
    return index < len(search.segments) and not has_low_score(search, settings)


def has_low_score(search: SegmentSearch, settings: Settings) -> bool:
    """Whether S is low enough for the search to end; a choice by chance knows no S."""
    return settings.choice == "score" and search.score < settings.stop_score


def stop_reason(search: SegmentSearch, settings: Settings) -> str:
    """Why the search of a problem ended: S is low, every segment was tried, or as many as are allowed."""
    if has_low_score(search, settings):
        return "low S"
    if search.tried == len(search.segments):
        return "last segment"
    return "max_segments"


def write_candidates(
    generator: Model, searches: Sequence[SegmentSearch], index: int, settings: Settings
) -> list[Trace]:
    """Whole thoughts in which one segment is written anew, `expansions` a problem."""
    search_of = {search.thought.problem.id: search for search in searches}

    def show_segment(trace: Trace) -> str:
        segments = search_of[trace.problem.id].segments
        values = {
            "question": trace.question,
            "reflection": REFLECTION if settings.asks_reflection else "",
            "before": "".join(segments[:index]),
            "paragraph": segments[index].rstrip(),
            "after": "".join(segments[index + 1 :]),
        }
        if not settings.shows_reference:
            return fill_template(REFINE_ALONE, values)
        values["reference"] = read_reference(settings, trace.problem)
        return fill_template(REFINE, values)

    def recompose(trace: Trace) -> str | None:
        # A reply without the tags is left out and counted as unparsed, not guessed.
        sections = read_sections(trace.text, ["refine"], optional=["analyze"])
        if sections is None:
            return None
        return "".join(with_segment(search_of[trace.problem.id], index, sections["refine"]))

    # The learner's prompt stays; the writer sees task, response and the thought with the marked segment.
    replies = rewrite(
        generator,
        [search.thought for search in searches],
        prompt=show_segment,
        n=settings.expansions,
        guard=False,
        **dict(settings.sampling),
    )
    replies = keep(is_finished, replies)
    return refuse_copies(edit(recompose, replies), settings)


def with_segment(search: SegmentSearch, index: int, text: str) -> tuple[str, ...]:
    """The segments with another text at one place; the white space behind it stays, so that only words move S."""
    old = search.segments[index]
    space = old[len(old.rstrip()) :]
    return (*search.segments[:index], text.strip() + space, *search.segments[index + 1 :])


def refuse_copies(thoughts: list[Trace], settings: Settings) -> list[Trace]:
    """The anti-copy guard: thoughts that hold too much of the response's wording go to the ledger."""
    if settings.max_copied >= 1:
        return thoughts
    return keep(partial(copies_little, settings), thoughts)


def measure_thoughts(scorer: Scored, settings: Settings, thoughts: list[Trace]) -> list[Trace]:
    """The thoughts with S; those behind which the scorer can't read the response go to the ledger."""
    passage = partial(reference_passage, settings)
    thoughts = score(S, nll(scorer, passage, clip=settings.clip), thoughts)
    return keep(is_measured, score(UNCLIPPED, nll(scorer, passage), thoughts))


def is_measured(thought: Trace) -> tuple[bool, str]:
    """The scorer has said how likely the response is."""
    return thought.scores.get(S) is not None, "the scorer gave no likelihood of the response"


def score_of(thought: Trace) -> float:
    """S of a measured thought."""
    return float(thought.scores[S] or 0.0)


def likelihood_key(thought: Trace) -> float:
    """Higher where S is lower."""
    return -score_of(thought)


def choose_candidates(
    searches: Sequence[SegmentSearch], candidates: list[Trace], settings: Settings
) -> dict[str, Trace]:
    """By problem, the candidate that takes the segment's place; the others go to the ledger."""
    best_score = {search.thought.problem.id: search.score for search in searches}
    chosen: dict[str, Trace] = {}
    # From the lowest S on, so that the first that lowers S is the one that lowers it most; ties go by id.
    for candidate in sorted(candidates, key=lambda trace: (score_of(trace), trace.id)):
        problem_id = candidate.problem.id
        if settings.choice == "random":
            # Ids are hashes: the lowest one has nothing to do with S.
            if problem_id not in chosen or candidate.id < chosen[problem_id].id:
                chosen[problem_id] = candidate
        elif score_of(candidate) < best_score[problem_id]:
            chosen[problem_id] = candidate
            best_score[problem_id] = score_of(candidate)

    def is_chosen(candidate: Trace) -> tuple[bool, str]:
        is_it = chosen.get(candidate.problem.id) is candidate
        return is_it, "another segment stands in its place"

    keep(is_chosen, candidates)
    return chosen


def take_candidate(search: SegmentSearch, index: int, chosen: dict[str, Trace]) -> SegmentSearch:
    """The search behind this segment: with the chosen candidate, or as it was."""
    candidate = chosen.get(search.thought.problem.id)
    if candidate is None:
        return replace(search, tried=search.tried + 1)
    # The candidate differs in this segment alone: what stands between its neighbours is the new one.
    before, after = "".join(search.segments[:index]), "".join(search.segments[index + 1 :])
    new_segment = candidate.text[len(before) : len(candidate.text) - len(after)]
    segments = (*search.segments[:index], new_segment, *search.segments[index + 1 :])
    return replace(
        search,
        thought=candidate,
        segments=segments,
        tried=search.tried + 1,
        accepted=search.accepted + 1,
    )
