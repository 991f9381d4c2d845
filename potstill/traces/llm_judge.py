"""Models as judges: verdicts and scores by a rubric, preferences asked in both orders, and how biased the judge is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from potstill.errors import ConfigError
from potstill.models.model import Completion, Model
from potstill.records import Prompt, Trace, Verdict
from potstill.traces import requests
from potstill.traces.scores import Score, Scorer
from potstill.verifiers import rubric as rubrics
from potstill.verifiers.rubric import Choice, Scale

# A judge's sampling settings where the caller gives none.
SETTINGS: Mapping[str, Any] = {"temperature": 0.0, "max_new_tokens": 1024}
Question: TypeAlias = tuple[Trace, Prompt]  # what a judge is asked, and about which trace
_SHOWN_ANSWER = 200  # characters; a longer answer is left out of its verdict


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge said of two answers in this order and in the other; None where its reply was unparsed.

    `forward` and `backward` name the *place* that won: a consistent judge says "first" once and "second" once.
    """

    one: Trace
    other: Trace
    forward: Choice | None
    backward: Choice | None

    @property
    def winner(self) -> Trace | None:
        """The answer that wins in both orders; None is a tie."""
        if (self.forward, self.backward) == ("first", "second"):
            return self.one
        if (self.forward, self.backward) == ("second", "first"):
            return self.other
        return None


def grade(
    model: Model,
    rubric: str = "",
    *,
    scale: tuple[int, int] | None = None,
    with_reasoning: bool = False,
    **settings: Any,
) -> Scorer:
    """Score by a judge: 1 or 0 by its verdict, or a whole number on `scale`; None where its reply is unparsed.

    Args:
        model: the judge.
        rubric: by what it judges; without one by the problem's `tests`, else by whether the answer is correct.
        scale: lowest and highest score; without it the judge says right or wrong.
        with_reasoning: the judge sees the reasoning too, and not only what stands after it.
        settings: fields of `models.model.Sampling`; greedy and 1,024 tokens where not given.

    Raises:
        ConfigError: the scale does not go upwards.
    """
    if scale and scale[0] >= scale[1]:
        raise ConfigError(
            f"a scale from {scale[0]} to {scale[1]}",
            expected="the lowest score first",
            fix="scale=(0, 10)",
        )
    grade_scale = Scale(*scale) if scale else None
    return partial(
        _grade,
        model,
        rubric,
        scale=grade_scale,
        with_reasoning=with_reasoning,
        settings=settings,
    )


def _grade(
    model: Model,
    rubric: str,
    traces: Sequence[Trace],
    *,
    scale: Scale | None,
    with_reasoning: bool,
    settings: Mapping[str, Any],
) -> list[Score]:
    # Only answers that can be shown are asked about; replies come back in their order.
    judgeable: list[bool] = []
    for trace in traces:
        judgeable.append(not rubrics.unfit_reason(trace.text, with_reasoning=with_reasoning))
    questions: list[Question] = []
    for trace, is_judgeable in zip(traces, judgeable, strict=True):
        if is_judgeable:
            prompt = rubrics.grading_prompt(
                trace.problem, trace.text, rubric, scale, with_reasoning=with_reasoning
            )
            questions.append((trace, prompt))
    replies = iter(_ask_judge(model, questions, settings))
    parse: Callable[[str], float | None] = _parse_verdict
    if scale:
        parse = partial(rubrics.parse_score, scale=scale)
    return [
        _parse_reply(next(replies), parse) if is_judgeable else None for is_judgeable in judgeable
    ]


def _parse_verdict(reply: str) -> float | None:
    is_right = rubrics.parse_verdict(reply)
    return None if is_right is None else float(is_right)


def _parse_reply(reply: Completion, parse: Callable[[str], float | None]) -> float | None:
    """Read a whole reply; one that failed or was cut off says nothing."""
    if reply.error or reply.finish_reason == "length":
        return None
    return parse(reply.text)


def judge_answers(
    model: Model, traces: Sequence[Trace], rubric: str = "", **settings: Any
) -> list[Verdict]:
    """Have a model judge each trace.

    Args:
        model: the judge.
        traces: answers to problems; the judge sees what stands after the reasoning.
        rubric: by what it judges; without one by the problem's `tests`, else by whether the answer is correct.
        settings: fields of `models.model.Sampling`; greedy and 1,024 tokens where not given.

    Returns:
        A verdict for each trace: unparsed where the judge's reply has not the exact form or the answer can't be shown,
        unjudged where the judge's call failed.
    """
    # As in `_grade`: an answer that can't be shown is unparsed, and costs no call.
    version = judge_version(model)
    unfit_reasons = [rubrics.unfit_reason(trace.text) for trace in traces]
    questions: list[Question] = []
    for trace, unfit_reason in zip(traces, unfit_reasons, strict=True):
        if not unfit_reason:
            questions.append((trace, rubrics.grading_prompt(trace.problem, trace.text, rubric)))
    replies = iter(_ask_judge(model, questions, settings))
    verdicts: list[Verdict] = []
    for trace, unfit_reason in zip(traces, unfit_reasons, strict=True):
        if unfit_reason:
            verdicts.append(Verdict("unparsed", None, unfit_reason, version))
        else:
            verdicts.append(_verdict_of_reply(next(replies), trace, version))
    return verdicts


def judge_version(model: Model) -> str:
    """Return the name of this judge as a verifier: another model judges otherwise."""
    return f"{rubrics.VERSION}:{model.id}"


def _verdict_of_reply(reply: Completion, trace: Trace, version: str) -> Verdict:
    # A judged answer is a whole text; a long one is not repeated in the verdict.
    answer: str | None = rubrics.answer_text(trace.text)
    if answer is not None and len(answer) > _SHOWN_ANSWER:
        answer = None
    if reply.error:
        return Verdict("unjudged", answer, f"the judge failed: {reply.error[:160]}", version)
    is_right = _parse_reply(reply, _parse_verdict)
    if is_right is None:
        cut = " (cut off)" if reply.finish_reason == "length" else ""
        return Verdict("unparsed", answer, f"the judge's last line is no verdict{cut}", version)
    if is_right:
        return Verdict("right", answer, "the judge says right", version)
    return Verdict("wrong", answer, "the judge says wrong", version)


def prefer(
    model: Model, pairs: Sequence[tuple[Trace, Trace]], rubric: str = "", **settings: Any
) -> list[Preference]:
    """Ask a judge which of two answers to one problem is better, in both orders; see `Preference.winner`.

    Args:
        model: the judge.
        pairs: two answers to the same problem, each.
        rubric: by what it judges; without one by the problem's `tests`, else by which answer is better.
        settings: fields of `models.model.Sampling`; greedy and 1,024 tokens where not given.

    Returns:
        A preference for each pair. A pair with an answer that can't be shown is not asked, and counts as unparsed in
        both orders.

    Raises:
        ConfigError: the answers of a pair are to different problems.
    """
    for one, other in pairs:
        if one.problem != other.problem:
            raise ConfigError(
                f"prefer met answers to different problems: {one.problem.id!r} and {other.problem.id!r}",
                expected="pairs of answers to one problem",
            )
    # Two prompts a pair, one for each order.
    judgeable = [_can_be_shown(one) and _can_be_shown(other) for one, other in pairs]
    questions: list[Question] = []
    for (one, other), is_judgeable in zip(pairs, judgeable, strict=True):
        if is_judgeable:
            for first, second in ((one, other), (other, one)):
                prompt = rubrics.comparison_prompt(one.problem, first.text, second.text, rubric)
                questions.append((one, prompt))
    replies = iter(_ask_judge(model, questions, settings))
    preferences: list[Preference] = []
    for (one, other), is_judgeable in zip(pairs, judgeable, strict=True):
        if is_judgeable:
            forward, backward = _parse_choice(next(replies)), _parse_choice(next(replies))
            preferences.append(Preference(one, other, forward, backward))
        else:
            preferences.append(Preference(one, other, None, None))
    return preferences


def _can_be_shown(trace: Trace) -> bool:
    return not trace.error and not rubrics.unfit_reason(trace.text)


def _parse_choice(reply: Completion) -> Choice | None:
    if reply.error or reply.finish_reason == "length":
        return None
    return rubrics.parse_choice(reply.text)


def bias(preferences: Sequence[Preference]) -> dict[str, float | int | None]:
    """Measure how a judge leans, over preferences asked in both orders.

    Returns:
        pairs: how many preferences there are.
        first_place: share of decided replies that name the answer shown first (0.5 is fair).
        agreement: share of pairs parsed in both orders whose two replies name the same answer, or a tie both times.
        length: correlation of winning (1, 0 a tie, -1) with the difference of lengths in characters, over parsed pairs.
        longer_wins: share of decided pairs of unequal lengths that the longer answer won.
        ties, unparsed: shares of all pairs, and of all replies.
        Each is None where nothing can be said.
    """
    # Two replies a pair: decided ones name a place, parsed pairs have both.
    replies: list[Choice | None] = []
    for preference in preferences:
        replies += [preference.forward, preference.backward]
    decided = [reply for reply in replies if reply in ("first", "second")]
    ties = [preference for preference in preferences if preference.winner is None]
    parsed = [p for p in preferences if p.forward and p.backward]
    agreeing = [p for p in parsed if p.winner or p.forward == p.backward == "tie"]

    # Over parsed pairs: who won, as 1, 0 or -1 for `one`, and by how many characters `one` is longer.
    wins: list[int] = []
    length_differences: list[int] = []
    longer_wins: list[bool] = []
    for preference in parsed:
        one, other, winner = preference.one, preference.other, preference.winner
        win = (winner is one) - (winner is other)
        difference = len(rubrics.answer_text(one.text)) - len(rubrics.answer_text(other.text))
        wins.append(win)
        length_differences.append(difference)
        if win and difference:
            longer_wins.append((win > 0) == (difference > 0))
    return {
        "pairs": len(preferences),
        "first_place": _share(decided.count("first"), len(decided)),
        "agreement": _share(len(agreeing), len(parsed)),
        "length": _correlation(wins, length_differences),
        "longer_wins": _share(sum(longer_wins), len(longer_wins)),
        "ties": _share(len(ties), len(preferences)),
        "unparsed": _share(replies.count(None), len(replies)),
    }


def _ask_judge(
    model: Model, questions: Sequence[Question], settings: Mapping[str, Any]
) -> list[Completion]:
    """Return a reply to each prompt; equal prompts are asked once, so that a repetition can't be judged otherwise."""
    # A judge at temperature 0 may still answer twice in two ways.
    trace_of_prompt: dict[Prompt, Trace] = {}
    for trace, prompt in questions:
        trace_of_prompt.setdefault(prompt, trace)
    distinct = list(trace_of_prompt)
    sampling = requests.make_sampling("judge", {**SETTINGS, **settings})
    jobs = [(prompt, "") for prompt in distinct]
    answers = requests.request_completions(model, jobs, sampling)
    requests.record_usage(model, list(trace_of_prompt.values()), answers)
    replies: dict[Prompt, Completion] = {}
    for prompt, [(_, completion)] in zip(distinct, answers, strict=True):
        replies[prompt] = completion
    return [replies[prompt] for _, prompt in questions]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one of them never varies."""
    count = len(xs)
    if count < 2:
        return None
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    variance_x = sum((x - mean_x) ** 2 for x in xs)
    variance_y = sum((y - mean_y) ** 2 for y in ys)
    spread = math.sqrt(variance_x * variance_y)
    return covariance / spread if spread else None
