"""Subthoughts: an answer's reasoning is cut before every change of mind, finished anew from each cut, and voted on.

The paper was read up to its results. Inferred: how the markers are matched, and where the reasoning ends without a
thought.

| constant | value | source |
|---|---|---|
| markers that a subthought begins with | `MARKERS` | paper, sec. 3.2 |
| cuts | behind each subthought, the last one too; 50 to 240 an answer in its figures | paper, sec. 3.3, fig. 2 |
| completions of a cut | 1 | paper, sec. 3.3 |
| temperature, top-p of a completion | 1.0, 0.95 (diverse), or 0.0, 1.0 (greedy) | paper, sec. 3.3 |
| temperature of the first answer | 0.0 | paper, sec. 3.1; here that of the evaluation |
| ties | the answer that came first | paper, sec. 3.5 |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from potstill.methods.reasoning_sentences import reasoning_part
from potstill.methods.settings import Options, options
from potstill.models.model import Model
from potstill.records import Stage, Trace
from potstill.traces import answer_entropy, edit, line, sample, score, vote
from potstill.traces.keys import group_traces

Arm: TypeAlias = Literal["mode", "last", "resample"]
MARKERS = (
    *("Wait", "Alternatively", "Another angle", "Another approach", "But wait", "Hold on", "Hmm"),
    *("Maybe", "Looking back", "Okay", "Let me", "First", "Then", "Alright", "Compute", "Correct"),
    *("Good", "Got it", "I don't see any errors", "I think", "Let me double-check", "Let's see"),
    *("Now", "Remember", "Seems solid", "Similarly", "So", "Starting", "That's correct"),
    *("That seems right", "Therefore", "Thus"),
)
# A marker is capitalised: it stands where a sentence begins. Apostrophes are straight or curly.
_MARKER = re.compile(rf"(?<!\w)(?:{'|'.join(MARKERS)})(?!\w)".replace("'", "['’]"))


def subthoughts(
    problems: list[Trace],
    student: Model,
    *,
    arm: Arm = "mode",
    cuts: int = 256,
    temperature: float = 1.0,
    top_p: float = 0.95,
) -> Generator[Stage, Model, Any]:
    """Subthoughts: beyond the last answer of a reasoning trace (Hammoud et al., arXiv:2504.20708).

    The reasoning T = s_1 … s_n is cut behind each s_i, the student goes on from s_1 … s_i to an answer A_i, and the
    answer is the mode of A_1 … A_n.

    Learns from: nothing; it is a way to ask any student.
    Needs: student (answers, and goes on from its own cuts).
    Controls: arm=last (the first answer alone: the paper's comparison), resample (as many fresh answers as cuts: is it
        the cuts?).
    Departure: the first answer is sampled as the evaluation samples, so that n answers differ; at its temperature 0 it
        is the paper's. The verifier reads the answers, where the paper asks a model of 14B. The entropy of the answers
        (in nats, where the paper has bits) is a score of the elected one. A text without a thought is cut up to its
        last line.
    Paper: 85
    Cite: Hasan Abed Al Kader Hammoud, Hani Itani, Bernard Ghanem: Beyond the Last Answer: Your Reasoning Trace Uncovers
        More than You Think (2025).

    Args:
        student: any model that can go on from a given beginning.
        arm: the method or one of its controls.
        cuts: at most so many cuts of an answer, evenly chosen, so that a looping text ends; 0 is all.
        temperature: of the completions; 0 is the paper's greedy variant.
        top_p: of the completions.
    """
    completion_sampling = options(temperature=temperature, top_p=top_p)
    return partial(solve_by_subthoughts, student, arm, cuts, completion_sampling)
    yield  # nothing is trained


def solve_by_subthoughts(
    student: Model,
    arm: Arm,
    cuts: int,
    completion_sampling: Options,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Answer each problem n times, finish each answer anew from its cuts, and elect one of these."""
    answers = sample(student, problems, n=n, **sampling)
    if arm == "last":
        return answers

    # The student goes on from each cut; in the control it begins anew as often.
    beginnings = edit(partial(cut_before_markers, cuts, is_blank=arm == "resample"), answers)
    completions = sample(student, beginnings, **{**sampling, **dict(completion_sampling)})

    # The most frequent answer of each first answer's completions, with how much they disagree.
    scored: list[Trace] = []
    for attempts in group_traces(completions, line).values():
        scored += score("entropy", answer_entropy, attempts)
    return vote(scored, by=line)


def cut_before_markers(cuts: int, trace: Any, *, is_blank: bool) -> list[dict[str, str]]:
    """The beginnings of a text that end with one of its subthoughts, in order; as many blank ones for the control."""
    start, stop = reasoning_part(trace.text)
    places: list[int] = []
    for match in _MARKER.finditer(trace.text, start, stop):
        # Words before the first marker are a subthought too; a marker at the very beginning cuts nothing off.
        if trace.text[start : match.start()].strip():
            places.append(match.start())
    places = spread(cuts, [*places, stop])
    beginnings: list[dict[str, str]] = []
    for place in places:
        # Blanks go with the word behind them in most tokenizers, so the student writes them itself.
        beginning = "" if is_blank else trace.text[:place].rstrip(" ")
        beginnings.append({"text": beginning, "finish_reason": "cut"})
    return beginnings


def spread(count: int, places: Sequence[int]) -> list[int]:
    """So many of the places, evenly over all of them, the last one among them; all where the count is 0."""
    if not 0 < count < len(places):
        return list(places)
    return [places[(number + 1) * len(places) // count - 1] for number in range(count)]
