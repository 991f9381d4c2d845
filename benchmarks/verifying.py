"""Judging mathematics: our verifier against plain math_verify in one process, on the same answers.

    python benchmarks/verifying.py

Three sets: integers (decided as strings), formulas (all go to the workers, no two alike), and a mix with eight
samples a problem, as in a run. Both sides are warm and read the same text; items per second and their ratio.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from potstill.records import Problem
from potstill.verifiers import math, pool

Item = tuple[str, str]  # gold answer, text


def integers(count: int, rng: random.Random) -> list[Item]:
    return [(str(n := rng.randrange(10**4)), f"So it is $\\boxed{{{n + rng.randrange(2)}}}$.") for _ in range(count)]


def formulas(count: int, rng: random.Random) -> list[Item]:
    shapes: tuple[Callable[[int, int], Item], ...] = (
        lambda a, b: (f"\\frac{{{a}}}{{{b}}}", f"\\boxed{{\\frac{{{2 * a}}}{{{2 * b}}}}}"),
        lambda a, b: (f"{a}\\sqrt{{{b}}}", f"\\boxed{{\\sqrt{{{a * a * b}}}}}"),
        lambda a, b: (f"x^2+{a + b}x+{a * b}", f"\\boxed{{(x+{a})(x+{b})}}"),
        lambda a, b: (f"({a},{b})", f"\\boxed{{({b}, {a})}}"),
        lambda a, b: (f"{a / 8}", f"\\boxed{{\\frac{{{a}}}{{8}}}}"),
    )
    pairs = rng.sample([(a, b) for a in range(3, 203, 2) for b in range(3, 100)], count)
    return [shapes[i % len(shapes)](a, b) for i, (a, b) in enumerate(pairs)]


def mix(count: int, rng: random.Random) -> list[Item]:
    some = integers(count // 16, rng) + formulas(count // 16, rng)
    return [item for item in some for _ in range(8)]


def plain(items: Sequence[Item]) -> list[bool]:
    from math_verify import parse, verify

    return [verify(parse(f"\\boxed{{{gold}}}"), parse(text)) for gold, text in items]


def ours(items: Sequence[Item]) -> list[bool]:
    found = math.judge_all([(Problem("p", "?", gold), text) for gold, text in items])
    return [verdict.status == "right" for verdict in found]


def rate(judge: Callable[[Sequence[Item]], list[bool]], items: Sequence[Item]) -> tuple[float, list[bool]]:
    start = time.perf_counter()
    found = judge(items)
    return len(items) / (time.perf_counter() - start), found


def main() -> None:
    rng = random.Random(0)
    warm = formulas(32 * pool.cores(), rng)  # a worker on every core, both grammars built
    plain(warm[:32])
    ours(warm)
    print(f"{pool.cores()} cores; right or not, items per second")
    print(f"{'':10}{'items':>7}{'math_verify':>13}{'potstill':>10}{'ratio':>8}{'agree':>8}")
    for name, items in (
        ("integers", integers(2_000, rng)),
        ("formulas", formulas(1_000, rng)),
        ("mix", mix(2_000, rng)),
    ):
        theirs, labels = rate(plain, items)
        mine, verdicts = rate(ours, items)
        agree = sum(a == b for a, b in zip(labels, verdicts, strict=True)) / len(items)
        print(f"{name:10}{len(items):>7}{theirs:>13.0f}{mine:>10.0f}{mine / theirs:>8.1f}{agree:>8.1%}")


if __name__ == "__main__":
    main()
