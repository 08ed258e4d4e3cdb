"""Small statistics: rates with Wilson intervals, and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95% Wilson interval."""

    hits: int
    total: int

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Rate:
        return cls(sum(outcomes), len(outcomes))

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return (math.nan, math.nan)
        z, n, p = 1.96, self.total, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({self.hits}/{self.total}, 95% interval {low:.1%} to {high:.1%})"


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    ranked = sorted([(v, 1) for v in positive] + [(v, 0) for v in negative])
    wins, below, i = 0.0, 0, 0
    while i < len(ranked):
        j = i
        while j < len(ranked) and ranked[j][0] == ranked[i][0]:
            j += 1
        ups = sum(kind for _, kind in ranked[i:j])
        downs = (j - i) - ups
        wins += ups * (below + downs / 2)
        below += downs
        i = j
    return wins / (len(positive) * len(negative)) if positive and negative else math.nan
