"""Models as judges: verdicts and scores by a rubric, preferences asked in both orders, and how biased the judge is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from potstill.errors import ConfigError
from potstill.models.model import Completion, Model
from potstill.records import Prompt, Trace, Verdict
from potstill.traces import requests
from potstill.traces.scores import Score, Scorer
from potstill.verifiers import rubric as judging
from potstill.verifiers.rubric import Choice, Scale

SETTINGS: Mapping[str, Any] = {"temperature": 0.0, "max_tokens": 1024}


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge said of two answers in this order and in the other; None where its reply was unparsed.

    `forward` and `backward` name the *place* that won: a judge of one mind says "first" once and "second" once.
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
        return self.other if (self.forward, self.backward) == ("second", "first") else None


def grade(
    model: Model, rubric: str = "", *, scale: tuple[int, int] | None = None, **settings: Any
) -> Scorer:
    """A scorer for `score`: 1 or 0 by the judge's verdict, or a whole number on `scale`; None where it is unparsed.

    Args:
        rubric: by what the judge goes; without one by the problem's `tests`, else by whether the answer is correct.
        scale: lowest and highest score; without it the judge says right or wrong.
        settings: fields of `models.model.Sampling`; greedy and 1,024 tokens where not given.
    """
    if scale and scale[0] >= scale[1]:
        raise ConfigError(
            f"a scale from {scale[0]} to {scale[1]}",
            expected="the lowest score first",
            fix="scale=(0, 10)",
        )
    return partial(_graded, model, rubric, Scale(*scale) if scale else None, settings)


def _graded(
    model: Model,
    rubric: str,
    scale: Scale | None,
    settings: Mapping[str, Any],
    traces: Sequence[Trace],
) -> list[Score]:
    fit = [not judging.unfit(t.text) for t in traces]
    prompts = [
        judging.grading(t.problem, t.text, rubric, scale)
        for t, f in zip(traces, fit, strict=True)
        if f
    ]
    replies = iter(_ask(model, prompts, settings))
    read: Callable[[str], float | None] = (
        partial(judging.read_score, scale=scale) if scale else _flag
    )
    return [_read(next(replies), read) if f else None for f in fit]


def _flag(reply: str) -> float | None:
    found = judging.read_verdict(reply)
    return None if found is None else float(found)


def verdicts(
    model: Model, traces: Sequence[Trace], rubric: str = "", **settings: Any
) -> list[Verdict]:
    """A verdict a trace: unparsed where the judge's reply has not the exact form, unjudged where its call failed."""
    name = version(model)
    why = [judging.unfit(t.text) for t in traces]
    prompts = [
        judging.grading(t.problem, t.text, rubric)
        for t, reason in zip(traces, why, strict=True)
        if not reason
    ]
    replies = iter(_ask(model, prompts, settings))
    return [
        Verdict("unparsed", None, reason, name)
        if reason
        else _verdict(next(replies), judging.answer(t.text), name)
        for t, reason in zip(traces, why, strict=True)
    ]


def version(model: Model) -> str:
    """The verifier that this judge is: another model judges otherwise."""
    return f"{judging.VERSION}:{model.id}"


def _verdict(reply: Completion, answer: str, name: str) -> Verdict:
    shown = answer if len(answer) <= 200 else None
    if reply.error:
        return Verdict("unjudged", shown, f"the judge failed: {reply.error[:160]}", name)
    found = _read(reply, _flag)
    if found is None:
        cut = " (cut off)" if reply.finish == "length" else ""
        return Verdict("unparsed", shown, f"the judge's last line is no verdict{cut}", name)
    return Verdict(
        "right" if found else "wrong",
        shown,
        f"the judge says {'right' if found else 'wrong'}",
        name,
    )


def prefer(
    model: Model, pairs: Sequence[tuple[Trace, Trace]], rubric: str = "", **settings: Any
) -> list[Preference]:
    """Which of two answers to one problem is better, asked in both orders; see `Preference.winner`.

    A pair of which one answer is unfit to be shown is not asked and counts as unparsed in both orders.
    """
    for one, other in pairs:
        if one.problem != other.problem:
            raise ConfigError(
                f"prefer met answers to different problems: {one.problem.id!r} and {other.problem.id!r}",
                expected="pairs of answers to one problem",
            )
    fit = [pair for pair in pairs if not any(judging.unfit(t.text) or t.error for t in pair)]
    both = [
        judging.comparing(a.problem, x.text, y.text, rubric)
        for a, b in fit
        for x, y in ((a, b), (b, a))
    ]
    said = [
        None if r.error or r.finish == "length" else judging.read_choice(r.text)
        for r in _ask(model, both, settings)
    ]
    found = {id(pair): (said[2 * i], said[2 * i + 1]) for i, pair in enumerate(fit)}
    return [Preference(*pair, *found.get(id(pair), (None, None))) for pair in pairs]


def bias(preferences: Sequence[Preference]) -> dict[str, float | int | None]:
    """How a judge leans, over preferences asked in both orders; None where nothing can be said.

    first_place: share of decided replies that name the answer shown first (0.5 is fair).
    agreement: share of pairs parsed in both orders whose two replies name the same answer, or a tie both times.
    length: correlation of winning (1, 0 a tie, -1) with the difference of lengths in characters, over parsed pairs.
    longer_wins: share of decided pairs of unequal lengths that the longer answer won.
    ties, unparsed: shares of all pairs, and of all replies.
    """
    replies = [reply for p in preferences for reply in (p.forward, p.backward)]
    decided = [reply for reply in replies if reply in ("first", "second")]
    whole = [p for p in preferences if p.forward and p.backward]
    agree = [p for p in whole if p.winner or p.forward == p.backward == "tie"]
    won = [(p.winner is p.one) - (p.winner is p.other) for p in whole]
    longer = [len(judging.answer(p.one.text)) - len(judging.answer(p.other.text)) for p in whole]
    unequal = [(w > 0) == (d > 0) for w, d in zip(won, longer, strict=True) if w and d]
    return {
        "pairs": len(preferences),
        "first_place": _share(decided.count("first"), len(decided)),
        "agreement": _share(len(agree), len(whole)),
        "length": _correlation(won, longer),
        "longer_wins": _share(sum(unequal), len(unequal)),
        "ties": _share(sum(p.winner is None for p in preferences), len(preferences)),
        "unparsed": _share(replies.count(None), len(replies)),
    }


def _ask(model: Model, prompts: Sequence[Prompt], settings: Mapping[str, Any]) -> list[Completion]:
    """A reply to each prompt; equal prompts are asked once, so that a repetition can't be judged otherwise."""
    once = list(dict.fromkeys(prompts))
    how = requests.sampling("judge", {**SETTINGS, **settings})
    answers = requests.call(model, [(prompt, "") for prompt in once], how)
    replies = {prompt: completion for prompt, [(_, completion)] in zip(once, answers, strict=True)}
    return [replies[prompt] for prompt in prompts]


def _read(reply: Completion, read: Callable[[str], float | None]) -> float | None:
    """What a whole reply says; one that failed or was cut off says nothing."""
    return None if reply.error or reply.finish == "length" else read(reply.text)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's; None where one of them never varies."""
    n = len(xs)
    if n < 2:
        return None
    x, y = sum(xs) / n, sum(ys) / n
    covariance = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    spread = math.sqrt(sum((a - x) ** 2 for a in xs) * sum((b - y) ** 2 for b in ys))
    return covariance / spread if spread else None
