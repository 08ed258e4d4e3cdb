"""Whom to tell what is being learned while a user waits: `safegen.cli.console`, or nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Tick = Callable[[int], None]


class Teller(Protocol):
    """Anything with these two functions, a module too."""

    def say(self, message: str) -> None:
        """One line for people."""

    def counting(self, label: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """What to tell of finished pieces of work while it lasts, of which there are so many."""


class Nobody:
    """Tells nobody."""

    def say(self, message: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def counting(self, label: str, total: int | None = None) -> Iterator[Tick]:
        """Nothing."""
        yield lambda _: None


class Kept:
    """Tells another, and keeps the lines for whoever was not there."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        """Keep the line and tell it."""
        self.lines.append(message)
        self.teller.say(message)

    def counting(self, label: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """Tell it alone: what is counted is over later."""
        return self.teller.counting(label, total)


NOBODY = Nobody()
