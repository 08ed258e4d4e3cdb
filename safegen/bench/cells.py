"""Finished parts of a suite that takes long: an interrupted suite goes on between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Cell = dict[str, Any]  # ready for JSON


class Cells:
    """The parts of one suite by name.

    Args:
        done: what earlier runs have measured; new parts are added to it.
        keep: called when there is a new one.
    """

    def __init__(self, done: dict[str, Cell] | None = None, keep: Callable[[], None] = lambda: None) -> None:
        self.done, self._keep = {} if done is None else done, keep

    def once(self, name: str, measure: Callable[[], Cell]) -> Cell:
        """Give a part; measure it only if no run has."""
        if name not in self.done:
            self.done[name] = measure()
            self._keep()
        return self.done[name]
