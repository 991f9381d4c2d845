"""Knights and knaves: puzzles with one solution, made by chance and solved by trying every one.

Each inhabitant is a knight, who tells the truth, or a knave, who lies, and says one thing: that another one is either,
or two such claims joined by a word. These are forms of the puzzles of Xie et al. (arXiv:2410.23123), without denials of
joined claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import NamedTuple

NAMES = (
    "Amelia",
    "Ben",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Grace",
    "Henry",
    "Iris",
    "Jacob",
    "Lucy",
    "Oliver",
)
ROLES = {True: "knight", False: "knave"}
JOINED = {
    "and": "{first} and {second}",
    "or": "{first} or {second}",
    "if": "if {first} then {second}",
    "iff": "{first} if and only if {second}",
}
QUESTION = """\
A very special island is inhabited only by knights and knaves. Knights always tell the truth, and knaves always lie. \
You meet {count} inhabitants: {names}. {statements} So who is a knight and who is a knave?

Answer in \\boxed{{}} with one word for each of them, knight or knave, in the order {order}, with a comma and a space \
between them."""


class Claim(NamedTuple):
    """That an inhabitant, by place, is a knight or is none."""

    place: int
    is_knight: bool


class Statement(NamedTuple):
    """One claim (`word` is ""), or two joined by a word of JOINED."""

    first: Claim
    word: str = ""
    second: Claim = Claim(0, True)


class Puzzle(NamedTuple):
    """Who is there, what each says, and which of them are knights."""

    names: tuple[str, ...]
    statements: tuple[Statement, ...]
    solution: tuple[bool, ...]


def draw_puzzle(rng: Random, people: int) -> Puzzle:
    """A puzzle with one solution; others are thrown away.

    Args:
        rng: where chance comes from.
        people: inhabitants, two or more.
    """
    # Two drawings in five have a single solution.
    names = tuple(rng.sample(NAMES, people))
    while True:
        statements = tuple(draw_statement(rng, speaker, people) for speaker in range(people))
        solutions = solve_puzzle(statements)
        if len(solutions) == 1:
            return Puzzle(names, statements, solutions[0])


def draw_statement(rng: Random, speaker: int, people: int) -> Statement:
    """What an inhabitant says: a single claim is never about the speaker."""
    # "I am a knave" can be said by nobody, and "I am a knight" by everybody.
    others = [place for place in range(people) if place != speaker]
    word = rng.choice(("", *JOINED))
    first = Claim(rng.choice(others), rng.random() < 0.5)
    if not word:
        return Statement(first)
    # Joined claims may name the speaker, but never one inhabitant twice.
    remaining = [place for place in range(people) if place != first.place]
    return Statement(first, word, Claim(rng.choice(remaining), rng.random() < 0.5))


def solve_puzzle(statements: Sequence[Statement]) -> list[tuple[bool, ...]]:
    """Who may be knights: the first two ways in which knights say what is so and knaves what is not."""
    solutions: list[tuple[bool, ...]] = []
    for knights in product((True, False), repeat=len(statements)):
        # Everybody must say the truth exactly where he is a knight.
        is_consistent = True
        for speaker, statement in enumerate(statements):
            if holds(statement, knights) != knights[speaker]:
                is_consistent = False
                break
        if is_consistent:
            solutions.append(knights)
        # Two are enough to know that it is not the only one.
        if len(solutions) == 2:
            break
    return solutions


def holds(statement: Statement, knights: Sequence[bool]) -> bool:
    """Whether a statement is true where these are the knights."""
    first = knights[statement.first.place] == statement.first.is_knight
    second = knights[statement.second.place] == statement.second.is_knight
    if statement.word == "and":
        return first and second
    if statement.word == "or":
        return first or second
    if statement.word == "if":
        return second or not first
    if statement.word == "iff":
        return first == second
    return first


def write_question(puzzle: Puzzle) -> str:
    """The puzzle in words, with the form of its answer."""
    lines: list[str] = []
    for speaker, statement in enumerate(puzzle.statements):
        sentence = write_claim(puzzle, statement.first)
        if statement.word:
            second = write_claim(puzzle, statement.second)
            sentence = JOINED[statement.word].format(first=sentence, second=second)
        lines.append(f'{puzzle.names[speaker]} says: "{sentence[0].upper()}{sentence[1:]}."')
    # The last line says in which form the answer is judged: the gold answer word for word.
    *most, last = puzzle.names
    return QUESTION.format(
        count=len(puzzle.names),
        names=f"{', '.join(most)} and {last}",
        statements=" ".join(lines),
        order=", ".join(puzzle.names),
    )


def write_claim(puzzle: Puzzle, claim: Claim) -> str:
    """A claim in words."""
    return f"{puzzle.names[claim.place]} is a {ROLES[claim.is_knight]}"


def write_answer(puzzle: Puzzle) -> str:
    """The gold answer: the role of each inhabitant, in the order in which they were met."""
    return ", ".join(ROLES[is_knight] for is_knight in puzzle.solution)
