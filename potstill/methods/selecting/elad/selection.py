"""Which chains are annotated: those that the student doubts most, or others as the control arms have it.

Every order by chance is a hash of the seed and the problem's id: it does not depend on the order of the problems, and
`Settings.selection_seed` says which one it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from potstill.methods.selecting.elad.egss import (
    combine_scores,
    inter_scores,
    sample_chains,
    score_steps,
    standing_chains,
)
from potstill.methods.selecting.elad.settings import Selection
from potstill.methods.selecting.elad.steps import count_steps, cut_into_steps
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import chance, constant, keep, score


def choose_chains(
    student: Model, pool: list[Trace], count: int, number: int, selection: Selection
) -> tuple[list[Trace], list[Trace]]:
    """Choose the problems that are annotated in a round.

    Args:
        student: who is sampled and probed.
        pool: blank traces of the problems that are left.
        count: how many to choose.
        number: of the round.
        selection: how.

    Returns:
        A chain for each problem that was scored, and those of the chosen problems, with the score "round".
    """
    seed = selection.settings.selection_seed
    if selection.arm in ("random", "random-same-cost"):
        # By chance without a look at the student: only the chosen problems cost chains.
        chosen = in_chance_order(pool, seed)[:count]
        candidates = score_candidates(student, chosen, selection)
        return candidates, note_round(number, candidates)

    # The other arms score all that is left of the pool.
    candidates = score_candidates(student, pool, selection)
    chosen = select_highest(candidates, count, seed)
    if selection.arm == "random-same-length":
        chosen = select_same_length(candidates, chosen, seed)
    chosen_ids = {chain.id for chain in chosen}

    def chosen_in_round(chain: Trace) -> tuple[bool, str]:
        return chain.id in chosen_ids, f"round {number}: {describe_score(chain)}"

    return candidates, note_round(number, keep(chosen_in_round, candidates))


def score_candidates(student: Model, pool: Sequence[Trace], selection: Selection) -> list[Trace]:
    """One chain a problem in steps, with the scores that the arm needs: "inter", "change", and "egss" of both."""
    settings, arm = selection.settings, selection.arm
    chains = sample_chains(student, pool, selection.n, settings)
    if arm == "inter-same-calls":
        # The probes' calls buy more chains for the vote.
        more = count_probe_calls(chains, selection)
        if more:
            chains += sample_chains(student, pool, more, settings)
            # One entropy over the answers of both calls.
            chains = score("inter", partial(inter_scores, selection.n + more), chains)
    candidates = standing_chains(student, pool, chains, settings)
    if arm in ("egss", "intra", "random-same-length"):
        candidates = score_steps(student, candidates, chains, selection)
    is_random = arm in ("random", "random-same-cost")
    return combine_scores(
        candidates,
        sign=selection.sign,
        inter=arm != "intra" and not is_random,
        intra=arm in ("egss", "intra", "random-same-length"),
        settings=settings,
    )


def count_probe_calls(chains: Sequence[Trace], selection: Selection) -> int:
    """How many calls a problem the probes would take, in the mean over these chains."""
    healthy = [chain for chain in chains if not chain.error]
    if not healthy:
        return 0
    in_steps = cut_into_steps(healthy, selection.settings)
    steps = sum(count_steps(chain) for chain in in_steps) / len(in_steps)
    return round(2 * steps if selection.probe == "branch" else steps + 1)


def note_round(number: int, chains: list[Trace]) -> list[Trace]:
    """The chains with the round that chose them as the score "round"."""
    return score("round", constant(float(number)), chains)


def chance_of(trace: Trace, seed: int) -> str:
    """The problem's place in the order by chance of this seed."""
    return chance(seed, trace.problem.id)


def in_chance_order(traces: Sequence[Trace], seed: int) -> list[Trace]:
    """The traces in the order by chance of this seed."""
    return sorted(traces, key=partial(chance_of, seed=seed))


def select_highest(chains: Sequence[Trace], count: int, seed: int) -> list[Trace]:
    """The chains with the highest score "egss"; equal scores by chance, those without a score behind all others."""

    # Sorted from the highest on; the hash comes last, and decides only between equals.
    def rank(chain: Trace) -> tuple[bool, float, str]:
        value = chain.scores.get("egss")
        if isinstance(value, float):
            return False, -value, chance_of(chain, seed)
        return True, 0.0, chance_of(chain, seed)

    return sorted((chain for chain in chains if not chain.error), key=rank)[:count]


def select_same_length(chains: Sequence[Trace], pattern: Sequence[Trace], seed: int) -> list[Trace]:
    """Chains by chance, of each number of steps as many as there are in `pattern`."""
    wanted = Counter(count_steps(chain) for chain in pattern)
    selected: list[Trace] = []
    healthy = [chain for chain in chains if not chain.error]
    for chain in in_chance_order(healthy, seed):
        steps = count_steps(chain)
        if wanted[steps]:
            wanted[steps] -= 1
            selected.append(chain)
    return selected


def count_ties(candidates: Sequence[Trace], chosen: Sequence[Trace]) -> int:
    """How many of the chosen chains have a score that chains which were not chosen have too."""
    chosen_ids = {chain.id for chain in chosen}
    other_scores = {chain.scores.get("egss") for chain in candidates if chain.id not in chosen_ids}
    return sum(chain.scores.get("egss") in other_scores for chain in chosen)


def describe_score(chain: Trace) -> str:
    """The score by which a chain was ranked, for the ledger."""
    value = chain.scores.get("egss")
    return f"score {value:.3f}" if isinstance(value, float) else "no score"
