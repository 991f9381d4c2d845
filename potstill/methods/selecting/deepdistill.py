"""DeepDistill: questions are graded by how often, and how evenly, they are solved; the uneven ones are learnt.

| constant | value | source |
|---|---|---|
| responses a question, of each model | 4 | paper |
| a response passes | verified | paper: score above 0.99 (math, code) |
| coefficient of variation, least | 0 | inferred: the paper's limits are not disclosed; drops what is always solved |
| perplexity of question and answer, most | 20 | paper, under a 32B model of its own |
| phrase of a corpus | 20 tokens, more than 20 times | paper; words here |
| second stage | highest coefficient of variation, one response a question | paper |
| share of non-ASCII characters, most | 0.5 | inferred: "ratio", no number |
| learning rate, packing | 8e-5, in the first stage | paper, for 32B and 72B; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev
from typing import Literal

from potstill.methods.settings import Options, options
from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    by_chance,
    dedupe,
    frequent_phrases,
    has_no_phrase,
    is_finished,
    keep,
    look_up,
    perplexity,
    problem,
    report_shares,
    right_test,
    sample,
    score,
    share_of,
    verify,
)

_URL_OR_TABLE = re.compile(r"https?://|www\.|^\s*\|.*\|\s*$|<table|\\begin\{tabular", re.MULTILINE)
# Behind these a question goes on elsewhere.
_UNFINISHED = (":", ",", ";")


@dataclass(frozen=True, slots=True)
class Grading:
    """How questions are graded and selected.

    Args:
        min_cv: a question is learnt where its coefficient of variation is above; with n=4 it is 0, 0.58, 1 or 1.73.
        max_perplexity: of a response behind its question, under the scorer.
        max_non_ascii: share of a question's characters.
        responses: whose the coefficient of variation is taken over.
    """

    min_cv: float = 0.0
    max_perplexity: float = 20.0
    max_non_ascii: float = 0.5
    responses: Literal["teacher", "all"] = "teacher"


def deepdistill(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    graders: Sequence[Model] = (),
    scorer: Scored | None = None,
    *,
    arm: Literal["deepdistill", "stage-1", "all-right", "same-size"] = "deepdistill",
    n: int = 4,
    grading: Grading = Grading(),
    steps: bool | None = None,
    sampling: Options = options(temperature=0.6, top_p=0.95, max_new_tokens=32768),
) -> Generator[Stage, Trainable, None]:
    """DeepDistill: large-scale difficulty-graded data training (Tian et al., arXiv:2504.17565).

    CV(q) = sigma / mu of the scores s_1..s_n of q's responses; q is learnt where max s > t and CV(q) > min_cv, and then
    by its passing responses. With verdicts for scores CV = sqrt((1 - p) / p) of the pass rate p: a band from above.

    Learns from: the teacher's right responses to questions that are not always solved; then one response to each of
        the questions that are solved least evenly.
    Needs: teacher (writes what is learnt), student (is trained), [graders] (only show how hard a question is),
        [scorer] (says how likely a response is).
    Controls: arm=stage-1 (what the second stage adds), all-right (every right response: is it the grading?),
        same-size (as many of them by chance as the first stage has).
    Departure: a score is a verdict, 1 or 0: shares of tests and graded scores are not seen. A response needs no marked
        thought. Inferred: which responses CV is over (the teacher's; grading.responses=all takes the graders' too),
        that the quality gates come behind the grading, and which ends make a question incomplete.
    Partial: the categories of chat and of following instructions, and near duplicates by embedding, are not here;
        what overlaps the evaluation set is refused by every run.
    Paper: 72
    Cite: Xiaoyu Tian, Sitong Zhao, Haotian Wang, Shuaiting Chen, Yiping Peng, Yunjie Ji, Han Zhao, Xiangang Li:
        DeepDistill: Enhancing LLM Reasoning Capabilities via Large-Scale Difficulty-Graded Data Training (2025).

    Args:
        teacher: R1 in the paper; its responses alone are learnt.
        student: learns.
        graders: weaker models; the paper's are distilled ones of 1.5B and 7B.
        scorer: drops responses of a high perplexity.
        arm: the method or one of its controls.
        n: responses a question, of each model.
        grading: how questions are graded and selected.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        sampling: of all responses.
    """
    passes = right_test(problems, steps)
    questions = keep(partial(is_clean_question, grading.max_non_ascii), problems)
    questions = dedupe(question_words, questions)

    # Every model tries every question, and the verifier says which responses pass.
    responses = verify(sample(teacher, questions, n=n, **dict(sampling)))
    attempts_of_graders: list[list[Trace]] = []
    for grader in graders:
        attempts_of_graders.append(verify(sample(grader, questions, n=n, **dict(sampling))))

    # The grade of a question: its pass rate by model, and how uneven its scores are.
    graded = [*responses]
    if grading.responses == "all":
        for attempts in attempts_of_graders:
            graded += attempts
    variations = variation_of_scores(passes, graded)
    responses = score("variation", look_up(variations), responses)
    responses = annotate_pass_rates(passes, responses, attempts_of_graders)

    # What passes goes through the quality gates; the uneven questions are those of the first stage.
    passing = pass_gates(grading, scorer, keep(passes, keep(is_finished, responses)))
    varied = keep(partial(is_varied, variations, grading.min_cv), passing)
    report_grades(passes, responses, attempts_of_graders, varied)
    if arm == "all-right":
        yield Stage(student, passing, "sft")
        return
    if arm == "same-size":
        yield Stage(student, best(by_chance, passing, k=len(varied)), "sft")
        return
    student = yield Stage(student, varied, "sft", name="stage-1")

    # Second stage: one response to each of the questions that are solved least evenly.
    if arm == "deepdistill":
        highest = max(variations[row.problem.id] for row in varied)
        hardest = keep(partial(has_variation, variations, highest), varied)
        yield Stage(student, best(by_chance, hardest, by=problem), "sft", name="stage-2")


def is_clean_question(max_non_ascii: float, trace: Trace) -> tuple[bool, str]:
    """It is whole, mostly ASCII, and without links and tables."""
    question = trace.question.strip()
    if not question or question.endswith(_UNFINISHED):
        return False, "empty, or not complete"
    # What lies behind a link is not shown to anybody; a table needs a field of its own.
    if _URL_OR_TABLE.search(question):
        return False, "has a link or a table"
    others = sum(not character.isascii() for character in question)
    return others <= max_non_ascii * len(question), f"more than {max_non_ascii:.0%} is not ASCII"


def annotate_pass_rates(
    passes: Callable[[Trace], bool],
    responses: Sequence[Trace],
    attempts_of_graders: Sequence[Sequence[Trace]],
) -> list[Trace]:
    """The responses with how often their question is solved, by the teacher and by each grader."""
    annotated = score("pass_rate", look_up(pass_rates(passes, responses)), responses)
    for number, attempts in enumerate(attempts_of_graders, 1):
        rates = pass_rates(passes, attempts)
        annotated = score(f"pass_rate_of_grader_{number}", look_up(rates), annotated)
    return annotated


def pass_gates(grading: Grading, scorer: Scored | None, passing: Sequence[Trace]) -> list[Trace]:
    """The responses without phrases that many share, and, where a scorer says so, without unlikely ones."""
    distinct = keep(partial(has_no_phrase, frequent_phrases(passing)), passing)
    if scorer is None:
        return distinct
    return keep(
        partial(is_likely, grading.max_perplexity),
        score("perplexity", perplexity(scorer), distinct),
    )


def question_words(trace: Trace) -> str:
    """Key: the words of the question."""
    return " ".join(trace.question.split())


def scores_of_questions(
    passes: Callable[[Trace], bool], responses: Sequence[Trace]
) -> dict[str, list[float]]:
    """By question the scores of its responses; a failed generation says nothing."""
    scores: dict[str, list[float]] = {}
    for response in responses:
        # A call that failed shows nothing of its question.
        if not response.error:
            scores.setdefault(response.problem.id, []).append(float(passes(response)))
    return scores


def pass_rates(passes: Callable[[Trace], bool], responses: Sequence[Trace]) -> dict[str, float]:
    """By question the share of its responses that pass."""
    scores = scores_of_questions(passes, responses)
    return {question: fmean(values) for question, values in scores.items()}


def variation_of_scores(
    passes: Callable[[Trace], bool], responses: Sequence[Trace]
) -> dict[str, float]:
    """By question sigma / mu of its scores, with the population's sigma; 0 where nothing passes."""
    variations: dict[str, float] = {}
    for question, values in scores_of_questions(passes, responses).items():
        # The responses are all there is, so sigma is the population's; without a pass there is no ratio.
        mean = fmean(values)
        variations[question] = pstdev(values) / mean if mean else 0.0
    return variations


def is_varied(variations: Mapping[str, float], min_cv: float, trace: Trace) -> tuple[bool, str]:
    """Its question is not solved alike every time."""
    variation = variations[trace.problem.id]
    return variation > min_cv, f"coefficient of variation {variation:.2f}, not above {min_cv:g}"


def has_variation(
    variations: Mapping[str, float], highest: float, trace: Trace
) -> tuple[bool, str]:
    """Its question is among those that are solved least evenly."""
    variation = variations[trace.problem.id]
    return variation == highest, f"coefficient of variation {variation:.2f}, not {highest:.2f}"


def is_likely(max_perplexity: float, trace: Trace) -> tuple[bool, str]:
    """The scorer is not surprised by it; a text that it could not score is none."""
    value = trace.scores.get("perplexity")
    if not isinstance(value, float):
        return False, "the scorer gave it no perplexity"
    return value <= max_perplexity, f"perplexity {value:.1f}, above {max_perplexity:g}"


def report_grades(
    passes: Callable[[Trace], bool],
    responses: Sequence[Trace],
    attempts_of_graders: Sequence[Sequence[Trace]],
    rows: Sequence[Trace],
) -> None:
    """Say how much each model solves, and how many questions are learnt."""
    shares = [share_of("teacher's responses that pass", passes, responses)]
    for number, attempts in enumerate(attempts_of_graders, 1):
        shares.append(share_of(f"responses of grader {number} that pass", passes, attempts))
    rates = pass_rates(passes, responses)
    solved = sum(rate > 0 for rate in rates.values())
    always = sum(rate == 1 for rate in rates.values())
    learnt = len({row.problem.id for row in rows})
    shares.append(Share("questions that are solved", solved, len(rates)))
    shares.append(Share("questions that are always solved", always, len(rates)))
    shares.append(Share("questions that are learnt", learnt, len(rates)))
    hint = "Learnt are the questions whose responses pass at times, and not every time."
    report_shares("Grades of the questions", shares, hint=hint)
