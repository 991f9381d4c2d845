"""Mathematical equality, and workers that hang, crash or are killed without losing anything else."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import child
import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers.math import equality
from potstill.verifiers.workers import pool

HANGS = "\\boxed{\\int \\frac{1}{x^{17}+x+1} dx}"  # sympy integrates for minutes


def problem(gold: str | None) -> Problem:
    """A math problem."""
    return Problem("p", "?", gold, "math")


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", "The answer is 18."),
        ("025", "\\boxed{25}"),
        ("\\frac{1}{9}", "So $\\boxed{\\dfrac{1}{9}}$."),
        ("\\frac{1}{2}", "The answer is $\\frac12$."),
        ("0.5", "\\boxed{\\frac{1}{2}}"),
        ("x^2+2x+1", "\\boxed{(x+1)^2}"),
        ("3,5", "$x=\\boxed{5}$ or $x=\\boxed{3}$"),
        ("\\text{4:30 p.m.}", "\\boxed{4:30 \\text{ p.m.}}"),
        ("900,\\!000", "\\boxed{900000}"),
        ("25\\%", "\\boxed{25}"),
        ("100\\text{ square units}", "\\boxed{100}"),
        ("Evelyn", "The answer is Evelyn."),
        ("k=1", "\\boxed{1}"),
        ("18", "First 3 and then\nshe makes 9 * 2 = 18 dollars"),
        ("\\sqrt{2}", "<think>\\boxed{3}</think>\\boxed{\\sqrt2}"),
    ],
)
def test_equal_answers_are_right(gold: str, text: str) -> None:
    found = equality.judge(problem(gold), text)
    assert (found.status, found.verifier) == ("right", "math@4")


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", "\\boxed{19}"),
        ("18", "\\boxed{-18}"),
        ("\\frac{1}{3}", "\\boxed{0.33}"),
        ("x^2+2x+1", "\\boxed{(x+2)^2}"),
        ("3", "\\boxed{3} or \\boxed{5}"),
        ("[0,1)", "\\boxed{[0,1]}"),
        ("(3,5)", "\\boxed{(5,3)}"),
        ("Evelyn", "\\boxed{Evelny}"),
        ("4a-2", "\\boxed{4b-2}"),
    ],
)
def test_near_misses_are_wrong(gold: str, text: str) -> None:
    assert equality.judge(problem(gold), text).status == "wrong"


@pytest.mark.parametrize(
    "text", ["", "I do not know what to do here.", "<think>so it is 3", "\\boxed{}", "\\boxed{18"]
)
def test_a_text_without_an_answer_is_unparsed(text: str) -> None:
    assert equality.judge(problem("18"), text).status == "unparsed"


def test_no_gold_or_a_whole_proof_as_gold_is_unjudged() -> None:
    assert equality.judge(problem(None), "3").reason == "the problem has no gold answer"
    assert equality.judge(problem("First we show that " * 30), "3").status == "unjudged"


@pytest.mark.parametrize(
    "answer",
    [
        "10^10^10",
        "10^{10^{10}}",
        "10^{10^{10^{10}}}",
        "99999999!",
        "9" * 10_000_000,
        "9^{" + "9" * 900 + "}",
    ],
)
def test_huge_answers_are_unparsed_at_once(answer: str) -> None:
    start = time.process_time()
    assert equality.judge(problem("5"), f"\\boxed{{{answer}}}").status == "unparsed"
    assert time.process_time() - start < 0.5


def test_small_towers_are_still_evaluated() -> None:
    assert equality.judge(problem("512"), "\\boxed{2^{3^2}}").status == "right"


def test_integers_and_equal_strings_need_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ask", lambda *_, **__: pytest.fail("a worker was asked"))
    items = [
        ("1,000", "\\boxed{1000}"),
        ("007", "\\boxed{+7}"),
        ("5", "\\boxed{6}"),
        ("\\pi r^2", "\\boxed{\\pi r^2}"),
    ]
    found = [equality.judge(problem(gold), text).status for gold, text in items]
    assert found == ["right", "right", "wrong", "right"]


@pytest.mark.slow
def test_a_hang_costs_only_its_own_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "LIMIT_S", 0.5)
    items = [(problem(f"{n}/7"), f"\\boxed{{\\frac{{{2 * n}}}{{14}}}}") for n in range(1, 7)]
    items.insert(3, (problem("5"), HANGS))
    found = equality.judge_all(items)
    assert [v.status for v in found] == ["right"] * 3 + ["unparsed"] + ["right"] * 3
    assert found[3].reason == "the comparison did not finish within 0.5 s"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_lost() -> None:
    def killed() -> int:
        worker = pool._worker_of_thread("math")
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        return worker.process.pid

    first = pool._thread_pool().submit(killed).result()
    assert equality.judge(problem("1/2"), "\\boxed{\\frac{3}{6}}").status == "right"
    assert first not in [
        pool._thread_pool().submit(lambda: pool._worker_of_thread("math").process.pid).result()
        for _ in range(8)
    ]


def test_a_worker_that_crashes_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(worker: pool._Worker, seconds: float) -> None:
        os.kill(worker.process.pid, signal.SIGSEGV)
        worker.process.wait()

    with monkeypatch.context() as patched:
        patched.setattr(
            pool._Worker, "load", lambda worker, operation: worker.loaded.add(operation)
        )
        patched.setattr(pool._Worker, "receive", crash)
        assert pool._thread_pool().submit(pool._run_task, "math", ("1", "2"), 1.0).result() == (
            "killed",
            f"crashed its worker process (exit status {-signal.SIGSEGV})",
        )
    assert equality.judge(problem("1/2"), "\\boxed{\\frac{4}{8}}").status == "right"


@pytest.mark.slow
def test_a_worker_killed_by_somebody_else_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    send, receive, asked = pool._Worker.send, pool._Worker.receive, []

    def stopped_once(worker: pool._Worker, *task: Any) -> None:
        if not asked:
            os.kill(
                worker.process.pid, signal.SIGSTOP
            )  # else it may have answered before it is killed
        send(worker, *task)

    def killed_once(worker: pool._Worker, seconds: float) -> list[str] | None:
        asked.append(seconds)
        if len(asked) == 1:
            os.kill(worker.process.pid, signal.SIGKILL)
        return receive(worker, seconds)

    def one() -> tuple[str, str]:
        pool._worker_of_thread(
            "math"
        )  # on this thread, so that the first thing received is the item
        with monkeypatch.context() as patched:
            patched.setattr(pool._Worker, "send", stopped_once)
            patched.setattr(pool._Worker, "receive", killed_once)
            return pool._run_task("math", ("\\boxed{\\frac{1}{2}}", "\\boxed{\\frac{5}{10}}"), 3.0)

    assert pool._thread_pool().submit(one).result() == ("done", "right")
    assert len(asked) == 3  # the killed one, the import of the new worker, and the item again


def test_a_fork_gets_workers_of_its_own() -> None:
    equality.judge(problem("1/2"), "\\boxed{\\frac{6}{12}}")
    forked = os.fork()
    if not forked:
        found = equality.judge(problem("1/2"), "\\boxed{\\frac{7}{14}}")
        os._exit(0 if found.status == "right" else 1)
    assert child.reap(forked) == 0


def test_many_threads_may_judge_at_once() -> None:
    def one(n: int) -> str:
        return verifiers.judge([(problem(f"{n}/11"), f"\\boxed{{\\frac{{{3 * n}}}{{33}}}}")])[
            0
        ].status

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(1, 41))) == ["right"] * 40
