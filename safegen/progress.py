"""Whom to tell what is done while a user waits: a terminal, a log, or nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Tick = Callable[[int], None]


class Progress(Protocol):
    """Anything with these two functions, a module too."""

    def say(self, message: str) -> None:
        """Tell people one line."""

    def counting(self, label: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """Tell of finished pieces of work while it lasts, of which there are so many."""


class Silent:
    """Tells nobody."""

    def say(self, message: str) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def counting(self, label: str, total: int | None = None) -> Iterator[Tick]:
        """Count for nobody."""
        yield lambda _: None


class Remembered:
    """Tells another, and keeps the lines for whoever was not there."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        """Keep the line and tell it."""
        self.lines.append(message)
        self.progress.say(message)

    def counting(self, label: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """Tell it alone: what is counted is over later."""
        return self.progress.counting(label, total)


SILENT = Silent()
