"""The watch over a run: progress, how many errors are borne, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Watch:
    """Hears of steps and records, and says when to stop.

    Args:
        on_landed: told of pictures and misses on disk, by their number.
        on_step: told of steps done and of all.
        on_stop: told once, outside of any signal handler, that a run is asked to stop.
        on_note: told in lines what people should know, once the model is loaded.
        max_errors: failures after which to stop; None bears any number.
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
        """There were more errors than are borne."""
        return self.max_errors is not None and self.counts["error"] > self.max_errors

    @property
    def stopping(self) -> bool:
        return self.interrupted or self.gave_up

    def landed(self, record: Mapping[str, Any]) -> None:
        """A record is on disk."""
        self.counts[str(record["status"])] += 1
        self._on_landed(1)

    def step(self, step: int, steps: int) -> None:
        """A denoising step is done."""
        self._on_step(step, steps)
        self.heed()

    def heed(self) -> None:
        """Say once that the run was asked to stop, if it was."""
        if self.interrupted and not self._told:
            self._told = True
            self._on_stop()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """While this lasts, the first Ctrl-C asks to stop after the pictures in flight; the second stops now.

        Raises:
            KeyboardInterrupt: at the second Ctrl-C, and at the end if there was a first.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are for the main thread alone
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
