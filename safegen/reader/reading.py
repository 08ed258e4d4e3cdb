"""The reading of a prompt: scores of its words, and the spans that carry harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.words import Word

SHARE = 0.5  # share of the worst word's score from which on a neighbour belongs to its span
GAP = 2  # how many words with low scores a span may hold in a row
NEAR = 0.6  # share of a line from which on a text is no longer calm
OPEN = 0.5  # chance from which on a word belongs to a harmful situation
SURE = 0.98  # no word is taken to belong to one, or not to, with more certainty than this


@dataclass(frozen=True)
class Span:
    """A run of words that carries harm under one concept; `score` is that of its worst word."""

    concept: str
    span: tuple[int, int]
    score: float


@dataclass(frozen=True)
class Reading:
    """The reading of one prompt.

    Attributes:
        text: the prompt.
        words: the words of the prompt, signs included, as they stand in the text.
        scores: (words, K) standard deviations over benign words.
        spans: the spans over their concept's line, in reading order.
        unread: the words that the reader cannot read.
        legible: whether enough of the text could be read to judge it.
        fluency: the share of neighbouring words that people put beside each other elsewhere, too.
        height: the highest score, as a share of its line.
        concepts: the concepts under which it was read.
    """

    text: str
    words: tuple[Word, ...]
    scores: NDArray[np.float32]
    spans: tuple[Span, ...]
    unread: tuple[Word, ...]
    legible: bool
    fluency: float
    height: float
    concepts: tuple[str, ...]

    @property
    def calm(self) -> bool:
        """True if all of the text could be read, and nothing in it is near a line."""
        return self.legible and self.height < NEAR

    @property
    def flagged(self) -> bool:
        """Whether any span is over its line."""
        return bool(self.spans)


def runs(scores: Sequence[float], line: float) -> list[tuple[int, int]]:
    """Find the runs of words around every word over the line; give the first and last word of each.

    A neighbour belongs to a run when it reaches `SHARE` of the peak's height.
    """
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for peak in sorted((i for i, s in enumerate(scores) if s >= line), key=lambda i: -scores[i]):
        if peak in taken:
            continue
        least = SHARE * scores[peak]
        first = last = peak
        for step, end in ((-1, -1), (1, len(scores))):
            gap, i = 0, peak + step
            while i != end and gap <= GAP and i not in taken:
                if scores[i] >= least:
                    first, last, gap = min(first, i), max(last, i), 0
                else:
                    gap += 1
                i += step
        taken.update(range(first, last + 1))
        found.append((first, last))
    return sorted(found)


def joined_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Join numbers that follow one another into runs; give the first and the last of each."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
