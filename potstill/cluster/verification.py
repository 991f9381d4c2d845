"""Verification on a Ray cluster: each node judges portions with its own worker processes, its own sandbox.

There is one process a node, not one of a pool's replicas (`pool.py`): a node must prove itself before it gets work of a
kind, and what verifies runs beside models without taking the CPUs that these have reserved. Verdicts come back to the
driver, which alone stores them.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from potstill import verifiers
from potstill.cluster.connect import connect
from potstill.cluster.node_verifier import (
    PROGRAMS_KIND,
    NodeVerifier,
    Proof,
    Reply,
    Work,
    verifier_version,
)
from potstill.errors import ConfigError, PotstillWarning
from potstill.records import Problem, Verdict
from potstill.verifiers import placement

if TYPE_CHECKING:
    from potstill.verifiers.code.output import Output
    from potstill.verifiers.code.sandbox import Limits

PORTIONS_PER_NODE = 4  # so that a fast node takes more of them than a slow one
MAX_PORTION = 256  # items; they are judged again where their node dies
QUEUED_PORTIONS = 2  # at a node: one that it works on, one that it goes on with
MAX_PORTION_DEATHS = 3  # nodes that may die over a portion
WAIT_S = 0.5  # for a result, between two looks at the nodes
NODE_WAIT_S = 600.0  # for a first node, of a cluster that grows on demand


@dataclass(slots=True, eq=False)
class _Portion:
    """Items that a node judges at once, and how many nodes died over them."""

    start: int
    items: Sequence[Any]
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    """A node's process, and by kind what it was asked about itself (Ray's references), and said."""

    id: str
    name: str
    actor: Any
    asked: dict[str, Any] = field(default_factory=dict)
    proofs: dict[str, Proof] = field(default_factory=dict)

    def is_able(self, kind: str) -> bool:
        """Whether it has proved that it can do work of a kind."""
        return kind in self.proofs and not self.proofs[kind].obstacle


@final
class ClusterPlace:
    """Every node of the cluster, as a place where verifiers compute (`verifiers.placement.Place`).

    A node that joins gets work, one that dies loses its portions to others. May be used by several threads.
    """

    def __init__(self) -> None:
        self._ray = connect("--verify-on ray")
        self._nodes: dict[str, _Node] = {}
        self._named: set[tuple[str, str]] = set()  # nodes and kinds that a warning was given of
        self._lock = threading.RLock()

    @property
    def breadth(self) -> int:
        """How many nodes there are."""
        return max(1, len(self._update_nodes()))

    def judge(self, kind: str, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Return a verdict for each item, in order; equal items are judged once."""
        options = {"reads_thoughts": verifiers.reads_thoughts()}
        return self._do_once("judge", kind, items, options)

    def equal(self, kind: str, items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
        """Return for each item whether its two answers are the same, in order."""
        options = {"reads_thoughts": verifiers.reads_thoughts()}
        return self._do_once("equal", kind, items, options)

    def run_programs(self, texts: Sequence[str], limits: Limits) -> list[Output]:
        """Return what the program of each text comes to, in order."""
        return self._do_once("programs", PROGRAMS_KIND, texts, {"limits": limits})

    def describe_sandbox(self) -> str:
        """Say in which sandbox programs run, and on how many nodes.

        Raises:
            ConfigError: none works on any node.
        """
        proofs = self._prove_all(PROGRAMS_KIND)
        counts = Counter(proof.sandbox for proof in proofs)
        parts = []
        for sandbox, count in sorted(counts.items()):
            parts.append(f"{sandbox} on {count} node{'s' if count > 1 else ''} of the cluster")
        return f"programs run in: {', '.join(parts)}"

    def close(self) -> None:
        """End the processes on the nodes."""
        with self._lock:
            for node in self._nodes.values():
                self._ray.kill(node.actor, no_restart=True)
            self._nodes.clear()

    def _do_once(
        self, work: Work, kind: str, items: Sequence[Any], options: Mapping[str, Any]
    ) -> list[Any]:
        """A result for each item, where equal ones are computed once."""
        distinct = list(dict.fromkeys(items))
        results = _Distribution(self, work, kind, distinct, options).run()
        by_item = dict(zip(distinct, results, strict=True))
        return [by_item[item] for item in items]

    # The nodes. What follows is called by `_Distribution` too.

    def _update_nodes(self) -> list[_Node]:
        """The nodes that are alive, each with a process."""
        with self._lock:
            alive: dict[str, Mapping[str, Any]] = {}
            for node in self._ray.nodes():
                # A node without CPUs, as a head may be, is not for work.
                if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
                    alive[node["NodeID"]] = node
            for node_id in set(self._nodes) - set(alive):
                del self._nodes[node_id]
            for node_id, node in alive.items():
                if node_id not in self._nodes:
                    self._nodes[node_id] = self._start(node)
            return list(self._nodes.values())

    def _start(self, known: Mapping[str, Any]) -> _Node:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            known["NodeID"], soft=False
        )
        # 0 CPUs: it works beside models that have reserved all of them, and must not wait for one.
        actor_class = self._ray.remote(
            num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy=strategy
        )(NodeVerifier)
        name = (
            f"{known['NodeManagerHostname']} ({known['NodeManagerAddress']}, {known['NodeID'][:8]})"
        )
        return _Node(known["NodeID"], name, actor_class.remote(int(known["Resources"]["CPU"])))

    def _forget(self, node: _Node) -> None:
        """A node's process has died; where the node is alive, another one is started when work is handed out."""
        with self._lock:
            if self._nodes.get(node.id) is node:
                del self._nodes[node.id]
        self._ray.kill(node.actor, no_restart=True)  # it may only be out of reach

    def _record_proof(self, node: _Node, kind: str, proof: Proof) -> None:
        """Keep what a node said of itself; one that can't do the work is named, once."""
        expected = verifier_version(kind)
        if not proof.obstacle and proof.version != expected:
            obstacle = f"it has {proof.version}, and the driver {expected}"
            proof = proof._replace(obstacle=obstacle)
        with self._lock:
            node.proofs[kind] = proof
            is_new = bool(proof.obstacle) and (node.id, kind) not in self._named
            self._named.add((node.id, kind))
        if is_new:
            warnings.warn(
                f"node {node.name} gets no answers of the kind {kind} to judge: {_one_line(proof.obstacle)}",
                PotstillWarning,
                stacklevel=2,
            )

    def _prove_all(self, kind: str) -> list[Proof]:
        """The proofs of the nodes that can do work of a kind."""
        distribution = _Distribution(self, "judge", kind, [], {})
        while True:
            able = distribution.able_nodes()
            nodes = self._update_nodes()
            if nodes and all(kind in node.proofs for node in nodes):
                return [node.proofs[kind] for node in able]
            distribution.receive()

    def _unable_error(self, kind: str) -> ConfigError:
        """No node can do work of a kind."""
        reasons = []
        for node in self._update_nodes():
            if kind in node.proofs and node.proofs[kind].obstacle:
                reasons.append(f"{node.name}: {_one_line(node.proofs[kind].obstacle)}")
        if not reasons:
            return ConfigError(
                f"no node of the Ray cluster can judge answers of the kind {kind}: there is none with a CPU",
                expected="a node that is alive and has at least one CPU",
                fix="add a node, or leave --verify-on out to judge on this machine",
            )
        return ConfigError(
            f"no node of the Ray cluster can judge answers of the kind {kind}: {'; '.join(reasons)}",
            expected="potstill of this version on each node, with what the verifier needs "
            "(for code a sandbox: bubblewrap, or namespaces)",
            fix="mend one of them, or leave --verify-on out to judge on this machine",
        )


@final
class _Distribution:
    """The portions of one call: handed to nodes that have proved themselves, and again where a node dies.

    Args:
        place: whose nodes.
        work: what is done with each item.
        kind: of the verifier.
        items: what is worked on.
        options: see `NodeVerifier.work`.
    """

    def __init__(
        self,
        place: ClusterPlace,
        work: Work,
        kind: str,
        items: Sequence[Any],
        options: Mapping[str, Any],
    ) -> None:
        self._place, self._work, self._kind, self._options = place, work, kind, options
        self._ray = place._ray
        self._results: list[Any] = [None] * len(items)
        self._waiting = deque(_portions(items, place.breadth))
        self._asked: dict[Any, tuple[_Node, _Portion]] = {}
        self._without_node_since = time.monotonic()

    def run(self) -> list[Any]:
        """A result for each item, in order."""
        while self._waiting or self._asked:
            self._hand_out()
            self.receive()
        return self._results

    def able_nodes(self) -> list[_Node]:
        """The nodes that have proved themselves; those that were not asked yet are asked now.

        Raises:
            ConfigError: all nodes have answered and none can do the work, or there was none for ten minutes.
        """
        nodes = self._place._update_nodes()
        able = [node for node in nodes if node.is_able(self._kind)]
        for node in nodes:
            with self._place._lock:  # of two threads one asks
                if self._kind not in node.asked:
                    node.asked[self._kind] = node.actor.prove.remote(self._kind)
        if able or any(self._kind not in node.proofs for node in nodes):
            self._without_node_since = time.monotonic()
        elif nodes or time.monotonic() - self._without_node_since > NODE_WAIT_S:
            raise self._place._unable_error(self._kind)
        return able

    def _hand_out(self) -> None:
        """Give waiting portions to the nodes that can take them, those with less to do first."""
        able = self.able_nodes()
        for depth in range(QUEUED_PORTIONS):
            busy = Counter(node.id for node, _ in self._asked.values())
            for node in able:
                if self._waiting and busy[node.id] <= depth:
                    portion = self._waiting.popleft()
                    reference = node.actor.work.remote(
                        self._work, self._kind, portion.items, dict(self._options)
                    )
                    self._asked[reference] = (node, portion)

    def receive(self) -> None:
        """Take what has come from the nodes, or wait a little."""
        proofs: dict[Any, _Node] = {}
        for node in self._place._update_nodes():
            if self._kind in node.asked and self._kind not in node.proofs:
                proofs[node.asked[self._kind]] = node
        if not proofs and not self._asked:
            time.sleep(WAIT_S if self._waiting else 0.0)
            return
        references = [*proofs, *self._asked]
        landed, _ = self._ray.wait(references, num_returns=1, timeout=WAIT_S)
        for reference in landed:
            portion: _Portion | None = None
            if reference in proofs:
                node = proofs[reference]
            else:
                node, portion = self._asked.pop(reference)
            try:
                value = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake of ours, not a death
            except self._ray.exceptions.RayError as error:
                self._lose(node, portion, error)
                continue
            if portion is None:
                self._place._record_proof(node, self._kind, value)
            else:
                self._take(node, portion, value)

    def _take(self, node: _Node, portion: _Portion, reply: Reply) -> None:
        if reply.obstacle:
            proof = Proof(verifier_version(self._kind), obstacle=reply.obstacle)
            self._place._record_proof(node, self._kind, proof)
            self._waiting.appendleft(portion)
            return
        self._results[portion.start : portion.start + len(portion.items)] = reply.results

    def _lose(self, node: _Node, portion: _Portion | None, error: Exception) -> None:
        """A node or its process has died: another one gets the portion."""
        self._place._forget(node)
        if portion is None:
            return
        portion.deaths += 1
        if portion.deaths >= MAX_PORTION_DEATHS:
            raise ConfigError(
                f"{portion.deaths} nodes died one after another while they judged the same {len(portion.items)} "
                f"answers of the kind {self._kind} ({_one_line(str(error))})",
                expected="nodes that live as long as a portion takes",
                fix="look at their memory and at Ray's logs, or leave --verify-on out",
            )
        self._waiting.appendleft(portion)


@contextmanager
def verifying_on_cluster() -> Iterator[None]:
    """Have verifiers compute on the Ray cluster until the block ends."""
    place = ClusterPlace()
    try:
        with placement.verifying_at(place):
            yield
    finally:
        place.close()


def _portions(items: Sequence[Any], nodes: int) -> Iterator[_Portion]:
    """The items in portions, several for each node."""
    size = min(MAX_PORTION, max(1, -(-len(items) // (nodes * PORTIONS_PER_NODE))))
    for start in range(0, len(items), size):
        yield _Portion(start, items[start : start + size])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
