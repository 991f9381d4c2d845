"""EGSS, explanation-guided sample selection: how uncertain the student's answer is, and what its steps do for it.

    H_inter = -sum_a p_a log p_a / log min(k, |A|)      over the answers a of k chains
    U_change = 1/n sum_i 1[a_i != a'_i],  U_same = 1 - U_change
    H = H_inter + lambda U_sign

a_i is an answer that step i took part in, a'_i one without it. The review's formula counts equal answers and its prose
counts changed ones; the paper's printed sign could not be read, so both are here (`sign`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from potstill.methods.selecting.elad.settings import Selection, Settings, Sign
from potstill.methods.selecting.elad.steps import (
    count_steps,
    cut_into_steps,
    text_of_steps,
    text_without_step,
)
from potstill.models.model import Model
from potstill.records import Problem, Trace
from potstill.traces import answer_entropy, edit, read_answers, sample, score, vote
from potstill.traces.answers import compare_answers
from potstill.traces.scores import Score


class Probed(NamedTuple):
    """The two answers that are compared for one step; for the noise floor, two answers behind one and the same text.

    Args:
        problem: of the chain.
        step: its number, from 1; 0 where the noise floor is measured.
        with_step: the answer that the step took part in; None where none can be read.
        without_step: the answer without it.
    """

    problem: Problem
    step: int
    with_step: str | None
    without_step: str | None


def sample_chains(
    student: Model, problems: Sequence[Trace], n: int, settings: Settings
) -> list[Trace]:
    """The student's k chains of each problem, with the normalised entropy of their answers as the score "inter"."""
    chains = sample(
        student,
        problems,
        n=n,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.chain_sampling),
    )
    return score("inter", partial(inter_scores, n), chains)


def inter_scores(n: int, chains: Sequence[Trace]) -> list[Score]:
    """The entropy of each problem's answers, scaled to [0, 1]; None where no chain has an answer: a scorer."""
    scores: list[Score] = []
    for chain, entropy in zip(chains, answer_entropy(chains), strict=True):
        # Where there are options there can't be more answers than options.
        answers = min(n, len(chain.problem.choices) or n)
        if entropy is None:
            scores.append(None)
        elif answers < 2:
            scores.append(0.0)
        else:
            scores.append(float(entropy) / math.log(answers))
    return scores


def standing_chains(
    student: Model, problems: Sequence[Trace], chains: list[Trace], settings: Settings
) -> list[Trace]:
    """The chain that stands for each problem, cut into steps: the first of the majority's answer, or the greedy one."""
    standing = vote(chains)
    if settings.probed == "greedy":
        scores = {chain.problem.id: chain.scores.get("inter") for chain in standing}
        greedy = sample(student, problems, max_new_tokens=settings.max_new_tokens, temperature=0.0)
        standing = score("inter", partial(score_of_problem, scores), greedy)
    return cut_into_steps(standing, settings)


def score_of_problem(scores: Mapping[str, Score], chains: Sequence[Trace]) -> list[Score]:
    """A score that belongs to each chain's problem: a scorer."""
    return [scores.get(chain.problem.id) for chain in chains]


# The intra score.


def score_steps(
    student: Model, candidates: list[Trace], chains: list[Trace], selection: Selection
) -> list[Trace]:
    """Score chains by how often a probe's answer changes: "change", its noise floor "noise", and the answers "probes".

    Args:
        student: who goes on with the steps.
        candidates: what is scored, one chain a problem, in steps.
        chains: all that were sampled; all of them are probed where the settings say so.
        selection: how a step is taken away, and the settings.
    """
    settings = selection.settings
    probed_chains = candidates
    if settings.probed == "all":
        probed_chains = cut_into_steps(chains, settings)
    # A chain that is nothing but an answer has no step to take away.
    with_steps: list[Trace] = []
    for chain in probed_chains:
        if not chain.error and count_steps(chain):
            with_steps.append(chain)
    run_probe = probe_by_branches if selection.probe == "branch" else probe_by_dropping
    probes = run_probe(student, with_steps, settings)

    # The noise floor is what an answer changes without any step being taken away.
    of_steps = [probed for probed in probes if probed.step]
    of_noise = [probed for probed in probes if not probed.step]
    scored = score("change", partial(score_of_problem, change_shares(of_steps)), candidates)
    scored = score("noise", partial(score_of_problem, change_shares(of_noise)), scored)
    return score("probes", partial(score_of_problem, answers_as_json(probes)), scored)


def probe_by_branches(student: Model, chains: list[Trace], settings: Settings) -> list[Probed]:
    """Go on from s_<=i for a_i and from s_<i for a'_i: two continuations a step.

    Between two steps both continue the same text; their answers give the noise floor for nothing.
    """
    # Of each chain the beginnings with 0 to n steps. All continuations in one call: equal texts get other samples.
    counts = {chain.id: count_steps(chain) for chain in chains}

    def beginnings_of_chain(chain: Trace) -> list[str]:
        return [text_of_steps(chain, count) for count in range(counts[chain.id] + 1)]

    beginnings = edit(beginnings_of_chain, chains)
    starts: list[Trace] = []
    first = 0
    for chain in chains:
        of_chain = beginnings[first : first + counts[chain.id] + 1]
        first += len(of_chain)
        starts += [*of_chain[:-1], *of_chain[1:]]
    continued = sample(
        student,
        starts,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.probe_sampling),
    )

    # Back to chains and steps, in the order in which they were asked for.
    answers = read_answers(continued)
    probes: list[Probed] = []
    first = 0
    for chain in chains:
        steps = counts[chain.id]
        without = answers[first : first + steps]
        with_step = answers[first + steps : first + 2 * steps]
        first += 2 * steps
        for index in range(steps):
            probes.append(Probed(chain.problem, index + 1, with_step[index], without[index]))
        # With step i and without step i + 1 the same text was continued: what differs there is noise.
        for index in range(steps - 1):
            probes.append(Probed(chain.problem, 0, with_step[index], without[index + 1]))
    return probes


def probe_by_dropping(student: Model, chains: list[Trace], settings: Settings) -> list[Probed]:
    """Have the answer written behind all steps but one, and compare it with the chain's own.

    The noise floor is the answer written behind all steps: one call more a chain.
    """
    counts = {chain.id: count_steps(chain) for chain in chains}

    def without_each_step(chain: Trace) -> list[str]:
        texts = [text_of_steps(chain, counts[chain.id])]
        for index in range(counts[chain.id]):
            texts.append(text_without_step(chain, index, counts[chain.id]))
        return texts

    shortened = edit(without_each_step, chains)
    forced = sample(
        student,
        shortened,
        prefix=settings.answer_lead,
        max_new_tokens=settings.answer_tokens,
        **dict(settings.probe_sampling),
    )

    forced_answers = read_answers(forced)
    probes: list[Probed] = []
    first = 0
    for chain, own_answer in zip(chains, read_answers(chains), strict=True):
        # Behind all steps first, which is the noise, then without the first, the second, and so on.
        for step in range(counts[chain.id] + 1):
            probes.append(Probed(chain.problem, step, own_answer, forced_answers[first + step]))
        first += counts[chain.id] + 1
    return probes


def change_shares(probes: Sequence[Probed]) -> dict[str, Score]:
    """By problem, the share of its comparisons whose two answers differ; None where no pair of answers can be read.

    Answers are compared by the verifier of the problem's kind. A comparison with an answer that can't be read is left
    out: it is neither a change nor none.
    """
    # Only where both answers can be read is there anything to compare.
    pairs: list[tuple[Problem, str, str]] = []
    for one in probes:
        if one.with_step is not None and one.without_step is not None:
            pairs.append((one.problem, one.with_step, one.without_step))
    changes: dict[str, list[bool]] = {one.problem.id: [] for one in probes}
    for (problem, _, _), is_equal in zip(pairs, compare_answers(pairs), strict=True):
        changes[problem.id].append(not is_equal)
    shares: dict[str, Score] = {}
    for problem_id, of_problem in changes.items():
        shares[problem_id] = None
        if of_problem:
            shares[problem_id] = sum(of_problem) / len(of_problem)
    return shares


def answers_as_json(probes: Sequence[Probed]) -> dict[str, Score]:
    """By problem, its probes as JSON: [[step, answer with it, answer without it], …]."""
    by_problem: dict[str, list[list[int | str | None]]] = {}
    for one in probes:
        by_problem.setdefault(one.problem.id, []).append(
            [one.step, one.with_step, one.without_step]
        )
    return {problem_id: json.dumps(answers) for problem_id, answers in by_problem.items()}


# The two together.


def combine_scores(
    chains: list[Trace],
    *,
    sign: Sign = "change",
    inter: bool = True,
    intra: bool = True,
    settings: Settings = Settings(),
) -> list[Trace]:
    """Score chains by H = H_inter + lambda U_sign, with either term left out: the score "egss".

    A term that could not be told adds nothing; where neither could be told the score is None.
    """
    scorer = partial(egss_scores, sign, inter, intra, settings)
    return score("egss", scorer, chains)


def egss_scores(
    sign: Sign, inter: bool, intra: bool, settings: Settings, chains: Sequence[Trace]
) -> list[Score]:
    """H of each chain, from its scores "inter", "change" and "noise": a scorer."""
    scores: list[Score] = []
    for chain in chains:
        terms: list[float] = []
        entropy, change = chain.scores.get("inter"), chain.scores.get("change")
        noise = chain.scores.get("noise")
        if inter and isinstance(entropy, float):
            terms.append(entropy)
        if intra and isinstance(change, float):
            if settings.subtract_noise and isinstance(noise, float):
                change -= noise
            terms.append(settings.intra_weight * intra_score(sign, change))
        scores.append(sum(terms) if terms else None)
    return scores


def intra_score(sign: Sign, change: float) -> float:
    """U of one sign: fragility ("change") or redundancy ("same") of the steps; the two sum to 1."""
    return change if sign == "change" else 1.0 - change
