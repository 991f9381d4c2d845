"""Verification on a cluster: this machine's verdicts in their order, whatever happens to its nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_made import MadeRay

from potstill import verifiers
from potstill.cluster import verification
from potstill.cluster.node_verifier import Proof, Reply, verifier_version
from potstill.cluster.verification import ClusterPlace, verifying_on_cluster
from potstill.data.problems import load
from potstill.data.recorded_answers import read_answers
from potstill.errors import ConfigError, PotstillWarning
from potstill.records import Problem
from potstill.verifiers import placement
from potstill.verifiers.code.sandbox import Limits

RIGHT = "```python\ndef double(x):\n    return 2 * x\n```"
WRONG = "```python\ndef double(x):\n    return x\n```"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a place of the nodes of a cluster in this process; numbers are judged there by a program of the test."""

    def make(*names: str, **options: Any) -> tuple[ClusterPlace, MadeRay]:
        ray = MadeRay(*names, **options)
        monkeypatch.setattr(verification, "connect", lambda purpose: ray)
        return ClusterPlace(), ray

    return make


def distribute(place: ClusterPlace, items: list[int]) -> list[Any]:
    """The items' comparisons with themselves by the verifier of mathematics: no worker is needed."""
    problem = Problem("1", "?", answer="1", kind="math")
    return place.equal("math", [(problem, str(item), str(item % 5)) for item in items])


@settings(max_examples=20)
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 9), st.integers(1, 3))
def test_results_are_in_order_whichever_nodes_die(
    items: list[int], first_death: int, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ray = MadeRay("a", "b", "c", deaths={"a": first_death, "b": first_death + 2})
        patch.setattr(verification, "connect", lambda purpose: ray)
        patch.setattr(verification, "MAX_PORTION", size)
        assert distribute(ClusterPlace(), items) == [item == item % 5 for item in items]


def test_a_node_that_can_not_prove_itself_is_named_and_gets_no_work(made: Any) -> None:
    refusal = Proof(verifier_version("math"), obstacle="math-verify is not\n installed")
    place, ray = made("good", "bad", "old", answers={
        ("bad", "prove"): refusal,
        ("old", "prove"): Proof("potstill 0.0.1, math@1"),
    })  # fmt: skip
    with pytest.warns(PotstillWarning) as warned:
        assert distribute(place, [1, 7]) == [True, False]
        assert distribute(place, [2, 8]) == [True, False]
    messages = sorted(str(warning.message) for warning in warned)
    assert len(messages) == 2
    assert (
        "bad) gets no answers of the kind math to judge: math-verify is not installed"
        in messages[0]
    )
    assert "old) gets no answers of the kind math to judge: it has potstill 0.0.1" in messages[1]
    assert {node for node, method in ray.done if method == "work"} == {"good"}


def test_where_no_node_can_the_error_says_why_of_each(made: Any) -> None:
    place, _ = made("a", "b", answers={
        ("a", "prove"): Proof(verifier_version("math"), obstacle="no sandbox"),
        ("b", "work"): Reply(obstacle="its worker can't start"),
    })  # fmt: skip
    with (
        pytest.raises(
            ConfigError, match=r"a\): no sandbox; .*b\): its worker can't start"
        ) as error,
        pytest.warns(PotstillWarning),
    ):
        distribute(place, [1])
    assert "leave --verify-on out" in error.value.fix


def test_answers_that_take_their_nodes_with_them_are_an_error(made: Any) -> None:
    place, _ = made("a", "b", "c", "d", deaths=dict.fromkeys("abcd", 2))  # behind its proof
    with pytest.raises(ConfigError, match=r"3 nodes died one after another .* the same 1 answers"):
        distribute(place, [1])


def test_what_computes_little_and_what_packages_bring_stays_here(made: Any) -> None:
    place, ray = made("a")
    with placement.verifying_at(place):
        (verdict,) = verifiers.judge([(Problem("1", "?", answer="3", kind="number"), "It is 3.")])
    assert verdict.status == "right" and not ray.done
    assert placement.current_place() is None


# On a real cluster of two nodes on this machine.


def mixed_items(count: int) -> list[tuple[Problem, str]]:
    """Answers in mathematics, SQL and code, half of them wrong, and a program that never ends."""
    table = json.dumps({"t": [{"a": 1}, {"a": 2}]})
    code_tests = ("assert double(4) == 8",)
    items = []
    for number in range(count):
        fraction = Problem(f"m{number}", "?", answer=rf"\frac{{{number}}}{{7}}", kind="math")
        items.append((fraction, rf"So \boxed{{{number + number % 2}/7}}"))
        query = Problem(f"s{number}", "?", answer="SELECT sum(a) FROM t", kind="table", table=table)
        items.append((query, f"```sql\nSELECT max(a) + {number % 2} FROM t\n```"))
        program = Problem(f"c{number}", "?", kind="code", tests=code_tests)
        items.append((program, RIGHT if number % 2 else WRONG))
    return items


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_cluster_gives_this_machines_verdicts(ray_cluster: Any) -> None:
    items = mixed_items(4)
    here = verifiers.judge(items)
    programs = ["```python\ndef solution():\n    return sum(range(5))\n```", "none"]
    with verifying_on_cluster():
        assert verifiers.judge(items) == here
        assert placement.describe_sandbox().endswith("on 2 nodes of the cluster")
        outputs = placement.current_place().run_programs(programs, Limits())  # type: ignore[union-attr]
    assert [output.value for output in outputs] == ["10", ""]
    assert {verdict.status for verdict in here} == {"right", "wrong"}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_node_that_dies_at_work_costs_no_verdict(ray_cluster: Any, monkeypatch: Any) -> None:
    from cluster_workers import NODE

    items = mixed_items(6)
    here = verifiers.judge(items)
    node = ray_cluster.add_node(**NODE)
    losses: list[str] = []
    take, lose = verification._Distribution._take, verification._Distribution._lose

    def take_and_remove(own: Any, at: Any, portion: Any, reply: Any) -> None:
        take(own, at, portion, reply)
        at_work = {busy.id for busy, _ in own._asked.values()}
        if not losses and node.node_id in at_work:
            losses.append("removed")
            ray_cluster.remove_node(node, allow_graceful=False)

    def note_loss(own: Any, lost: Any, portion: Any, error: Any) -> None:
        losses.append(lost.id)
        lose(own, lost, portion, error)

    monkeypatch.setattr(verification, "MAX_PORTION", 2)
    monkeypatch.setattr(verification._Distribution, "_take", take_and_remove)
    monkeypatch.setattr(verification._Distribution, "_lose", note_loss)
    with verifying_on_cluster():
        placement.describe_sandbox()  # all three have proved themselves
        assert verifiers.judge(items) == here
    assert losses[0] == "removed" and node.node_id in losses


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_recorded_answers_get_this_machines_verdicts(ray_cluster: Any, shared_data: Any) -> None:
    math_file = str(shared_data / "math-outputs" / "qwen2.5-math-cot-100.jsonl")
    recorded = read_answers(math_file, load(math_file, mapping={"answer": "gt"}, kind="math"), {})
    items = [(answer.problem, answer.text) for answer in recorded.answers[:60]]
    for problem in load(str(shared_data / "humaneval" / "HumanEval.jsonl.gz"), limit=5):
        items.append((problem, f"```python\n{problem.solution}\n```"))
    here = verifiers.judge(items)
    with verifying_on_cluster():
        assert verifiers.judge(items) == here
    assert {verdict.status for verdict in here} >= {"right", "wrong"}
