"""Measures with their figures and the bars that they are held to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from safegen.bench.statistics import Area, Mean, Rate, Ratio

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """One measure: its figure, its bar (empty if there is none), and the raw numbers for JSON."""

    measure: str
    figure: str
    bar: str
    met: bool
    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def rate(
        cls, measure: str, outcomes: Sequence[bool], bar: float | None = None, most: float | None = None, **more: Any
    ) -> Result:
        """Make a result of a share with its interval, held to a bar from below, or to the most that it may be."""
        rate = Rate.of(outcomes)
        raw = {**rate.raw, **more}
        if most is not None:
            return cls(measure, str(rate), f"at most {most:.0%}", rate.value <= most, raw)
        if bar is not None:
            return cls(measure, str(rate), f"at least {bar:.0%}", rate.value >= bar, raw)
        return cls(measure, str(rate), "", True, raw)

    @classmethod
    def drift(cls, measure: str, drifts: Sequence[float]) -> Result:
        """Make a result of how far embeddings moved, as 1 - cosine."""
        mean = Mean.of(drifts)
        raw = {"mean": mean.value, "interval": list(mean.interval), "most": mean.most, "total": mean.count}
        return cls(f"{measure}, 1 - cosine, mean", str(mean), "", True, raw)

    @classmethod
    def area(cls, measure: str, area: Area, bar: float) -> Result:
        """Make a result of an area under the ROC curve, held to a bar from below."""
        raw = {"rate": area.value, "interval": list(area.interval)}
        return cls(measure, str(area), f"at least {bar:g}", area.value >= bar, raw)

    @classmethod
    def most(cls, measure: str, value: float, total: int, bar: float | None = None) -> Result:
        """Make a result of a plain number over so many cases, held to a bar from above if there is one."""
        told = "" if bar is None else f"at most {bar:g}"
        return cls(
            measure, f"{value:.3f} of {total}", told, bar is None or value <= bar, {"value": value, "total": total}
        )

    @classmethod
    def least(cls, measure: str, value: float, total: int, bar: float) -> Result:
        """Make a result of a plain number over so many cases, held to a bar from below."""
        told = {"value": value, "total": total}
        return cls(measure, f"{value:.3f} of {total}", f"at least {bar:g}", value >= bar, told)

    @classmethod
    def missing(cls, what: str, error: Exception) -> Result:
        """Make a result in the place of what cannot be measured."""
        return cls(what, str(error), "there", False)

    @classmethod
    def skipped(cls, what: str, why: str) -> Result:
        """Make a result in the place of what this run has no prompts for; it is no miss."""
        return cls(what, f"not measured: {why}", "", True)

    @classmethod
    def ratio(cls, measure: str, ratio: Ratio, *, most: float | None = None, least: float | None = None) -> Result:
        """Make a result of a ratio of times or of throughputs, held to an upper or a lower bar if there is one."""
        some = ratio.by_round
        raw = {
            "ratio": ratio.value,
            "median": statistics.median(some),
            "range": [some[0], some[-1]],
            "rounds": len(some),
        }
        bar = f"at most {most:g}" if most is not None else f"at least {least:g}" if least is not None else ""
        met = (most is None or ratio.value <= most) and (least is None or ratio.value >= least)
        return cls(measure, str(ratio), bar, met, raw)
