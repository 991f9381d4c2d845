"""What an arm cost altogether: selecting, generating, training and answering, in tokens, money and FLOPs.

A dense transformer takes about 2 FLOPs a parameter and token to read or write, and 6 to train (Kaplan et al.,
arXiv:2001.08361, section 2.1). Parameters that nobody knows, such as those of a model behind a server, are never
guessed: the FLOPs of its role are then None, and so are all sums with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from potstill.errors import ConfigError
from potstill.evaluation.results import Cost, Results
from potstill.models.phase import split_account

Part: TypeAlias = Literal["selection", "generation", "training", "evaluation"]
PARTS: tuple[Part, ...] = get_args(Part)
STUDENT_PARTS: tuple[Part, ...] = ("selection", "generation", "training")
"""What a student costs; measuring it is no part of that."""

TRAINED = "student"  # the role that most methods train
INFERENCE_FLOPS = 2  # a parameter and token
TRAINING_FLOPS = 6  # a parameter and token: forward, and twice that backward


class Spending(NamedTuple):
    """What one role used in one part of an arm.

    Args:
        part: "selection" (choosing what to annotate), "generation" (making rows), "training", "evaluation".
        role: whose work it was.
        tokens: read and written; of a training the tokens of all its steps.
        usd: what was paid, tries that brought nothing included.
        flops: None where the role's parameters are not known.
    """

    part: Part
    role: str
    tokens: float
    usd: float = 0.0
    flops: float | None = None


class TotalCost(NamedTuple):
    """Sums over an arm; `flops` is None where those of one part are not known."""

    tokens: float
    usd: float
    flops: float | None


def inference_flops(parameters: float, tokens: float) -> float:
    """`2 N D`: FLOPs of reading or writing D tokens with N parameters, attention over long contexts left out."""
    return INFERENCE_FLOPS * parameters * tokens


def training_flops(parameters: float, tokens: float) -> float:
    """`6 N D`: FLOPs of a forward and a backward pass over D tokens with N parameters."""
    return TRAINING_FLOPS * parameters * tokens


def list_spending(
    results: Results,
    arm: str,
    *,
    parameters: Mapping[str, float] | None = None,
    selecting: Sequence[str] = (),
    trained: str = TRAINED,
) -> list[Spending]:
    """What an arm of a run spent, by part and role, from the run's own figures.

    Args:
        results: of a run.
        arm: its name.
        parameters: role -> how many its model has; of the others no FLOPs are known.
        selecting: roles whose calls while rows are made are selection, such as the student that is probed.
        trained: the role that is trained.

    Raises:
        ConfigError: the run has no such arm, or no such role.
    """
    if arm not in results.costs:
        raise ConfigError(f"the run has no arm {arm!r}", available=tuple(results.costs), wanted=arm)
    sizes = dict(parameters or {})
    costs = results.costs[arm]
    roles = arm_roles(results, arm) | {trained}
    for role in (*sizes, *selecting):
        if role not in roles:
            raise ConfigError(f"{arm} has no role {role!r}", available=sorted(roles), wanted=role)
    # What calls took, by the phase in which they were asked; of a collection the roles tell selection from generation.
    spending: list[Spending] = []
    for account, cost in costs.items():
        role, phase = split_account(account)
        part: Part = "generation"
        if phase != "collection":
            part = phase
        elif role in selecting:
            part = "selection"
        tokens = cost.prompt_tokens + cost.completion_tokens
        flops = inference_flops(sizes[role], tokens) if role in sizes else None
        spending.append(Spending(part, role, tokens, _paid(cost), flops))
    # What the steps of the training read; the model's own calls in it, such as rollouts, stand above.
    trained_tokens = _trained_tokens(results, arm)
    if trained_tokens:
        flops = training_flops(sizes[trained], trained_tokens) if trained in sizes else None
        spending.append(Spending("training", trained, trained_tokens, 0.0, flops))
    return spending


def spending_by_arm(
    results: Results, parameters: Mapping[str, float], selecting: Sequence[str] = ()
) -> dict[str, list[Spending]]:
    """`list_spending` of every arm that cost anything; an arm takes of `parameters` and `selecting` its own roles.

    Raises:
        ConfigError: no arm of the run has a role of that name.
    """
    # Arms of several methods have different roles: a name must be one of any of them, a typing mistake is none.
    roles = {arm: arm_roles(results, arm) | {TRAINED} for arm in results.costs}
    all_roles = run_roles(results)
    for role in (*parameters, *selecting):
        if role not in all_roles:
            raise ConfigError(
                f"no arm has a role {role!r}", available=sorted(all_roles), wanted=role
            )
    spending: dict[str, list[Spending]] = {}
    for arm, own_roles in roles.items():
        sizes = {role: count for role, count in parameters.items() if role in own_roles}
        choosing = [role for role in selecting if role in own_roles]
        spending[arm] = list_spending(results, arm, parameters=sizes, selecting=choosing)
    return spending


def run_roles(results: Results) -> set[str]:
    """The roles that any arm of a run asked anything of, and the one that is trained."""
    roles = {TRAINED}
    for arm in results.costs:
        roles |= arm_roles(results, arm)
    return roles


def arm_roles(results: Results, arm: str) -> set[str]:
    """The roles that an arm asked anything of."""
    return {split_account(account)[0] for account in results.costs[arm]}


def sum_spending(spending: Sequence[Spending], parts: Sequence[Part] = STUDENT_PARTS) -> TotalCost:
    """The sums over some parts; what a measurement took is no part of what a student costs.

    Args:
        spending: of one arm.
        parts: which ones.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ConfigError(f"no part {unknown[0]!r}", available=PARTS, wanted=unknown[0])
    chosen = [entry for entry in spending if entry.part in parts]
    # One part whose FLOPs nobody knows makes the sum unknown; a part that used nothing does not.
    flops: float | None = 0.0
    for entry in chosen:
        if entry.flops is None and entry.tokens:
            flops = None
        elif entry.flops is not None and flops is not None:
            flops += entry.flops
    return TotalCost(
        math.fsum(entry.tokens for entry in chosen),
        math.fsum(entry.usd for entry in chosen),
        flops,
    )


def _trained_tokens(results: Results, arm: str) -> int:
    """The tokens of all steps of an arm's trainings: of its stages, where it has several."""
    # Of several stages, the last one's report also stands under the arm's own name: it counts once.
    stages: list[int] = []
    for name, report in results.training.items():
        if name != arm and report.get("arm") == arm and "stage" in report:
            stages.append(report.get("tokens", 0))
    if stages:
        return sum(stages)
    tokens: int = results.training.get(arm, {}).get("tokens", 0)
    return tokens


def _paid(cost: Cost) -> float:
    return cost.cost + cost.lost
