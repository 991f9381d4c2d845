r"""AlphaLLM-CPL: a student prefers the better of two steps that its own search compared, in the order that helps most.

Known from notes, the abstract and second descriptions; of the search, which is AlphaLLM's, the released code was read.

| constant | value | source |
|---|---|---|
| searches of a problem, children, exploration | 40, 3, 1 | AlphaLLM's released script |
| depth, rollouts from a node | 10, 4 | AlphaLLM's released script |
| a step ends at | a line break | AlphaLLM's released code |
| temperature | 1.0 | AlphaLLM's released code |
| step pairs | children of one node whose values differ by more than a threshold | paper |
| the threshold | 0.3 | inferred |
| pairs a problem, of each kind | 8 | inferred |
| alpha: weight of the reward gap beside the policy's | 0.5 | inferred; that they are balanced is the paper's |
| epochs | 3, each in an order of its own | the order: paper; the number is inferred |
| beta, learning rate of DPO | 0.1, 5e-7 | inferred |
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, Protocol

from potstill.methods.checks import require_pairs
from potstill.methods.searching._tree import TreeNode, backpropagate, choose_child
from potstill.methods.settings import Arms, Options, apply_arm, options
from potstill.models.model import Model, Scored, Trainable
from potstill.models.scoring import Passage
from potstill.records import Stage, Trace, learnt_stretches
from potstill.traces import (
    chance,
    constant,
    each,
    edit,
    is_finished,
    keep,
    pair_all,
    report_shares,
    right,
    sample,
    score,
    share_of,
    token_logprobs,
    verify,
    wrong,
)

Arm = Literal["cpl", "no-curriculum", "reward-gap", "policy-gap", "complete", "sft"]


class ScoredStudent(Trainable, Scored, Protocol):
    """A student that also says how likely given tokens are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The search, the pairs and the curriculum.

    Args:
        searches: rollouts of a problem, each from another node.
        children: steps that are written at a node.
        exploration: weight of what was seldom visited.
        max_depth: steps behind which a text is only carried on to its end.
        rollouts: from a node to the end; the share that is right is its reward.
        step_end: what ends a step.
        sampling: of steps and rollouts.
        threshold: children whose values differ by no more are no pair.
        pairs: of a problem and a kind, those that differ most.
        stepwise: whether steps are paired, beside whole texts.
        alpha: weight of how much better the better side is; the rest is of how far the policy prefers the other.
        curriculum: whether the pairs are ordered at all.
        epochs: over all pairs.
        parts: trainings of an epoch, one behind the other in the order of the pairs.
        dpo: of each training.
    """

    searches: int = 40
    children: int = 3
    exploration: float = 1.0
    max_depth: int = 10
    rollouts: int = 4
    step_end: str = "\n"
    sampling: Options = options(temperature=1.0, max_new_tokens=1024)
    threshold: float = 0.3
    pairs: int = 8
    stepwise: bool = True
    alpha: float = 0.5
    curriculum: bool = True
    epochs: int = 3
    parts: int = 4
    dpo: Options = options(beta=0.1, learning_rate=5e-7)


ARMS: Arms = {
    "cpl": {},
    "no-curriculum": {"curriculum": False},
    "reward-gap": {"alpha": 1.0},
    "policy-gap": {"alpha": 0.0},
    "complete": {"stepwise": False},
    "sft": {},
}


def alphallm_cpl(
    problems: list[Trace],
    student: ScoredStudent,
    *,
    arm: Arm = "cpl",
    settings: Settings = Settings(),
) -> Generator[Stage, ScoredStudent, None]:
    r"""AlphaLLM-CPL: self-improvement by stepwise pairs and curriculum preference learning (arXiv:2410.06508).

    priority(pair) = alpha (value+ - value-) + (1 - alpha) (p(step-) - p(step+)), p of the policy as it is then.

    Learns from: pairs of steps behind one beginning, and of whole texts, whose values its own tree search compared.
    Needs: student (searches, says how likely steps are, and is trained).
    Controls: arm=no-curriculum (the same pairs in an order by chance), reward-gap (the order of the values alone, which
        never changes), policy-gap (that of the policy alone), complete (pairs of whole texts alone: the paper's
        comparison), sft (right texts of the search, supervised: another one).
    Departure: a value is the share of rollouts that end right, where AlphaLLM also has trained critics of steps, values
        and outcomes. Each node gets as many children, all sampled, where AlphaLLM gives the first one more, has one of
        them greedy and merges alike ones. The policy's gap is one of mean likelihoods of a token, from 0 to 1 as values
        are (inferred). Pairs of one problem come one after the other through an epoch: first the best of each problem,
        then the second (inferred from "ranked by prompt"). A training shuffles its rows, so that an epoch is `parts`
        trainings, each with an optimizer of its own; the reference is the student as it was at first.
    Partial: not here are AlphaLLM's new problems; the searches are on the given ones.
    Paper: 110
    Cite: Xiyao Wang, Linfeng Song, Ye Tian, Dian Yu, Baolin Peng, Haitao Mi, Furong Huang, Dong Yu: Towards
        Self-Improvement of LLMs via MCTS: Leveraging Stepwise Knowledge with Curriculum Preference Learning (2024).

    Args:
        student: improves itself.
        arm: the method or one of its controls.
        settings: of the search, the pairs and the curriculum.
    """
    settings = apply_arm(settings, ARMS[arm])

    def search(problem: list[Trace]) -> list[Trace]:
        """The pairs that a tree search of one problem gives, or its right ends."""
        root, ends = grow_tree(settings, student, problem[0])
        if arm == "sft":
            return [end for end in ends if right(end)]
        pairs = pair_ends(settings, ends)
        # What the search knows of single steps is lost where whole texts alone are compared.
        if settings.stepwise:
            pairs += pair_steps(settings, root)
        return keep(has_own_text, pairs)

    rows = each(search, problems)
    if arm == "sft":
        yield Stage(student, rows, "sft")
        return
    require_pairs("alphallm_cpl", rows, alternative="--set arm=sft")
    share = share_of("pairs of steps", is_step_pair, rows)
    report_shares("Pairs of the search", [share], hint="The others are pairs of whole texts.")

    # Every epoch has the same pairs, in the order that fits the policy of its beginning.
    policy = reference = student
    if not settings.curriculum:
        # One training, whose own shuffling is the order by chance.
        epochs = settings.epochs
        yield Stage(
            policy, rows, "dpo", reference=reference, num_train_epochs=epochs, **dict(settings.dpo)
        )
        return
    for epoch in range(1, settings.epochs + 1):
        # The policy has changed since the last epoch, and so has what it gets wrong.
        ordered = order_pairs(settings.alpha, policy, rows)
        part_size = math.ceil(len(ordered) / settings.parts)
        for start in range(0, len(ordered), part_size):
            policy = yield Stage(
                policy,
                ordered[start : start + part_size],
                "dpo",
                name=f"epoch-{epoch}-part-{start // part_size + 1}",
                reference=reference,
                num_train_epochs=1,
                **dict(settings.dpo),
            )


# The search.


def grow_tree(settings: Settings, policy: Model, problem: Trace) -> tuple[TreeNode, list[Trace]]:
    """The tree of a problem's steps with their values, and the whole texts that the search came to."""
    root = TreeNode(problem)
    ends: list[Trace] = []
    for _ in range(settings.searches):
        # Down along the highest bounds to a node without children.
        node = root
        depth = 0
        while node.children:
            node = choose_child(node, settings.exploration)
            depth += 1
        # A new node gets children, the first of which is tried; at the limit of depth it is carried on to its end.
        if not node.is_expanded and not node.is_terminal and depth < settings.max_depth:
            expand(settings, policy, node)
            node = node.children[0] if node.children else node
        # A node whose rollouts all failed has no value yet, and is tried again.
        reward = reward_of(settings, policy, node, ends)
        if reward is not None:
            backpropagate(node, reward)
    return root, ends


def expand(settings: Settings, policy: Model, node: TreeNode) -> None:
    """Write the steps that may follow; equal ones are one, failed ones are none."""
    node.is_expanded = True
    steps = sample(
        policy,
        [node.trace],
        n=settings.children,
        stop=settings.step_end,
        **dict(settings.sampling),
    )
    # A step that adds nothing would be a node that says the same as its parent.
    written = {node.trace.text}
    for step in edit(close_step, steps):
        if not step.error and step.text not in written:
            written.add(step.text)
            node.add_child(step, is_terminal=step.finish_reason == "stop")


def close_step(trace: Any) -> dict[str, str]:
    """A step with what ended it, but for a blank at its end, which would be a token of its own."""
    if trace.finish_reason == "stop":
        return {"text": trace.text, "finish_reason": "stop"}
    return {"text": (trace.text + trace.stop_string).rstrip(" "), "finish_reason": "cut"}


def reward_of(settings: Settings, policy: Model, node: TreeNode, ends: list[Trace]) -> float | None:
    """Whether a whole text is right, or how many of its rollouts are; what they come to is put to the ends, once.

    Returns:
        The share of right texts; None where every call failed.
    """
    if node.is_terminal:
        reached = verify([node.trace])
    else:
        count = settings.rollouts
        reached = verify(sample(policy, [node.trace], n=count, **dict(settings.sampling)))
    # A text that broke off at its limit is neither a right end nor a wrong one.
    known = {end.text for end in ends}
    for end in reached:
        if is_finished(end)[0] and end.text not in known:
            known.add(end.text)
            ends.append(end)
    # A call that failed says nothing of the node: counted as wrong, it would make a preference of nothing.
    answered = [end for end in reached if not end.error]
    return sum(right(end) for end in answered) / len(answered) if answered else None


# Pairs.


def pair_steps(settings: Settings, root: TreeNode) -> list[Trace]:
    """Steps behind the same beginning whose values differ enough, those that differ most first."""
    # Without a visit a child has no value.
    siblings: list[tuple[TreeNode, TreeNode]] = []
    for node in root.subtree():
        visited = [child for child in node.children if child.visits]
        for good, bad in permutations(visited, 2):
            if good.value - bad.value > settings.threshold:
                siblings.append((good, bad))

    def rank(pair: tuple[TreeNode, TreeNode]) -> tuple[float, str]:
        good, bad = pair
        return bad.value - good.value, chance(good.trace.id, bad.trace.id)

    pairs: list[Trace] = []
    for good, bad in sorted(siblings, key=rank)[: settings.pairs]:
        gap = constant(good.value - bad.value)
        pairs += score("reward_gap", gap, pair_all([good.trace], [bad.trace]))
    return pairs


def pair_ends(settings: Settings, ends: Sequence[Trace]) -> list[Trace]:
    """Right texts with wrong ones, chosen by chance: they all differ by 1."""
    right_ends, wrong_ends = (
        [end for end in ends if right(end)],
        [end for end in ends if wrong(end)],
    )
    if not right_ends or not wrong_ends:
        return []
    pairs = pair_all(right_ends, wrong_ends, k=settings.pairs, rank=order_by_chance)
    return score("reward_gap", constant(1.0), pairs)


def order_by_chance(good: Trace, bad: Trace) -> str:
    """The place of a pair among those of its problem."""
    return chance(good.id, bad.id)


def has_own_text(pair: Trace) -> tuple[bool, str]:
    """Both sides have something behind what they begin with alike; a rollout may end where it begins."""
    sides = (pair, pair.rejected)
    has_text = all(side is not None and learnt_stretches(side) for side in sides)
    return has_text, "one of its sides has no text of its own"


def is_step_pair(pair: Trace) -> bool:
    """The better side is a step, and not a whole text with a verdict."""
    return pair.verdict.status == "unjudged"


# The curriculum.


def order_pairs(alpha: float, policy: Scored, pairs: Sequence[Trace]) -> list[Trace]:
    """The first pair of each problem, then the second of each, and so on; of equal places the most urgent first."""
    urgencies = dict(zip(pairs, priorities(alpha, policy, pairs), strict=True))
    # The place of a pair among those of its problem, the most urgent first.
    ranked = sorted(pairs, key=lambda pair: (-urgencies[pair], pair.id))
    places: dict[str, int] = {}
    place_of: dict[Trace, int] = {}
    for pair in ranked:
        place_of[pair] = places.get(pair.problem.id, 0)
        places[pair.problem.id] = place_of[pair] + 1
    # The sort is stable: pairs of equal places stay in the order of their urgency.
    return sorted(ranked, key=lambda pair: place_of[pair])


def priorities(alpha: float, policy: Scored, pairs: Sequence[Trace]) -> list[float]:
    """alpha times the reward gap, and 1 - alpha times how far the policy likes the worse side better."""
    # Both sides of all pairs in one call; where the reward gap alone decides, nobody is asked.
    policy_gaps = [0.0] * len(pairs)
    if alpha < 1:
        sides: list[Trace] = []
        for pair in pairs:
            assert pair.rejected is not None
            sides += [pair, pair.rejected]
        passages = [learnt_passage(side) for side in sides]
        problem_ids = [side.problem.id for side in sides]
        logprobs = token_logprobs(policy, passages, problem_ids=problem_ids)
        likelihoods = [mean_likelihood(values) for values in logprobs]
        policy_gaps = []
        for better, worse in zip(likelihoods[::2], likelihoods[1::2], strict=True):
            policy_gaps.append(worse - better)
    result: list[float] = []
    for pair, policy_gap in zip(pairs, policy_gaps, strict=True):
        reward_gap = float(pair.scores["reward_gap"] or 0)
        result.append(alpha * reward_gap + (1 - alpha) * policy_gap)
    return result


def learnt_passage(side: Trace) -> Passage:
    """What one side of a pair has for itself, behind what both begin with."""
    # Behind the masked beginning all of a side is the policy's own.
    start = learnt_stretches(side)[0][0]
    return Passage(side.prompt, side.text[start:], side.text[:start])


def mean_likelihood(logprobs: Sequence[float]) -> float:
    """The geometric mean of the tokens' probabilities; 0 where the model could not tell."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
