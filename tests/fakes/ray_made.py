"""A cluster in this process with the calls of Ray that verification makes; its nodes die when the test says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`."""


class MadeRay:
    """Nodes by name; what was asked of a node is computed when it is waited for, if the node is alive then.

    Args:
        names: of the nodes.
        deaths: the number, from 1, of the result that a node dies over.
        answers: what a node's process gives in the place of a method of its class.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *names: str, deaths: Any = (), answers: Any = ()) -> None:
        self.alive = dict.fromkeys(names, True)
        self.deaths, self.answers = dict(deaths), dict(answers)
        self.done: list[tuple[str, str]] = []  # (node, method) of each result
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=strategy)

    def nodes(self) -> list[dict[str, Any]]:
        names = {"NodeManagerHostname": "host", "NodeManagerAddress": "10.0.0.1"}
        listing = []
        for name, is_alive in self.alive.items():
            listing.append({"NodeID": name, "Alive": is_alive, "Resources": {"CPU": 2.0}, **names})
        return listing

    def remote(self, **options: Any) -> Any:
        node = options["scheduling_strategy"]

        def start(cls: type) -> Any:
            return SimpleNamespace(remote=lambda *values: _Handle(self, node, cls))

        return start

    def wait(self, references: list[Any], **options: Any) -> Any:
        return references[:1], references[1:]

    def get(self, reference: Any) -> Any:
        node, method, compute = reference
        if not self.alive[node]:
            raise RayError(f"the actor died: {node}")
        self.done.append((node, method))
        count = sum(name == node for name, _ in self.done)
        if self.deaths.get(node) == count:
            self.alive[node] = False
            raise RayError(f"the actor died: {node}")
        if (node, method) in self.answers:
            return self.answers[node, method]
        return compute()

    def kill(self, handle: Any, *, no_restart: bool) -> None:
        pass


class _Handle:
    """An actor."""

    def __init__(self, ray: MadeRay, node: str, cls: type) -> None:
        self._ray, self._node, self._actor = ray, node, cls.__new__(cls)

    def __getattr__(self, method: str) -> Any:
        def ask(*values: Any) -> Any:
            return self._node, method, _Once(lambda: getattr(self._actor, method)(*values))

        return SimpleNamespace(remote=ask)


class _Once:
    """A function that is hashed as itself, so that a reference can be a key."""

    def __init__(self, compute: Any) -> None:
        self._compute = compute

    def __call__(self) -> Any:
        return self._compute()
