"""Workers for replicas in tests, and a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def make_echo(tag: str = "") -> Callable[[Any], Any]:
    """A worker that gives back (tag and item, its process); some items are orders."""

    def work(item: Any) -> Any:
        match item:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail":
                raise ValueError("no such item")
            case "warn":
                warnings.warn("watch out", UserWarning, stacklevel=1)
            case ("sleep", seconds):
                time.sleep(seconds)
            case ("note", path):
                with Path(path).open("a") as file:
                    file.write("x")
        return f"{tag}{item}", os.getpid()

    return work


def make_nothing() -> Callable[[Any], Any]:
    """A worker that can't be made."""
    raise ValueError("no checkpoint here")


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of two nodes with one CPU each, which `connect` finds by RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    from potstill.cluster.connect import ADDRESS, disconnect

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    before = os.environ.get(ADDRESS)
    os.environ[ADDRESS] = cluster.address
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        disconnect()
        os.environ.pop(ADDRESS)
        if before is not None:
            os.environ[ADDRESS] = before
        cluster.shutdown()
