"""REER: the reasoning that makes a good response likely, searched for backwards, segment by segment (arXiv:2509.06160).

The released synthesis code was at hand in a description, the paper's text was not: what is read and what is inferred
stands in `settings.py`, the prompts in `prompts.py`, the search in `search.py`, the tests of a thought in `filters.py`.

Paper: R6
Cite: Haozhe Wang, Haoran Que, Qixin Xu, Minghao Liu, Wangchunshu Zhou, Jiazhan Feng, Wanjun Zhong, Wei Ye, Tong Yang,
    Wenhao Huang, Ge Zhang, Fangzhen Lin: Reverse-Engineered Reasoning for Open-Ended Generation (2025).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Protocol

from potstill.methods.searching.reer.filters import (
    copied_share,
    has_come_to_an_end,
    has_segments,
    is_long_enough,
    repeats_little,
)
from potstill.methods.searching.reer.prompts import (
    INITIAL,
    INITIAL_ALONE,
    OPENERS,
    REFLECTION,
)
from potstill.methods.searching.reer.reference import (
    has_reference,
    read_reference,
    row_text,
)
from potstill.methods.searching.reer.search import (
    UNCLIPPED,
    S,
    SegmentSearch,
    begin_search,
    choose_candidates,
    goes_on,
    likelihood_key,
    measure_thoughts,
    refuse_copies,
    stop_reason,
    take_candidate,
    write_candidates,
)
from potstill.methods.searching.reer.settings import ARMS, Arm, Settings
from potstill.methods.settings import apply_arm
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage, Trace, split_reasoning
from potstill.traces import (
    ReferenceGate,
    Score,
    Share,
    best,
    chance_fraction,
    edit,
    fill_template,
    is_finished,
    keep,
    keep_reasoned,
    learn,
    look_up,
    problem,
    refuse_hidden_end,
    report_shares,
    sample,
    score,
)


class ScoredStudent(Trainable, Scored, Protocol):
    """A student that also says how likely given tokens are."""


def reer(
    problems: list[Trace],
    generator: Model,
    student: ScoredStudent,
    scorer: Scored | None = None,
    *,
    arm: Arm = "reer",
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """REER: reverse-engineered reasoning (DeepWriter, arXiv:2509.06160).

    z* = argmin_z S(z), S(z) = -mean_{t in y'} max(log p(y_t | x, z, y_<t), -2), searched segment by segment: a
    candidate takes a segment's place if S of the whole falls. y' is the response y without its first segment.

    Learns from: a thought z* that makes the response y likely, and y behind it, on the bare task x; y is the problem's.
    Needs: generator (writes thoughts, and segments anew), student (is trained, and scores), [scorer] (scores in the
        student's place; the paper's is the student's base model).
    Controls: arm=forward (a thought from x alone), arm=answer-leak (the thought is y itself: what S and the measures of
        leakage say of a copy), arm=no-thought (y alone), arm=hidden (the search without a sight of y: S alone knows
        it), arm=guarded (copies of y refused), arm=random (any candidate takes the place: is it S, or writing anew?),
        arm=best-of-n (as many whole thoughts as the search has candidates), arm=initial (no search), arm=no-reflection
        (no words of doubt).
    Departure: a response of one segment is scored whole, where the released code has nothing left to score. y stands
        behind the thought as it is learnt, without the answer tags of the released code. Segments keep the white space
        behind them, so that no change of format moves S. The prompts' wording is ours and English. A row must have as
        much of the solution's reasoning as `gate` asks for. The rows are not mixed with others (the paper adds 17k of
        OpenThoughts).

    Args:
        generator: writes the initial thought and each candidate; the paper's is larger than the student.
        student: is trained on the rows; its untrained likelihoods are S.
        scorer: whose likelihoods are measured, if not the student's.
        arm: which control or ablation; a row of `ARMS`.
        gate: how much of the solution's steps and length a row must have, thought and response together; of use where
            the response is the answer alone.
        settings: the constants, and what is inferred.
    """
    settings = apply_arm(settings, ARMS[arm])
    refuse_hidden_end(gate, "reer", "arm=hidden hides all of it")
    measure = partial(measure_thoughts, scorer or student, settings)
    problems = keep(partial(has_reference, settings), problems)

    # Step 1, the initial thought z0: it looks ahead, though its writer sees where it leads.
    thoughts = write_thoughts(generator, problems, settings)

    # Step 2, segments.
    if settings.start == "written":
        test = partial(has_segments, settings.min_segment_chars, settings.segment)
        thoughts = keep(test, thoughts)

    # Step 3, S of the initial thought; of several the likeliest goes on.
    thoughts = best(likelihood_key, measure(thoughts), by=problem)
    searches = [begin_search(thought, settings) for thought in thoughts]

    # Step 4, one segment after the other, from left to right: candidates are written and measured, and the best one
    # takes the segment's place if it lowers S of the whole, until S is low enough.
    for index in range(settings.max_segments):
        active = [search for search in searches if goes_on(search, index, settings)]
        if not active:
            break
        candidates = measure(write_candidates(generator, active, index, settings))
        chosen = choose_candidates(active, candidates, settings)
        for place, search in enumerate(searches):
            if goes_on(search, index, settings):
                searches[place] = take_candidate(search, index, chosen)

    # Step 5, filters: no thought that still doubts at its end, none that loops.
    thoughts = [search.thought for search in searches]
    if settings.start == "written":
        thoughts = keep(partial(has_come_to_an_end, settings.still_thinking_share), thoughts)
        thoughts = keep(partial(repeats_little, settings.max_repetition), thoughts)

    # Step 6, the rows: thought and response, both learnt.
    rows = edit(partial(compose_row, settings), thoughts)
    if settings.start == "written":
        rows = keep_reasoned(rows, gate=gate)
    rows = learn("all", rows)
    report_search(searches, settings)
    yield Stage(student, score_rows(rows, searches, settings), "sft")


def write_thoughts(generator: Model, problems: list[Trace], settings: Settings) -> list[Trace]:
    """The initial thoughts, `rollouts` a problem: traces whose text is the thought alone."""
    if settings.start != "written":
        return edit(partial(given_thought, settings), problems)
    template = partial(show_task, INITIAL if settings.shows_reference else INITIAL_ALONE, settings)
    write = partial(sample, generator, prompt=template, n=settings.rollouts)
    replies: list[Trace] = []
    # Replies are begun with an opener, so that thoughts do not all begin alike; one call for each opener.
    if settings.asks_reflection:
        for opener, _ in OPENERS:
            opened = [trace for trace in problems if choose_opener(trace) == opener]
            prefix = f"<think>\n{opener}"
            replies += write(opened, prefix=prefix, **dict(settings.sampling))
    else:
        replies = write(problems, **dict(settings.sampling))
    replies = keep(partial(is_long_enough, settings.min_tokens), keep(is_finished, replies))
    return refuse_copies(edit(read_thought, replies), settings)


def choose_opener(trace: Trace) -> str:
    """How the reply to this problem begins: by a hash, in the shares of `OPENERS`."""
    place = chance_fraction(trace.problem.id)
    for opener, share in OPENERS:
        place -= share
        if place < 0:
            return opener
    return OPENERS[-1][0]


def given_thought(settings: Settings, trace: Trace) -> str:
    """The thought of a control that asks no generator: none, or the response itself."""
    return "" if settings.start == "empty" else read_reference(settings, trace.problem)


def read_thought(trace: Trace) -> str:
    """The thought of a reply; of a reply without tags all of it."""
    # A thought that ended by itself may lack its closing tag: then it has no reply.
    thought, reply = split_reasoning(trace.text)
    return (thought or reply).strip()


def show_task(template: str, settings: Settings, trace: Trace) -> str:
    """The prompt for an initial thought."""
    values = {
        "question": trace.question,
        "reflection": REFLECTION if settings.asks_reflection else "",
    }
    if settings.shows_reference:
        values["reference"] = read_reference(settings, trace.problem)
    return fill_template(template, values)


def compose_row(settings: Settings, thought: Trace) -> dict[str, str]:
    """The text of a row: the thought, and the response behind it."""
    reference = read_reference(settings, thought.problem)
    return {"text": row_text(settings, thought.text, reference), "finish_reason": "stop"}


def score_rows(
    rows: list[Trace], searches: Sequence[SegmentSearch], settings: Settings
) -> list[Trace]:
    """The rows with what the search did: S before and behind, not clipped, why it ended, and how much is copied."""
    initial: dict[str, Score] = {}
    final: dict[str, Score] = {}
    unclipped: dict[str, Score] = {}
    reasons: dict[str, Score] = {}
    copied: dict[str, Score] = {}
    for search in searches:
        problem_id = search.thought.problem.id
        initial[problem_id] = search.initial_score
        final[problem_id] = search.score
        unclipped[problem_id] = search.thought.scores[UNCLIPPED]
        reasons[problem_id] = stop_reason(search, settings)
        copied[problem_id] = copied_share(settings, search.thought)

    # A row is another trace than its thought, so the thought's scores are written into it again.
    rows = score("reer_initial", look_up(initial), rows)
    rows = score(S, look_up(final), rows)
    rows = score(UNCLIPPED, look_up(unclipped), rows)
    rows = score("reer_stop", look_up(reasons), rows)
    return score("copied", look_up(copied), rows)


def report_search(searches: Sequence[SegmentSearch], settings: Settings) -> None:
    """Report of the search how much it replaced, and how often S was low enough."""
    tried = sum(search.tried for search in searches)
    ended = [search for search in searches if search.score < settings.stop_score]
    shares = [
        Share(
            "segments that a candidate replaced", sum(search.accepted for search in searches), tried
        ),
        Share(f"thoughts with S below {settings.stop_score}", len(ended), len(searches)),
        Share(
            "of these before the search",
            sum(search.initial_score < settings.stop_score for search in searches),
            len(ended),
        ),
    ]
    hint = (
        "S is the clipped mean negative log-likelihood of the response behind the thought. A low S may also mean "
        "that the thought holds the response: each row has S before and behind the search, and what it copies."
    )
    report_shares("Search for the thought", shares, hint=hint)
