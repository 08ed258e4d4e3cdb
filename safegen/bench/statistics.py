"""Small statistics with 95% intervals: rates, means, areas under the ROC curve, ratios of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.96  # 95% lie within this many standard deviations


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
        n, p = self.total, self.value
        centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        return (max(0.0, centre - half), min(1.0, centre + half))

    @property
    def raw(self) -> dict[str, Any]:
        """All of it, as reports keep it."""
        return {"rate": self.value, "hits": self.hits, "total": self.total, "interval": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({self.hits}/{self.total}, 95% interval {low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Mean:
    """The mean of values with its normal interval, and the highest of them."""

    value: float
    interval: tuple[float, float]
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        if not values:
            return cls(math.nan, (math.nan, math.nan), math.nan, 0)
        centre, count = statistics.fmean(values), len(values)
        half = Z * statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
        return cls(centre, (centre - half, centre + half), max(values), count)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.4f} (95% interval {low:.4f} to {high:.4f}), most {self.most:.4f} of {self.count}"


@dataclass(frozen=True)
class Area:
    """The probability that a positive scores above a negative, with the interval of Hanley and McNeil (1982)."""

    value: float
    positives: int
    negatives: int

    @classmethod
    def of(cls, positive: Sequence[float], negative: Sequence[float]) -> Area:
        return cls(auc(positive, negative), len(positive), len(negative))

    @property
    def interval(self) -> tuple[float, float]:
        if not self.positives or not self.negatives:
            return (math.nan, math.nan)
        a, m, n = self.value, self.positives, self.negatives
        above, below = a / (2 - a) - a * a, 2 * a * a / (1 + a) - a * a
        variance = (a * (1 - a) + (m - 1) * above + (n - 1) * below) / (m * n)
        half = Z * math.sqrt(max(0.0, variance))
        return (max(0.0, a - half), min(1.0, a + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.4f} (95% interval {low:.4f} to {high:.4f})"


@dataclass(frozen=True)
class Ratio:
    """One time over another, measured in the same rounds: the ratio of the fastest, and its range by round."""

    first: tuple[float, ...]  # seconds
    second: tuple[float, ...]

    @property
    def value(self) -> float:
        return min(self.first) / min(self.second)

    @property
    def by_round(self) -> list[float]:
        """The ratio of every round, lowest first."""
        return sorted(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def inverse(self) -> Ratio:
        return Ratio(self.second, self.first)

    def __str__(self) -> str:
        some = self.by_round
        return f"{self.value:.3f} (by round: median {statistics.median(some):.3f}, {some[0]:.3f} to {some[-1]:.3f})"


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Compute the probability that a positive scores above a negative, ties counted half."""
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
