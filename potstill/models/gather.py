"""Calls of many threads become one: what is asked while a batch is computed forms the next batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import final

from potstill.models.model import Completion, Request


@final
class Gather:
    """A `write` that many threads may call at once; no thread waits for company, and none computes beside another.

    A thread alone is served at once, by itself. While it computes, others queue; the first of them to get its turn
    takes all that wait, and the rest find their completions made.
    """

    def __init__(self, write: Callable[[Sequence[Request]], list[Completion]]) -> None:
        """Gather calls of this function."""
        self._write = write
        self._turn, self._guard = threading.Lock(), threading.Lock()
        self._waiting: list[_Job] = []

    def __call__(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; an exception reaches every thread whose requests were in the call."""
        job = _Job(requests)
        with self._guard:
            self._waiting.append(job)
        with self._turn:
            if not job.over:
                with self._guard:
                    jobs, self._waiting = self._waiting, []
                self._serve(jobs)
        if job.failure is not None:
            raise job.failure
        return job.made

    def _serve(self, jobs: Sequence[_Job]) -> None:
        try:
            made = iter(self._write([request for job in jobs for request in job.requests]))
            for job in jobs:
                job.made = [next(made) for _ in job.requests]
        except BaseException as failure:  # Ctrl-C too: a thread left without an answer would return an empty one
            for job in jobs:
                job.failure = failure
        finally:
            for job in jobs:
                job.over = True


class _Job:
    """One thread's requests and what came of them."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests, self.over = requests, False
        self.made: list[Completion] = []
        self.failure: BaseException | None = None
