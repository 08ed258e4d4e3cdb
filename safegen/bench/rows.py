"""A measure with its figure and the bar that it is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from safegen.bench.statistics import Rate

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Row:
    """One measure: its figure, its bar (empty where there is none), and the raw numbers for JSON."""

    measure: str
    figure: str
    bar: str
    met: bool
    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def rate(cls, measure: str, outcomes: Sequence[bool], bar: float | None = None) -> Row:
        """A share with its interval, held to a bar from below if there is one."""
        rate = Rate.of(outcomes)
        raw = {"rate": rate.value, "hits": rate.hits, "total": rate.total, "interval": list(rate.interval)}
        if bar is None:
            return cls(measure, str(rate), "", True, raw)
        return cls(measure, str(rate), f"at least {bar:.0%}", rate.value >= bar, raw)
