"""Calls of many threads become one: what is asked while a batch is computed forms the next batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import final

from potstill.models.model import Completion, Request, RowProgress, RowReport

WAIT_SHARE = 0.05  # of the last batch's time: how long to wait for the threads that it has just served to ask again


@final
class RequestBatcher:
    """A `write` that many threads may call at once; it computes one batch at a time, or one on each of several lanes.

    A thread alone is served at once, by itself. While it computes, others queue; one of them then takes all that wait,
    or its lane's share of them, and the rest find their completions made. Threads that were just served usually ask
    again within moments, so fewer threads than the last batch had wait `WAIT_SHARE` of its time for the others.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Request], RowReport | None], list[Completion]],
        *,
        lanes: int = 1,
    ) -> None:
        """Batch calls of this function, which takes requests and whom to tell how far they are.

        Args:
            write: the function.
            lanes: calls of it that may run at once.
        """
        self._write, self._lanes = write, lanes
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._busy_lanes = 0
        self._last_job_count, self._last_seconds = 1, 0.0

    def __call__(
        self, requests: Sequence[Request], report: RowReport | None = None
    ) -> list[Completion]:
        """One completion a request, in order; an exception reaches every thread whose requests were in the call.

        Args:
            requests: of this thread.
            report: told how far these requests are, by whichever thread computes the batch.
        """
        job = _Job(requests, report)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: job.is_taken or self._has_free_lane())
            if not job.is_taken:
                # Wait before this thread takes a lane, so that a Ctrl-C in the wait leaves it free.
                self._changed.wait_for(
                    lambda: job.is_taken or not self._has_free_lane() or self._all_are_back(),
                    self._last_seconds * WAIT_SHARE,
                )
                self._changed.wait_for(lambda: job.is_taken or self._has_free_lane())
            jobs = [] if job.is_taken else self._take_share(job)
            if not jobs:
                self._changed.wait_for(lambda: job.is_done)
        if jobs:
            self._serve(jobs)
        if job.failure is not None:
            raise job.failure
        return job.completions

    def _has_free_lane(self) -> bool:
        return self._busy_lanes < self._lanes

    def _take_share(self, job: _Job) -> list[_Job]:
        """Take a lane, and for it a thread's own job and as many of the others that wait as fall to each free lane."""
        share = math.ceil(len(self._waiting) / (self._lanes - self._busy_lanes))
        others = [waiting for waiting in self._waiting if waiting is not job]
        jobs = [job, *others[: share - 1]]
        self._waiting = others[share - 1 :]
        self._busy_lanes += 1
        for taken_job in jobs:
            taken_job.is_taken = True
        return jobs

    def _all_are_back(self) -> bool:
        """Whether as many threads wait as the last batch served."""
        return len(self._waiting) >= self._last_job_count

    def _serve(self, jobs: Sequence[_Job]) -> None:
        began = time.perf_counter()
        requests = [request for job in jobs for request in job.requests]
        try:
            completions = iter(self._write(requests, _split_report(jobs)))
            for job in jobs:
                job.completions = [next(completions) for _ in job.requests]
        except (
            BaseException
        ) as failure:  # Ctrl-C too: a thread left without an answer would return an empty one
            for job in jobs:
                job.failure = failure
        finally:
            with self._changed:
                self._busy_lanes -= 1
                self._last_job_count, self._last_seconds = len(jobs), time.perf_counter() - began
                for job in jobs:
                    job.is_done = True
                self._changed.notify_all()


class _Job:
    """One thread's requests and their completions."""

    def __init__(self, requests: Sequence[Request], report: RowReport | None) -> None:
        self.requests, self.report = requests, report
        self.is_taken = False
        self.is_done = False
        self.completions: list[Completion] = []
        self.failure: BaseException | None = None


def _split_report(jobs: Sequence[_Job]) -> RowReport | None:
    """A report on the requests of all jobs, of which each job is told its own; None where no job wants to know."""
    if all(job.report is None for job in jobs):
        return None

    def report(rows: Sequence[RowProgress]) -> None:
        start = 0
        for job in jobs:
            stop = start + len(job.requests)
            if job.report is not None:
                job.report(rows[start:stop])
            start = stop

    return report
