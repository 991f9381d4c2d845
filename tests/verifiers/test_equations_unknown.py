r"""Algebra as people write it, judged by the step verifier, beside a second implementation that computes with Python.

`holds` puts the solution into a text by `eval`, with fractions; the verifier reads linear expressions of its own.
"""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from potstill.verifiers.equations import follow
from potstill.verifiers.equations.families import solve_question
from potstill.verifiers.equations.unknown import read_chains

QUESTION = "Solve for n: 9*n - 1 = 35"


def judge(text: str, question: str = QUESTION) -> list[tuple[str, float]]:
    """Each claim of a text with its score."""
    spans = follow.follow_text(solve_question(question), text).spans()
    return [(text[span.start : span.stop], span.score) for span in spans]


def scores(text: str, question: str = QUESTION) -> list[float]:
    return [score for _, score in judge(text, question)]


def holds(chain: str, unknown: str, value: int) -> bool:
    """Whether all sides of a chain are equal for a value of its unknown: the second implementation."""
    chain = re.sub(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"((\1)/(\2))", chain).replace("\\cdot", "*")
    chain = re.sub(rf"(\d) ?(?=[({unknown}])", r"\1*", chain)
    chain = re.sub(r"\d+(\.\d+)?", lambda match: f"Fraction('{match[0]}')", chain)
    try:
        names = {"Fraction": Fraction, unknown: Fraction(value)}
        return len({eval(side, names) for side in chain.split("=")}) == 1
    except ZeroDivisionError:
        return False


@pytest.mark.parametrize(
    "text",
    [
        "9n = 36. n = 36/9 = 4.",
        "9n - 1 = 35. Add 1: 9n - 1 + 1 = 35 + 1, so 9n = 36. Divide by 9: n = 4.",
        "9n = 35 + 1 = 36, n = 36/9.",
        "$9 \\cdot n = 36$, and $n = \\frac{36}{9} = 4$.",
        "\\begin{align} 9n &= 36 \\\\ n &= \\frac{36}{9} \\\\ n &= 4 \\end{align}",
        "**9n = 36** -> **n = 4**",
        "1. 9 n = 36\n- n = 4\n",
        "n = (35 + 1)/9 = 4.",
        "36 = 9n, 4 = n.",
        "9n = 36 => n = 4.0, and 9(4) - 1 = 35.",
        "n - 1/9 = 35/9, so n = 36/9 = 4.",
        "9n = 37. Wait, 9n = 36. Then 36 / 9 = 4.",
        "9n = 36. n = 4 - which is what was asked.",
    ],
)
def test_a_right_solution_is_right_in_every_step(text):
    assert set(scores(f"{text} \\boxed{{4}}")) == {1.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9n = 35. n = 35/9.", [0, 0]),
        ("9n = 36. n = 36/9 = 5.", [1, 0]),
        # Two errors that cancel, and an error in what stands in front of a true equation.
        ("8n = 36. n = 36/9 = 4.", [0, 1]),
        ("8n = 35 + 1 = 36.", [0]),
        ("0n = 35.", [0]),
        # The answer before anything was worked out, and from numbers that nobody knows.
        ("n = 4.", [0]),
        ("n = 8/2 = 4.", [0]),
        ("n = 36/0 = 4.", [0]),
    ],
)
def test_what_does_not_hold_or_does_not_follow_is_wrong(text, expected):
    assert scores(text) == expected


@pytest.mark.parametrize(
    "text", ["y + 9n = 35", "x - 9n = 35", "2^9n = 35", "9n^2 = 35", "an = 4", "9n = k", "9n != 35"]
)
def test_the_rest_of_something_else_is_no_claim(text):
    assert scores(text) == []


def test_a_chain_is_read_as_far_as_it_is_sure():
    for text in ("9n = 36 = 6^2", "9n = 36 = 4 \\cdot k", "9n = 36 < 40", "9n = 36 - k = 3"):
        chains = [text[chain.start : chain.stop] for chain in read_chains(text, "n")]
        assert chains == ([] if "- k" in text else ["9n = 36"])


def test_hostile_texts_are_read_in_no_time():
    # A pattern that backtracks, or a number that doubles at every sign, would hang here.
    for part in ("( ", "n = ", "9n", "\\frac{", "1*(", "n/3", "-(", "n - ", "9*"):
        list(read_chains(part * 30 + "= n", "n"))


# Any expression, and any solution.

numbers = st.integers(0, 40).map(str)
expressions = st.recursive(
    st.one_of(numbers, st.just("n"), numbers.map(lambda number: f"{number}n")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - "]), inner).map("".join),
        st.tuples(numbers, inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(inner, st.integers(1, 9)).map(
            lambda parts: f"\\frac{{{parts[0]}}}{{{parts[1]}}}"
        ),
    ),
    max_leaves=4,
)
chains = st.lists(expressions, min_size=2, max_size=3).map(" = ".join)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(chains, min_size=1, max_size=3))
def test_of_any_chains_those_that_are_false_are_wrong_and_only_true_ones_are_right(texts):
    assume(all("n" in text for text in texts) and all(text.count("{") < 3 for text in texts))
    read = dict(judge("; ".join(texts)))
    for text in texts:
        if not holds(text, "n", 4):
            assert read.get(text, 0) == 0
    for claim, score in read.items():
        assert not score or holds(claim, "n", 4)


@st.composite
def derivations(draw) -> tuple[str, int, list[str]]:
    """A question with an unknown, its answer, and a solution as a person writes it, a claim an entry."""
    factor, answer, term = (
        draw(st.integers(2, 9)),
        draw(st.integers(0, 12)),
        draw(st.integers(1, 30)),
    )
    letter = draw(st.sampled_from("anx"))
    moved = factor * answer
    ways = {
        f"{factor}*{letter} + {term}": (moved + term, moved + term, "-"),
        f"{factor}*{letter} - {term}": (moved - term, moved - term, "+"),
        f"{term} + {factor}*{letter}": (moved + term, moved + term, "-"),
    }
    left = draw(st.sampled_from(sorted(ways)))
    right, start, sign = ways[left]
    product = draw(st.sampled_from([f"{factor}{letter}", f"{factor}*{letter}"]))
    first = draw(
        st.sampled_from(
            [
                [f"{product} = {moved}"],
                [f"{product} = {start} {sign} {term}"],
                [f"{product} = {start} {sign} {term} = {moved}", f"{moved} = {product}"],
            ]
        )
    )
    last = draw(
        st.sampled_from(
            [
                [f"{letter} = {answer}"],
                [f"{letter} = {moved}/{factor} = {answer}"],
                [
                    f"\\frac{{{product}}}{{{factor}}} = \\frac{{{moved}}}{{{factor}}}",
                    f"{letter} = {answer}",
                ],
            ]
        )
    )
    return f"Solve for {letter}: {left} = {right}", answer, [*first, *last]


@pytest.mark.slow
@settings(deadline=None)
@given(derivations(), st.sampled_from([". ", ", so ", "\n", " => "]))
def test_a_person_s_derivation_is_right_in_every_step(derivation, separator):
    question, answer, claims = derivation
    judged = judge(f"{separator.join(claims)}. \\boxed{{{answer}}}", question)
    assert [claim for claim, _ in judged] == [*claims, f"\\boxed{{{answer}}}"]
    assert {score for _, score in judged} == {1.0}


@pytest.mark.slow
@settings(deadline=None)
@given(derivations(), st.data())
def test_a_derivation_with_another_number_in_it_is_wrong_there(derivation, data):
    question, answer, claims = derivation
    index = data.draw(st.integers(0, len(claims) - 1))
    place = data.draw(st.sampled_from(list(re.finditer(r"\d+", claims[index]))))
    number = int(place[0]) + data.draw(st.sampled_from([-2, -1, 1, 2, 10]))
    assume(number >= 0)
    letter = question.removeprefix("Solve for ")[0]
    claims[index] = f"{claims[index][: place.start()]}{number}{claims[index][place.end() :]}"
    assume(not holds(claims[index], letter, answer))
    judged = dict(judge(f"{'. '.join(claims)}. \\boxed{{{answer}}}", question))
    assert 0.0 in judged.values()
    assert judged.get(claims[index], 0.0) == 0.0
