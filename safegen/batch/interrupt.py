"""The watch over a run: progress, the limit on errors, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Watch:
    """A listener for steps and records that says when to stop.

    Args:
        on_landed: told the number of pictures and misses that have reached the disk.
        on_step: told the number of steps done, and of all steps.
        on_stop: told once, outside of any signal handler, that the run is asked to stop.
        on_note: told, line by line, what people should know, once the model is loaded.
        max_errors: failures after which to stop; None sets no limit.
    """

    def __init__(
        self,
        on_landed: Callable[[int], None] = lambda _count: None,
        on_step: Callable[[int, int], None] = lambda _step, _steps: None,
        on_stop: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda _line: None,
        max_errors: int | None = None,
    ) -> None:
        self._on_landed, self._on_step, self._on_stop = on_landed, on_step, on_stop
        self.note = on_note
        self.max_errors = max_errors
        self.counts: Counter[str] = Counter()  # of this run alone
        self.interrupted = self._told = False

    @property
    def gave_up(self) -> bool:
        """Whether there were more errors than allowed."""
        return self.max_errors is not None and self.counts["error"] > self.max_errors

    @property
    def stopping(self) -> bool:
        return self.interrupted or self.gave_up

    def landed(self, record: Mapping[str, Any]) -> None:
        """Count a record that has reached the disk."""
        self.counts[str(record["status"])] += 1
        self._on_landed(1)

    def step(self, step: int, steps: int) -> None:
        """Report that a denoising step is done."""
        self._on_step(step, steps)
        self.heed()

    def heed(self) -> None:
        """Say once that the run was asked to stop, if it was."""
        if self.interrupted and not self._told:
            self._told = True
            self._on_stop()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Make the first Ctrl-C ask for a stop after the pictures in flight, and the second one stop at once.

        Raises:
            KeyboardInterrupt: at the second Ctrl-C, and at the end if there was a first.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return

        def ask(_signal: int, _frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupted:
            raise KeyboardInterrupt
