"""REER's constants and arms (arXiv:2509.06160).

C: the released synthesis code. A: abstract, reviews or summaries of the paper. I: inferred or ours.

| constant | value | source |
|---|---|---|
| clip of a token's log-probability | -2 | C |
| stop below S | 0.25 | C; it is compared with the clipped mean, so a perplexity of about 1.28 |
| segments refined at most | 10 | C |
| initial rollouts | 1 | C |
| candidates a segment (expansions) | 2 | C |
| temperature, top-p, new tokens | 0.8, 0.85, 8000 | C; its `top_k: 40` is never sent |
| shortest segment, in characters | 100 | C |
| shortest thought, in tokens | 100 | C; the tokens that the generator says it wrote |
| last part of a thought that must not doubt | 0.1 | A; not in the released code |
| share of the most frequent trigram | 0.3 | A; not in the released code |
| words in a row that count as copied | 8 | I |
| epochs, learning rate, rows a step of the training | 3, 2e-5, 96 | A; set by `--set training.…` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.methods.searching.reer.prompts import THINK_THEN_WRITE
from potstill.methods.searching.reer.segments import SegmentUnit
from potstill.methods.settings import Arms, Options, options

Arm = Literal[
    "reer",
    "initial",
    "hidden",
    "guarded",
    "no-reflection",
    "random",
    "best-of-n",
    "forward",
    "answer-leak",
    "no-thought",
]

COPIED_RUN = 8  # words


@dataclass(frozen=True, slots=True)
class Settings:
    """What REER's search does.

    Args:
        reference: what the good response y is: the problem's "solution", or a sentence that states its "answer".
        shows_reference: whether the generator sees y; otherwise S alone knows of it.
        start: how the thought begins: "written" by the generator, "empty", or the "reference" itself.
        rollouts: thoughts written first a problem, of which the one with the lowest S goes on.
        max_segments: segments refined at most, from the first on; 0 does not search.
        expansions: candidates a segment.
        choice: which candidate takes a segment's place: the one that lowers S most, if one does ("score"), or the
            one that a hash names ("random").
        stop_score: the search of a problem ends below this S (nats).
        clip: the most that one token counts in S (nats).
        first_segment_is_free: y's first segment is given and not scored, where y has more than one.
        max_copied: largest share of y's runs of eight words (of all its words where it has fewer) that a thought may
            hold, those of the question left out; 1 leaves it to the prompt, as the paper does.
        asks_reflection: the prompts ask for words of doubt, and replies begin with an opener.
        segment: what a segment is; a "sentence" is for chains of one line, and not in the paper.
        min_segment_chars: shorter segments are joined with the next one.
        min_tokens: shorter thoughts are left out.
        still_thinking_share: last part of a thought in which words of doubt leave it out.
        max_repetition: largest share that one run of three words may have of all.
        opening: stands before the thought.
        closing: stands between the thought and y.
        score_prompt: what the scorer is asked, with {question}; "" is the learner's own prompt.
        sampling: of the generator.
    """

    reference: Literal["solution", "answer"] = "solution"
    shows_reference: bool = True
    start: Literal["written", "empty", "reference"] = "written"
    rollouts: int = 1
    max_segments: int = 10
    expansions: int = 2
    choice: Literal["score", "random"] = "score"
    stop_score: float = 0.25
    clip: float = 2.0
    first_segment_is_free: bool = True
    max_copied: float = 1.0
    asks_reflection: bool = True
    segment: SegmentUnit = "paragraph"
    min_segment_chars: int = 100
    min_tokens: int = 100
    still_thinking_share: float = 0.1
    max_repetition: float = 0.3
    opening: str = "<think>\n"
    closing: str = "\n</think>\n\n"
    score_prompt: str = THINK_THEN_WRITE
    sampling: Options = options(temperature=0.8, top_p=0.85, max_new_tokens=8000)


# The controls and ablations, as overrides of the settings.
ARMS: Arms = {
    "reer": {},
    # The paper's ablations: no search, no words of doubt.
    "initial": {"max_segments": 0},
    "no-reflection": {"asks_reflection": False},
    # Is it the score that finds it, or that every segment is written anew, or that there are so many to choose from?
    "random": {"choice": "random"},
    "best-of-n": {"rollouts": 21, "max_segments": 0},
    # Is it what the generator sees? The search without a sight of y, and a thought from x alone.
    "hidden": {"shows_reference": False},
    "forward": {"shows_reference": False, "max_segments": 0},
    # Is it a copy? Copies refused; the thought is y itself; no thought at all.
    "guarded": {"max_copied": 0.1},
    "answer-leak": {"start": "reference", "max_segments": 0},
    "no-thought": {"start": "empty", "max_segments": 0},
}
