"""Judging mathematics: our verifier against plain math_verify in one process, on the same answers.

    python benchmarks/verifying.py

Three made-up sets: integers (decided as strings), formulas (all go to the workers, no two alike), and a mix with eight
samples a problem, as in a run. Then the 800 recorded MATH samples, where the real data lies beside the repository: all
at once, one at a time in a warm process; and in processes that have just started, importing and starting workers
included: all of them, one answer that needs algebra, one that does not. Both sides read the same text, take turns in
the same run, and the best of several rounds counts: the machine may be busy. Ratios above 1 are in our favour.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.records import Problem, Verdict
from potstill.verifiers.math import equality
from potstill.verifiers.workers import pool

Item = tuple[str, str]  # gold answer, text

ROUNDS = 5
INTEGER: Item = ("420", "So it is $\\boxed{420}$.")
BESIDE = Path(__file__).resolve().parents[2] / "shared"
COLD = {
    "math_verify": "import json, sys; items = json.load(sys.stdin)\n"
    "from math_verify import parse, verify\n"
    "print([verify(parse('\\\\boxed{' + gold + '}'), parse(text)) for gold, text in items])",
    "potstill": "import json, sys; items = json.load(sys.stdin)\n"
    "from potstill.records import Problem\nfrom potstill.verifiers.math import equality\n"
    "found = equality.judge_all([(Problem('p', '?', gold), text) for gold, text in items])\n"
    "print([verdict.status == 'right' for verdict in found])",
}


def integers(count: int, rng: random.Random) -> list[Item]:
    return [
        (str(n := rng.randrange(10**4)), f"So it is $\\boxed{{{n + rng.randrange(2)}}}$.")
        for _ in range(count)
    ]


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
    found = equality.judge_all([(Problem("p", "?", gold), text) for gold, text in items])
    return [verdict.status == "right" for verdict in found]


def recorded() -> list[Item]:
    """The recorded MATH samples, or none where the data is absent."""
    file = (
        Path(os.environ.get("POTSTILL_SHARED", BESIDE))
        / "data"
        / "math-outputs"
        / "qwen2.5-math-cot-100.jsonl"
    )
    if not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [(row["answer"], chain) for row in rows for chain in row["code"]]


def alternating(sides: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The best time of each side, which take turns."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def one_by_one(judge: Callable[[Sequence[Item]], list[bool]], items: Sequence[Item]) -> list[bool]:
    return [judge([item])[0] for item in items]


def cold(name: str, items: Sequence[Item]) -> str:
    """Answers judged in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", COLD[name]],
        input=json.dumps(items),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def algebraic(items: Sequence[Item]) -> list[Item]:
    """The items that are not decided without algebra, one a pair of gold and answer."""
    by_pair: dict[tuple[str, str], Item] = {}
    for gold, text in items:
        pair = equality._read_answer(Problem("p", "?", gold), text)
        if not isinstance(pair, Verdict):
            by_pair[pair] = (gold, text)
    return [
        item for pair, item in by_pair.items() if equality._judge_without_algebra(*pair) is None
    ]


def real(items: Sequence[Item]) -> None:
    hard = algebraic(items)
    rows = (
        ("all at once", items, lambda judge: judge(items), ROUNDS),
        ("one at a time, warm", items, lambda judge: one_by_one(judge, items), ROUNDS),
        ("one with algebra, warm", hard, lambda judge: one_by_one(judge, hard), ROUNDS),
    )
    print(
        f"\nrecorded MATH samples: {len(items)}, of which {len(hard)} different ones need algebra; seconds"
    )
    print(f"{'':26}{'math_verify':>13}{'potstill':>10}{'ratio':>8}")
    for name, _, work, rounds in rows:
        line(
            name,
            alternating(
                {"math_verify": lambda w=work: w(plain), "potstill": lambda w=work: w(ours)}, rounds
            ),
        )
    whole = [
        (name, [item])
        for name, item in (("one with algebra, cold", hard[0]), ("one integer, cold", INTEGER))
    ]
    for name, some in (("all at once, cold", list(items)), *whole):
        line(
            name,
            alternating({side: lambda s=side, i=some: cold(s, i) for side in COLD}, 2 * ROUNDS),
        )


def line(name: str, best: dict[str, float]) -> None:
    theirs, mine = best["math_verify"], best["potstill"]
    print(f"{name:26}{theirs:>13.3f}{mine:>10.3f}{theirs / mine:>8.2f}")


def rate(
    judge: Callable[[Sequence[Item]], list[bool]], items: Sequence[Item]
) -> tuple[float, list[bool]]:
    start = time.perf_counter()
    found = judge(items)
    return len(items) / (time.perf_counter() - start), found


def main() -> None:
    rng = random.Random(0)
    warm = formulas(32 * pool.core_count(), rng)  # a worker on every core, both grammars built
    plain(warm[:32])
    ours(warm)
    print(f"{pool.core_count()} cores; right or not, items per second")
    print(f"{'':10}{'items':>7}{'math_verify':>13}{'potstill':>10}{'ratio':>8}{'agree':>8}")
    for name, items in (
        ("integers", integers(2_000, rng)),
        ("formulas", formulas(1_000, rng)),
        ("mix", mix(2_000, rng)),
    ):
        theirs, labels = rate(plain, items)
        mine, verdicts = rate(ours, items)
        agree = sum(a == b for a, b in zip(labels, verdicts, strict=True)) / len(items)
        print(
            f"{name:10}{len(items):>7}{theirs:>13.0f}{mine:>10.0f}{mine / theirs:>8.1f}{agree:>8.1%}"
        )
    items = recorded()
    if items:
        real(items)
    else:
        print(
            "\nthe recorded MATH samples are not here: set POTSTILL_SHARED to a folder with data/math-outputs"
        )


if __name__ == "__main__":
    main()
