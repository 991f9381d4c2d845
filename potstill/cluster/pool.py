"""A pool of replicas on a Ray cluster: items of work go to whichever replica is free, and survive the replicas.

Ray places the replicas, starts them and notices when they die. The pool only hands out items. It does so in one thread
of its own, which reads events (new items, a replica that is ready, a result that has landed) one after the other, so
nothing here needs a lock; callers may be many threads.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, final

from potstill import __version__
from potstill.cluster.connect import before_disconnect, connect
from potstill.cluster.replica import Answer, Place, Replica
from potstill.errors import ModelError, PotstillError, PotstillWarning

MAX_ITEM_DEATHS = 3  # replicas that may die over one item
MAX_START_DEATHS = 5  # replicas that may die in a row while they start
TICK_SECONDS = 2.0  # between two looks at replicas that Ray has found no place for
PLACEMENT_WARNING_SECONDS = (
    120.0  # without any replica, until it is said why; a large model takes a while
)
MAX_PLACEMENT_SECONDS = 30 * 60.0  # a cluster that grows on demand takes some minutes
STOP_SECONDS = 10.0  # for what the thread of a pool is doing when the cluster is left
IDLE_SECONDS = 2.0  # without work, until a pool's replicas may make room for those of another

Item = TypeVar("Item")
Result = TypeVar("Result")


class Resources(NamedTuple):
    """What one replica needs of its node.

    Args:
        cpus: logical CPUs that Ray sets aside for it.
        gpus: GPUs; a fraction shares one.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


class Later:
    """In the place of an item that can't be had before something else has landed; see `ReplicaPool.map`."""


LATER = Later()
_NO_ITEM = object()
# The lane of a replica beside the one that works.
WATCH = "watch"


@final
class ReplicaPool(Generic[Item, Result]):
    """Replicas of one worker. They start with the first item, and end with the process or with `release`.

    Args:
        make_worker: makes a worker inside a replica, once; picklable, as `partial(function, values)` is.
        replicas: at most so many; those that the cluster has room for are used, more as it grows.
        resources: of each replica.
        name: what to call the replicas in messages.
        queue_length: items that may wait at a busy replica: 0 where an item takes long, so that no item waits while
            another replica is free; 1 for short ones, so that a replica never waits for the next.
    """

    def __init__(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        *,
        replicas: int,
        resources: Resources = Resources(),  # noqa: B008  a constant
        name: str = "worker",
        queue_length: int = 0,
    ) -> None:
        self._dispatcher = _Dispatcher(
            make_worker,
            max_replicas=replicas,
            resources=resources,
            name=name,
            items_per_replica=1 + queue_length,
        )
        # Items that are out at once: those that replicas hold, and one more for whichever is free next.
        self._window = replicas * (1 + queue_length) + 1

    def map(
        self,
        items: Iterable[Item | Later],
        *,
        on_lost: Callable[[Item, PotstillError], Result] | None = None,
    ) -> Generator[tuple[int, Result], None, None]:
        """Each item's result with the item's place, in the order in which they land.

        Items are drawn in the caller's thread as there is room for them, so there may be more than memory holds; close
        the iterator to give up what has not landed. In the place of an item `items` may yield LATER: it is asked again
        after the next result. An exception of a worker is raised here.

        Args:
            items: what to work on. LATER has no place of its own.
            on_lost: makes the result of an item over which `MAX_ITEM_DEATHS` replicas died; without it, the error that
                says so is raised.
        """
        call = _Call()
        source, places = iter(items), itertools.count()
        open_count = 0
        is_drained = False
        self._dispatcher.start()
        try:
            while True:
                while not is_drained and open_count < self._window:
                    item = next(source, _NO_ITEM)
                    if isinstance(item, Later):
                        break
                    if item is _NO_ITEM:
                        is_drained = True
                        break
                    self._dispatcher.add(_Job(call, next(places), item))
                    open_count += 1
                if not open_count:
                    if is_drained:
                        return
                    raise ValueError("LATER without anything under way: nothing would ever land")

                job, outcome = call.landed.get()
                if isinstance(outcome, Notice):
                    warnings.warn(outcome.message, outcome.category, stacklevel=2)
                    continue
                open_count -= 1
                if isinstance(outcome, Lost) and on_lost is not None:
                    yield job.place, on_lost(job.item, outcome.error)
                elif isinstance(outcome, Lost | Failed):
                    raise outcome.error
                else:
                    yield job.place, outcome
        finally:
            call.is_open = False

    def release(self) -> None:
        """End the replicas; what they work on is done by others that start anew."""
        self._dispatcher.release()

    def places(self) -> list[Place]:
        """Where replicas are ready at the moment."""
        return self._dispatcher.places()


def release_idle_gpus() -> None:
    """End the replicas on GPUs that have no work: a training in this process may need the memory that they hold."""
    for dispatcher in list(_dispatchers):
        if dispatcher.resources.gpus:
            dispatcher.release_if_idle(0.0)


def _stop_dispatchers() -> None:
    """End the threads of all pools; each is started anew by its pool's next work."""
    for dispatcher in list(_dispatchers):
        dispatcher.stop()


before_disconnect(_stop_dispatchers)


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker's exception."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Lost:
    """Too many replicas died over an item."""

    error: PotstillError


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning for whoever waits for results, in whose thread it is given."""

    message: str
    category: type[Warning] = PotstillWarning


@dataclass(slots=True, eq=False)
class _Call:
    """One `map`: where its results land."""

    landed: queue.SimpleQueue[tuple[_Job, Any]] = field(default_factory=queue.SimpleQueue)
    is_open: bool = True


@dataclass(slots=True, eq=False)
class _Job:
    """An item of a call, and how many replicas died over it."""

    call: _Call
    place: int
    item: Any
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Actor:
    """A replica as the pool sees it; `place` is None until it is ready."""

    handle: Any
    place: Place | None = None
    jobs: deque[_Job] = field(default_factory=deque)  # the first one is being worked on


_dispatchers: weakref.WeakSet[_Dispatcher] = weakref.WeakSet()


@final
class _Dispatcher:
    """The thread of a pool. Methods without an underscore are called by others; they only post an event."""

    def __init__(
        self,
        make_worker: Callable[[], Callable[[Any], Any]],
        *,
        max_replicas: int,
        resources: Resources,
        name: str,
        items_per_replica: int,
    ) -> None:
        self._make_worker, self.resources, self._name = make_worker, resources, name
        self._max_replicas, self._items_per_replica = max_replicas, items_per_replica
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._is_stopped = False

        self._waiting: deque[_Job] = deque()
        self._actors: list[_Actor] = []
        self._start_deaths = 0  # in a row
        self._idle_since = time.monotonic()
        # Since when nothing is ready although there is work; None where something is.
        self._stuck_since: float | None = None
        self._has_warned = False

    def start(self) -> None:
        """Connect and start the thread, once."""
        with self._start_lock:
            self._ray = connect(f"a {self._name} on a cluster")
            if self._thread is None:
                self._is_stopped = False
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                _dispatchers.add(self)

    def add(self, job: _Job) -> None:
        """Take an item of work."""
        self._events.put(partial(self._add, job))

    def release(self) -> None:
        """End all replicas."""
        self._events.put(self._release)

    def release_if_idle(self, seconds: float) -> None:
        """End all replicas, if there has been no work for so long."""
        self._events.put(partial(self._release_if_idle, seconds))

    def stop(self) -> None:
        """End the thread; what it knows of replicas is forgotten with it."""
        with self._start_lock:
            if self._thread is None:
                return
            self._events.put(self._stop)
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _stop(self) -> None:
        self._actors.clear()
        self._waiting.clear()
        self._is_stopped = True

    def places(self) -> list[Place]:
        """Where replicas are ready; a copy that may be old by a moment."""
        return [actor.place for actor in list(self._actors) if actor.place is not None]

    def _run(self) -> None:
        while not self._is_stopped:
            try:
                event = self._events.get(timeout=TICK_SECONDS)
            except queue.Empty:
                event = self._look_after_placement
            try:
                event()
            except Exception as error:  # whatever it is, the callers must not wait for ever
                self._fail_all(error)

    def _add(self, job: _Job) -> None:
        self._waiting.append(job)
        self._dispatch()

    def _dispatch(self) -> None:
        """Hand waiting items to replicas that have room, free ones first, and start replicas that are lacking."""
        # Jobs of a call that was given up are nobody's.
        self._waiting = deque(job for job in self._waiting if job.call.is_open)
        ready = [actor for actor in self._actors if actor.place is not None]
        for room in range(self._items_per_replica):
            for actor in ready:
                # A busy replica gets another item only while there are enough of them for all.
                is_plenty = room == 0 or len(self._waiting) >= len(ready)
                if self._waiting and is_plenty and len(actor.jobs) <= room:
                    self._send(actor, self._waiting.popleft())
        if self._has_work():
            self._start_missing_replicas()
        self._idle_since = time.monotonic()

    def _has_work(self) -> bool:
        return bool(self._waiting) or any(actor.jobs for actor in self._actors)

    def _start_missing_replicas(self) -> None:
        """Start so many replicas that there is one for each open item, and at most as many as the pool may have."""
        while len(self._actors) < min(self._max_replicas, len(self._open_jobs())):
            self._start_replica()

    def _start_replica(self) -> None:
        self._make_room()
        options = {
            "num_cpus": self.resources.cpus,
            "num_gpus": self.resources.gpus,
            # The pool starts another one by itself, and gives its items to those that are there.
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        actor_class = self._ray.remote(concurrency_groups={WATCH: 1}, **options)(Replica)
        actor = _Actor(actor_class.remote(self._make_worker))
        self._actors.append(actor)
        self._when_done(actor.handle.start.remote(), partial(self._started, actor))
        watch = actor.handle.wait_for_death.options(concurrency_group=WATCH)
        self._when_done(watch.remote(), partial(self._died, actor))

    def _when_done(self, reference: Any, event: Callable[[Any], None]) -> None:
        """Post an event with the future of a remote call once it is done."""
        reference.future().add_done_callback(
            lambda future: self._events.put(partial(event, future))
        )

    def _started(self, actor: _Actor, future: Any) -> None:
        if actor not in self._actors:
            return  # it was released meanwhile
        error = future.exception()
        if error is not None and _is_death(self._ray, error):
            self._bury(actor, error)
            return
        if error is not None:
            raise _original_error(error)
        answer: Answer = future.result()
        self._notify(answer, self._open_jobs())
        self._check_version(answer.value)
        actor.place = answer.value
        self._start_deaths, self._stuck_since, self._has_warned = 0, None, False
        self._dispatch()

    def _send(self, actor: _Actor, job: _Job) -> None:
        actor.jobs.append(job)
        self._when_done(actor.handle.work.remote(job.item), partial(self._landed, actor, job))

    def _landed(self, actor: _Actor, job: _Job, future: Any) -> None:
        if job not in actor.jobs:
            return  # its replica was given up, and the item is with another one
        error = future.exception()
        if error is not None and _is_death(self._ray, error):
            self._bury(actor, error)
            return
        actor.jobs.remove(job)
        if error is not None:
            job.call.landed.put((job, Failed(_original_error(error))))
        else:
            answer: Answer = future.result()
            self._notify(answer, [job])
            job.call.landed.put((job, answer.value))
        self._dispatch()

    def _died(self, actor: _Actor, future: Any) -> None:
        if actor in self._actors:
            self._bury(actor, future.exception())

    def _bury(self, actor: _Actor, error: BaseException) -> None:
        """Take out a dead replica, and with it all others of its node if that is what died; give their items to others.

        All at once: an item that went from one replica of a dead node to the next would seem to have killed them.
        """
        dead = [actor]
        if actor.place is None:
            self._start_deaths += 1
            if self._start_deaths >= MAX_START_DEATHS:
                self._start_deaths = 0
                raise self._start_error(error)
        elif not self._is_alive(actor.place.node):
            dead = []
            for other in self._actors:
                if other.place is not None and other.place.node == actor.place.node:
                    dead.append(other)
        where = f" on {actor.place.host}" if actor.place is not None else ""
        message = f"a {self._name}{where} died ({_one_line(error)}); its work goes to others"
        self._warn(message, self._open_jobs())
        for dead_actor in dead:
            jobs = list(dead_actor.jobs)
            self._remove(dead_actor)
            self._requeue(jobs, error)
        # Behind the events that are there already: other deaths are to be known before anything is handed out.
        self._events.put(self._dispatch)

    def _requeue(self, jobs: list[_Job], error: BaseException) -> None:
        """Put a dead replica's items first in the queue; the one that it worked on may be what killed it."""
        if jobs:
            jobs[0].deaths += 1
            if jobs[0].deaths >= MAX_ITEM_DEATHS:
                lost = jobs.pop(0)
                lost.call.landed.put((lost, Lost(self._lost_error(error))))
        self._waiting.extendleft(reversed(jobs))

    def _is_alive(self, node: str) -> bool:
        """Whether a node is a part of the cluster."""
        nodes = self._ray.nodes()
        return any(each["NodeID"] == node and each["Alive"] for each in nodes)

    def _remove(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        actor.jobs.clear()
        # Also one that seems dead: it may only be out of reach, and would go on computing for nobody.
        self._ray.kill(actor.handle, no_restart=True)

    def _release(self) -> None:
        for actor in list(self._actors):
            jobs = list(actor.jobs)
            self._remove(actor)
            self._waiting.extendleft(reversed(jobs))
        if self._waiting:
            self._dispatch()

    def _release_if_idle(self, seconds: float) -> None:
        if not self._has_work() and time.monotonic() - self._idle_since >= seconds:
            self._release()

    def _make_room(self) -> None:
        """Ask pools without work for their replicas' places, where the cluster has none left."""
        free = self._ray.available_resources()
        has_room = (
            free.get("CPU", 0.0) >= self.resources.cpus
            and free.get("GPU", 0.0) >= self.resources.gpus
        )
        if has_room:
            return
        for other in list(_dispatchers):
            if other is not self:
                other.release_if_idle(IDLE_SECONDS)

    def _look_after_placement(self) -> None:
        """Say so where no replica finds a place, and give up where that does not change."""
        if not self._has_work() or all(actor.place is not None for actor in self._actors):
            return
        self._make_room()
        if any(actor.place is not None for actor in self._actors):
            return
        now = time.monotonic()
        if self._stuck_since is None:
            self._stuck_since = now
        seconds = now - self._stuck_since
        if seconds >= MAX_PLACEMENT_SECONDS:
            raise self._placement_error(seconds)
        if seconds >= PLACEMENT_WARNING_SECONDS and not self._has_warned:
            self._has_warned = True
            self._warn(
                f"no {self._name} is ready after {seconds:.0f} s: each needs {self.resources}; "
                f"{self._describe_cluster()}. Waiting for it to load, or for the cluster to grow",
                self._open_jobs(),
            )

    def _notify(self, answer: Answer, jobs: Iterable[_Job]) -> None:
        """Hand on what a replica warned of."""
        for category, message in answer.warnings:
            self._warn(message, jobs, category)

    def _warn(
        self, message: str, jobs: Iterable[_Job], category: type[Warning] = PotstillWarning
    ) -> None:
        """Warn the callers of these jobs, each once."""
        calls = {id(job.call): job for job in jobs}
        for job in calls.values():
            job.call.landed.put((job, Notice(message, category)))

    def _open_jobs(self) -> list[_Job]:
        """Waiting ones and those that replicas have."""
        jobs = list(self._waiting)
        for actor in self._actors:
            jobs += actor.jobs
        return jobs

    def _describe_cluster(self) -> str:
        """What the cluster has, and what of it is free."""
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        parts = []
        for kind in ("CPU", "GPU"):
            parts.append(f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind}s")
        return f"the cluster has {' and '.join(parts)} free"

    def _fail_all(self, error: Exception) -> None:
        """Give every caller an error, and end the replicas: nobody knows what state they are in."""
        jobs = self._open_jobs()
        self._waiting.clear()
        self._stuck_since, self._has_warned = None, False
        for actor in list(self._actors):
            self._remove(actor)
        for job in jobs:
            job.call.landed.put((job, Failed(error)))

    def _check_version(self, place: Place) -> None:
        if place.version != __version__:
            raise ModelError(
                f"{place.host} of the cluster has potstill {place.version}, this machine {__version__}",
                expected="the same version on every node",
                fix=f"pip install 'potstill[ray]=={__version__}' there",
            )

    def _start_error(self, error: BaseException) -> ModelError:
        return ModelError(
            f"{MAX_START_DEATHS} replicas of the {self._name} died one after the other while they started "
            f"({_one_line(error)})",
            expected=f"room for one on a node: {self.resources}, and the memory that it takes",
            fix="fewer replicas a node (a larger gpus= or threads=), or nodes with more memory; Ray's logs say more",
        )

    def _lost_error(self, error: BaseException) -> ModelError:
        return ModelError(
            f"{MAX_ITEM_DEATHS} replicas of the {self._name} died over the same work ({_one_line(error)})",
            expected="work that a replica survives",
            fix="more memory a replica, or a smaller batch=; what has landed is stored, and the same command goes on",
        )

    def _placement_error(self, seconds: float) -> ModelError:
        return ModelError(
            f"no replica of the {self._name} was ready in {seconds / 60:.0f} minutes: each needs {self.resources}; "
            f"{self._describe_cluster()}",
            expected="a node with that much",
            fix="a smaller gpus= or threads=, or a larger cluster; the same command goes on",
        )


def _is_death(ray: Any, error: BaseException) -> bool:
    """Whether an error says that a replica, its node or its result is gone, and not that the worker refused."""
    is_ray_error = isinstance(error, ray.exceptions.RayError)
    return is_ray_error and not isinstance(error, ray.exceptions.RayTaskError)


def _original_error(error: BaseException) -> Exception:
    """A worker's exception as it was raised there; what is no message to users has its traceback as a note."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception):
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    if not isinstance(cause, PotstillError):
        cause.add_note(str(error))
    return cause


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
