"""Marco-o1 v2: chains from a search in a tree of typed thoughts, with detours that were put right; then preference.

The released search was read whole, the paper in excerpts and descriptions. Numbers of the table are of the code where
nothing else is said.

| constant | value | source |
|---|---|---|
| kinds of thoughts, openers, successors | `ACTIONS` | released task of counting letters; the openers in words of ours |
| rollouts of a problem | 34, up to 130 while fewer than 4 end right, fewer where 8 do | released code |
| exploration | 1.414, times sqrt(2) in its formula | released code |
| longest thought, temperature, top-p | 512 tokens, 0.7, 0.9 | released code |
| where a wrong answer goes on | one reflection behind the nearest double-check | released code |
| supervised rows | the longest right chain of a problem | paper |
| pairs | the shortest right chain, and the one not right that shares least of its beginning | paper |
| weight of the supervised loss beside DPO | 1, of 0, 0.5, 1, 1.5, 2 | paper |
| conservative DPO: share of labels taken for wrong | 0.1 | inferred |
| beta, learning rate of DPO | 0.1, 5e-7 | inferred |
| learning rate and epochs of the supervised stage | | not read; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.methods.checks import require_pairs
from potstill.methods.searching._tree import TreeNode, backpropagate, choose_child
from potstill.methods.settings import Arms, Options, apply_arm, options
from potstill.models.model import Model, Trainable
from potstill.records import Prompt, Stage, Trace
from potstill.traces import (
    best,
    chance,
    chance_fraction,
    constant,
    each,
    edit,
    is_finished,
    keep,
    learn,
    pair_all,
    pose,
    problem,
    report_shares,
    right,
    sample,
    score,
    share_of,
    verify,
)

SEARCH = """\
Solve the problem in parts, each of them within tags of its own. In <sub-task> you break the problem down into steps, \
as finely as it needs. In <thinking> you carry the steps out, carefully and one by one. In <double-check> you go \
through what was written and say clearly where it is wrong, if it is. In <thinking_from_scratch> you leave what was \
written aside and plan anew. In <answer> you write the answer as \\boxed{{answer}}. Parts follow one another; none \
stands inside another.

Problem: {prompt}"""


class Action(NamedTuple):
    """A kind of thought.

    Args:
        tag: that it stands in.
        openers: one of them by chance begins it.
        successors: kinds of thoughts behind it, and how many of each are written.
        by_checker: whether the second model writes it.
        is_fixed: whether the opener is all of it.
    """

    tag: str
    openers: tuple[str, ...] = ("",)
    successors: Mapping[str, int] = {}
    by_checker: bool = False
    is_fixed: bool = False


ACTIONS: Mapping[str, Action] = {
    "problem": Action("", successors={"sub_task": 2}),
    "sub_task": Action(
        "sub-task",
        (
            "First, let me break this down.\n- 1.",
            "Okay, step by step.\n- 1.",
            "All right, these are the parts of it.\n- 1.",
        ),
        successors={"thinking": 2},
    ),
    "thinking": Action("thinking", successors={"double_check": 2, "thinking": 2}),
    "double_check": Action(
        "double-check",
        (
            "Let me check this.",
            "Now I go through it once more.",
            "Time to look for mistakes.",
        ),
        successors={"answer": 1},
        by_checker=True,
    ),
    "reflection": Action(
        "reflection",
        (
            "Wait! Something is wrong here, let me think again.",
            "Stop! I made a mistake, and must think again.",
        ),
        successors={"thinking_from_scratch": 2},
        is_fixed=True,
    ),
    "thinking_from_scratch": Action(
        "thinking_from_scratch",
        (
            "Now carefully. What I wrote is wrong, so I leave it aside.",
            "That answer was wrong, so I begin anew.",
        ),
        successors={"thinking": 2},
        by_checker=True,
    ),
    "answer": Action("answer", ("The answer is:",)),
}
REFLECTS_BEHIND = "double_check"

Arm = Literal["full", "sft", "dpo", "balanced", "conservative", "joint", "distilled"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The search, and what is made of its chains.

    Args:
        rollouts: of a problem; four times as many where fewer than `min_right` of them end right.
        min_right: ends that are right; a problem with fewer is no row.
        max_right: as many end a search.
        exploration: weight of what was seldom visited.
        sampling: of every thought.
        chosen: which right chain of a problem is preferred.
        label_smoothing: share of pairs that are taken to be the wrong way round.
        sft: weight of the supervised loss on the preferred chain.
        mask: whether the beginning that both chains of a pair share is left out of the loss.
        dpo: of the stage of preference.
    """

    rollouts: int = 32
    min_right: int = 4
    max_right: int = 8
    exploration: float = 2.0
    sampling: Options = options(temperature=0.7, top_p=0.9, max_new_tokens=512)
    chosen: Literal["shortest", "longest"] = "shortest"
    label_smoothing: float = 0.1
    sft: float = 1.0
    mask: bool = True
    dpo: Options = options(beta=0.1, learning_rate=5e-7)


# The paper adds one after the other to plain DPO.
ARMS: Arms = {
    "full": {},
    "joint": {"mask": False},
    "conservative": {"mask": False, "sft": 0.0},
    "balanced": {"mask": False, "sft": 0.0, "label_smoothing": 0.0},
    "dpo": {"mask": False, "sft": 0.0, "label_smoothing": 0.0, "chosen": "longest"},
    "sft": {},
    "distilled": {},
}


def marco_o1(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    checker: Model | None = None,
    *,
    arm: Arm = "full",
    settings: Settings = Settings(),
    max_new_tokens: int = 4096,
) -> Generator[Stage, Trainable, None]:
    """Marco-o1 v2: towards widening the distillation bottleneck for reasoning models (Yin et al., arXiv:2503.01461).

    UCB(n) = reward(n) / visits(n) + c sqrt(ln visits(parent) / visits(n)); L = L_cDPO + sft L_SFT on the better chain.

    Learns from: the longest right chain that a tree search found for each problem; then pairs of the shortest one and a
        chain of the same tree that is not right.
    Needs: teacher (writes thoughts), student (is trained), [checker] (checks them and begins anew, so that no model
        judges itself; without one the teacher).
    Controls: arm=distilled (the teacher's own right chains: the paper's comparison), sft (the supervised stage alone),
        dpo (plain DPO behind it, which the paper finds to run away), balanced (with the shortest chains), conservative
        (and labels that may be wrong), joint (and the supervised loss; full masks what a pair shares besides).
    Departure: prompt and openers are ours, in the sense of the released ones. A thought that breaks off at its limit is
        closed and gone on with, as in the released code, but not where it is the answer. Hyperparameters of training
        are inferred. Choices by chance are functions of the problem and the text.
    Partial: not here are the paper's other three orders of thoughts, one of which is drawn for each problem, with
        hypotheses and restatements, and its tasks of planning and following instructions.
    Paper: 52
    Cite: Huifeng Yin, Yu Zhao, Minghao Wu, Xuanfan Ni, Bo Zeng, Hao Wang, Tianqi Shi, Liangying Shao, Chenyang Lyu,
        Longyue Wang, Weihua Luo, Kaifu Zhang: Towards Widening The Distillation Bottleneck for Reasoning Models (2025).

    Args:
        teacher: any model that goes on with a text; no reasoner is needed.
        student: learns.
        checker: another one, of another family.
        arm: the method or one of its controls.
        settings: of the search and of the pairs.
        max_new_tokens: longest chain of arm=distilled.
    """
    settings = apply_arm(settings, ARMS[arm])
    # The comparison: what the same teacher writes without a search.
    if arm == "distilled":
        chains = sample(teacher, problems, temperature=0.7, max_new_tokens=max_new_tokens)
        yield Stage(student, keep(right, verify(keep(is_finished, chains))), "sft")
        return

    # Search under a prompt that names the kinds of thoughts; the learner sees the problem's own.
    writers = (teacher, checker or teacher)

    def search(posed: list[Trace]) -> list[Trace]:
        return grow_tree(settings, writers, posed[0])

    ends = each(search, pose(SEARCH, problems))
    report_search(problems, ends)
    ends = keep(partial(has_right_ends, settings.min_right), ends)
    prompts = {trace.problem.id: trace.prompt for trace in problems}
    # Tags and openers were given to the writers, but the student must write them by itself.
    ends = learn("all", pose(partial(own_prompt, prompts), ends, keep_text=True))
    right_ends = [end for end in ends if right(end)]
    rows = best(text_length, right_ends, by=problem)

    # The pairs are made before the first stage, so that a search without any costs no training.
    pairs: list[Trace] = []
    if arm != "sft":
        other_ends = [end for end in ends if not end.error and not right(end)]
        key = text_length if settings.chosen == "longest" else text_brevity
        pairs = make_pairs(settings, best(key, right_ends, by=problem), other_ends)
        # Without rows the first stage says why there are none.
        if rows:
            require_pairs("marco_o1", pairs, alternative="--set arm=sft")
    student = yield Stage(student, rows, "sft", name="sft")
    if pairs:
        loss = {"label_smoothing": settings.label_smoothing, "sft": settings.sft}
        yield Stage(student, pairs, "dpo", name="dpo", **loss, **dict(settings.dpo))


def own_prompt(prompts: Mapping[str, Prompt], trace: Any) -> Prompt:
    """What the learner of a problem sees."""
    return prompts[trace.problem.id]


# The search.


def grow_tree(settings: Settings, writers: tuple[Model, Model], posed: Trace) -> list[Trace]:
    """The ends that a search of one problem reached, judged, each with how many of its rollouts ended right."""
    root = TreeNode(posed, "problem")
    right_count = 0
    for number in range(4 * settings.rollouts + 2):
        # Down to an answer: a node that was never expanded is, and its first child comes next.
        node = root
        while not node.is_terminal and not (node.is_expanded and not node.children):
            if node.is_expanded:
                node = choose_child(node, settings.exploration)
            else:
                expand(settings, writers, node, ACTIONS[node.kind].successors)
        # An answer that is reached again counts again, as in the released code.
        reward = float(node.is_terminal and right(node.trace))
        backpropagate(node, reward)
        right_count += int(reward)
        # A wrong answer is taken back: the search may go on from the last check with a reflection.
        if node.is_terminal and not reward:
            for ancestor in node.path_to_root():
                if ancestor.kind == REFLECTS_BEHIND:
                    expand(settings, writers, ancestor, {"reflection": 1})
                    break
        # A hard problem gets more rollouts, an easy one fewer.
        is_enough = number > settings.rollouts and right_count >= settings.min_right
        if is_enough or right_count >= settings.max_right:
            break
    ends = [node.trace for node in root.subtree() if node.is_terminal and node.visits]
    return score("right_rollouts", constant(right_count), ends)


def expand(
    settings: Settings, writers: tuple[Model, Model], node: TreeNode, successors: Mapping[str, int]
) -> None:
    """Write the thoughts that may follow; those that failed are none."""
    for kind, count in successors.items():
        # One opener for all thoughts of a kind: they differ in what the model makes of it.
        action = ACTIONS[kind]
        problem_id, place = node.trace.problem.id, len(node.children)
        draw = chance_fraction("opener", problem_id, node.trace.text, kind, place)
        opener = f"<{action.tag}>{action.openers[int(draw * len(action.openers))]}"
        is_terminal = kind == "answer"
        close = f"</{action.tag}>"
        # Behind the answer comes the end of turn, and no line break.
        ending = close if is_terminal else f"{close}\n"
        if action.is_fixed:
            thoughts = edit(partial(append, opener + ending), [node.trace])
        else:
            texts = sample(
                writers[action.by_checker],
                [node.trace],
                n=count,
                prefix=opener,
                stop=close,
                **dict(settings.sampling),
            )
            thoughts = edit(partial(append, ending), texts)
        # A failed call leaves a dead end, from which the search is called back without a reward.
        for thought in verify(thoughts) if is_terminal else thoughts:
            if not thought.error:
                node.add_child(thought, kind, is_terminal=is_terminal)
    node.is_expanded = True


def append(ending: str, trace: Any) -> dict[str, str]:
    """The text with its thought closed; one that broke off ends the chain as broken off."""
    was_cut = trace.finish_reason == "length"
    return {"text": trace.text + ending, "finish_reason": "length" if was_cut else "stop"}


def has_right_ends(min_right: int, trace: Trace) -> tuple[bool, str]:
    """The search that it is of ended right often enough; it is whole."""
    count = trace.scores.get("right_rollouts") or 0
    if float(count) < min_right:
        return False, f"only {count} rollouts of its search ended right"
    return is_finished(trace)


# Rows and pairs.


def text_length(trace: Trace) -> tuple[int, str]:
    """Key: the longest text; ties by chance."""
    return len(trace.text), chance(trace.id)


def text_brevity(trace: Trace) -> tuple[int, str]:
    """Key: the shortest text; ties by chance."""
    return -len(trace.text), chance(trace.id)


def make_pairs(settings: Settings, chosen: Sequence[Trace], others: Sequence[Trace]) -> list[Trace]:
    """A pair a problem, with the chain that shares least of its beginning; of that beginning nothing is learnt."""
    if not settings.mask:
        chosen, others = edit(count_as_new, chosen), edit(count_as_new, others)
    return pair_all(chosen, others, k=1, rank=shared_length)


def shared_length(good: Trace, bad: Trace) -> tuple[int, str]:
    """How many characters two chains begin with alike; ties by chance."""
    shared = 0
    for good_character, bad_character in zip(good.text, bad.text, strict=False):
        if good_character != bad_character:
            break
        shared += 1
    return shared, chance(good.id, bad.id)


def count_as_new(trace: Any) -> dict[str, Any]:
    """The same text, of which nothing counts as given: a pair masks what is given on both sides."""
    return {"text": trace.text, "prefix_length": 0, "finish_reason": trace.finish_reason}


def report_search(problems: Sequence[Trace], ends: Sequence[Trace]) -> None:
    """Say how often the searches ended right, and how often behind a reflection."""
    right_ends = [end for end in ends if right(end)]
    solved = {end.problem.id for end in right_ends}
    shares = [
        share_of("problems with a right end", lambda trace: trace.problem.id in solved, problems),
        share_of("ends that are right", right, ends),
        share_of("right ends behind a reflection", is_put_right, right_ends),
    ]
    report_shares("Tree search", shares, hint="Ends are whole chains, each counted once.")


def is_put_right(trace: Trace) -> bool:
    """The chain has taken something back."""
    return f"<{ACTIONS['reflection'].tag}>" in trace.text
