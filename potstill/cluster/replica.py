"""What runs in a Ray actor: one worker, made there once, that answers one item after the other."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, final

from potstill import __version__


class Place(NamedTuple):
    """Where a replica runs, and with which potstill.

    Args:
        node: Ray's id of the node.
        host: its name.
        process: id of the replica's process there.
        version: of potstill.
    """

    node: str
    host: str
    process: int
    version: str


class Answer(NamedTuple):
    """What a replica gives back: a value, and the warnings on the way to it, which would be lost over there."""

    value: Any
    warnings: tuple[tuple[type[Warning], str], ...] = ()


@final
class Replica:
    """The actor. Its constructor does nothing that can fail: an error of `start` comes back as what it is."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        """Take how the worker is made."""
        self._make_worker = make_worker

    def start(self) -> Answer:
        """Make the worker, and say where that was."""
        return _with_warnings(self._start)

    def work(self, item: Any) -> Answer:
        """The worker's result for an item."""
        return _with_warnings(lambda: self._worker(item))

    def wait_for_death(self) -> None:
        """Never return, in a thread of its own: whoever asked learns at once that the replica is gone."""
        threading.Event().wait()

    def _start(self) -> Place:
        import ray

        self._worker = self._make_worker()
        node = ray.get_runtime_context().get_node_id()
        return Place(node, socket.gethostname(), os.getpid(), __version__)


def _with_warnings(function: Callable[[], Any]) -> Answer:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        value = function()
    messages = []
    for warning in caught:
        if not issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning):
            messages.append((warning.category, str(warning.message)))
    return Answer(value, tuple(messages))
