"""The pool on a real Ray cluster of two nodes: results, deaths of items and nodes, pools that share one cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cluster_workers import NODE, make_echo, make_nothing

from potstill.cluster import pool as pools
from potstill.cluster.pool import LATER, ReplicaPool
from potstill.errors import ModelError, PotstillWarning

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore:a worker.* died:potstill.errors.PotstillWarning"),
]


@pytest.fixture
def pool(ray_cluster: Any) -> Iterator[ReplicaPool[Any, Any]]:
    made = ReplicaPool[Any, Any](partial(make_echo, "got "), replicas=2, queue_length=1)
    yield made
    made.release()


def values(pool: ReplicaPool[Any, Any], items: Any, **options: Any) -> dict[int, str]:
    return {place: result[0] for place, result in pool.map(items, **options)}


def test_every_item_has_its_result_whichever_replica_it_was(pool: ReplicaPool[Any, Any]) -> None:
    results = dict(pool.map([("sleep", 0.01)] * 100))
    assert sorted(results) == list(range(100))
    assert {text for text, _ in results.values()} == {"got ('sleep', 0.01)"}
    assert len({process for _, process in results.values()}) == 2
    assert {process for _, process in results.values()} == {p.process for p in pool.places()}


def test_a_workers_exception_and_its_warnings_reach_the_caller(pool: ReplicaPool[Any, Any]) -> None:
    with pytest.raises(ValueError, match="no such item"):
        values(pool, [1, "fail", 2])
    with pytest.warns(UserWarning, match="watch out"):
        assert values(pool, ["warn"]) == {0: "got warn"}
    broken = ReplicaPool[Any, Any](make_nothing, replicas=1)
    with pytest.raises(ValueError, match="no checkpoint here"):
        values(broken, [1])


def test_no_thread_asks_ray_once_the_cluster_is_left(pool: ReplicaPool[Any, Any]) -> None:
    assert values(pool, ["one"]) == {0: "got one"}
    pools._stop_dispatchers()  # as `disconnect` does first: Ray ends a process that asks it later with exit code 1
    assert "worker" not in [thread.name for thread in threading.enumerate()]
    assert values(pool, ["two"]) == {0: "got two"}


def test_later_is_asked_again_once_something_has_landed(pool: ReplicaPool[Any, Any]) -> None:
    landed: list[int] = []

    def items() -> Iterator[Any]:
        yield "first"
        while not landed:
            yield LATER
        yield f"after {landed}"

    for place, _ in pool.map(items()):
        landed.append(place)
    assert landed == [0, 1]


def test_work_that_kills_its_replicas_is_an_error_and_the_rest_is_done(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ReplicaPool[Any, Any](partial(make_echo, "got "), replicas=1, queue_length=1)
    monkeypatch.setattr(pools, "MAX_ITEM_DEATHS", 1)
    with pytest.raises(ModelError, match="1 replicas of the worker died over the same work"):
        values(pool, ["die"])
    monkeypatch.setattr(pools, "MAX_ITEM_DEATHS", 2)
    orders = ["a", "die", ("note", str(tmp_path / "notes")), "b"]
    results = values(pool, orders, on_lost=lambda item, error: (f"lost {item}", 0))
    assert (results[0], results[1], results[3]) == ("got a", "lost die", "got b")
    assert (tmp_path / "notes").read_text() in (
        "x",
        "xx",
    )  # what waited at a replica that died is done again


def test_a_node_dies_and_another_one_comes(ray_cluster: Any) -> None:
    node = ray_cluster.add_node(**NODE)
    pool = ReplicaPool(make_echo, replicas=3)
    work_until(pool, lambda: node.node_id in nodes_of(pool))
    results: list[int] = []
    for place, _ in pool.map([("sleep", 0.02)] * 60):
        results.append(place)
        if len(results) == 20:
            ray_cluster.remove_node(node, allow_graceful=False)
    assert sorted(results) == list(range(60))
    new_node = ray_cluster.add_node(**NODE)
    work_until(
        pool,
        lambda: new_node.node_id in nodes_of(pool) and node.node_id not in nodes_of(pool),
    )
    pool.release()
    ray_cluster.remove_node(new_node)


def nodes_of(pool: ReplicaPool[Any, Any]) -> set[str]:
    return {place.node for place in pool.places()}


def work_until(pool: ReplicaPool[Any, Any], is_so: Callable[[], bool]) -> None:
    """Give the pool work until something is so, which the cluster takes some seconds for."""
    for _ in range(600):
        if is_so():
            return
        assert len(list(pool.map([("sleep", 0.1)] * 3))) == 3
    raise AssertionError("the cluster did not change")


def test_a_pool_without_work_makes_room(ray_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(pools, "TICK_SECONDS", 0.1)
    first, second = (ReplicaPool[Any, Any](partial(make_echo, name), replicas=2) for name in "ab")
    # Either pool takes the whole cluster.
    for _ in range(2):
        assert values(first, [1, 2]) == {0: "a1", 1: "a2"}
        assert values(second, [1, 2]) == {0: "b1", 1: "b2"}
    first.release()
    second.release()


def test_what_finds_no_place_says_so_and_ends(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(pools, "PLACEMENT_WARNING_SECONDS", 0.1)
    monkeypatch.setattr(pools, "MAX_PLACEMENT_SECONDS", 0.5)
    pool = ReplicaPool[Any, Any](make_echo, replicas=1, resources=pools.Resources(cpus=1, gpus=3))
    with (
        pytest.raises(ModelError, match=r"no replica of the worker was ready.* 1 CPUs and 3 GPUs"),
        pytest.warns(PotstillWarning, match="the cluster has .* of 0 GPUs free"),
    ):
        values(pool, [1])
