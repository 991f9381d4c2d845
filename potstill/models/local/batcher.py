"""Calls of many threads become one: what is asked while a batch is computed forms the next batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import final

from potstill.models.model import Completion, Request

GRACE = 0.05  # of the last batch's time: how long to wait for the threads that it has just served to ask again


@final
class Gather:
    """A `write` that many threads may call at once; it computes one batch at a time.

    A thread alone is served at once, by itself. While it computes, others queue; one of them then takes all that wait,
    and the rest find their completions made. Threads that were just served usually ask again within moments, so a
    smaller company than the last waits `GRACE` of that batch's time for them.
    """

    def __init__(self, write: Callable[[Sequence[Request]], list[Completion]]) -> None:
        """Gather calls of this function."""
        self._write = write
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._busy, self._company, self._seconds = False, 1, 0.0

    def __call__(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; an exception reaches every thread whose requests were in the call."""
        job = _Job(requests)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: job.over or not self._busy)
            if not job.over:
                # Before this thread takes the turn, so that a Ctrl-C in the wait leaves the turn free.
                self._changed.wait_for(
                    lambda: job.over or self._busy or self._met(), self._seconds * GRACE
                )
                self._changed.wait_for(lambda: job.over or not self._busy)
            if not job.over:
                self._busy = True  # this thread serves all that wait
                jobs, self._waiting = self._waiting, []
        if not job.over:
            self._serve(jobs)
        if job.failure is not None:
            raise job.failure
        return job.made

    def _met(self) -> bool:
        return len(self._waiting) >= self._company

    def _serve(self, jobs: Sequence[_Job]) -> None:
        began = time.perf_counter()
        try:
            made = iter(self._write([request for job in jobs for request in job.requests]))
            for job in jobs:
                job.made = [next(made) for _ in job.requests]
        except (
            BaseException
        ) as failure:  # Ctrl-C too: a thread left without an answer would return an empty one
            for job in jobs:
                job.failure = failure
        finally:
            with self._changed:
                self._busy, self._company, self._seconds = (
                    False,
                    len(jobs),
                    time.perf_counter() - began,
                )
                for job in jobs:
                    job.over = True
                self._changed.notify_all()


class _Job:
    """One thread's requests and what came of them."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests, self.over = requests, False
        self.made: list[Completion] = []
        self.failure: BaseException | None = None
