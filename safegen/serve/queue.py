"""The queue: the only thread that touches the model, and the jobs that wait for it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from safegen.errors import Busy, Unavailable

OnStep = Callable[[int, int], None]
LONGEST_PAUSE = 60  # seconds; clients ignore longer ones


@dataclass(eq=False)
class Job:
    """Work for the model; its result is in `future`.

    Attributes:
        work: the work; it is given a function to call after every denoising step.
        quick: whether it is done between two steps of another job.
    """

    work: Callable[[OnStep], Any]
    quick: bool = False
    future: Future[Any] = field(default_factory=Future)
    given_up: bool = False


class GivenUp(Exception):
    """Nobody waits for the picture any more; raised inside a job between two steps."""


class Queue:
    """A queue that does draws in their order, and scores as soon as the present step is done.

    Args:
        waiting: how many draws, and how many scores, may wait; the job in work does not count.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.draws: deque[Job] = deque()
        self.scores: deque[Job] = deque()
        self.closed = False
        self._changed = threading.Condition()
        self._mean = 1.0  # seconds of a draw, on recent average
        self._thread = threading.Thread(target=self._run, name="safegen-model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self.closed

    def draw(self, work: Callable[[OnStep], Any]) -> Job:
        """Wait behind the other draws.

        Raises:
            Busy: too many wait.
            Unavailable: the server is stopping.
        """
        return self._put(Job(work))

    def score(self, work: Callable[[], Any]) -> Job:
        """Wait only for the present denoising step; raises like `draw`."""
        return self._put(Job(lambda _: work(), quick=True))

    def give_up(self, job: Job) -> None:
        """Take a job out of the queue, or stop it after the present step; a finished job stays finished."""
        job.given_up = True
        with self._changed:
            lane = self.scores if job.quick else self.draws
            if job in lane:
                lane.remove(job)
        job.future.cancel()

    def close(self) -> None:
        """Turn away all waiting jobs, and stop the present draw after its step."""
        with self._changed:
            self.closed = True
            waiting = [*self.draws, *self.scores]
            self.draws.clear()
            self.scores.clear()
            self._changed.notify()
        for job in waiting:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(_closed())
        self._thread.join()

    def _put(self, job: Job) -> Job:
        lane = self.scores if job.quick else self.draws
        with self._changed:
            if self.closed:
                raise _closed()
            if len(lane) >= self.waiting:
                # A place becomes free when the next draw is done.
                seconds = 1 if job.quick else min(LONGEST_PAUSE, math.ceil(self._mean))
                raise Busy(f"the queue is full: {len(lane)} requests wait", f"Try again in {seconds} s.", seconds)
            lane.append(job)
            self._changed.notify()
        return job

    def _run(self) -> None:
        while (job := self._next()) is not None:
            start = time.monotonic()
            self._do(job)
            if not job.quick:
                self._mean += (time.monotonic() - start - self._mean) / 4

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self.scores or self.draws or self.closed)
            lane = self.scores or self.draws
            return lane.popleft() if lane else None

    def _do(self, job: Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            result = job.work(lambda _step, _steps: self._between(job))
        except BaseException as error:  # any error is the answer; the thread goes on
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _between(self, job: Job) -> None:
        """Answer waiting scores between two steps, and find whether to go on."""
        with self._changed:
            scores = list(self.scores)
            self.scores.clear()
        for score in scores:
            self._do(score)
        if job.given_up or self.closed:
            raise GivenUp


def _closed() -> Unavailable:
    return Unavailable("the server is stopping", "Ask again when it is back.")
