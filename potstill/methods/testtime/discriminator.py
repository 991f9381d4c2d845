"""A reasoning model as discriminator: it thinks about each candidate, and how sure its verdict is ranks them.

Read: the abstract, the released code (prompts, reading, scores, choice) and its README's summary of the results.

| constant | value | source |
|---|---|---|
| candidates an answer, their temperature | 5, 0.2 | released code, `temp_sampling.json` |
| verdicts | greedy, 1 a candidate | released code, `rerank` |
| longest verdict | 1,024 tokens: more gained less than 0.4 % | README; 300 is the released default |
| score of a verdict that can't be read | 0.5 | released code, `failvalue` |
| of equally good candidates | the first in the order of their texts | released code, `rerank` |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError
from potstill.methods.choices import with_choices
from potstill.methods.replies import reply_of
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Scored
from potstill.models.scoring import Passage
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    count_reading,
    dedupe,
    fill_template,
    line,
    look_up,
    pose,
    problem,
    read_answers,
    sample,
    score,
    token_logprobs,
    vote,
)
from potstill.traces.keys import group_traces

Arm: TypeAlias = Literal["soft", "binary", "direct", "vote", "first"]
VERDICT = """\
Determine whether the solution below is a correct answer to the question.
First go through the solution step by step. Then decide whether it answers the question.
You only decide whether it is correct: write no solution of your own.
Give your decision at the end as JSON with the key "correct", {{"correct": true}} or {{"correct": false}}.

### Question:
{question}

### Solution:
{text}"""
DIRECT = """\
Answer the following yes/no question: is the solution correct, given the question?

### Question:
{question}

### Solution:
{text}"""
UNREADABLE = 0.5
_OBJECT = re.compile(r"\{[^{}]{0,2000}\}")
_DECISION = re.compile(r'"correct"\s{0,9}:(\s{0,9}"?(true|false))\b', re.IGNORECASE)


class Verdict(NamedTuple):
    """What a reply decides, and which stretch of it says so, blanks before it included."""

    is_correct: bool
    start: int
    stop: int


def discriminator(
    problems: list[Trace],
    student: Model,
    generator: Model | None = None,
    *,
    arm: Arm = "soft",
    candidates: int = 5,
    check: bool = True,
    temperature: float = 0.2,
    max_new_tokens: int = 1024,
) -> Generator[Stage, Model, Any]:
    """A 1.5B reasoning model as discriminator of candidates, with soft scores (Anjum, arXiv:2505.03786).

    Score of a candidate y with the verdict v behind the thought z: p(true | x, y, z) where v is true, 1 - p(false | x,
    y, z) where it is false, 1/2 where it can't be read. The candidate with the highest score is the answer.

    Learns from: nothing; it is a way to ask any student.
    Needs: student (judges the candidates, and writes them where nobody else does), [generator] (writes them).
    Controls: arm=binary (the verdict alone: are soft scores worth it?), direct (the probability of Yes without a
        thought, the paper's other discriminators: is it the reasoning?), vote (the most frequent answer, without
        verdicts), first (the first candidate: no choice at all), check=False (the paper's naive setting).
    Departure: candidates are solutions of any kind, where the paper has SQL queries alone. What it runs them for before
        the verdict (an invalid query is last) is here whether an answer can be read (`check`). The prompts ask for what
        the released ones ask for in words of ours, and begin no thought for the model.
    Paper: 81
    Cite: Md Fahim Anjum: When Reasoning Beats Scale: A 1.5B Reasoning Model Outranks 13B LLMs as Discriminator (2025).

    Args:
        student: reasons about each candidate; its likelihoods are asked for soft scores.
        generator: writes the candidates; the student without one.
        arm: the method or one of its controls.
        candidates: how many are written for an answer; equal ones are judged once.
        check: rank candidates without a readable answer last, and ask for no verdict on them.
        temperature: of the candidates.
        max_new_tokens: longest verdict with its thought.
    """
    if arm in ("soft", "direct") and not isinstance(student, Scored):
        raise ConfigError(
            f"discriminator arm={arm} scores by likelihoods, and {student.id} gives none",
            expected="a local checkpoint, or a server with score=",
            fix="--set arm=binary",
        )
    writing = options(temperature=temperature)
    judging = options(temperature=0.0, max_new_tokens=max_new_tokens)
    judge = None
    if arm not in ("vote", "first"):
        judge = partial(score_candidates, student, arm, check, judging)
    count = 1 if arm == "first" else candidates
    return partial(solve_by_choice, generator or student, judge, count, writing)
    yield  # nothing is trained


def solve_by_choice(
    generator: Model,
    judge: Callable[[Sequence[Trace]], Mapping[str, float]] | None,
    count: int,
    writing: Options,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Write so many candidates for each of n answers to a problem, and return the best of each."""
    texts = sample(generator, problems, n=n * count, **{**sampling, **dict(writing)})
    if count == 1:
        return texts

    # The candidates of each answer; equal ones are one, as the released code has it.
    answer_number: dict[str, int] = {}
    for family in group_traces(texts, problem).values():
        for place, text in enumerate(family):
            answer_number[text.id] = place // count
    of_answer = partial(which_answer, answer_number)
    if judge is None:
        return vote(texts, by=of_answer)
    distinct = dedupe(partial(wording_in_answer, answer_number), texts)

    # The highest score wins; of equal ones the first in the order of the texts.
    scored = score("correct", look_up(judge(distinct), by=line), distinct)
    place_of_text = {text: -place for place, text in enumerate(sorted({t.text for t in scored}))}
    return best(partial(rank_of, place_of_text), scored, by=of_answer)


def which_answer(answer_number: Mapping[str, int], trace: Trace) -> Hashable:
    """Key: the answer that a candidate was written for."""
    return trace.problem.id, answer_number[trace.id]


def wording_in_answer(answer_number: Mapping[str, int], trace: Trace) -> Hashable:
    """Key: the candidates of one answer with the same words."""
    return which_answer(answer_number, trace), " ".join(trace.text.split())


def rank_of(place_of_text: Mapping[str, int], trace: Trace) -> tuple[float, int]:
    """Key: the score of a candidate, then the place of its text; one without a score is last."""
    correct = trace.scores.get("correct")
    return float(correct) if isinstance(correct, float) else -1.0, place_of_text[trace.text]


def score_candidates(
    student: Model, arm: Arm, check: bool, judging: Options, candidates: Sequence[Trace]
) -> dict[str, float]:
    """How sure the student is that each candidate is correct, by the candidate's line; nothing of those not judged."""
    # A failed candidate is nothing to judge, nor is one without an answer where that is checked.
    judged: list[Trace] = []
    for candidate, answer in zip(candidates, read_answers(candidates), strict=True):
        if not candidate.error and (answer is not None or not check):
            judged.append(candidate)
    if arm == "direct":
        posed = pose(partial(show_candidate, DIRECT), judged)
        return probabilities(student, {trace: Passage(trace.prompt, "Yes") for trace in posed})

    # The student thinks and decides; a decision that can't be read is as good as none.
    replies = sample(student, pose(partial(show_candidate, VERDICT), judged), **dict(judging))
    scores: dict[str, float] = {}
    passages: dict[Trace, Passage] = {}
    for reply in replies:
        verdict = None if reply.error else read_verdict(reply.text)
        if verdict is None:
            scores[reply.line] = UNREADABLE
            continue
        scores[reply.line] = float(verdict.is_correct)
        stated = reply.text[verdict.start : verdict.stop]
        passages[reply] = Passage(reply.prompt, stated, prefix=reply.text[: verdict.start])
    if arm == "binary":
        return scores

    # Of a decision that was read, the probability that it has behind the thought.
    for key, probability in probabilities(student, passages).items():
        scores[key] = probability if scores[key] else 1 - probability
    return scores


def show_candidate(template: str, trace: Any) -> str:
    """The discriminator's prompt: the question, and the candidate without its thought."""
    values = {"question": with_choices(trace.question, trace.problem), "text": reply_of(trace.text)}
    return fill_template(template, values)


def probabilities(student: Model, passages: Mapping[Trace, Passage]) -> dict[str, float]:
    """The probability of each trace's passage, by the trace's line; none where the student failed to score it."""
    assert isinstance(student, Scored)
    problem_ids = [trace.problem.id for trace in passages]
    logprobs = token_logprobs(student, list(passages.values()), problem_ids=problem_ids)
    by_line: dict[str, float] = {}
    for trace, values in zip(passages, logprobs, strict=True):
        if values:
            by_line[trace.line] = math.exp(math.fsum(values))
    return by_line


def read_verdict(text: str) -> Verdict | None:
    """The last JSON object of a reply that has the key `correct`, true or false, as a word or in quotes."""
    verdict: Verdict | None = None
    for match in _OBJECT.finditer(text):
        # As the released code does: Python's words count, and a comma before the bracket does not.
        cleaned = re.sub(r",\s*\}", "}", match[0].replace("True", "true").replace("False", "false"))
        decision = _DECISION.search(match[0])
        try:
            content = json.loads(cleaned)
        except ValueError:
            continue
        if "correct" not in content:
            continue
        # The last object with the key decides, also where it decides nothing.
        verdict = None
        if decision is not None and str(content["correct"]).lower() in ("true", "false"):
            start, stop = (match.start() + place for place in decision.span(1))
            verdict = Verdict(decision[2].lower() == "true", start, stop)
    count_reading("verdict", text, "unparsed" if verdict is None else "strict")
    return verdict
