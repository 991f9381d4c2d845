"""The Ray cluster of this process: the one that RAY_ADDRESS names, or one on this machine that ends with the process.

Ray is imported here alone, and only once somebody needs a cluster.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from potstill.errors import ConfigError
from potstill.extras import require_extra

ADDRESS = "RAY_ADDRESS"
# Requests, completions and verdicts are small; Ray's own default is a third of the machine's memory.
OBJECT_STORE_BYTES = 256 << 20
REACHABLE_SECONDS = 10.0

_lock = threading.Lock()

_callbacks: list[Callable[[], None]] = []


def connect(purpose: str = "ray:") -> Any:
    """The module `ray`, connected to a cluster; a second call finds the connection of the first.

    A cluster that the program has connected to by itself (`ray.init`) is used as it is. One that is started here has
    the CPUs and GPUs of this machine, and ends with this process.

    Args:
        purpose: what it is needed for, as the subject of an error.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at RAY_ADDRESS that this process can join.
    """
    require_extra("ray", purpose)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not os.environ.get(ADDRESS):
        raise ConfigError(
            f"{purpose} in {processes} processes would start {processes} Ray clusters",
            expected=f"one cluster for all of them, named by {ADDRESS}",
            fix=f"ray start --head, then {ADDRESS}=HOST:6379 in the environment of the launcher",
        )
    # Nobody is asked whether figures of the use of Ray may be sent over the network, so none are.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray will do one day about GPUs of tasks without any: announced in each process, and of no effect here.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # On this machine replicas are what the user waits for; Ray would put them behind everything else (niceness 15).
    os.environ.setdefault("RAY_worker_niceness", "0")
    address = os.environ.get(ADDRESS, "")
    _check_reachable(address)
    import ray

    with _lock:
        if ray.is_initialized():
            return ray
        with _kept_signal_handler():
            if address:
                _join_cluster(ray, address)
            else:
                _start_cluster(ray)
        _keep_standard_output_clean(ray)
        atexit.register(disconnect)
    return ray


def before_disconnect(callback: Callable[[], None]) -> None:
    """Call this before the cluster is left: a thread that calls Ray afterwards ends the process, with exit code 1."""
    _callbacks.append(callback)


def disconnect() -> None:
    """Leave the cluster, and end it where this process started it; whatever ran on it for this process is gone."""
    import ray

    if ray.is_initialized():
        for callback in _callbacks:
            callback()
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait some minutes."""
    host, colon, port = address.removeprefix("ray://").partition(":")
    if not colon or not port.isdecimal():
        return  # none, or a word of Ray's such as "auto"
    try:
        socket.create_connection((host, int(port)), timeout=REACHABLE_SECONDS).close()
    except OSError as error:
        raise _joining_error(address, str(error)) from error


def _join_cluster(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (
        Exception
    ) as error:  # boundary: Ray has no class of errors for a cluster that can't be joined
        message = " ".join(str(error).split())[:300]
        raise _joining_error(address, f"{type(error).__name__}: {message}") from error


def _joining_error(address: str, message: str) -> ConfigError:
    return ConfigError(
        f"the Ray cluster at {ADDRESS}={address} can't be joined ({message})",
        expected="a running cluster whose nodes have the same versions of Python, ray and potstill as this machine",
        fix=f"ray start --head, and its address; or unset {ADDRESS} to work on this machine alone",
    )


def _start_cluster(ray: Any) -> None:
    # Not by default: without an address Ray joins whatever cluster it finds on this machine, a stranger's too.
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _keep_standard_output_clean(ray: Any) -> None:
    """Log what Ray would print on standard output, where a command's own output goes (a replica's death, for one)."""
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):  # private: another version may have no such function
        worker.print_to_stdstream = _log_ray_message


def _log_ray_message(data: dict[str, Any], **_: object) -> None:
    logging.getLogger(__name__).info("%s", "\n".join(data.get("lines", ())))


@contextmanager
def _kept_signal_handler() -> Iterator[None]:
    """Put the program's handler of SIGTERM back: Ray's own one would end the process without a report."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ray leaves the handlers alone there, too
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
