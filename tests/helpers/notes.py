"""A progress that keeps what it is told, for tests to look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class Notes:
    """What somebody who learns is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.counted: list[tuple[int, int | None]] = []  # pieces told of, and how many there would be

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextlib.contextmanager
    def counting(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        self.counted.append((sum(done), total))
