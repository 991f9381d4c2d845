"""The tree of a search: what is visited first, the confidence bound, and rewards on their way up."""

from __future__ import annotations

import math

from potstill.methods.searching._tree import TreeNode, backpropagate, choose_child
from potstill.records import Problem, blank


def grow(*names: str) -> tuple[TreeNode, list[TreeNode]]:
    root = TreeNode(blank(Problem("root", "?")))
    return root, [root.add_child(blank(Problem(name, "?"))) for name in names]


def test_a_reward_counts_for_all_above_the_end():
    root, (first, second) = grow("a", "b")
    end = first.add_child(blank(Problem("end", "?")), "answer", is_terminal=True)
    backpropagate(end, 1.0)
    backpropagate(second, 0.0)
    assert (end.value, first.value, second.value, root.value) == (1.0, 1.0, 0.0, 0.5)
    assert [node.visits for node in root.subtree()] == [2, 1, 1, 1]
    assert list(end.path_to_root()) == [end, first, root] and end.is_terminal


def test_whom_nobody_visited_comes_first_then_the_highest_bound():
    root, (first, second) = grow("a", "b")
    assert choose_child(root, 1.0) is first
    backpropagate(first, 1.0)
    assert choose_child(root, 1.0) is second
    backpropagate(second, 0.0)
    # 1 + c sqrt(ln 2) against c sqrt(ln 2), then against c sqrt(ln n) of a child that was seen once.
    assert choose_child(root, 1.0) is first
    for _ in range(9):
        backpropagate(first, 1.0)
    explored = 1 / (math.sqrt(math.log(11)) * (1 - math.sqrt(1 / 10)))
    assert choose_child(root, 0.99 * explored) is first
    assert choose_child(root, 1.01 * explored) is second


def test_equal_children_are_chosen_between_by_chance_and_always_alike():
    root, children = grow(*"abcdefgh")
    for child in children:
        backpropagate(child, 0.0)
    chosen = choose_child(root, 1.0)
    root.children.reverse()
    assert choose_child(root, 1.0) is chosen
