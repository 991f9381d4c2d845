"""The tree of a Monte Carlo search: rewards go up from the ends that were reached, and choose where to go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from potstill.records import Trace
from potstill.traces import chance


@dataclass(eq=False)
class TreeNode:
    """A text so far, and what was found behind it.

    Args:
        trace: the text so far.
        kind: of node, where there are several.
        parent: the node that it goes on from; None of the root.
        children: texts that go on from it.
        visits: how many rollouts went through it.
        total_reward: of these.
        is_expanded: its children have been written; without any it is a dead end.
        is_terminal: its text is whole.
    """

    trace: Trace
    kind: str = ""
    parent: TreeNode | None = None
    children: list[TreeNode] = field(default_factory=list)
    visits: int = 0
    total_reward: float = 0.0
    is_expanded: bool = False
    is_terminal: bool = False

    @property
    def value(self) -> float:
        """Mean reward of the rollouts through the node; 0 before the first."""
        return self.total_reward / max(1, self.visits)

    def add_child(self, trace: Trace, kind: str = "", *, is_terminal: bool = False) -> TreeNode:
        """Put a text behind this one."""
        child = TreeNode(trace, kind, parent=self, is_terminal=is_terminal)
        self.children.append(child)
        return child

    def path_to_root(self) -> Iterator[TreeNode]:
        """The node, then what it goes on from, up to the root."""
        node: TreeNode | None = self
        while node is not None:
            yield node
            node = node.parent

    def subtree(self) -> Iterator[TreeNode]:
        """The node, then all that goes on from it, in the order in which it was written."""
        yield self
        for child in self.children:
            yield from child.subtree()


def choose_child(node: TreeNode, exploration: float) -> TreeNode:
    """The first child that was never visited, else the one of the highest upper confidence bound; ties by chance.

    UCB(child) = value(child) + exploration sqrt(ln visits(node) / visits(child)).
    """
    # A child without a visit has no value yet; its bound would be infinite.
    for child in node.children:
        if not child.visits:
            return child

    # By chance as a function of the texts, so that a search that is resumed goes the same way.
    def rank(child: TreeNode) -> tuple[float, str]:
        bound = exploration * math.sqrt(math.log(node.visits) / child.visits)
        return child.value + bound, chance(child.trace.id, node.visits)

    return max(node.children, key=rank)


def backpropagate(node: TreeNode, reward: float) -> None:
    """Add a rollout's reward to the node where it ended and to all above it."""
    for ancestor in node.path_to_root():
        ancestor.visits += 1
        ancestor.total_reward += reward
