"""Which of several prompts gives the most sound texts: shares with intervals, paired over the same problems.

A problem's share is that of its texts that are sound. With one text a problem and prompt it is 0 or 1, and two prompts
differ where one of them is followed and the other is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.errors import StageError
from potstill.evaluation.intervals import Estimate, difference_interval, share_interval
from potstill.evaluation.table import format_points

UNREAD = 0.5  # share of texts like a control's from which on it is said


@dataclass(frozen=True, slots=True)
class PromptOutcome:
    """What was written under one prompt.

    Args:
        name: of the prompt.
        is_control: whether it is measured beside the others and never chosen.
        shares: by problem, the share of its texts that are sound.
        texts: by problem, what was written, without regard to white space.
        written: how many texts there are.
        statuses: how many texts are "sound", were "dropped" by a test, are "wrong" or "unparsed", or "failed".
        reasons: why texts are not sound, the most frequent reason first.
        tokens: of a mean text.
    """

    name: str
    is_control: bool
    shares: Mapping[str, float]
    texts: Mapping[str, frozenset[str]]
    written: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    tokens: float


@dataclass(frozen=True, slots=True)
class RankedPrompt:
    """A prompt's outcome beside those of the others.

    Args:
        outcome: of the prompt.
        share: of sound texts, the mean over problems.
        difference: of this share from the chosen prompt's; None of that itself.
        like_control: share of the problems whose text is word for word a control's; None where there is no control,
            and of a control. A prompt whose texts are a control's is one of which the writer does not read what the
            control leaves out, however many of them are sound.
    """

    outcome: PromptOutcome
    share: Estimate
    difference: Estimate | None
    like_control: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        outcome = self.outcome
        return {
            "name": outcome.name,
            "is_control": outcome.is_control,
            "share": self.share._asdict(),
            "difference": None if self.difference is None else self.difference._asdict(),
            "like_control": self.like_control,
            "problems": len(outcome.shares),
            "written": outcome.written,
            "statuses": dict(outcome.statuses),
            "reasons": dict(outcome.reasons),
            "tokens": outcome.tokens,
        }


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """The prompts in the order of their shares, variants before controls.

    Args:
        prompts: all of them, the chosen one first.
        problems: ids of the problems that every prompt was tried on.
        sentences: what may be said of the choice.
    """

    prompts: tuple[RankedPrompt, ...]
    problems: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the chosen prompt."""
        return self.prompts[0].outcome.name


def choose_prompt(outcomes: Sequence[PromptOutcome], current: str = "") -> PromptChoice:
    """Choose the variant with the largest share; of equal ones the first.

    Args:
        outcomes: of the variants and controls, in the order of the method's table.
        current: the variant that the method would use; the choice is also compared with it.

    Raises:
        StageError: no variant gave a sound text.
    """
    problems = tried_problems(outcomes)
    shares = {outcome.name: problem_shares(outcome, problems) for outcome in outcomes}
    variants = [outcome for outcome in outcomes if not outcome.is_control]
    controls = [outcome for outcome in outcomes if outcome.is_control]

    def mean_share(outcome: PromptOutcome) -> float:
        return sum(shares[outcome.name]) / len(problems)

    variants.sort(key=mean_share, reverse=True)  # stable: of equal ones the first in the table
    controls.sort(key=mean_share, reverse=True)
    best = variants[0]
    if not mean_share(best):
        raise nothing_sound(variants, len(problems))

    # Each with its share, what it lacks against the best, and how far its texts are a control's.
    prompts: list[RankedPrompt] = []
    for outcome in [*variants, *controls]:
        samples = max(outcome.written, len(problems))
        share = share_interval(shares[outcome.name], samples)
        difference = None
        if outcome is not best:
            difference = paired_difference(shares[outcome.name], shares[best.name])
        like_control = None if outcome.is_control else share_like(outcome, controls)
        prompts.append(RankedPrompt(outcome, share, difference, like_control))

    # The choice against the next one, against what is used today, and against the best control.
    sentences: list[str] = []
    rivals = [outcome.name for outcome in variants[1:2]]
    if current not in ("", best.name, *rivals):
        rivals.append(current)
    rivals += [outcome.name for outcome in controls[:1]]
    for rival in rivals:
        sentences.append(
            describe_lead(
                best.name, rival, paired_difference(shares[best.name], shares[rival]), len(problems)
            )
        )
    like_control = prompts[0].like_control
    if like_control is not None and like_control >= UNREAD:
        sentences.append(
            f"{like_control:.0%} of the texts of {best.name} are word for word a control's: its writer hardly reads "
            "what the control leaves out, and sound texts alone do not say that it does"
        )
    return PromptChoice(tuple(prompts), tuple(problems), tuple(sentences))


def tried_problems(outcomes: Sequence[PromptOutcome]) -> list[str]:
    """The problems that some variant was tried on, in the order in which they were met."""
    problems: dict[str, None] = {}
    for outcome in outcomes:
        if not outcome.is_control:
            problems.update(dict.fromkeys(outcome.shares))
    return list(problems)


def share_like(outcome: PromptOutcome, controls: Sequence[PromptOutcome]) -> float | None:
    """The share of the problems that a control was tried on too on which a text is word for word the control's."""
    is_like: list[bool] = []
    for problem, texts in outcome.texts.items():
        control_texts: set[str] = set()
        for control in controls:
            control_texts |= control.texts.get(problem, frozenset())
        if control_texts:
            is_like.append(not texts.isdisjoint(control_texts))
    return sum(is_like) / len(is_like) if is_like else None


def problem_shares(outcome: PromptOutcome, problems: Sequence[str]) -> list[float]:
    """Its share of each problem; 0 where it wrote nothing."""
    return [outcome.shares.get(problem, 0.0) for problem in problems]


def paired_difference(shares: Sequence[float], base: Sequence[float]) -> Estimate:
    """The mean difference of two lists of shares of the same problems, with its interval."""
    return difference_interval([one - other for one, other in zip(shares, base, strict=True)])


def describe_lead(name: str, rival: str, difference: Estimate, problems: int) -> str:
    """What may be said of two prompts, in points of 100."""
    points = f"{format_points(difference)} points on {problems} problems"
    if difference.low > 0:
        return f"{name} gives more sound texts than {rival} ({points})"
    if difference.high < 0:
        return f"{name} gives fewer sound texts than {rival} ({points})"
    return f"{name} is not distinguishable from {rival} ({points})"


def nothing_sound(variants: Sequence[PromptOutcome], problems: int) -> StageError:
    """The error of a writer that follows none of the prompts."""
    counts: list[str] = []
    for outcome in variants:
        reasons = [f"{reason} ({count})" for reason, count in list(outcome.reasons.items())[:2]]
        counts.append(f"{outcome.name}: {', '.join(reasons)}")
    return StageError(
        f"no prompt gave a sound text on {problems} problems; {'; '.join(counts)}",
        expected="at least one text that passes the method's tests",
        fix="more problems (--n-problems), easier ones, or another writer",
    )
