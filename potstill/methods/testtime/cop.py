"""COP: the statements of a question are mapped, those that it does not need go, and the rest is put in order.

The abstracts of two versions were read, and a summary of the three stages. Every step here is inferred from these: who
draws the map, its form, the order, and all wording.

| constant | value | source |
|---|---|---|
| stages | related premises, a tree from the question's end, the question rewritten from it | summary |
| what is left out | what the tree does not reach | abstract: redundancy is eliminated |
| order | what a statement builds on stands before it | inferred: "adapts to the model's inference process" |
| calls an answer | 2 | inferred; the abstract says fewer than step by step |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from potstill.methods.replies import reply_of
from potstill.methods.testtime._statements import number_statements, read_labels, split_question
from potstill.models.model import Model
from potstill.records import Stage, Trace
from potstill.traces import count_reading, prompt_text, rewrite, sample

Arm: TypeAlias = Literal["cop", "concise", "organized", "whole"]
MAP = """\
The statements of a question are numbered below, and its end is Q. Write down which of them build on each other: for \
Q, and for each statement that is needed for it and follows from others or continues them, one line with what it \
builds on, such as

Q <- S4
S4 <- S1, S2

Name only statements that the question needs, and write nothing but such lines.

"""
_EDGES = re.compile(r"^\W{0,5}(Q|S\d{1,4})\s{0,5}(?:<-+|<=|←)(.{1,400})$", re.MULTILINE)
QUERY = -1  # the place of the question's end among the statements


def cop(problems: list[Trace], student: Model, *, arm: Arm = "cop") -> Generator[Stage, Model, Any]:
    """COP: concise and organized perception facilitates reasoning (Liu et al., arXiv:2310.03309).

    Learns from: nothing; it is a way to ask any student.
    Needs: student (maps the question, and answers what is left of it).
    Controls: arm=concise (statements are left out, in the order of the question: is it the order?), organized (put in
        order, none is left out: is it the noise?), whole (the question as it is, asked once).
    Departure: a map in which the question's end builds on nothing can't be read, and the question is then asked as it
        is; `evaluate` says how many.
    Paper: 80 (from the abstract)
    Cite: Junjie Liu, Shaotian Yan, Chen Shen, Zhengdong Xiao, Liang Xie, Wenxiao Wang, Jieping Ye: Concise and
        Organized Perception Facilitates Reasoning in Large Language Models (2023).

    Args:
        student: any model.
        arm: the method or one of its controls.
    """
    return partial(solve_by_map, student, arm)
    yield  # nothing is trained


def solve_by_map(
    student: Model, arm: Arm, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Map each question n times, and answer what each map leaves of it."""
    if arm == "whole":
        return sample(student, problems, n=n, **sampling)
    maps = sample(student, problems, prompt=show_statements, n=n, **sampling)
    return rewrite(student, maps, prompt=partial(show_perceived, arm), guard=False, **sampling)


def show_statements(trace: Any) -> str:
    """The prompt that asks for the map."""
    statements, query = split_question(trace.question)
    return f"{MAP}{number_statements(statements, 'S')}\nQ: {query}"


def show_perceived(arm: Arm, trace: Any) -> str:
    """What the learner sees, with the question that the map leaves in the place of the whole one."""
    prompt = prompt_text(trace)
    statements, query = split_question(trace.question)
    tree = walk_tree(read_map(reply_of(trace.text), len(statements)))
    count_reading("map of premises", trace.text, "strict" if tree else "unparsed")
    # A map that leads nowhere is no reason to leave anything out.
    if not tree:
        return prompt
    places = tree
    if arm == "concise":
        places = sorted(tree)
    if arm == "organized":
        places = [place for place in range(len(statements)) if place not in tree] + tree
    perceived = " ".join([*(statements[place] for place in places), query])
    return prompt.replace(trace.question, perceived)


def read_map(text: str, count: int) -> dict[int, list[int]]:
    """What each statement builds on, by places; under QUERY what the question's end does."""
    premises: dict[int, list[int]] = {}
    for name, named in _EDGES.findall(text):
        # A statement that is not there builds on nothing; S0 is none, and not the question's end.
        place = QUERY if name == "Q" else int(name[1:]) - 1
        if name == "Q" or 0 <= place < count:
            premises.setdefault(place, []).extend(read_labels(named, "S", count))
    return premises


def walk_tree(premises: Mapping[int, Sequence[int]]) -> list[int]:
    """The statements that the question's end builds on, each behind all that it builds on itself."""
    order: list[int] = []
    visited = {QUERY}
    # Depth first without recursion; a circle ends where it meets a statement again.
    stack = [(QUERY, iter(premises.get(QUERY, ())))]
    while stack:
        place, remaining = stack[-1]
        premise = next((one for one in remaining if one not in visited), None)
        if premise is not None:
            visited.add(premise)
            stack.append((premise, iter(premises.get(premise, ()))))
            continue
        stack.pop()
        if place != QUERY:
            order.append(place)
    return order
