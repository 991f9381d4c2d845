"""Source choice: several teachers solve the same questions until each is right, and one of them is learnt from.

| constant | value | source |
|---|---|---|
| sampled again until | verified, score at least 0.9 | paper; a verdict here |
| tries | 8 | inferred: no number |
| limit of the perplexity | one for each teacher | paper; not disclosed: the 95th percentile, inferred |
| phrase of a corpus | 20 tokens, more than 20 times | paper; words here |
| short and long responses | below 1,024 and above 10,240 tokens | paper, its measure of spread |
| sampling | temperature 0.6, top-p 0.95, 32,768 tokens | inferred |
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from math import ceil
from statistics import fmean
from typing import Literal

from potstill.errors import ConfigError, StageError
from potstill.methods.settings import Options, options
from potstill.methods.until_right import sample_until_right
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    by_chance,
    frequent_phrases,
    has_no_phrase,
    keep,
    perplexity,
    problem,
    report_shares,
    right_test,
    score,
    split_by,
)

SHORT, LONG = 1024, 10240


def source_choice(
    problems: list[Trace],
    teachers: list[Model],
    student: Trainable,
    scorer: Scored | None = None,
    *,
    arm: Literal["one-source", "mixed"] = "one-source",
    source: int = 1,
    tries: int = 8,
    likely_share: float = 0.95,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.6, top_p=0.95, max_new_tokens=32768),
) -> Generator[Stage, Trainable, None]:
    """Source choice: not all correct answers are equal, the source matters (Tian et al., arXiv:2505.14464).

    The same questions, each teacher sampled again until it is right; arms that differ in `source` alone say which
    teacher this student learns most from.

    Learns from: right responses of one of the teachers, to the questions that all of them got right.
    Needs: teachers (write the same questions' responses), student (is trained), [scorer] (says how likely they are).
    Controls: arm=mixed (of each question the response of a teacher by chance: is it the source, or any choice?).
    Departure: a response is right by its verdict, 1 or 0. Questions that one teacher never got right are left out for
        all, which is inferred; so is the share that the limit of the perplexity leaves. A response must be whole, but
        needs no marked thought, which the paper's check of its structure demands.
    Partial: categories of questions are not told apart, neither in the gates nor in the report.
    Paper: 7
    Cite: Xiaoyu Tian, Yunjie Ji, Haotian Wang, Shuaiting Chen, Sitong Zhao, Yiping Peng, Han Zhao, Xiangang Li: Not All
        Correct Answers Are Equal: Why Your Distillation Source Matters (2025).

    Args:
        teachers: two or more; AM-Thinking, Qwen3-235B-A22B and R1 in the paper.
        student: learns.
        scorer: one model that all responses are measured with.
        arm: the method or its control.
        source: number of the teacher that is learnt from, from 1.
        tries: that a teacher gets at each question.
        likely_share: of each teacher's responses, those with the lowest perplexity; needs the scorer.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        sampling: of all teachers.
    """
    if not 1 <= source <= len(teachers):
        raise ConfigError(
            f"source_choice got source={source} of {len(teachers)} teachers",
            expected=f"from 1 to {len(teachers)}",
            fix="--role teachers=A --role teachers=B",
        )
    is_right = right_test(problems, steps)

    # Each teacher answers every question until it is right; then the quality gates, by teacher.
    sources: list[list[Trace]] = []
    for teacher in teachers:
        responses = sample_until_right(is_right, teacher, problems, tries, **dict(sampling))
        responses = keep(partial(has_no_phrase, frequent_phrases(responses)), responses)
        if scorer is not None:
            responses = keep_likely(scorer, likely_share, responses)
        sources.append(responses)
    report_sources(sources)

    # The same questions for every source.
    # The learnt teacher's responses, to the questions that each of the others has a response to.
    common = sources[source - 1]
    for responses in sources:
        common, _ = split_by(responses, common)
    if not common:
        raise StageError(
            f"source_choice compares {len(teachers)} teachers, and no problem was solved by all of them",
            expected="a problem that every teacher got right",
            fix="more tries (--set tries=16), or easier problems, in another --out",
        )
    rows = common
    if arm == "mixed":
        candidates: list[Trace] = []
        for responses in sources:
            candidates += split_by(common, responses)[0]
        rows = best(by_chance, candidates, by=problem)
    yield Stage(student, rows, "sft")


def keep_likely(scorer: Scored, share: float, responses: Sequence[Trace]) -> list[Trace]:
    """The share of one teacher's responses that surprises the scorer least: a limit of its own for each teacher."""
    # One limit for all teachers would take out the wordier one's responses.
    scored = score("perplexity", perplexity(scorer), responses)
    return best(likelihood, scored, k=ceil(share * len(scored)))


def likelihood(trace: Trace) -> float | None:
    """Key: minus the perplexity; none where the scorer gave none."""
    value = trace.scores.get("perplexity")
    return -float(value) if value is not None else None


def report_sources(sources: Sequence[Sequence[Trace]]) -> None:
    """Say of each teacher's responses how long they are, how far the lengths are spread, and how likely they are."""
    shares: list[Share] = []
    for number, responses in enumerate(sources, 1):
        lengths = [trace.tokens.completion for trace in responses]
        short = sum(length < SHORT for length in lengths)
        long = sum(length > LONG for length in lengths)
        name = f"teacher {number}"
        shares.append(Share(f"{name}: responses below {SHORT} tokens", short, len(lengths)))
        shares.append(Share(f"{name}: responses above {LONG} tokens", long, len(lengths)))
    hint = (
        f"Mean tokens of a response, by teacher: {describe_means(sources)}. The paper's best source has both many "
        "short and many long responses: its lengths follow the questions."
    )
    report_shares("Sources", shares, hint=hint)


def describe_means(sources: Sequence[Sequence[Trace]]) -> str:
    """The mean length of each teacher's responses, with their mean perplexity where they were scored."""
    descriptions: list[str] = []
    for responses in sources:
        if not responses:
            descriptions.append("none")
            continue
        description = f"{fmean(trace.tokens.completion for trace in responses):.0f}"
        values = [-value for trace in responses if (value := likelihood(trace)) is not None]
        if values:
            description += f" (perplexity {fmean(values):.2f})"
        descriptions.append(description)
    return ", ".join(descriptions)
